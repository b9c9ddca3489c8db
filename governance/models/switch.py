"""Switching off a whole pillar at once: by an organisation for itself, by the operator for everybody."""

from __future__ import annotations

from django.db import models

from governance.models.user import User


class Pillar(models.TextChoices):
    MODELS = "models", "Models"
    TOOLS = "tools", "Tools"


class Switch(models.Model):
    """The present position for one pillar; no row means on. In the public schema it holds for every organisation."""

    pillar = models.CharField(max_length=8, choices=Pillar, unique=True)
    is_off = models.BooleanField(default=False)
    reason = models.CharField(max_length=200, blank=True)
    actor = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    set_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.get_pillar_display()}: {'off' if self.is_off else 'on'}"
