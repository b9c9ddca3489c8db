"""Shapes of the REST API of rollouts."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from governance.api.serializers import StrictSerializer
from rollouts import plans, wording
from rollouts.gate_selectors import CriterionState, GateView, Signature
from rollouts.metric_selectors import MetricRow
from rollouts.models import Gate, Phase, ReleaseLogEntry, Rollout, SignOff
from rollouts.models.rollout import slug_validator


class PlanOutput(serializers.Serializer[Any]):
    """One line of the list of plans."""

    key = serializers.CharField()
    version = serializers.IntegerField()
    title = serializers.CharField()
    summary = serializers.CharField()
    phases = serializers.SerializerMethodField()
    criteria = serializers.SerializerMethodField()
    measured = serializers.SerializerMethodField()

    def get_phases(self, plan: plans.Plan) -> list[str]:
        return [phase.title for phase in plan.phases]

    def get_criteria(self, plan: plans.Plan) -> int:
        return len(plans.criteria_of(plan))

    def get_measured(self, plan: plans.Plan) -> int:
        return sum(1 for criterion in plans.criteria_of(plan) if criterion.rule is not None)


class RolloutInput(StrictSerializer):
    plan = serializers.CharField(max_length=60)
    slug = serializers.CharField(max_length=60, validators=[slug_validator])
    name = serializers.CharField(max_length=100, required=False, help_text="Default: the plan's title.")
    owner = serializers.EmailField(required=False, help_text="A member of the organisation; default: you.")
    starts_on = serializers.DateField(required=False, help_text="Default: today.")
    cohort = serializers.CharField(
        required=False,
        max_length=60,
        help_text="Judge the figures of the organisations active in this cohort. Operators only, in an internal organisation.",
    )


class PhaseOutput(serializers.ModelSerializer[Phase]):
    gate = serializers.IntegerField(source="gate.number")

    class Meta:
        model = Phase
        fields = ["position", "key", "title", "lane", "status", "planned_start", "planned_end", "entered_at", "left_at", "gate"]


class RolloutOutput(serializers.ModelSerializer[Rollout]):
    owner = serializers.EmailField(source="owner.email")
    paused = serializers.BooleanField(source="is_paused")

    class Meta:
        model = Rollout
        fields = [
            "slug",
            "name",
            "plan_key",
            "plan_version",
            "owner",
            "status",
            "paused",
            "pause_reason",
            "starts_on",
            "cohort",
            "created_at",
            "closed_at",
        ]


class RolloutDetailOutput(RolloutOutput):
    phases = serializers.SerializerMethodField()
    current_phase = serializers.SerializerMethodField()
    open_gate = serializers.SerializerMethodField()

    class Meta(RolloutOutput.Meta):
        fields = [*RolloutOutput.Meta.fields, "phases", "current_phase", "open_gate"]

    def get_phases(self, rollout: Rollout) -> list[dict[str, Any]]:
        return [dict(PhaseOutput(phase).data) for phase in self.context["phases"]]

    def get_current_phase(self, rollout: Rollout) -> str | None:
        return next((phase.key for phase in self.context["phases"] if phase.status == Phase.Status.CURRENT), None)

    def get_open_gate(self, rollout: Rollout) -> int | None:
        return next((phase.gate.number for phase in self.context["phases"] if phase.status == Phase.Status.CURRENT), None)


class CriterionOutput(serializers.Serializer[CriterionState]):
    key = serializers.CharField(source="criterion.key")
    title = serializers.CharField(source="criterion.title")
    quote = serializers.CharField(source="criterion.quote")
    kind = serializers.CharField(source="criterion.kind")
    severity = serializers.CharField(source="criterion.severity")
    role = serializers.CharField(source="criterion.role")
    evidence_asked = serializers.CharField(source="criterion.evidence")
    verdict = serializers.CharField()
    reason = serializers.SerializerMethodField()
    value = serializers.SerializerMethodField("get_point")
    low = serializers.SerializerMethodField()
    high = serializers.SerializerMethodField()
    sample = serializers.SerializerMethodField()
    rule = serializers.SerializerMethodField()
    asked_waiver = serializers.IntegerField(source="asked_waiver.pk", default=None)

    def _reading(self, state: CriterionState, name: str) -> Any:
        return state.record["reading"][name] if state.record and state.record["reading"] else None

    def get_reason(self, state: CriterionState) -> str:
        return state.record["reason"] if state.record else "not evaluated yet"

    def get_point(self, state: CriterionState) -> float | None:
        value: float | None = self._reading(state, "value")
        return value

    def get_low(self, state: CriterionState) -> float | None:
        low: float | None = self._reading(state, "low")
        return low

    def get_high(self, state: CriterionState) -> float | None:
        high: float | None = self._reading(state, "high")
        return high

    def get_sample(self, state: CriterionState) -> int | None:
        sample: int | None = self._reading(state, "sample")
        return sample

    def get_rule(self, state: CriterionState) -> dict[str, Any] | None:
        criterion = state.criterion
        if criterion.is_attested:
            return None
        return {
            "metric": criterion.metric,
            "operator": criterion.operator,
            "threshold": criterion.threshold,
            "unit": criterion.unit,
            "window_hours": criterion.window_hours,
            "minimum_sample": criterion.minimum_sample,
            "sustain_hours": criterion.sustain_hours,
            "sustain_times": criterion.sustain_times,
            "sustain_of": criterion.sustain_of,
            "over": criterion.over,
        }


class SignOffOutput(serializers.ModelSerializer[SignOff]):
    person = serializers.EmailField(source="person.email")

    class Meta:
        model = SignOff
        fields = ["role", "person", "decision", "comment", "digest", "at", "voided_at", "void_reason"]


class SignatureOutput(serializers.Serializer[Signature]):
    role = serializers.CharField()
    signoff = SignOffOutput(allow_null=True)
    voided = SignOffOutput(allow_null=True)


class GateOutput(serializers.Serializer[GateView]):
    """A gate as its page shows it; `digest` is what a go must name."""

    rollout = serializers.CharField(source="gate.rollout.slug")
    number = serializers.IntegerField(source="gate.number")
    title = serializers.CharField(source="gate.title")
    status = serializers.ChoiceField(source="gate.status", choices=Gate.Status.choices)
    roles = serializers.ListField(source="gate.roles", child=serializers.CharField())
    planned_on = serializers.DateField(source="gate.planned_on")
    verdict = serializers.CharField()
    ready = serializers.BooleanField(source="is_ready")
    sentence = serializers.CharField()
    evaluated_at = serializers.DateTimeField(source="evaluation.at", default=None)
    digest = serializers.CharField(source="evaluation.digest", default=None)
    evidence_hash = serializers.CharField(source="evaluation.evidence_hash", default=None)
    evaluations = serializers.IntegerField()
    criteria = CriterionOutput(many=True)
    signatures = SignatureOutput(many=True)
    missing_roles = serializers.ListField(child=serializers.CharField())


class GateRecordOutput(serializers.Serializer[Any]):
    record = serializers.JSONField()
    record_hash = serializers.CharField(
        help_text="sha256 over the canonical JSON of `record` without `today`: sorted keys, no blanks, UTF-8."
    )


class SignInput(StrictSerializer):
    role = serializers.CharField(max_length=16)
    decision = serializers.ChoiceField(choices=SignOff.Decision.choices)
    digest = serializers.CharField(
        max_length=64, required=False, default="", help_text="The digest of the verdicts that you have seen; required for go."
    )
    comment = serializers.CharField(max_length=2000, required=False, default="", allow_blank=True, help_text="Required for no-go.")


class AttestInput(StrictSerializer):
    criterion = serializers.SlugField(max_length=60)
    met = serializers.BooleanField()
    note = serializers.CharField(max_length=4000, help_text="What shows it.")
    summary = serializers.CharField(max_length=40, required=False, default="", allow_blank=True)
    link = serializers.URLField(max_length=500, required=False, default="", allow_blank=True)
    file = serializers.FileField(required=False, default=None, allow_null=True)


class WaiveInput(StrictSerializer):
    """Ask for a waiver (`criterion`, `reason`, `until`), or decide the one that was asked for (`criterion`, `decision`)."""

    criterion = serializers.SlugField(max_length=60)
    decision = serializers.ChoiceField(choices=["approve", "decline"], required=False)
    reason = serializers.CharField(max_length=2000, required=False)
    until = serializers.DateTimeField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "decision" not in attrs:
            for name in ("reason", "until"):
                if name not in attrs:
                    raise serializers.ValidationError({name: "Asking for a waiver needs it; deciding one needs `decision`."})
        return attrs


class RolloutReasonInput(StrictSerializer):
    reason = serializers.CharField(max_length=300)


class RollbackOutput(serializers.Serializer[Any]):
    rollout = serializers.CharField(source="rollout.slug")
    from_phase = serializers.CharField(source="from_phase.key")
    to_phase = serializers.CharField(source="to_phase.key", default=None)
    reason = serializers.CharField()
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField()
    rto_minutes = serializers.IntegerField()


class LogOutput(serializers.ModelSerializer[ReleaseLogEntry]):
    gate = serializers.IntegerField(source="gate.number", default=None)

    class Meta:
        model = ReleaseLogEntry
        fields = ["sequence", "at", "kind", "actor_name", "gate", "text"]


class MetricOutput(serializers.Serializer[Any]):
    key = serializers.CharField(source="metric.key")
    title = serializers.CharField(source="metric.title")
    unit = serializers.CharField(source="metric.unit")
    better = serializers.CharField(source="metric.better")
    minimum_sample = serializers.IntegerField(source="metric.minimum_sample")
    description = serializers.CharField(source="metric.description")
    window_days = serializers.IntegerField()
    value = serializers.FloatField(source="reading.value", allow_null=True)
    low = serializers.FloatField(source="reading.low", allow_null=True)
    high = serializers.FloatField(source="reading.high", allow_null=True)
    sample = serializers.IntegerField(source="reading.sample")
    error = serializers.CharField(source="reading.error")
    bound = serializers.SerializerMethodField()

    def get_bound(self, row: MetricRow) -> list[dict[str, Any]]:
        return [
            {
                "rollout": criterion.gate.rollout.slug,
                "gate": criterion.gate.number,
                "criterion": criterion.key,
                "rule": wording.rule(criterion.operator, criterion.threshold, criterion.unit),
            }
            for criterion in row.rules
        ]
