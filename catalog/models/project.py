"""A project groups agents, keys and people; spend is shown back to it."""

from __future__ import annotations

from django.db import models

from governance.models import User


class Project(models.Model):
    slug = models.SlugField(max_length=48, unique=True)
    name = models.CharField(max_length=80)
    description = models.TextField(blank=True)
    cost_centre = models.CharField(max_length=48, blank=True)
    environment = models.CharField(max_length=16, default="development")
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    is_enabled = models.BooleanField(default=True)
    """Switched off, the gateway refuses every call of the project within seconds."""
    keys_by_request = models.BooleanField(default=False)
    """Somebody with the right to manage keys agrees to each key first."""
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    monthly_budget_usd = models.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    """Ceiling per calendar month in the tenant's time zone; None is no ceiling."""
    tags = models.JSONField(default=dict)
    """Of its calls, where neither the caller nor the key says otherwise: name to value."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(monthly_budget_usd=None) | models.Q(monthly_budget_usd__gte=0), name="project_budget_not_negative"
            )
        ]

    def __str__(self) -> str:
        return self.name
