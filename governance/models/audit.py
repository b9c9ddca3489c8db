"""Who did what, in an order that cannot be changed afterwards without being noticed."""

from __future__ import annotations

from django.db import models

from governance.models.user import User


class AuditEntry(models.Model):
    """One act. Entries form a chain by hash, per schema; the service that writes them computes it."""

    class Via(models.TextChoices):
        """Through which door an act came."""

        WEB = "web", "Pages"
        API = "api", "API"
        COMMAND = "command", "Command"
        TASK = "task", "Task"

    sequence = models.BigIntegerField(unique=True)
    """1, 2, 3, … without gaps within the schema."""
    at = models.DateTimeField()
    actor = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    """None when the system acted by itself."""
    actor_name = models.CharField(max_length=120)
    via = models.CharField(max_length=16, default="web")
    """One of `Via`."""
    event = models.CharField(max_length=64)
    """`<noun>.<past participle>`, for example `virtual_key.revoked`."""
    target_type = models.CharField(max_length=64, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    target_name = models.CharField(max_length=160, blank=True)
    details = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-sequence"]
        indexes = [models.Index(fields=["event", "-sequence"]), models.Index(fields=["target_type", "target_id", "-sequence"])]

    def __str__(self) -> str:
        return f"{self.event} {self.target_name}"
