"""What a dollar was worth in other currencies, from day to day."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.db.models import F, Q

from governance.models import User


class RateSheet(models.Model):
    """Exchange rates that came together. Those that people enter hold once a second person has approved them."""

    placement = "tenant"

    class Kind(models.TextChoices):
        HAND = "hand", "By hand"
        FILE = "file", "File"
        FEED = "feed", "Reference rates"

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"

    kind = models.CharField(max_length=8, choices=Kind)
    source = models.CharField(max_length=200)
    """Where the rates were read."""
    count = models.IntegerField()
    unchanged = models.IntegerField()
    """Rates that were left out because they hold already."""
    currencies = models.JSONField()
    """List of codes."""
    first_on = models.DateField()
    last_on = models.DateField()
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    proposed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    """None: the schedule, from the reference rates."""
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=400, blank=True)

    class Meta:
        db_table = "rate_sheet"
        ordering = ["-proposed_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(status="waiting", decided_by=None, decided_at=None)
                | (~Q(status="waiting") & Q(decided_by__isnull=False, decided_at__isnull=False))
                | Q(status="approved", kind="feed", decided_at__isnull=False),
                name="rate_sheet_decided_by_somebody",
            ),
            models.CheckConstraint(condition=~Q(status="approved", decided_by=F("proposed_by")), name="rate_sheet_four_eyes"),
        ]

    def __str__(self) -> str:
        days = f"{self.first_on:%Y-%m-%d}" if self.first_on == self.last_on else f"{self.first_on:%Y-%m-%d} to {self.last_on:%Y-%m-%d}"
        return f"{', '.join(self.currencies[:5])}{', …' if len(self.currencies) > 5 else ''}, {days}"


class ExchangeRate(models.Model):
    """What a dollar was worth on one UTC day. Never changed: a later one for the day takes its place, and this one stays with that time."""

    placement = "tenant"

    sheet = models.ForeignKey(RateSheet, on_delete=models.PROTECT, related_name="rates")
    currency = models.CharField(max_length=3)
    day = models.DateField()
    per_usd = models.DecimalField(max_digits=20, decimal_places=10)
    """Units of the currency for one USD."""
    holds = models.BooleanField(default=False)
    replaced_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "exchange_rate"
        ordering = ["-day", "currency", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["currency", "day"], condition=Q(holds=True), name="exchange_rate_once"),
            models.UniqueConstraint(fields=["sheet", "currency", "day"], name="exchange_rate_once_in_sheet"),
            models.CheckConstraint(condition=Q(per_usd__gt=Decimal(0)) & ~Q(currency="USD"), name="exchange_rate_value"),
        ]

    def __str__(self) -> str:
        return f"{self.currency} {self.day:%Y-%m-%d}"

    @property
    def rate_text(self) -> str:
        return f"{self.per_usd.normalize():f}"
