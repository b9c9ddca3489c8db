"""What a call was valued at before its price was corrected."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Valuation(models.Model):
    """An earlier value of one call; the present one stands in the event. Append-only."""

    placement = "tenant"

    event_id = models.UUIDField()
    started_at = models.DateTimeField()
    """Of the call: with the id, the event's key."""
    cost = models.DecimalField(max_digits=30, decimal_places=14)
    """USD."""
    price_ids = ArrayField(models.BigIntegerField(null=True))
    """Entries that it was valued with, in the order of `TokenClass`; some may be superseded."""
    replaced_at = models.DateTimeField()

    class Meta:
        db_table = "valuation"
        ordering = ["replaced_at", "pk"]
        indexes = [models.Index(fields=["event_id"], name="valuation_event")]

    def __str__(self) -> str:
        return f"{self.event_id}: {self.cost}"
