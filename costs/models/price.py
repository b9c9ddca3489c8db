"""What a token costs, from when until when."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, Q

from governance.models import User


class TokenClass(models.TextChoices):
    """Disjoint: a token of a call is in exactly one. The order is that of `Event.price_ids`."""

    INPUT = "input", "Input"
    CACHED_INPUT = "cached_input", "Cached input"
    CACHE_WRITE = "cache_write", "Cache write"
    OUTPUT = "output", "Output"


class PriceEntry(models.Model):
    """A price over [valid_from, valid_to). Entries of one provider, model and class never overlap (constraint in `0002`)."""

    placement = "tenant"

    provider = models.CharField(max_length=48)
    model = models.CharField(max_length=80)
    """Our slug, not the provider's name."""
    token_class = models.CharField(max_length=16, choices=TokenClass)
    price = models.DecimalField(max_digits=18, decimal_places=8)
    """Per million tokens."""
    currency = models.CharField(max_length=3, default="USD")
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    source = models.CharField(max_length=200, blank=True)
    """Where the figure was read."""
    approved_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "price_entry"
        ordering = ["provider", "model", "token_class", "-valid_from"]
        indexes = [models.Index(fields=["provider", "model", "token_class", "valid_from"], name="price_entry_series")]
        constraints = [
            models.CheckConstraint(condition=Q(price__gte=0), name="price_not_negative"),
            models.CheckConstraint(condition=Q(currency="USD"), name="price_in_usd"),
            models.CheckConstraint(condition=Q(valid_to=None) | Q(valid_to__gt=F("valid_from")), name="price_period_not_empty"),
            models.UniqueConstraint(fields=["provider", "model", "token_class"], condition=Q(valid_to=None), name="price_one_open_entry"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.model} {self.get_token_class_display().lower()}"

    @property
    def price_text(self) -> str:
        """Exact, with two decimals at least: a rounded price would not multiply to the cost."""
        whole, _, decimals = f"{self.price.normalize():f}".partition(".")
        return f"${int(whole):,}.{decimals.ljust(2, '0')}"

    def covers(self, at: datetime) -> bool:
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)
