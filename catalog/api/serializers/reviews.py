"""Bodies of the endpoints of what of a model waits for approval."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from catalog.models import ModelReview

FACTS_HELP = (
    "Of a wider description: fields and the values that they will have. Of parameters: those that were proposed, which go over the model's."
)


class BindingChange(serializers.Serializer[Any]):
    """One part of what a model is bound to, before and after; empty where it is not there."""

    what = serializers.CharField(help_text="`data_sensitivity`, `deployment openai/gpt-4.1`, `guardrail personal-data`, …")
    before = serializers.CharField(allow_blank=True)
    after = serializers.CharField(allow_blank=True)
    widens = serializers.BooleanField()


class ModelReviewOutput(serializers.Serializer[Any]):
    """Something that waits for approval, or waited. It never changes but by its decision."""

    id = serializers.IntegerField()
    model = serializers.CharField(source="model.slug")
    kind = serializers.ChoiceField(choices=ModelReview.Kind.choices)
    deployment = serializers.IntegerField(source="deployment_id", allow_null=True)
    facts = serializers.DictField(help_text=FACTS_HELP)
    digest = serializers.CharField(help_text="sha256 of what the model will be bound to. Approval holds for nothing else.")
    changes = BindingChange(many=True)
    status = serializers.ChoiceField(choices=ModelReview.Status.choices)
    reason = serializers.CharField(allow_blank=True)
    asked_by = serializers.CharField(source="asked_by.email")
    asked_at = serializers.DateTimeField()
    decided_by = serializers.CharField(source="decided_by.email", allow_null=True, default=None)
    decided_at = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField(allow_blank=True)
    basis = serializers.ChoiceField(choices=ModelReview.Basis.choices, allow_blank=True, help_text="On what it was approved.")


class WaitingReview(serializers.Serializer[Any]):
    """Something of a model that waits for approval."""

    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=ModelReview.Kind.choices)
    deployment = serializers.IntegerField(source="deployment_id", allow_null=True)
    facts = serializers.DictField(help_text=FACTS_HELP)
    digest = serializers.CharField()
    asked_by = serializers.CharField(source="asked_by.email")
