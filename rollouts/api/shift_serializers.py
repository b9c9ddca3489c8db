"""Shapes of the REST API of traffic shifts. Margins: percent of the control's mean, percentage points of the error rate."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from governance.api.serializers import StrictSerializer
from rollouts.api.experiment_serializers import ExperimentEffectOutput
from rollouts.models import Shift, ShiftWindow
from rollouts.models.rollout import slug_validator
from rollouts.shift_rules import DEFAULT_STEPS, Margins


class ShiftInput(StrictSerializer):
    slug = serializers.CharField(max_length=60, validators=[slug_validator])
    name = serializers.CharField(max_length=160)
    flag = serializers.CharField(max_length=120, help_text="Key of a flag that binds a model.")
    challenger = serializers.CharField(max_length=60, help_text="A treatment of the flag.")
    steps = serializers.ListField(child=serializers.IntegerField(), required=False, default=list(DEFAULT_STEPS))
    window_calls = serializers.IntegerField(required=False, default=10_000, help_text="By the challenger, at each step below 100%.")
    latency_margin = serializers.FloatField(required=False, default=Margins().latency)
    error_margin = serializers.FloatField(required=False, default=Margins().errors)
    savings_floor = serializers.FloatField(required=False, default=Margins().savings)


class ShiftReasonInput(StrictSerializer):
    reason = serializers.CharField(max_length=400)


class ShiftWindowOutput(serializers.ModelSerializer[ShiftWindow]):
    requested_by = serializers.EmailField(source="requested_by.email", default=None)
    sentence = serializers.CharField(source="judgement.sentence")
    calls = serializers.IntegerField(source="judgement.calls", help_text="By the challenger.")
    guardrails = ExperimentEffectOutput(many=True, source="judgement.guards")

    class Meta:
        model = ShiftWindow
        fields = [
            "sequence", "percentage", "at", "requested_by", "verdict", "sentence", "calls", "guardrails", "evidence", "evidence_hash",
            "previous_hash",
        ]  # fmt: skip


class ShiftOutput(serializers.ModelSerializer[Shift]):
    flag = serializers.CharField(source="flag.key")
    proposer = serializers.EmailField(source="proposer.email")
    steps = serializers.ListField(child=serializers.IntegerField())
    percentage = serializers.IntegerField(help_text="Of the present step.")
    change = serializers.IntegerField(source="change.number", default=None, help_text="Of the flag, that asks for the step.")

    class Meta:
        model = Shift
        fields = [
            "slug", "name", "flag", "challenger", "steps", "window_calls", "latency_margin", "error_margin", "savings_floor", "status",
            "percentage", "change", "entered_at", "seen_calls", "looked_at", "reason", "proposer", "created_at", "ended_at",
        ]  # fmt: skip


class ShiftDetailOutput(ShiftOutput):
    """With the windows that it was judged by, newest first, at most 20."""

    windows = serializers.SerializerMethodField()

    class Meta(ShiftOutput.Meta):
        fields = [*ShiftOutput.Meta.fields, "windows"]

    @extend_schema_field(ShiftWindowOutput(many=True))
    def get_windows(self, shift: Shift) -> Any:
        return ShiftWindowOutput(shift.windows.select_related("requested_by").order_by("-sequence")[:20], many=True).data
