"""Shapes of the REST API of flags. Shares are percent here, with up to three decimals."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from gateway.contract.flags import Cohort, Exposure, Override
from governance.api.serializers import StrictSerializer
from governance.models import FeatureClass
from rollouts import exposure as rules
from rollouts.errors import ExposureInvalidError
from rollouts.exposure import ExposureError
from rollouts.flag_selectors import Preview
from rollouts.models import Flag, FlagChange
from rollouts.models.flag import key_validator


class OverrideShape(StrictSerializer):
    attribute = serializers.CharField(max_length=60)
    values = serializers.ListField(child=serializers.CharField(max_length=200))
    variant = serializers.CharField(max_length=60)


class CohortShape(StrictSerializer):
    name = serializers.CharField(max_length=60)
    attribute = serializers.CharField(max_length=60)
    values = serializers.ListField(child=serializers.CharField(max_length=200))


class PercentField(serializers.DecimalField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=6, decimal_places=3, min_value=Decimal(0), max_value=Decimal(100), coerce_to_string=False, **options)


class ExposureShape(StrictSerializer):
    """Who is exposed. In a request, parts that are left out stay as they are."""

    on = serializers.BooleanField(required=False, help_text="Off: everybody gets the control.")
    percentage = PercentField(required=False)
    overrides = OverrideShape(many=True, required=False)
    grants = OverrideShape(many=True, required=False, help_text="As overrides, but only within the organisation's consent.")
    cohorts = CohortShape(many=True, required=False, help_text="Of the present stage; none means everybody.")
    regions = serializers.ListField(child=serializers.CharField(max_length=60), required=False, help_text="None means all.")
    weights = serializers.DictField(child=PercentField(), required=False, help_text="Percent of the exposed by treatment; together 100.")


def exposure_from(data: dict[str, Any], present: Exposure) -> Exposure:
    """The present exposure with what a request names. Raises ExposureInvalidError."""
    parts: dict[str, Any] = {name: data[name] for name in ("on", "regions") if name in data}
    try:
        if "percentage" in data:
            parts["percentage"] = rules.share_of(data["percentage"], "percentage")
        if "weights" in data:
            parts["weights"] = {name: rules.share_of(percent, "weights") for name, percent in data["weights"].items()}
        for name in ("overrides", "grants"):
            if name in data:
                parts[name] = [Override(**{**one, "values": tuple(one["values"])}) for one in data[name]]
        if "cohorts" in data:
            parts["cohorts"] = [Cohort(**{**one, "values": tuple(one["values"])}) for one in data["cohorts"]]
        return rules.changed(present, **parts)
    except ExposureError as error:
        raise ExposureInvalidError(str(error), field=error.field) from error


def exposure_to(exposure: Exposure) -> dict[str, Any]:
    return {
        "on": exposure.on,
        "percentage": exposure.percentage / 1000,
        "overrides": _override_shapes(exposure.overrides),
        "grants": _override_shapes(exposure.grants),
        "cohorts": [{"name": one.name, "attribute": one.attribute, "values": list(one.values)} for one in exposure.cohorts],
        "regions": list(exposure.regions),
        "weights": {name: size / 1000 for name, size in rules.weights_of(exposure.ranges).items()},
    }


def _override_shapes(lines: Iterable[Override]) -> list[dict[str, Any]]:
    return [{"attribute": one.attribute, "values": list(one.values), "variant": one.variant} for one in lines]


class FlagInput(StrictSerializer):
    key = serializers.CharField(max_length=120, validators=[key_validator], help_text="ai.<feature>.<change-id>")
    title = serializers.CharField(max_length=160)
    description = serializers.CharField(max_length=4000, required=False, allow_blank=True)
    kind = serializers.ChoiceField(choices=Flag.Kind.choices)
    variants = serializers.DictField(child=serializers.JSONField(), help_text="Value by name, the control among them.")
    control = serializers.CharField(max_length=60)
    feature_class = serializers.ChoiceField(choices=FeatureClass.choices, help_text="The consent that a treatment needs.")
    sticky = serializers.CharField(
        max_length=60, help_text="The attribute that is hashed, for example user (the targeting key) or project."
    )
    policy = serializers.ChoiceField(choices=Flag.Policy.choices, required=False)
    model = serializers.CharField(
        max_length=80,
        required=False,
        allow_blank=True,
        help_text="The model whose calls it leads elsewhere; the variants are then models or treatments.",
    )
    rollout = serializers.SlugField(max_length=60, required=False)


class ChangeInput(StrictSerializer):
    exposure = ExposureShape()
    reason = serializers.CharField(max_length=500)
    seen_version = serializers.IntegerField(
        required=False, min_value=1, help_text="The version that the change was worked out from; refused when the flag has moved on."
    )
    phase = serializers.SlugField(max_length=60, required=False, help_text="Of the flag's rollout: not applied before it has begun.")


class LowerInput(StrictSerializer):
    exposure = ExposureShape(required=False, help_text="Default: off.")
    reason = serializers.CharField(max_length=500)


class FlagCommentInput(StrictSerializer):
    comment = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)


class EvaluateInput(StrictSerializer):
    context = serializers.DictField(child=serializers.JSONField(), required=False, default=dict)  # type: ignore[assignment]  # a field, not DRF's property
    consent = serializers.BooleanField(required=False, allow_null=True, default=None, help_text="Default: as the organisation has decided.")


class ChangeOutput(serializers.ModelSerializer[FlagChange]):
    proposed_by = serializers.EmailField(source="proposed_by.email", default=None, help_text="Null: a rollback rule.")
    decided_by = serializers.EmailField(source="decided_by.email", default=None)
    reviewed_by = serializers.EmailField(source="reviewed_by.email", default=None)
    phase = serializers.CharField(source="phase.key", default=None)
    version = serializers.IntegerField(source="version.number", default=None)
    exposure = serializers.SerializerMethodField()

    class Meta:
        model = FlagChange
        fields = [
            "number", "status", "reason", "raises", "needs_approval", "is_emergency", "phase", "exposure", "prompt", "label", "version", "proposed_by",
            "proposed_at", "decided_by", "decided_at", "comment", "review_due_at", "reviewed_by", "reviewed_at", "review_comment",
        ]  # fmt: skip

    @extend_schema_field(ExposureShape)
    def get_exposure(self, change: FlagChange) -> dict[str, Any]:
        return exposure_to(change.exposed)


class FlagOutput(serializers.ModelSerializer[Flag]):
    owner = serializers.EmailField(source="owner.email")
    rollout = serializers.CharField(source="rollout.slug", default=None)
    variants = serializers.DictField(child=serializers.JSONField())
    version = serializers.IntegerField(source="current.number")
    exposure = serializers.SerializerMethodField()

    class Meta:
        model = Flag
        fields = [
            "key", "title", "description", "kind", "variants", "control", "feature_class", "sticky", "policy", "model", "rollout", "owner",
            "created_at", "archived_at", "version", "exposure",
        ]  # fmt: skip

    @extend_schema_field(ExposureShape)
    def get_exposure(self, flag: Flag) -> dict[str, Any]:
        return exposure_to(flag.exposure)


class FlagDetailOutput(FlagOutput):
    """With the change that waits for approval, if there is one."""

    waiting = ChangeOutput(allow_null=True, source="waiting_change")

    class Meta(FlagOutput.Meta):
        fields = [*FlagOutput.Meta.fields, "waiting"]


class DecisionOutput(serializers.Serializer[Preview]):
    variant = serializers.CharField(source="decision.variant")
    value = serializers.JSONField(source="decision.value")
    reason = serializers.CharField(source="decision.reason")
    rule = serializers.CharField(source="decision.rule")
    detail = serializers.CharField(source="decision.detail")
    bucket = serializers.IntegerField(source="decision.bucket", allow_null=True)
    consent = serializers.BooleanField()
    proposed_variant = serializers.CharField(
        source="proposed.variant", default=None, help_text="Under the change that waits, if there is one."
    )
