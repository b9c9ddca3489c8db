"""What a tenant allows AI to be used for, by class of feature, with its history."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.db import models

from governance.models.effect import Effect
from governance.models.user import User


class FeatureClass(models.TextChoices):
    """Classes of AI features. Their default is in `governance.consent`."""

    ASSISTANTS = "assistants", "Assistants and chat"
    SEARCH = "search", "Search and embeddings"
    TOOLS = "tools", "Tools that read data"
    AGENTS = "agents", "Agents that act"
    TRAINING = "training", "Use of data for training"


class Consent(models.Model):
    """The tenant's present decision on one feature class; no row means none was made and the class's default holds."""

    placement = "tenant"

    class State(models.TextChoices):
        GRANTED = "granted", "Allowed"
        WITHDRAWN = "withdrawn", "Switched off"

    feature_class = models.CharField(max_length=32, choices=FeatureClass, unique=True)
    state = models.CharField(max_length=16, choices=State)
    reason = models.CharField(max_length=200, blank=True)
    actor = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    set_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.get_feature_class_display()}: {self.get_state_display()}"


class ConsentChange(models.Model):
    """One decision in the history of a class. Never changed, never removed."""

    placement = "tenant"

    feature_class = models.CharField(max_length=32, choices=FeatureClass)
    state = models.CharField(max_length=16, choices=Consent.State)
    reason = models.CharField(max_length=200, blank=True)
    actor = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    set_at = models.DateTimeField()
    effect = models.ForeignKey(Effect, null=True, on_delete=models.SET_NULL, related_name="+")
    """How long the decision took to hold in every process of the gateway. None: made before that was timed."""

    class Meta:
        ordering = ["-set_at", "-id"]

    PROMISE: ClassVar = timedelta(seconds=5)
    """From a decision until every process of the gateway holds to it."""

    @property
    def verdict(self) -> str:
        """For the template tag `verdict`: was the promise kept?"""
        return "no_data" if self.effect is None else self.effect.verdict_within(self.PROMISE)

    def __str__(self) -> str:
        return f"{self.get_feature_class_display()}: {self.get_state_display()} at {self.set_at:%Y-%m-%d %H:%M}"
