"""Bodies of the endpoints of providers."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from catalog.api.serializers.fields import TraceSerializer
from catalog.models import Provider
from governance.api.serializers import StrictSerializer

CREDENTIALS_HELP = (
    "Of `entra_id`: tenant_id, client_id, client_secret, and token_url and scope for national clouds. Of `service_account`: service_account, "
    "the text of Google's JSON file. Of `aws_keys`: access_key_id, secret_access_key, and session_token for temporary ones."
)


def _credentials() -> serializers.DictField:
    return serializers.DictField(
        child=serializers.CharField(max_length=16_000, allow_blank=True), required=False, write_only=True, help_text=CREDENTIALS_HELP
    )


def _credential() -> serializers.ChoiceField:
    return serializers.ChoiceField(
        choices=Provider.Credential.choices,
        required=False,
        help_text="The kind of credential. Left out, the usual one, or the present one.",
    )


class ProviderInput(StrictSerializer):
    slug = serializers.SlugField(max_length=48)
    name = serializers.CharField(max_length=80)
    kind = serializers.ChoiceField(choices=Provider.Kind.choices, default=Provider.Kind.OPENAI_COMPATIBLE)
    dialect = serializers.ChoiceField(
        choices=Provider.Dialect.choices, required=False, help_text="The protocol it speaks. Left out, its kind decides."
    )
    base_url = serializers.URLField(
        max_length=300,
        required=False,
        help_text="Up to and including the version segment. Azure completes that of a resource; Vertex AI and Bedrock know theirs by region.",
    )
    region = serializers.CharField(max_length=32, required=False, allow_blank=True, default="")
    project = serializers.CharField(max_length=100, required=False, help_text="Of Google Cloud; left out, that of the service account.")
    api_version = serializers.CharField(max_length=32, required=False, allow_blank=True, help_text="Of Azure, for URLs by deployment.")
    credential = _credential()
    secret = serializers.CharField(
        max_length=400, required=False, allow_blank=True, default="", write_only=True, help_text="Of the credential `key`."
    )
    credentials = _credentials()


class ProviderChange(StrictSerializer):
    name = serializers.CharField(max_length=80, required=False)
    base_url = serializers.URLField(
        max_length=300, required=False, help_text="Another URL voids the credential unless a new one comes with it."
    )
    secret = serializers.CharField(max_length=400, required=False, write_only=True)
    dialect = serializers.ChoiceField(
        choices=Provider.Dialect.choices, required=False, help_text="Another protocol voids what the live checks found."
    )
    region = serializers.CharField(max_length=32, required=False, allow_blank=True)
    api_version = serializers.CharField(max_length=32, required=False, allow_blank=True)
    credential = _credential()
    credentials = _credentials()


class SecretInput(StrictSerializer):
    secret = serializers.CharField(
        max_length=400, required=False, allow_blank=True, write_only=True, help_text="Empty removes the credential."
    )
    credential = _credential()
    credentials = _credentials()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "secret" not in attrs and "credentials" not in attrs:
            raise serializers.ValidationError({"secret": "Give the secret or the credentials; an empty secret removes it."})
        return attrs


class ProviderOutput(serializers.ModelSerializer[Provider]):
    has_secret = serializers.SerializerMethodField()

    class Meta:
        model = Provider
        fields = (
            "slug",
            "name",
            "kind",
            "dialect",
            "base_url",
            "api_version",
            "region",
            "credential",
            "credential_label",
            "has_secret",
            "secret_set_at",
            "replace_by",
            "checked_at",
            "check_ok",
            "check_ms",
            "check_detail",
            "created_at",
        )

    def get_has_secret(self, provider: Provider) -> bool:
        return bool(provider.sealed_secret)


class ProviderCheckOutput(serializers.Serializer[Any]):
    provider = ProviderOutput()
    trace = TraceSerializer()
    models = serializers.ListField(child=serializers.CharField())
