"""An automatic rollback as people meet it: what happened, on what evidence, and who looks after it."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from django.db import models

from governance.models import User
from rollouts.models.flag import Flag, FlagChange
from rollouts.models.rollback_rule import RollbackRule


class Incident(models.Model):
    placement = "tenant"

    class FailureClass(models.TextChoices):
        ERROR = "error", "Errors"
        LATENCY = "latency", "Latency"
        COST = "cost", "Cost"
        QUALITY = "quality", "Quality"
        DATA = "data", "Data and safety"

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        RESOLVED = "resolved", "Resolved"

    number = models.PositiveIntegerField(unique=True)
    title = models.CharField(max_length=160)
    failure_class = models.CharField(max_length=8, choices=FailureClass)
    """What the breach points at; a hint, not a finding."""
    status = models.CharField(max_length=12, choices=Status, default=Status.OPEN)
    flag = models.ForeignKey(Flag, on_delete=models.PROTECT, related_name="incidents")
    rule = models.ForeignKey(RollbackRule, on_delete=models.PROTECT, related_name="incidents")
    change = models.OneToOneField(FlagChange, on_delete=models.PROTECT, related_name="incident")
    """The lowering, which a second person reviews."""
    variant = models.CharField(max_length=60)
    """The treatment that breached."""
    evidence = models.TextField()
    """Canonical JSON with every input of the verdict."""
    evidence_sha256 = models.CharField(max_length=64)
    began_at = models.DateTimeField()
    """End of the first bad step before it fired."""
    opened_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    resolution = models.CharField(max_length=1000, blank=True)

    class Meta:
        ordering = ["-number"]
        indexes = [models.Index(fields=["-number"], name="incident_unresolved", condition=~models.Q(status="resolved"))]
        constraints = [
            models.CheckConstraint(condition=models.Q(acknowledged_by=None) | models.Q(acknowledged_at__isnull=False), name="incident_acknowledged_at"),
            models.CheckConstraint(
                condition=~models.Q(status="resolved") | models.Q(resolved_at__isnull=False, resolved_by__isnull=False), name="incident_resolved_by"
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"Incident {self.number}"

    @property
    def is_open(self) -> bool:
        """Not resolved, acknowledged or not."""
        return self.status != self.Status.RESOLVED

    @cached_property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.evidence)
        return found
