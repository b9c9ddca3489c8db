"""How long a change took to hold in every process of the gateway."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.db import models

from governance.models.tenant import Tenant
from governance.models.user import User


class Effect(models.Model):
    """One change whose way was timed. Public, so that whoever measures finds all that wait with one question."""

    placement: ClassVar[str] = "public"

    class Scope(models.TextChoices):
        PROJECT = "project", "Project"
        TENANT = "tenant", "Organisation"
        GLOBAL = "global", "Everybody"

    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE, related_name="effects")
    """None: of everybody."""
    scope = models.CharField(max_length=8, choices=Scope)
    what = models.CharField(max_length=160)
    """In words, for example "Models off"."""
    is_drill = models.BooleanField(default=False)
    """Nothing changed but a number that nobody reads; it went the same way."""
    actor = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    """None: a drill on schedule."""
    decided_at = models.DateTimeField()
    config_version = models.BigIntegerField(null=True)
    """Of the organisation, with the change in it; what is published of an older one does not count."""
    effective_at = models.DateTimeField(null=True)
    """When the last process took it; None while it is waited for, or when that was given up."""
    planes = models.PositiveIntegerField(null=True)
    """Processes that it had to reach. None: not yet known."""
    patience_s = models.PositiveIntegerField(default=1800)
    """How long it is waited for: as long as the slowest promise, or as the RTO that a drill is judged by. Then it has failed."""
    given_up = models.BooleanField(default=False)

    class Meta:
        ordering = ["-decided_at", "-pk"]
        indexes = [
            models.Index(fields=["tenant", "-decided_at"], name="effect_by_tenant"),
            models.Index(fields=["decided_at"], name="effect_waiting", condition=models.Q(effective_at=None, given_up=False)),
        ]

    def __str__(self) -> str:
        return f"{self.what} at {self.decided_at:%Y-%m-%d %H:%M:%S}"

    VERDICTS: ClassVar = [("pass", "Pass"), ("fail", "Fail"), ("waiting", "On its way"), ("no_data", "No process")]

    GOALS: ClassVar[dict[str, timedelta]] = {
        Scope.PROJECT: timedelta(minutes=5),
        Scope.TENANT: timedelta(minutes=15),
        Scope.GLOBAL: timedelta(minutes=30),
    }
    """What the programme promises; the house's own aim is 5 s."""

    @property
    def seconds(self) -> float | None:
        return None if self.effective_at is None else max(0.0, (self.effective_at - self.decided_at).total_seconds())

    @property
    def milliseconds(self) -> float | None:
        """For the template filter `duration`."""
        return None if self.seconds is None else 1000 * self.seconds

    @property
    def is_waiting(self) -> bool:
        return self.effective_at is None and not self.given_up

    @property
    def patience(self) -> timedelta:
        return timedelta(seconds=self.patience_s)

    @property
    def goal_s(self) -> int:
        return int(self.GOALS[self.scope].total_seconds())

    @property
    def goal_minutes(self) -> int:
        return self.goal_s // 60

    @property
    def verdict(self) -> str:
        """For the template tag `verdict`, of what the programme promises."""
        return self.verdict_within(self.GOALS[self.scope])

    def verdict_within(self, promise: timedelta) -> str:
        """What was never measured, or had no process to reach, is not passed."""
        if self.seconds is None:
            return "fail" if self.given_up else "waiting"
        if self.planes == 0:
            return "no_data"
        return "pass" if self.seconds <= promise.total_seconds() else "fail"
