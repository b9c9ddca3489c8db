"""Bodies of the endpoints of projects."""

from __future__ import annotations

from rest_framework import serializers

from catalog.api.serializers.fields import MAX_INTEGER
from catalog.models import Project
from governance.api.serializers import StrictSerializer


class ProjectFacts(StrictSerializer):
    name = serializers.CharField(max_length=80, required=False)
    description = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    cost_centre = serializers.CharField(max_length=48, required=False, allow_blank=True)
    environment = serializers.CharField(max_length=16, required=False)
    keys_by_request = serializers.BooleanField(
        required=False, help_text="Somebody with the right to manage keys agrees to each new key first."
    )
    requests_per_minute = serializers.IntegerField(min_value=1, max_value=MAX_INTEGER, required=False, allow_null=True)
    monthly_budget_usd = serializers.DecimalField(max_digits=14, decimal_places=2, min_value=0, required=False, allow_null=True)


class ProjectInput(ProjectFacts):
    slug = serializers.SlugField(max_length=48)


class ProjectOutput(serializers.ModelSerializer[Project]):
    owner = serializers.CharField(source="owner.email")
    tags = serializers.DictField(child=serializers.CharField(), help_text="Of its calls, unless the caller or the key says otherwise.")

    class Meta:
        model = Project
        fields = (
            "slug",
            "name",
            "description",
            "cost_centre",
            "environment",
            "owner",
            "is_enabled",
            "keys_by_request",
            "requests_per_minute",
            "monthly_budget_usd",
            "tags",
            "created_at",
        )
