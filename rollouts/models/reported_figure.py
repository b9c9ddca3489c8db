"""A figure that another system keeps, as it reported it. No placement: it lives wherever rollouts do."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from governance.models import User
from rollouts.reported_figures import FIGURES


class ReportedFigure(models.Model):
    """One report. Never changed: the next one replaces it."""

    key = models.CharField(max_length=40)
    """Of `rollouts.reported_figures.FIGURES`."""
    reference = models.CharField(max_length=120)
    """The system's own name for the report, once per key."""
    value = models.FloatField()
    """In the figure's unit."""
    sample = models.PositiveIntegerField()
    """Observations behind it: answers, runs, records."""
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    """95% interval; None for a figure that is a count."""
    url = models.URLField(max_length=500, blank=True)
    at = models.DateTimeField()
    """As of when it holds."""
    received_at = models.DateTimeField()
    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["key", "-at"], name="reported_figure_newest")]
        constraints = [
            models.UniqueConstraint(fields=["key", "reference"], name="reported_figure_once"),
            models.CheckConstraint(
                condition=Q(low=None, high=None) | Q(low__lte=models.F("value"), high__gte=models.F("value")),
                name="reported_figure_interval",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.value:g}"

    @property
    def title(self) -> str:
        known = FIGURES.get(self.key)
        return known.title if known else self.key

    @property
    def unit(self) -> str:
        known = FIGURES.get(self.key)
        return known.unit if known else ""
