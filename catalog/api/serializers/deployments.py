"""Bodies of the endpoints of deployments."""

from __future__ import annotations

from rest_framework import serializers

from catalog.api.serializers.fields import MAX_INTEGER
from catalog.models import Deployment
from governance.api.serializers import StrictSerializer


def _quota(of: str) -> serializers.IntegerField:
    return serializers.IntegerField(
        min_value=1,
        max_value=MAX_INTEGER,
        required=False,
        allow_null=True,
        help_text=f"{of} that the upstream takes in a minute; beyond it calls go to the next deployment. Null is no ceiling.",
    )


class DeploymentInput(StrictSerializer):
    provider = serializers.SlugField(max_length=48)
    upstream_model = serializers.CharField(max_length=120)
    weight = serializers.IntegerField(min_value=0, max_value=1000, default=1)
    priority = serializers.IntegerField(min_value=0, max_value=100, default=0, help_text="Lower is tried first.")
    is_enabled = serializers.BooleanField(default=True, help_text="Of a served model it is off until it is approved.")
    requests_per_minute = _quota("Requests")
    tokens_per_minute = _quota("Tokens, input and output together,")


class DeploymentChange(StrictSerializer):
    weight = serializers.IntegerField(min_value=0, max_value=1000, required=False)
    priority = serializers.IntegerField(min_value=0, max_value=100, required=False)
    is_enabled = serializers.BooleanField(required=False)
    requests_per_minute = _quota("Requests")
    tokens_per_minute = _quota("Tokens, input and output together,")


class DeploymentOutput(serializers.ModelSerializer[Deployment]):
    provider = serializers.CharField(source="provider.slug")
    region = serializers.CharField(source="provider.region")

    class Meta:
        model = Deployment
        fields = (
            "id",
            "provider",
            "region",
            "upstream_model",
            "weight",
            "priority",
            "requests_per_minute",
            "tokens_per_minute",
            "is_enabled",
            "quality",
            "quality_source",
            "quality_basis",
            "quality_set_at",
            "checked_at",
            "check_ok",
        )
