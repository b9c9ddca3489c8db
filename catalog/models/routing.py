"""What a model's deployments are chosen by, when it is more than priority and weight."""

from __future__ import annotations

from django.db import models

from catalog.models.model import Model


def _is_percent(name: str) -> models.Q:
    return models.Q(**{f"{name}__gte": 0, f"{name}__lte": 100})


class RoutingObjectives(models.Model):
    """Weights, 0 to 100 each. A model without a row shares its calls by weight at random."""

    model = models.OneToOneField(Model, on_delete=models.CASCADE, primary_key=True, related_name="objectives")
    cost = models.PositiveSmallIntegerField()
    latency = models.PositiveSmallIntegerField()
    quality = models.PositiveSmallIntegerField()
    explore_percent = models.PositiveSmallIntegerField(default=5)
    """Of the calls that go where they would not have gone, so that figures do not grow old."""
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=_is_percent("cost") & _is_percent("latency") & _is_percent("quality") & _is_percent("explore_percent"),
                name="routing_objectives_percent",
            ),
            models.CheckConstraint(
                condition=models.Q(cost__gt=0) | models.Q(latency__gt=0) | models.Q(quality__gt=0), name="routing_objectives_some"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_id}: cost {self.cost}, latency {self.latency}, quality {self.quality}"
