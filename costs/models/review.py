"""What people decided in the monthly review of costs, and who signed a month off."""

from __future__ import annotations

from datetime import date

from django.db import models
from django.db.models import Q

from governance.models import User


class ReviewItem(models.Model):
    """A finding that somebody decided about. Open ones are carried to the next month; a finding that comes back after it was closed is a new one."""

    placement = "tenant"

    class Kind(models.TextChoices):
        COMMITMENT = "commitment", "Unused commitment"
        IDLE = "idle", "Idle deployment"
        LOW_VALUE = "low_value", "Low-value model"
        UNTAGGED = "untagged", "Untagged money"
        LACKS_TAGS = "lacks_tags", "Without required tags"
        ANOMALY = "anomaly", "Open anomaly"

    class Decision(models.TextChoices):
        KEEP = "keep", "Keep"
        RETIRE = "retire", "Retire"
        CHANGE = "change", "Change"
        WATCH = "watch", "Watch"

    kind = models.CharField(max_length=12, choices=Kind)
    ref = models.CharField(max_length=200, blank=True)
    """Of a deployment its id, of an anomaly or a commitment its number, else a slug; empty for calls without a project."""
    title = models.CharField(max_length=200)
    """As it was called when it was decided."""
    month = models.DateField()
    """The first day of the earliest month in whose review it was decided."""
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    decision = models.CharField(max_length=8, choices=Decision)
    note = models.CharField(max_length=400, blank=True)
    due_on = models.DateField(null=True)
    decided_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField()
    closed_month = models.DateField(null=True)
    """The first day of the month in whose review it was closed; None while it is open."""
    closed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    closed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "cost_review_item"
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "ref"], condition=Q(closed_at=None), name="review_item_open_once"),
            models.CheckConstraint(
                condition=Q(closed_month=None, closed_by=None, closed_at=None)
                | Q(closed_month__isnull=False, closed_by__isnull=False, closed_at__isnull=False),
                name="review_item_closed_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    def is_late(self, today: date) -> bool:
        return self.is_open and self.due_on is not None and self.due_on < today


class ReviewSignature(models.Model):
    """A month signed off, with the figures and decisions that the person saw."""

    placement = "tenant"

    month = models.DateField(unique=True)
    """Its first day."""
    figures = models.JSONField()
    """See `costs.reviewing.Review.as_json`."""
    sha256 = models.CharField(max_length=64)
    """Over the figures."""
    note = models.CharField(max_length=400, blank=True)
    signed_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    signed_at = models.DateTimeField()

    class Meta:
        db_table = "cost_review_signature"
        ordering = ["-month"]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"
