"""A promise about money: so much in a period for a part of the organisation, and what happens on the way there."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from governance.models import User


def default_thresholds() -> list[int]:
    return [50, 80, 100]


class Budget(models.Model):
    """An amount of USD per day or month, calendar-aligned in the organisation's time zone, for all calls of its scope."""

    placement = "tenant"

    class Scope(models.TextChoices):
        TENANT = "tenant", "Whole organisation"
        PROJECT = "project", "Project"
        AGENT = "agent", "Agent"
        MODEL = "model", "Model"
        KEY = "key", "Key"
        ENVIRONMENT = "environment", "Environment"
        TAG = "tag", "Tag"

    class Period(models.TextChoices):
        DAY = "day", "Day"
        MONTH = "month", "Month"

    class Action(models.TextChoices):
        ALERT = "alert", "Alert only"
        THROTTLE = "throttle", "Slow down, then block"
        BLOCK = "block", "Block"

    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        SIMULATED = "simulated", "Simulated"
        ENFORCED = "enforced", "In force"
        OFF = "off", "Off"

    name = models.CharField(max_length=80)
    """What refusals and notices call it."""
    scope = models.CharField(max_length=12, choices=Scope)
    ref = models.CharField(max_length=176, blank=True)
    """Project or model slug, agent name, key id, environment of projects, or `<tag>=<value>`; empty for the whole organisation."""
    period = models.CharField(max_length=8, choices=Period, default=Period.MONTH)
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    """USD per period."""
    action = models.CharField(max_length=8, choices=Action, default=Action.ALERT)
    thresholds = ArrayField(models.SmallIntegerField(), default=default_thresholds)
    """Percent of the amount at which a notice is written, ascending."""
    throttle_from = models.SmallIntegerField(default=80)
    """Percent of the amount from which calls are slowed down, when the action is to throttle."""
    environment = models.CharField(max_length=40, blank=True)
    """What depends on it, for example `production`: shown to whoever is about to change it."""
    state = models.CharField(max_length=12, choices=State, default=State.DRAFT)
    simulation = models.JSONField(null=True)
    """What the budget would have done over the period before, as `simulation.Outcome.as_json` wrote it."""
    simulated_at = models.DateTimeField(null=True)
    enforced_at = models.DateTimeField(null=True)
    counted_at = models.DateTimeField(null=True)
    """Of a tag, when days of before had given its value rows of its own; None while that is to be done: at once, or when it is no longer off."""
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "budget"
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["name"], name="budget_name_once"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="budget_amount_positive"),
            models.CheckConstraint(condition=Q(throttle_from__gte=1, throttle_from__lte=99), name="budget_throttle_from_percent"),
            models.CheckConstraint(condition=Q(scope="tenant", ref="") | (~Q(scope="tenant") & ~Q(ref="")), name="budget_ref_by_scope"),
            models.CheckConstraint(condition=~Q(scope="tag") | Q(period="month"), name="budget_tag_by_month"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_enforced(self) -> bool:
        return self.state == self.State.ENFORCED

    @property
    def acts_on_gateway(self) -> bool:
        """Alert-only budgets never touch a call."""
        return self.is_enforced and self.action != self.Action.ALERT

    @property
    def scope_text(self) -> str:
        return f"{self.get_scope_display()} {self.ref}" if self.ref else "Whole organisation"


class BudgetRaise(models.Model):
    """More money for a while: added to the amount of every period until it ends by itself."""

    placement = "tenant"

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="raises")
    extra = models.DecimalField(max_digits=14, decimal_places=2)
    """USD per period."""
    reason = models.CharField(max_length=400)
    until = models.DateTimeField()
    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    """When somebody ended it, or the schedule noticed that it was over; a raise counts only until `until`, noticed or not."""

    class Meta:
        db_table = "budget_raise"
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(condition=Q(extra__gt=0), name="budget_raise_positive"),
            models.CheckConstraint(condition=Q(until__gt=models.F("created_at")), name="budget_raise_not_empty"),
        ]

    def __str__(self) -> str:
        return f"{self.budget} +{self.extra} USD until {self.until:%Y-%m-%d %H:%M}"

    @property
    def was_ended_early(self) -> bool:
        return self.ended_at is not None and self.ended_at < self.until

    @property
    def last_moment(self) -> datetime:
        """Until which it held, once it is over: `until` is the midnight after its last day."""
        return self.ended_at if self.ended_at and self.was_ended_early else self.until - timedelta(microseconds=1)

    def is_over(self, at: datetime) -> bool:
        return self.last_moment < at


class BudgetNotice(models.Model):
    """A threshold was reached: once per budget, period and threshold, however often the schedule looks."""

    placement = "tenant"

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="notices")
    period_start = models.DateTimeField()
    threshold = models.SmallIntegerField()
    """Percent."""
    spent = models.DecimalField(max_digits=34, decimal_places=14)
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    """The amount in force when it was noticed, raises included."""
    at = models.DateTimeField()

    class Meta:
        db_table = "budget_notice"
        ordering = ["-at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["budget", "period_start", "threshold"], name="budget_notice_once")]

    def __str__(self) -> str:
        return f"{self.budget} reached {self.threshold}%"

    @property
    def share(self) -> Decimal:
        """Percent."""
        return self.spent / self.amount * 100


class BudgetIncident(models.Model):
    """A budget that held up calls it should not have: priority zero, open until somebody says how it was mended."""

    placement = "tenant"

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="incidents")
    priority = models.CharField(max_length=2, default="P0")
    reason = models.CharField(max_length=400)
    action_before = models.CharField(max_length=8, choices=Budget.Action)
    """What the budget did until it was reported."""
    opened_at = models.DateTimeField()
    opened_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    resolution = models.CharField(max_length=400, blank=True)

    class Meta:
        db_table = "budget_incident"
        ordering = ["-opened_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["budget"], condition=Q(resolved_at=None), name="budget_incident_one_open"),
            models.CheckConstraint(
                condition=Q(resolved_at=None, resolved_by=None) | Q(resolved_at__isnull=False, resolved_by__isnull=False),
                name="budget_incident_resolved_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.priority} {self.budget}"
