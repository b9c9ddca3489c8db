"""Bodies of the endpoints of models, their caches and their health."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from catalog.api.serializers.deployments import DeploymentOutput
from catalog.api.serializers.fields import MAX_INTEGER, PriceSerializer, TraceSerializer, UsageSerializer
from catalog.api.serializers.reviews import WaitingReview
from catalog.health_selectors import CIRCUITS, DeploymentState
from catalog.lifecycle import CAPABILITIES
from catalog.models import Model
from catalog.models.model import slug_validator
from gateway.contract.treatments import PARAMETERS
from governance.api.serializers import StrictSerializer
from governance.models import FeatureClass


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
    default_parameters = serializers.DictField(
        required=False, help_text=f"For calls that set none of their own: {', '.join(PARAMETERS)}. The whole of it."
    )
    tags = serializers.DictField(
        child=serializers.CharField(max_length=128),
        required=False,
        help_text="By which people find it: name to value; takes the place of all.",
    )


class ModelInput(ModelFactsSerializer):
    slug = serializers.CharField(max_length=80, validators=[slug_validator], help_text="What callers send as `model`.")
    provider = serializers.SlugField(max_length=48)
    upstream_model = serializers.CharField(max_length=120)
    price = PriceSerializer(required=False, allow_null=True)


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
    default_parameters = serializers.DictField(source="model.default_parameters")
    tags = serializers.DictField(source="model.tags", child=serializers.CharField())
    owner = serializers.CharField(source="model.owner.email")
    deprecated_at = serializers.DateTimeField(source="model.deprecated_at", allow_null=True)
    retires_on = serializers.DateField(source="model.retires_on", allow_null=True)
    successor = serializers.CharField(source="model.successor", allow_blank=True)
    cache_ttl_s = serializers.IntegerField(source="model.cache_ttl_s")
    cache_scope = serializers.ChoiceField(source="model.cache_scope", choices=Model.CacheScope.choices)
    cache_embedding = serializers.CharField(source="model.cache_embedding", allow_blank=True)
    cache_threshold = serializers.FloatField(source="model.cache_threshold")
    cache_sample_percent = serializers.IntegerField(source="model.cache_sample_percent")
    price = PriceSerializer(allow_null=True, help_text="At the deployment that is tried first.")
    prices = serializers.DictField(child=PriceSerializer(), help_text="By slug of each provider that serves it; unpriced ones are missing.")
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


class LeavingInput(StrictSerializer):
    retires_on = serializers.DateField(default=None, allow_null=True, help_text="The day that callers are told; null for none.")
    successor = serializers.CharField(max_length=80, default="", allow_blank=True, help_text="Slug of the model to use instead.")


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
    answered = serializers.IntegerField(source="tries.answered", help_text="Calls of the last 24 hours.")
    failed = serializers.IntegerField(source="tries.failed", help_text="Calls of the last 24 hours that ended here without an answer.")
    failed_over = serializers.IntegerField(
        source="tries.failed_over", help_text="Tries of the last 24 hours after which a call went on to another deployment."
    )
    failed_over_percent = serializers.FloatField(help_text="Of all tries here: answered, failed and failed over.")
    failed_over_reasons = serializers.DictField(
        source="tries.reasons", child=serializers.IntegerField(), help_text="Why (an HTTP status or a code) to the number of tries."
    )


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
