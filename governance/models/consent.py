"""What a tenant allows AI to be used for, by class of feature, with its history."""

from __future__ import annotations

from django.db import models

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

    class Meta:
        ordering = ["-set_at", "-id"]

    def __str__(self) -> str:
        return f"{self.get_feature_class_display()}: {self.get_state_display()} at {self.set_at:%Y-%m-%d %H:%M}"
