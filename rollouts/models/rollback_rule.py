"""Rules that watch the calls of a flag's treatments and roll it back, the minutes that they look at, and the watcher's sign of life.

They live with the calls, so in tenants only.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models

from governance.models import User
from rollouts.models.flag import Flag
from rollouts.rollback_language import MAX_LENGTH


class RollbackRule(models.Model):
    placement = "tenant"

    class State(models.TextChoices):
        ARMED = "armed", "Armed"
        FROZEN = "frozen", "Frozen: no data"
        PAUSED = "paused", "Paused"
        TRIPPED = "tripped", "Tripped"

    flag = models.ForeignKey(Flag, on_delete=models.CASCADE, related_name="rollback_rules")
    text = models.CharField(max_length=MAX_LENGTH)
    """See `rollouts.rollback_rules`. Never edited: another rule is a new one."""
    is_dry_run = models.BooleanField(default=False)
    """Tells when it would have rolled back, and leaves the flag alone."""
    clear_percent = models.PositiveSmallIntegerField(default=10)
    """Hysteresis: a step is fine once the value is back by this share of the limit."""
    cooldown_minutes = models.PositiveIntegerField(default=30)
    """After it fired: how long it can't be armed, or as a dry run does not fire, again."""
    state = models.CharField(max_length=8, choices=State, default=State.PAUSED)
    state_at = models.DateTimeField()
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    armed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    armed_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)
    baselines = models.JSONField(default=dict)
    """By measure: value, calls and days. Frozen when it was armed."""

    # What the watcher keeps from step to step
    memory = models.JSONField(default=list)
    """Steps with a verdict: [[end in seconds since the epoch, bad or fine], …]."""
    step_end = models.DateTimeField(null=True)
    """Of the last step judged."""
    outcome = models.CharField(max_length=8, blank=True)
    reading = models.JSONField(default=list)
    """Of the last step, by comparison: what it says, value, limit, calls, bad buckets, outcome, reason."""
    unknown_since = models.DateTimeField(null=True)
    is_firing = models.BooleanField(default=False)
    """A dry run fired and has not been clear since."""
    fired_at = models.DateTimeField(null=True)
    fired_count = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["state"], name="rollback_rule_live", condition=models.Q(removed_at=None))]

    def __str__(self) -> str:
        return self.text

    @property
    def is_live(self) -> bool:
        """The watcher judges it."""
        return self.removed_at is None and self.state in (self.State.ARMED, self.State.FROZEN)

    def cools_until(self) -> datetime | None:
        return self.fired_at + timedelta(minutes=self.cooldown_minutes) if self.fired_at else None


class RollbackMinute(models.Model):
    """Sums over the calls of one variant that began in one minute. Counted anew while late calls may come, kept for hours."""

    placement = "tenant"

    flag = models.ForeignKey(Flag, on_delete=models.CASCADE, related_name="+")
    variant = models.CharField(max_length=60)
    minute = models.DateTimeField()
    calls = models.IntegerField()
    failed = models.IntegerField()
    blocked = models.IntegerField()
    priced = models.IntegerField()
    cost = models.FloatField()
    """USD"""
    cost_squared = models.FloatField()
    latency = models.JSONField()
    """Calls that went well by bucket of their duration, see `costs.sketch`."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["flag", "variant", "minute"], name="rollback_minute_once")]
        indexes = [models.Index(fields=["minute"], name="rollback_minute_age")]

    def __str__(self) -> str:
        return f"{self.flag_id} {self.variant} {self.minute:%Y-%m-%d %H:%M}"


class RollbackWatch(models.Model):
    """One row: when the watcher last looked."""

    placement = "tenant"

    ticked_at = models.DateTimeField()
    took_ms = models.IntegerField()
    rules = models.IntegerField()
    """Judged by it."""

    def __str__(self) -> str:
        return f"{self.ticked_at:%Y-%m-%d %H:%M:%S}"
