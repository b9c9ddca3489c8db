"""Shapes of evaluations by harnesses in the API."""

from __future__ import annotations

from rest_framework import serializers

from governance.api.serializers import StrictSerializer
from governance.models import FeatureClass
from rollouts.evaluation_selectors import Compared, Standing
from rollouts.models import EvaluationRun, EvaluationScore, EvaluationThreshold, EvaluationThresholdChange, EvaluationWaiver


class EvaluationScoreInput(StrictSerializer):
    metric = serializers.CharField(max_length=60, help_text="Lower-case, for example `faithfulness`.")
    value = serializers.FloatField(required=False, help_text="Mean, 0 to 1. Not needed with items.")
    n = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1, help_text="Items behind the value.")
    low = serializers.FloatField(required=False, help_text="95% interval; without it, the one of the items or the widest possible.")
    high = serializers.FloatField(required=False)
    items = serializers.DictField(child=serializers.FloatField(), required=False, help_text="Score by item id, at most 20,000.")
    better = serializers.ChoiceField(choices=EvaluationScore.Better.choices, required=False, help_text="Of metrics not known by name.")
    is_safety = serializers.BooleanField(required=False, help_text="Of metrics not known by name.")


class EvaluationRunInput(StrictSerializer):
    key = serializers.CharField(max_length=120, help_text="Yours, one per run: told again with the same content, nothing happens.")
    harness = serializers.CharField(max_length=60)
    dataset = serializers.CharField(max_length=120, help_text="With its version.")
    model = serializers.CharField(max_length=80, required=False, help_text="Slug in the catalog.")
    deployment = serializers.CharField(
        max_length=200,
        required=False,
        help_text="Of the model, as provider/upstream model: what one that is added to a served model needs.",
    )
    prompt_version = serializers.CharField(max_length=120, required=False)
    commit = serializers.CharField(max_length=64, required=False)
    url = serializers.URLField(max_length=500, required=False)
    at = serializers.DateTimeField(required=False, help_text="When it was evaluated; now by default.")
    scores = EvaluationScoreInput(many=True)


class EvaluationScoreOutput(serializers.ModelSerializer[EvaluationScore]):
    class Meta:
        model = EvaluationScore
        fields = ["metric", "value", "n", "low", "high", "better", "is_safety"]


class EvaluationRunOutput(serializers.ModelSerializer[EvaluationRun]):
    id = serializers.IntegerField(source="pk")
    by = serializers.EmailField(source="by.email")
    scores = EvaluationScoreOutput(many=True)

    class Meta:
        model = EvaluationRun
        fields = [
            "id", "key", "harness", "dataset", "model", "deployment", "prompt_version", "commit", "url", "at", "received_at", "by", "scores",
        ]  # fmt: skip


class EvaluationDifferenceOutput(serializers.Serializer[Compared]):
    metric = serializers.CharField()
    is_safety = serializers.BooleanField()
    first = serializers.FloatField(source="first.value")
    second = serializers.FloatField(source="second.value")
    change = serializers.FloatField(source="difference.change")
    low = serializers.FloatField(source="difference.low", help_text="95% interval of the change.")
    high = serializers.FloatField(source="difference.high")
    verdict = serializers.CharField(source="difference.verdict", help_text="better, worse or unclear.")
    paired = serializers.IntegerField(source="difference.paired", help_text="Items compared one by one; 0 for two independent means.")


class EvaluationThresholdInput(StrictSerializer):
    feature_class = serializers.ChoiceField(choices=FeatureClass.choices)
    metric = serializers.CharField(max_length=60)
    value = serializers.FloatField(help_text="0 to 1. At least, or at most where lower is better.")
    minimum = serializers.IntegerField(required=False, default=100, help_text="Items of the run, at least.")
    max_age_days = serializers.IntegerField(required=False, default=30)
    reason = serializers.CharField(
        max_length=500, required=False, allow_blank=True, help_text="Needed where a threshold on safety is to ask for less."
    )


class EvaluationThresholdRemoveInput(StrictSerializer):
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True, help_text="Needed of one on safety.")


class EvaluationThresholdChangeOutput(serializers.ModelSerializer[EvaluationThresholdChange]):
    """Less safety, which a second person agrees to or not."""

    id = serializers.IntegerField(source="pk")
    requested_by = serializers.EmailField(source="requested_by.email")
    decided_by = serializers.EmailField(source="decided_by.email", default=None)

    class Meta:
        model = EvaluationThresholdChange
        fields = [
            "id", "removes", "value", "minimum", "max_age_days", "reason", "requested_by", "requested_at", "decided_by", "decided_at", "approved",
        ]  # fmt: skip


class EvaluationThresholdOutput(serializers.ModelSerializer[EvaluationThreshold]):
    id = serializers.IntegerField(source="pk")
    set_by = serializers.EmailField(source="set_by.email")
    feature_class = serializers.CharField()
    operator = serializers.CharField(help_text=">= or <=")
    waiting = EvaluationThresholdChangeOutput(
        source="waiting_change", allow_null=True, help_text="Of one on safety: what waits for a second person."
    )

    class Meta:
        model = EvaluationThreshold
        fields = [
            "id",
            "feature_class",
            "metric",
            "operator",
            "value",
            "minimum",
            "max_age_days",
            "is_safety",
            "set_by",
            "set_at",
            "waiting",
        ]


class EvaluationStandingOutput(serializers.Serializer[Standing]):
    """One threshold of the model's class, and how what was asked about stands with it."""

    threshold = serializers.IntegerField(source="threshold.pk")
    said = serializers.CharField(help_text="Such as `faithfulness >= 0.9`.")
    is_safety = serializers.BooleanField(source="threshold.is_safety")
    verdict = serializers.CharField(source="verdict.value", help_text="pass, fail, inconclusive, no_data or waived.")
    opens = serializers.BooleanField(help_text="Does it let the approval through?")
    reason = serializers.CharField()
    score = EvaluationScoreOutput(allow_null=True)


class EvaluationWaiverInput(StrictSerializer):
    model = serializers.CharField(max_length=300, help_text="Or a prompt version, `greeting@3`, or a deployment, `chat via openai/gpt-4o`.")
    reason = serializers.CharField(max_length=500)
    until = serializers.DateTimeField()


class EvaluationWaiverDecideInput(StrictSerializer):
    approve = serializers.BooleanField()


class EvaluationWaiverOutput(serializers.ModelSerializer[EvaluationWaiver]):
    id = serializers.IntegerField(source="pk")
    requested_by = serializers.EmailField(source="requested_by.email")
    decided_by = serializers.EmailField(source="decided_by.email", default=None)

    class Meta:
        model = EvaluationWaiver
        fields = ["id", "threshold", "model", "reason", "until", "requested_by", "requested_at", "decided_by", "decided_at", "approved"]
