"""What the serializers of all apps share, and those of the ground floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import available_timezones

from rest_framework import serializers

from governance.models import AuditEntry, Consent, ConsentChange, Effect, Tenant
from governance.roles import Role


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know: a mistyped name must not be lost in silence."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [name for name in data if name not in self.fields or self.fields[name].read_only]
            if unknown:
                known = ", ".join(name for name, field in self.fields.items() if not field.read_only)
                raise serializers.ValidationError(
                    {str(name): [f"This field is not known. Known are: {known}."] for name in sorted(unknown, key=str)}
                )
        return super().to_internal_value(data)


class ErrorSerializer(serializers.Serializer[Any]):
    """The one shape of an error."""

    detail = serializers.CharField(help_text="What happened and what to do, for people.")
    code = serializers.CharField(help_text="Stable, for programs.")
    fields = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), required=False, help_text="Errors by field of a refused body."
    )  # type: ignore[assignment]


ERRORS: dict[int, Any] = dict.fromkeys((400, 403, 404, 409), ErrorSerializer)
"""For the schema, of endpoints that call a service: what it refuses, and whom."""


class MemberOutput(serializers.Serializer[Any]):
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.name")
    roles = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class MemberInput(StrictSerializer):
    email = serializers.EmailField()
    name = serializers.CharField(required=False, max_length=80, default="")
    password = serializers.CharField(
        required=False, min_length=10, write_only=True, help_text="First password, when the address has no account yet."
    )
    roles = serializers.ListField(child=serializers.ChoiceField(choices=Role.choices), allow_empty=False)


class ConsentOutput(serializers.Serializer[Any]):
    feature_class = serializers.CharField()
    granted = serializers.BooleanField()
    is_default = serializers.BooleanField(help_text="True while the organisation has made no decision.")
    reason = serializers.CharField()
    actor_name = serializers.CharField()
    set_at = serializers.DateTimeField(allow_null=True)


class ConsentChangeOutput(serializers.ModelSerializer[ConsentChange]):
    actor = serializers.EmailField(source="actor.email")
    seconds = serializers.FloatField(
        source="effect.seconds", default=None, read_only=True, allow_null=True,
        help_text="From the decision until every process of the gateway held to it; null while that is waited for, and where it was not timed.",
    )  # fmt: skip
    processes = serializers.IntegerField(source="effect.planes", default=None, read_only=True, allow_null=True)
    verdict = serializers.ChoiceField(choices=Effect.VERDICTS, read_only=True, help_text="Of the promised 5 s.")

    class Meta:
        model = ConsentChange
        fields = ["id", "feature_class", "state", "reason", "actor", "set_at", "seconds", "processes", "verdict"]


class ConsentInput(StrictSerializer):
    state = serializers.ChoiceField(choices=Consent.State.choices)
    reason = serializers.CharField(required=False, max_length=200, default="", allow_blank=True)


class AuditOutput(serializers.ModelSerializer[AuditEntry]):
    class Meta:
        model = AuditEntry
        fields = [
            "sequence",
            "at",
            "actor_name",
            "via",
            "event",
            "target_type",
            "target_id",
            "target_name",
            "details",
            "previous_hash",
            "hash",
        ]


class VerificationOutput(serializers.Serializer[Any]):
    entries = serializers.IntegerField(help_text="Entries that were checked and fit.")
    is_intact = serializers.BooleanField()
    broken_at = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField()
    checkpoint = serializers.CharField(
        help_text="Sequence and hash of the last entry that fits: keep it elsewhere, and give it with the next verification."
    )


class TenantOutput(serializers.ModelSerializer[Tenant]):
    class Meta:
        model = Tenant
        fields = [
            "slug",
            "public_id",
            "name",
            "kind",
            "tier",
            "region",
            "time_zone",
            "suspended_at",
            "created_at",
            "config_version",
            "published_version",
        ]


class TenantInput(StrictSerializer):
    slug = serializers.CharField(max_length=32, validators=list(Tenant._meta.get_field("slug").validators))
    name = serializers.CharField(max_length=80)
    owner_email = serializers.EmailField()
    owner_password = serializers.CharField(required=False, min_length=10, write_only=True)
    kind = serializers.ChoiceField(choices=Tenant.Kind.choices, default=Tenant.Kind.CUSTOMER)
    tier = serializers.ChoiceField(choices=Tenant.Tier.choices, default=Tenant.Tier.FREE)
    region = serializers.CharField(max_length=32, required=False, default="", allow_blank=True)
    time_zone = serializers.ChoiceField(choices=sorted(available_timezones()), default="UTC")


class ReasonInput(StrictSerializer):
    reason = serializers.CharField(max_length=200)


class DeletionInput(ReasonInput):
    confirm = serializers.CharField(max_length=32, help_text="The tenant's address, so that nobody deletes the wrong one.")


class TokenInput(StrictSerializer):
    email = serializers.EmailField()
    password = serializers.CharField(write_only=True)
    tenant = serializers.CharField(
        required=False, default="", allow_blank=True, help_text="Address of the organisation; empty for a platform token."
    )
    name = serializers.CharField(max_length=60, default="API")
    lifetime_days = serializers.IntegerField(min_value=1, max_value=90, default=90)


class TokenOutput(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="Shown once.")
    id = serializers.CharField()
    name = serializers.CharField()
    expires_at = serializers.DateTimeField()


class MeOutput(serializers.Serializer[Any]):
    email = serializers.EmailField()
    name = serializers.CharField()
    tenant = serializers.CharField(
        allow_null=True, help_text="Address of the organisation that the token belongs to; null for a platform token."
    )
    roles = serializers.ListField(child=serializers.CharField())
