"""Checks of what is said to models and tools, and of what they answer."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from governance.models.policy import name_validator
from governance.models.user import User


class Guardrail(models.Model):
    """One check with its scope. The detectors are in `gateway.contract.guardrails`."""

    placement = "tenant"

    class Kind(models.TextChoices):
        PII = "pii", "Personal data"
        SECRETS = "secrets", "Keys and secrets"
        INJECTION = "injection", "Prompt injection"
        TOPICS = "topics", "Blocked topics"
        SIZE = "size", "Size"

    class Mode(models.TextChoices):
        OFF = "off", "Off"
        MONITOR = "monitor", "Monitor"
        ENFORCE = "enforce", "Enforced"

    class Action(models.TextChoices):
        REDACT = "redact", "Replace what is found"
        BLOCK = "block", "Refuse the call"

    class Scope(models.TextChoices):
        TENANT = "tenant", "Whole organisation"
        PROJECT = "project", "Project"
        MODEL = "model", "Model"
        AGENT = "agent", "Agent"

    class Engine(models.TextChoices):
        PATTERNS = "patterns", "Patterns"
        PRESIDIO = "presidio", "Patterns, then Presidio"

    class WhenUnavailable(models.TextChoices):
        REFUSE = "refuse", "Refuse the call"
        PASS = "pass", "Let it pass, and record that"

    REDACTING = (Kind.PII, Kind.SECRETS)

    name = models.CharField(max_length=60, unique=True, validators=[name_validator])
    kind = models.CharField(max_length=12, choices=Kind)
    mode = models.CharField(max_length=8, choices=Mode, default=Mode.MONITOR)
    action = models.CharField(max_length=8, choices=Action, default=Action.BLOCK)
    scope = models.CharField(max_length=8, choices=Scope, default=Scope.TENANT)
    ref = models.CharField(max_length=128, blank=True)
    """The project's or model's short name, or the agent's name; empty for the whole organisation."""
    on_input = models.BooleanField(default=True)
    on_output = models.BooleanField(default=False)
    entities = ArrayField(models.CharField(max_length=24), default=list, blank=True)
    """Of personal data or secrets: which; empty for all."""
    terms = ArrayField(models.CharField(max_length=80), default=list, blank=True)
    threshold = models.FloatField(default=0.5)
    """Of prompt injection: the suspicion. Of personal data with Presidio: the score."""
    engine = models.CharField(max_length=8, choices=Engine, default=Engine.PATTERNS)
    """Of personal data. The four fields below are Presidio's."""
    language = models.CharField(max_length=3, default="en")
    spacy_model = models.CharField(max_length=64, blank=True)
    """An installed one, for names of people and places; empty: none."""
    time_limit_ms = models.PositiveIntegerField(default=1000)
    when_unavailable = models.CharField(max_length=8, choices=WhenUnavailable, default=WhenUnavailable.REFUSE)
    """What an enforced guardrail does with a call when Presidio does not answer in time, or is not there."""
    max_characters = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
