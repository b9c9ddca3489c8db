"""What went so wrong for an organisation that the operator's programmes stop for it. Public: it is the operator's record."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models import Q

from governance.models import Tenant, User


class Escalation(models.Model):
    """A war room, or a recalibration; closed by words alone, never by time."""

    placement: ClassVar[str] = "public"

    class Kind(models.TextChoices):
        FALSE_THROTTLE = "false_throttle", "War room: false throttle"
        FALSE_ALERTS = "false_alerts", "Recalibration: false alerts"

    kind = models.CharField(max_length=16, choices=Kind)
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.SET_NULL, related_name="+")
    """Whose calls were held up; None for what concerns several."""
    title = models.CharField(max_length=160)
    reason = models.CharField(max_length=500)
    evidence = models.JSONField(default=dict)
    opened_at = models.DateTimeField()
    due_at = models.DateTimeField()
    """48 hours later."""
    closed_at = models.DateTimeField(null=True)
    closed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    resolution = models.CharField(max_length=1000, blank=True)

    class Meta:
        ordering = ["-opened_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind"], condition=Q(kind="false_alerts", closed_at=None), name="escalation_one_recalibration_open"
            ),
            models.CheckConstraint(
                condition=Q(closed_at=None, closed_by=None, resolution="")
                | Q(closed_at__isnull=False, closed_by__isnull=False) & ~Q(resolution=""),
                name="escalation_closed_with_words",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    def is_overdue(self, at: datetime) -> bool:
        return self.is_open and self.due_at < at


class EscalationNote(models.Model):
    """One line of the record. Never changed."""

    placement: ClassVar[str] = "public"

    escalation = models.ForeignKey(Escalation, on_delete=models.CASCADE, related_name="notes")
    at = models.DateTimeField()
    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    text = models.CharField(max_length=1000)

    class Meta:
        ordering = ["at", "pk"]

    def __str__(self) -> str:
        return self.text[:80]


class FalseAlertCount(models.Model):
    """How many alerts of the last seven days an organisation judged false, as its own task counted them."""

    placement: ClassVar[str] = "public"

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="+")
    alerts = models.PositiveIntegerField()
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.tenant}: {self.alerts}"
