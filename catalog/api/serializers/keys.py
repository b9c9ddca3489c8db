"""Bodies of the endpoints of keys."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from catalog.api.serializers.fields import MAX_INTEGER, UsageSerializer
from catalog.models import VirtualKey
from governance.api.serializers import StrictSerializer


class KeyInput(StrictSerializer):
    name = serializers.CharField(max_length=60)
    project = serializers.SlugField(max_length=48)
    owner = serializers.EmailField(required=False, help_text="Somebody else's address takes the right to manage keys.")
    models = serializers.ListField(
        child=serializers.CharField(max_length=80), required=False, allow_null=True, default=None, help_text="Model slugs; null is all."
    )
    tools = serializers.ListField(
        child=serializers.CharField(max_length=48), required=False, allow_null=True, default=None, help_text="Tool namespaces; null is all."
    )
    requests_per_minute = serializers.IntegerField(min_value=1, max_value=MAX_INTEGER, required=False, allow_null=True, default=None)
    monthly_budget_usd = serializers.DecimalField(
        max_digits=14, decimal_places=2, min_value=0, required=False, allow_null=True, default=None
    )
    lifetime_days = serializers.IntegerField(min_value=1, max_value=90, required=False, default=90)


class KeyOutput(serializers.Serializer[Any]):
    """A key without its secret. Works on `selectors.KeyRow`."""

    id = serializers.CharField(source="key.public_id")
    name = serializers.CharField(source="key.name")
    purpose = serializers.ChoiceField(source="key.purpose", choices=VirtualKey.Purpose.choices)
    project = serializers.CharField(source="key.project.slug")
    owner = serializers.CharField(source="key.owner.email")
    state = serializers.ChoiceField(source="key.state", choices=["active", "expired", "revoked"])
    models = serializers.ListField(source="key.models", child=serializers.CharField(), allow_null=True)
    tools = serializers.ListField(source="key.tools", child=serializers.CharField(), allow_null=True)
    requests_per_minute = serializers.IntegerField(source="key.requests_per_minute", allow_null=True)
    monthly_budget_usd = serializers.DecimalField(source="key.monthly_budget_usd", max_digits=14, decimal_places=2, allow_null=True)
    tags = serializers.DictField(
        source="key.tags", child=serializers.CharField(), help_text="Of its calls, unless the caller says otherwise."
    )
    created_at = serializers.DateTimeField(source="key.created_at")
    expires_at = serializers.DateTimeField(source="key.expires_at")
    revoked_at = serializers.DateTimeField(source="key.revoked_at", allow_null=True)
    rotated_at = serializers.DateTimeField(source="key.rotated_at", allow_null=True)
    previous_until = serializers.DateTimeField(
        source="key.previous_until", allow_null=True, help_text="How long the secret before the last rotation works."
    )
    usage = UsageSerializer()


class RotationInput(StrictSerializer):
    overlap_hours = serializers.IntegerField(
        required=False, default=24, min_value=0, max_value=168, help_text="How long the present secret still works."
    )


class KeySelectionInput(StrictSerializer):
    """Either ids, or filters as of the list; all that match are meant."""

    ids = serializers.ListField(child=serializers.CharField(max_length=16), required=False, min_length=1, max_length=10_000)
    q = serializers.CharField(max_length=200, required=False, allow_blank=True)
    project = serializers.CharField(max_length=48, required=False, allow_blank=True)
    state = serializers.CharField(max_length=16, required=False, allow_blank=True)
    expected = serializers.IntegerField(
        min_value=1, max_value=MAX_INTEGER, help_text="How many live keys that is; if it is another number by now, nothing happens."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        filters = {name: attrs.pop(name) for name in ("q", "project", "state") if name in attrs}
        if ("ids" in attrs) == bool(filters):
            raise serializers.ValidationError({"ids": "Give either ids or filters (q, project, state)."})
        return {**attrs, "filters": filters}


class BulkRotationInput(KeySelectionInput):
    overlap_hours = serializers.IntegerField(required=False, default=24, min_value=0, max_value=168)


class NewKeyOutput(serializers.Serializer[Any]):
    key = KeyOutput()
    secret = serializers.CharField(help_text="The whole key. It is shown here and never again.")


class NewKeysOutput(serializers.Serializer[Any]):
    keys = NewKeyOutput(many=True)


class RevokedKeysOutput(serializers.Serializer[Any]):
    revoked = serializers.IntegerField()
