"""Shapes of the REST API of rollback rules and incidents."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from governance.api.serializers import StrictSerializer
from rollouts.models import Incident, RollbackRule
from rollouts.rollback_language import MAX_LENGTH


class RuleTextInput(StrictSerializer):
    flag = serializers.CharField(max_length=120)
    text = serializers.CharField(max_length=MAX_LENGTH)


class RuleReplayInput(RuleTextInput):
    clear_percent = serializers.IntegerField(min_value=0, max_value=90, required=False, default=10)
    cooldown_minutes = serializers.IntegerField(min_value=0, max_value=10_080, required=False, default=30)


class RuleInput(RuleReplayInput):
    is_dry_run = serializers.BooleanField(required=False, default=False, help_text="Tells, and leaves the flag alone.")


class RuleArmInput(StrictSerializer):
    is_dry_run = serializers.BooleanField(required=False, allow_null=True, default=None, help_text="Default: as it was.")


class RulePauseInput(StrictSerializer):
    reason = serializers.CharField(max_length=300)


class IncidentResolveInput(StrictSerializer):
    resolution = serializers.CharField(max_length=1000)


class JudgedOutput(serializers.Serializer[Any]):
    """One comparison at the last step."""

    text = serializers.CharField()
    measure = serializers.CharField()
    unit = serializers.CharField()
    window_s = serializers.IntegerField()
    value = serializers.FloatField(allow_null=True)
    limit = serializers.FloatField(allow_null=True)
    calls = serializers.IntegerField()
    bad_buckets = serializers.IntegerField(help_text="Of the window, bad by themselves; three are needed.")
    outcome = serializers.ChoiceField(choices=["bad", "fine", "hold", "unknown"])
    reason = serializers.CharField()


class RollbackRuleOutput(serializers.ModelSerializer[RollbackRule]):
    flag = serializers.CharField(source="flag.key")
    created_by = serializers.EmailField(source="created_by.email")
    armed_by = serializers.EmailField(source="armed_by.email", default=None)
    reading = JudgedOutput(many=True, help_text="At the last step.")
    baselines = serializers.DictField(
        child=serializers.DictField(child=serializers.FloatField()), help_text="By measure: value, calls, days."
    )
    unknown_since = serializers.DateTimeField(allow_null=True, help_text="Since when nothing can be judged; frozen after five minutes.")

    class Meta:
        model = RollbackRule
        fields = [
            "id", "flag", "text", "is_dry_run", "state", "state_at", "clear_percent", "cooldown_minutes", "created_by", "created_at", "armed_by",
            "armed_at", "baselines", "step_end", "outcome", "reading", "unknown_since", "fired_at", "fired_count",
        ]  # fmt: skip


class RuleFindingOutput(serializers.Serializer[Any]):
    level = serializers.ChoiceField(choices=["error", "warning", "info"])
    text = serializers.CharField()
    position = serializers.IntegerField(allow_null=True, help_text="Character of the rule, from 0.")


class RuleLintOutput(serializers.Serializer[Any]):
    ok = serializers.BooleanField(help_text="It can be armed.")
    earliest_s = serializers.FloatField(
        allow_null=True, help_text="From the first bad call of a total failure until it fires; null: never."
    )
    false_alarms_per_week = serializers.FloatField(allow_null=True, help_text="At the present traffic; null: not known.")
    findings = RuleFindingOutput(many=True)


class EpisodeOutput(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    variant = serializers.CharField()
    breach = serializers.CharField()


class ReplayOutput(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    stride = serializers.CharField(help_text="Between two steps.")
    steps = serializers.IntegerField()
    bad = serializers.IntegerField()
    unknown = serializers.IntegerField(help_text="Steps without enough data.")
    episodes = EpisodeOutput(many=True, help_text="When it would have rolled back.")


class RollbackIncidentOutput(serializers.ModelSerializer[Incident]):
    flag = serializers.CharField(source="flag.key")
    rule = serializers.CharField(source="rule.text")
    change = serializers.IntegerField(source="change.number", help_text="Of the flag.")
    acknowledged_by = serializers.EmailField(source="acknowledged_by.email", default=None)
    resolved_by = serializers.EmailField(source="resolved_by.email", default=None)

    class Meta:
        model = Incident
        fields = [
            "number", "title", "status", "failure_class", "flag", "variant", "rule", "change", "began_at", "opened_at", "acknowledged_at",
            "acknowledged_by", "resolved_at", "resolved_by", "resolution", "evidence_sha256",
        ]  # fmt: skip


class RollbackIncidentDetailOutput(RollbackIncidentOutput):
    evidence = serializers.SerializerMethodField()
    evidence_text = serializers.CharField(source="evidence", help_text="The bytes that the sha256 is over, as UTF-8.")

    class Meta(RollbackIncidentOutput.Meta):
        fields = [*RollbackIncidentOutput.Meta.fields, "evidence", "evidence_text"]

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_evidence(self, incident: Incident) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(incident.evidence)
        return found
