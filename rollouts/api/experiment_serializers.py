"""Shapes of the REST API of experiments. Effects and margins are percent of the champion's mean, or percentage points of a rate."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from governance.api.serializers import StrictSerializer
from rollouts.advice import Contender, Effect, Report, Standing
from rollouts.experiment_selectors import Needed
from rollouts.experiment_wording import ArmTreatment, arms_of
from rollouts.models import Experiment, ExperimentReading
from rollouts.models.rollout import slug_validator


class ExperimentGuardrailShape(StrictSerializer):
    metric = serializers.ChoiceField(choices=Experiment.Metric.choices)
    margin = serializers.FloatField(min_value=0, max_value=1000, help_text="How much more than the champion's is tolerated.")


class ExperimentInput(StrictSerializer):
    slug = serializers.CharField(max_length=60, validators=[slug_validator])
    name = serializers.CharField(max_length=160)
    hypothesis = serializers.CharField(max_length=4000)
    flag = serializers.CharField(max_length=120, help_text="Key of a flag that binds a model.")
    champion = serializers.CharField(max_length=60, required=False, allow_blank=True, help_text="Default: the flag's control.")
    metric = serializers.ChoiceField(choices=Experiment.Metric.choices)
    better = serializers.ChoiceField(choices=Experiment.Better.choices, required=False)
    effect = serializers.FloatField(help_text="The smallest one worth finding.")
    guardrails = ExperimentGuardrailShape(many=True, required=False)
    minimum_units = serializers.IntegerField(
        required=False, allow_null=True, max_value=10_000_000, help_text="Per arm. Default: as worked out from the flag's calls of late."
    )
    max_days = serializers.IntegerField()
    method = serializers.ChoiceField(choices=Experiment.Method.choices, required=False)
    auto_promote = serializers.BooleanField(required=False)
    label = serializers.CharField(  # type: ignore[assignment]  # a field, not DRF's property
        max_length=40,
        required=False,
        allow_blank=True,
        help_text="Of the prompt whose versions are compared; a promotion moves it to the winner's.",
    )
    expected_latency_delta = serializers.FloatField(required=False, allow_null=True, help_text="Of the challenger, in percent.")
    expected_quality_gain = serializers.FloatField(required=False, allow_null=True, help_text="Of the challenger, in points.")


class ExperimentPlanInput(StrictSerializer):
    flag = serializers.CharField(max_length=120)
    metric = serializers.ChoiceField(choices=Experiment.Metric.choices)
    effect = serializers.FloatField()
    max_days = serializers.IntegerField(min_value=1, max_value=90, required=False, default=14)
    mean = serializers.FloatField(
        required=False,
        allow_null=True,
        min_value=0,
        help_text="Expected, per call; percent of an error rate. Default: as measured in 7 days.",
    )
    spread = serializers.FloatField(
        required=False, allow_null=True, min_value=0, help_text="Standard deviation from unit to unit; not needed for a rate."
    )


class ExperimentPlanOutput(serializers.Serializer[Needed]):
    """Units per arm for 80% power at 5% false alarms."""

    method = serializers.ChoiceField(choices=Experiment.Method.choices, help_text="The one that fits the volume.")
    why = serializers.CharField()
    units_per_day = serializers.FloatField(source="volume.units_per_day")
    units = serializers.SerializerMethodField()
    days = serializers.DictField(child=serializers.FloatField(allow_null=True), help_text="Null where nobody has called yet.")
    minimum_units = serializers.SerializerMethodField(help_text="What an experiment gets by default.")

    @extend_schema_field(serializers.DictField(child=serializers.IntegerField()))
    def get_units(self, needed: Needed) -> dict[str, int]:
        return {"sequential": needed.plan.sequential, "fixed": needed.plan.fixed, "sprt": needed.plan.sprt}

    @extend_schema_field(serializers.DictField(child=serializers.IntegerField()))
    def get_minimum_units(self, needed: Needed) -> dict[str, int]:
        return {method: needed.minimum(method) for method in Experiment.Method.values}


class ExperimentEffectOutput(serializers.Serializer[Effect]):
    metric = serializers.ChoiceField(choices=Experiment.Metric.choices)
    standing = serializers.ChoiceField(choices=[(each.value, each.name) for each in Standing])
    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    confidence = serializers.FloatField(allow_null=True, help_text="0 to 1.")
    margin = serializers.FloatField(allow_null=True)


class ExperimentContenderOutput(serializers.Serializer[Contender]):
    variant = serializers.CharField()
    primary = ExperimentEffectOutput()
    guardrails = ExperimentEffectOutput(many=True)


class ExperimentReportOutput(serializers.Serializer[Report]):
    advice = serializers.ChoiceField(choices=Experiment.Decision.choices)
    sentence = serializers.CharField()
    winner = serializers.CharField()
    sound = serializers.BooleanField(help_text="No sign that units were assigned otherwise than meant.")
    assignment_p = serializers.FloatField(help_text="Valid at every look.")
    reached = serializers.BooleanField(help_text="Every arm has the minimum.")
    contenders = ExperimentContenderOutput(many=True)


class ExperimentReadingOutput(serializers.ModelSerializer[ExperimentReading]):
    requested_by = serializers.EmailField(source="requested_by.email", default=None)
    report = ExperimentReportOutput()
    arms = serializers.SerializerMethodField()

    class Meta:
        model = ExperimentReading
        fields = ["sequence", "at", "requested_by", "report", "arms", "evidence", "evidence_hash", "previous_hash"]

    @extend_schema_field(serializers.DictField(child=serializers.DictField(child=serializers.IntegerField())))
    def get_arms(self, reading: ExperimentReading) -> dict[str, Any]:
        """Units and calls."""
        return {name: {"units": arm["units"], "calls": arm["calls"]} for name, arm in reading.record["arms"].items()}


class ExperimentArmOutput(serializers.Serializer[ArmTreatment]):
    """A variant, and what it does to a call otherwise than the champion."""

    variant = serializers.CharField(source="name")
    model = serializers.CharField(source="treatment.model")
    prompt = serializers.CharField(
        source="treatment.prompt", help_text="A version, such as greeting@3; empty leaves what the call's label names."
    )
    parameters = serializers.DictField(child=serializers.JSONField(), source="treatment.parameters")
    differs = serializers.ListField(child=serializers.CharField(), source="differing", help_text="Names of what is not the champion's.")


class ExperimentOutput(serializers.ModelSerializer[Experiment]):
    flag = serializers.CharField(source="flag.key")
    owner = serializers.EmailField(source="owner.email")
    guardrails = ExperimentGuardrailShape(many=True)
    shares = serializers.DictField(child=serializers.FloatField(), help_text="Intended share of the units by variant, together 1.")
    arms = serializers.SerializerMethodField()
    change = serializers.IntegerField(source="change.number", default=None, help_text="Of the flag, by the decision.")
    latest = ExperimentReadingOutput(allow_null=True)

    class Meta:
        model = Experiment
        fields = [
            "slug", "name", "hypothesis", "flag", "champion", "metric", "better", "effect", "guardrails", "minimum_units", "max_days", "method",
            "auto_promote", "label", "expected_latency_delta", "expected_quality_gain", "status", "owner", "created_at", "shares", "arms", "started_at",
            "ended_at", "end_reason", "decision", "winner", "note", "decided_at", "change", "latest",
        ]  # fmt: skip

    @extend_schema_field(ExperimentArmOutput(many=True))
    def get_arms(self, experiment: Experiment) -> Any:
        return [ExperimentArmOutput(arm).data for arm in arms_of(experiment)]


class ExperimentStopInput(StrictSerializer):
    reason = serializers.CharField(max_length=200)


class ExperimentDecideInput(StrictSerializer):
    decision = serializers.ChoiceField(choices=Experiment.Decision.choices)
    winner = serializers.CharField(max_length=60, required=False, default="", allow_blank=True, help_text="Of a promotion.")
    note = serializers.CharField(max_length=400)
    seen = serializers.IntegerField(
        required=False, min_value=1, help_text="Number of the reading that was looked at; refused when the advice has changed since."
    )
