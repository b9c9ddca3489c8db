"""A ceiling on requests, tokens or calls at once, and of a deployment on money. (Other ceilings on money are budgets.)"""

from __future__ import annotations

from django.db import models

from governance.models import User


class UsageLimit(models.Model):
    """What the gateway holds calls to, exactly, whatever the number of its processes."""

    class Scope(models.TextChoices):
        TENANT = "tenant", "Whole organisation"
        PROJECT = "project", "Project"
        AGENT = "agent", "Agent"
        MODEL = "model", "Model"
        KEY = "key", "Key"
        DEPLOYMENT = "deployment", "Deployment"
        """Beyond it calls go to the model's next deployment."""

    class Resource(models.TextChoices):
        REQUESTS = "requests", "Requests"
        INPUT_TOKENS = "input_tokens", "Input tokens"
        OUTPUT_TOKENS = "output_tokens", "Output tokens"
        CONCURRENT = "concurrent", "Calls at once"
        MONEY = "money", "US dollars"
        """Whole ones, at our own prices. Of deployments only."""

    class Window(models.TextChoices):
        MINUTE = "minute", "Minute"
        HOUR = "hour", "Hour"
        DAY = "day", "Day"
        MONTH = "month", "Month"

    scope = models.CharField(max_length=16, choices=Scope)
    ref = models.CharField(max_length=400, blank=True)
    """Project or model slug, public id of a key, name of an agent, `<model>/<provider>/<upstream model>`; empty for the whole organisation."""
    resource = models.CharField(max_length=16, choices=Resource)
    window = models.CharField(max_length=8, choices=Window, blank=True)
    """Calendar-aligned in the organisation's time zone; empty for calls at once."""
    amount = models.PositiveBigIntegerField()
    fail_open = models.BooleanField(default=True)
    """When the counter cannot be asked and nothing is left on lease: admit calls, or refuse them with 503."""
    is_enabled = models.BooleanField(default=True)
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["scope", "ref", "resource", "window", "pk"]
        constraints = [models.UniqueConstraint(fields=["scope", "ref", "resource", "window"], name="usage_limit_once")]

    def __str__(self) -> str:
        per = f" per {self.window}" if self.window else ""
        return f"{self.amount:,} {self.get_resource_display().lower()}{per}, {self.where}"

    @property
    def where(self) -> str:
        return f"{self.get_scope_display().lower()} {self.ref}".strip()

    @property
    def counter_id(self) -> str:
        """Names the counter; a limit that was given another scope, resource or window begins anew."""
        return f"limit:{self.pk}:{self.scope}:{self.ref}:{self.resource}:{self.window}"
