"""Bodies of the catalog's endpoints. Inputs refuse unknown fields; secrets go in and never come out."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from catalog.health_selectors import CIRCUITS, DeploymentState
from catalog.lifecycle import CAPABILITIES
from catalog.models import Deployment, Model, ModelReview, Project, Provider, Tool, ToolServer, VirtualKey
from catalog.models.model import slug_validator
from catalog.models.tool import namespace_validator
from governance.api.serializers import StrictSerializer
from governance.models import FeatureClass

MAX_INTEGER = 2**31 - 1
"""What a database integer holds; more is a clear error instead of a failure."""


class PriceSerializer(StrictSerializer):
    """List price in USD per million tokens."""

    input_per_million = serializers.DecimalField(max_digits=18, decimal_places=8, min_value=0)
    output_per_million = serializers.DecimalField(max_digits=18, decimal_places=8, min_value=0)


class UsageSerializer(serializers.Serializer[Any]):
    """What went through the gateway over the last 30 days. Missing figures are null, never zero."""

    calls = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # a field of this name, not the serializer's own errors
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=24, decimal_places=12, allow_null=True)
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    ttft_ms = serializers.FloatField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class TraceStepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    ok = serializers.BooleanField()
    ms = serializers.FloatField(allow_null=True)
    detail = serializers.CharField()


class TraceSerializer(serializers.Serializer[Any]):
    """The road of one live check, step by step."""

    ok = serializers.BooleanField()
    summary = serializers.CharField()
    total_ms = serializers.FloatField(allow_null=True)
    input_tokens = serializers.IntegerField(allow_null=True)
    output_tokens = serializers.IntegerField(allow_null=True)
    steps = TraceStepSerializer(many=True)


# Providers


_CREDENTIALS_HELP = (
    "Of `entra_id`: tenant_id, client_id, client_secret, and token_url and scope for national clouds. Of `service_account`: service_account, "
    "the text of Google's JSON file. Of `aws_keys`: access_key_id, secret_access_key, and session_token for temporary ones."
)


def _credentials() -> serializers.DictField:
    return serializers.DictField(
        child=serializers.CharField(max_length=16_000, allow_blank=True), required=False, write_only=True, help_text=_CREDENTIALS_HELP
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


# Models


class ModelFactsSerializer(StrictSerializer):
    name = serializers.CharField(max_length=80, required=False)
    description = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    capabilities = serializers.ListField(
        child=serializers.ChoiceField(choices=[(one, one) for one in CAPABILITIES]), required=False, allow_empty=False
    )
    context_window = serializers.IntegerField(min_value=1, max_value=MAX_INTEGER, required=False, allow_null=True)
    max_output_tokens = serializers.IntegerField(min_value=1, max_value=MAX_INTEGER, required=False)
    feature_class = serializers.ChoiceField(choices=FeatureClass.choices, required=False, help_text="The consent that a call needs.")
    data_sensitivity = serializers.ChoiceField(choices=Model.Sensitivity.choices, required=False)
    environment = serializers.CharField(max_length=16, required=False)


class ModelInput(ModelFactsSerializer):
    slug = serializers.CharField(max_length=80, validators=[slug_validator], help_text="What callers send as `model`.")
    provider = serializers.SlugField(max_length=48)
    upstream_model = serializers.CharField(max_length=120)
    price = PriceSerializer(required=False, allow_null=True)


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
    facts = serializers.DictField(help_text="Of a wider description: fields and the values that they will have.")
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
    facts = serializers.DictField(help_text="Of a wider description: fields and the values that they will have.")
    digest = serializers.CharField()
    asked_by = serializers.CharField(source="asked_by.email")


class ModelOutput(serializers.Serializer[Any]):
    """A model with price, deployments and figures. Works on `selectors.ModelRow`."""

    slug = serializers.CharField(source="model.slug")
    name = serializers.CharField(source="model.name")
    description = serializers.CharField(source="model.description")
    status = serializers.ChoiceField(source="model.status", choices=Model.Status.choices)
    capabilities = serializers.ListField(source="model.capabilities", child=serializers.CharField())
    context_window = serializers.IntegerField(source="model.context_window", allow_null=True)
    max_output_tokens = serializers.IntegerField(source="model.max_output_tokens")
    feature_class = serializers.ChoiceField(source="model.feature_class", choices=FeatureClass.choices)
    data_sensitivity = serializers.ChoiceField(source="model.data_sensitivity", choices=Model.Sensitivity.choices)
    environment = serializers.CharField(source="model.environment")
    owner = serializers.CharField(source="model.owner.email")
    cache_ttl_s = serializers.IntegerField(source="model.cache_ttl_s")
    cache_scope = serializers.ChoiceField(source="model.cache_scope", choices=Model.CacheScope.choices)
    cache_embedding = serializers.CharField(source="model.cache_embedding", allow_blank=True)
    cache_threshold = serializers.FloatField(source="model.cache_threshold")
    cache_sample_percent = serializers.IntegerField(source="model.cache_sample_percent")
    price = PriceSerializer(allow_null=True)
    usage = UsageSerializer()
    deployments = DeploymentOutput(many=True)
    waiting = WaitingReview(many=True, help_text="What waits for approval.")
    created_at = serializers.DateTimeField(source="model.created_at")


class DeploymentCheckOutput(serializers.Serializer[Any]):
    deployment = DeploymentOutput()
    trace = TraceSerializer()


class ModelCheckOutput(serializers.Serializer[Any]):
    ok = serializers.BooleanField(help_text="Every deployment that is switched on answered.")
    checks = DeploymentCheckOutput(many=True)


class CacheInput(StrictSerializer):
    ttl_s = serializers.IntegerField(min_value=0, max_value=604_800, help_text="0 keeps no answer.")
    scope = serializers.ChoiceField(choices=Model.CacheScope.choices, default=Model.CacheScope.TENANT)
    embedding = serializers.CharField(
        max_length=100,
        default="",
        allow_blank=True,
        help_text="Embedding model that finds questions of the same meaning; empty: only the same.",
    )
    threshold = serializers.FloatField(min_value=0.8, max_value=1, default=0.95, help_text="The least cosine similarity of two questions.")
    sample_percent = serializers.IntegerField(
        min_value=0, max_value=100, default=5, help_text="Of such hits: how often the model is asked too, to see whether it agrees."
    )


class CacheOutput(serializers.Serializer[Any]):
    """Settings, and what the last seven days brought."""

    ttl_s = serializers.IntegerField()
    scope = serializers.ChoiceField(choices=Model.CacheScope.choices)
    embedding = serializers.CharField(allow_blank=True)
    threshold = serializers.FloatField()
    sample_percent = serializers.IntegerField()
    hits = serializers.IntegerField()
    semantic_hits = serializers.IntegerField(help_text="Of the hits: to questions that only meant the same.")
    misses = serializers.IntegerField()
    saved_usd = serializers.DecimalField(max_digits=20, decimal_places=6)
    checked = serializers.IntegerField(help_text="Semantic hits after which the model was asked too.")
    agreed = serializers.IntegerField(help_text="Of these: it said the same.")


class DeploymentHealthOutput(serializers.Serializer[Any]):
    """Works on `health_selectors.DeploymentHealth`."""

    deployment = serializers.IntegerField(source="deployment.pk")
    provider = serializers.CharField(source="deployment.provider.slug")
    upstream_model = serializers.CharField(source="deployment.upstream_model")
    state = serializers.ChoiceField(choices=DeploymentState.choices)
    since = serializers.DateTimeField(allow_null=True)
    probe_at = serializers.DateTimeField(
        allow_null=True, help_text="From when on the next call is a probe; null unless calls are kept off."
    )
    opened_at = serializers.DateTimeField(source="circuit.opening.at", default=None, help_text="Of the newest opening in 30 days.")
    calls_when_opened = serializers.IntegerField(source="circuit.opening.calls", default=None)
    errors_when_opened = serializers.IntegerField(source="circuit.opening.errors", default=None)
    reason = serializers.CharField(source="circuit.opening.reason", default=None)
    answered = serializers.IntegerField(help_text="Calls of the last 24 hours.")
    failed = serializers.IntegerField(help_text="Calls of the last 24 hours that ended here without an answer.")


class CircuitChangeOutput(serializers.Serializer[Any]):
    """Works on `hooks.CircuitChange`."""

    deployment = serializers.CharField()
    provider = serializers.CharField()
    circuit = serializers.ChoiceField(choices=list(CIRCUITS.items()))
    at = serializers.DateTimeField()
    calls = serializers.IntegerField(help_text="In the minute before.")
    errors = serializers.IntegerField()  # type: ignore[assignment]  # a field of this name
    cooldown_s = serializers.FloatField()
    reason = serializers.CharField()


class FailoversOutput(serializers.Serializer[Any]):
    """Works on `hooks.Failovers`."""

    day = serializers.DateField()
    reason = serializers.CharField()
    calls = serializers.IntegerField()


class ModelHealthOutput(serializers.Serializer[Any]):
    """Deployments now; changes (newest first, at most 100) and failovers of the last 30 days."""

    deployments = DeploymentHealthOutput(many=True)
    changes = CircuitChangeOutput(many=True)
    failovers = FailoversOutput(many=True)


class CommentInput(StrictSerializer):
    comment = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


# Projects


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


class TagsInput(StrictSerializer):
    tags = serializers.DictField(child=serializers.CharField(max_length=128), help_text="Name to value; takes the place of all.")


class ProjectInput(ProjectFacts):
    slug = serializers.SlugField(max_length=48)


class SwitchInput(StrictSerializer):
    enabled = serializers.BooleanField()
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


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


# Virtual keys


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


# Tools


class ToolServerInput(StrictSerializer):
    namespace = serializers.CharField(max_length=32, validators=[namespace_validator])
    name = serializers.CharField(max_length=80)
    url = serializers.URLField(max_length=300)
    description = serializers.CharField(max_length=2000, required=False, allow_blank=True, default="")
    secret = serializers.CharField(max_length=400, required=False, allow_blank=True, default="", write_only=True)
    feature_class = serializers.ChoiceField(choices=FeatureClass.choices, default=FeatureClass.TOOLS)


class ToolServerOutput(serializers.ModelSerializer[ToolServer]):
    owner = serializers.CharField(source="owner.email")
    has_secret = serializers.SerializerMethodField()
    active_tools = serializers.IntegerField()
    suspended_tools = serializers.IntegerField()

    class Meta:
        model = ToolServer
        fields = (
            "namespace",
            "name",
            "description",
            "url",
            "feature_class",
            "is_enabled",
            "owner",
            "has_secret",
            "protocol_version",
            "server_info",
            "discovered_at",
            "discovery_error",
            "active_tools",
            "suspended_tools",
            "created_at",
        )

    def get_has_secret(self, server: ToolServer) -> bool:
        return bool(server.sealed_secret)


class DiffOutput(serializers.Serializer[Any]):
    """Tool names by what the discovery found."""

    new = serializers.ListField(child=serializers.CharField())
    changed = serializers.ListField(child=serializers.CharField(), help_text="Suspended until approved.")
    restored = serializers.ListField(child=serializers.CharField())
    removed = serializers.ListField(child=serializers.CharField())
    unchanged = serializers.ListField(child=serializers.CharField())


class DiscoveryOutput(serializers.Serializer[Any]):
    server = ToolServerOutput()
    diff = DiffOutput()


class ToolOutput(serializers.ModelSerializer[Tool]):
    namespace = serializers.CharField(source="server.namespace")
    full_name = serializers.CharField()

    class Meta:
        model = Tool
        fields = (
            "namespace",
            "name",
            "full_name",
            "title",
            "description",
            "status",
            "input_schema",
            "output_schema",
            "annotations",
            "digest",
            "pending_definition",
            "first_seen_at",
        )


class ToolRunInput(StrictSerializer):
    project = serializers.SlugField(max_length=48)
    arguments = serializers.DictField(required=False, default=dict)


class ToolRunOutput(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    duration_ms = serializers.FloatField()
    texts = serializers.ListField(child=serializers.CharField())
    structured = serializers.CharField()
    other = serializers.ListField(child=serializers.CharField())
    error = serializers.CharField()
    code = serializers.CharField()
