"""What a call cost before anybody saved: frozen once, signed by a second person, and never changed."""

from __future__ import annotations

from datetime import date

from django.db import models
from django.db.models import F, Q

from governance.models import User


class Baseline(models.Model):
    """Unit costs and mix of a past period. Its figures stay as they were counted, whatever is corrected later; the digest shows it."""

    placement = "tenant"

    name = models.CharField(max_length=60)
    first_on = models.DateField()
    last_on = models.DateField()
    """UTC days, both included."""
    figures = models.JSONField()
    """By model, see `costs.savings.Unit`: `[{"model", "calls", "cost_usd"}, …]`, money as text."""
    projected_percent = models.DecimalField(max_digits=5, decimal_places=2)
    """By how much a call is meant to cost less."""
    sha256 = models.CharField(max_length=64)
    """Over everything above, see `costs.savings.digest`."""
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    signed_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+", null=True)
    signed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "savings_baseline"
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["name"], name="savings_baseline_name_once"),
            models.CheckConstraint(condition=Q(last_on__gte=F("first_on")), name="savings_baseline_not_empty"),
            models.CheckConstraint(condition=Q(projected_percent__gte=0, projected_percent__lt=100), name="savings_baseline_percent"),
            models.CheckConstraint(
                condition=Q(signed_by=None, signed_at=None) | (Q(signed_at__isnull=False) & ~Q(signed_by=F("created_by"))),
                name="savings_baseline_four_eyes",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def days(self) -> tuple[date, date]:
        return self.first_on, self.last_on
