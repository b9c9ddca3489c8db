"""How long single calls stay in the database, and the months that left it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

SHORTEST_MONTHS = 3
"""Whole months before the present one: replays, rollback rules and experiments read single calls of the last weeks."""
LONGEST_MONTHS = 120


class EventRetention(models.Model):
    """What an organisation wants. One row; without it, all calls are kept."""

    placement = "tenant"

    id = models.SmallIntegerField(primary_key=True, default=1)
    keep_months = models.SmallIntegerField(null=True)
    """Whole UTC months before the present one whose calls stay in the database; None for all."""
    archives = models.BooleanField(default=True)
    """Whether older months are kept as files; if not, their calls are deleted."""

    class Meta:
        db_table = "event_retention"
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="event_retention_one_row"),
            models.CheckConstraint(
                condition=Q(keep_months=None) | Q(keep_months__gte=SHORTEST_MONTHS, keep_months__lte=LONGEST_MONTHS),
                name="event_retention_months",
            ),
        ]

    def __str__(self) -> str:
        return "all" if self.keep_months is None else f"{self.keep_months} months"


class ArchivedMonth(models.Model):
    """A UTC month whose calls are not in the database any more. Its rollups are. Written in the transaction that drops them."""

    placement = "tenant"

    month = models.DateField(primary_key=True)
    """Its first day."""
    path = models.TextField(blank=True)
    """In the file storage; empty when no file was wanted, or when there was no call."""
    sha256 = models.CharField(max_length=64, blank=True)
    size_bytes = models.BigIntegerField()
    events = models.BigIntegerField()
    unpriced_events = models.BigIntegerField()
    """They stay without a price."""
    cost = models.DecimalField(max_digits=34, decimal_places=14)
    """USD over the priced calls."""
    days = models.JSONField()
    """What was counted in the database, and the same in the file, before the calls were dropped: see `services.archives.SUMS`."""
    archived_at = models.DateTimeField()

    class Meta:
        db_table = "archived_month"
        ordering = ["-month"]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"

    @property
    def file_name(self) -> str:
        return f"calls-{self.month:%Y-%m}.parquet"
