"""A model as the organisation offers it, and the deployments behind it."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models

from catalog.models.provider import Provider
from governance.models import FeatureClass, User

slug_validator = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$",
    "Use lower-case letters, digits, dots, hyphens and underscores; begin and end with a letter or digit.",
)


class Model(models.Model):
    """One name that callers use. Only an approved (or deprecated) one is served."""

    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        SUBMITTED = "submitted", "Submitted"
        APPROVED = "approved", "Approved"
        DEPRECATED = "deprecated", "Deprecated"
        RETIRED = "retired", "Retired"

    class Sensitivity(models.TextChoices):
        PUBLIC = "public", "Public"
        INTERNAL = "internal", "Internal"
        CONFIDENTIAL = "confidential", "Confidential"
        RESTRICTED = "restricted", "Restricted"

    class CacheScope(models.TextChoices):
        TENANT = "tenant", "The whole organisation"
        PROJECT = "project", "Each project by itself"
        KEY = "key", "Each key by itself"

    SERVED = (Status.APPROVED, Status.DEPRECATED)

    slug = models.CharField(max_length=80, unique=True, validators=[slug_validator])
    """What callers send as `model`. Events, prices and bills keep it, so it never changes."""
    name = models.CharField(max_length=80)
    description = models.TextField(blank=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.DRAFT)
    capabilities = ArrayField(models.CharField(max_length=24), default=list)
    """Of chat, embeddings, vision, tools, json."""
    context_window = models.PositiveIntegerField(null=True, blank=True)
    max_output_tokens = models.PositiveIntegerField(default=4096)
    default_parameters = models.JSONField(default=dict, db_default={}, blank=True)
    """Of `gateway.contract.treatments.PARAMETERS`: what the gateway sends for a call that sets none of its own."""
    feature_class = models.CharField(max_length=32, choices=FeatureClass, default=FeatureClass.ASSISTANTS)
    data_sensitivity = models.CharField(max_length=16, choices=Sensitivity, default=Sensitivity.INTERNAL)
    """The most sensitive data that may be sent to it."""
    environment = models.CharField(max_length=16, default="production")
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    tags = models.JSONField(default=dict, blank=True)
    cache_ttl_s = models.PositiveIntegerField(default=0)
    """How long the gateway may give an answer again to the same request; 0 never."""
    cache_scope = models.CharField(max_length=8, choices=CacheScope, default=CacheScope.TENANT)
    """Among whose calls."""
    cache_embedding = models.CharField(max_length=100, blank=True)
    """Slug of the model that tells whether a question means the same as one before; empty: only the same request gets the same answer."""
    cache_threshold = models.FloatField(default=0.95)
    """The least cosine similarity of two questions."""
    cache_sample_percent = models.PositiveSmallIntegerField(default=5)
    """Of semantic hits: how often the model is asked too, to see whether it agrees."""
    approved_binding = models.JSONField(null=True, editable=False)
    """What it may be served as, see `catalog.bindings`; None until it is approved."""
    deprecated_at = models.DateTimeField(null=True, editable=False)
    """Since when callers are told that it is leaving; None while they are not."""
    retires_on = models.DateField(null=True, blank=True)
    """The day that callers are told, in the organisation's time zone. Nothing happens on it by itself."""
    successor = models.CharField(max_length=80, blank=True)
    """Slug of the model that callers are told to use instead."""
    changed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+", editable=False)
    """Who last changed what it is bound to, before it was approved."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug

    @property
    def is_served(self) -> bool:
        return self.status in self.SERVED


class Deployment(models.Model):
    """One upstream that can serve a model."""

    class QualitySource(models.TextChoices):
        PEOPLE = "people", "People"
        EVALUATION = "evaluation", "Evaluation"

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="deployments")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="deployments")
    upstream_model = models.CharField(max_length=120)
    weight = models.PositiveIntegerField(default=1)
    priority = models.PositiveIntegerField(default=0)
    """Lower is tried first."""
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    """What the upstream takes; beyond it calls go to the next deployment. None is no ceiling of ours."""
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    """Likewise, input and output together."""
    is_enabled = models.BooleanField(default=True)
    quality = models.DecimalField(max_digits=5, decimal_places=2, null=True, blank=True)
    """The registered score, 0 to 100; None while there is none."""
    quality_source = models.CharField(max_length=12, choices=QualitySource, blank=True)
    quality_basis = models.CharField(max_length=200, blank=True)
    """What the score rests on, for example a data set and its date."""
    quality_set_at = models.DateTimeField(null=True, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    check_ok = models.BooleanField(null=True, editable=False)
    """Outcome of the last live check; None while never checked, or since the upstream changed."""
    check_trace = models.JSONField(null=True, editable=False)
    """Steps of the last live check, see `catalog.upstream.Trace`."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["priority", "pk"]
        constraints = [models.UniqueConstraint(fields=["model", "provider", "upstream_model"], name="deployment_once_per_model")]

    def __str__(self) -> str:
        return f"{self.upstream_model} at {self.provider}"

    @property
    def reference(self) -> str:
        """What bindings, evaluations and waivers call it: once per model."""
        return f"{self.provider.slug}/{self.upstream_model}"
