"""A rollout under way, its phases, and what happened to it. No placement: the platform's live in public, a tenant's in its own schema."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from governance.models import User
from rollouts import plans

slug_validator = RegexValidator(r"^[a-z0-9]+(?:-[a-z0-9]+)*$", "Use lower-case letters, digits and single hyphens.")


class Rollout(models.Model):
    """One plan being carried out. It keeps a frozen copy of the plan: a new version of the plan changes nothing here."""

    class Status(models.TextChoices):
        PLANNED = "planned", "Planned"
        RUNNING = "running", "Under way"
        FINISHED = "finished", "Finished"
        STOPPED = "stopped", "Stopped"

    slug = models.CharField(max_length=60, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=100)
    plan_key = models.CharField(max_length=60)
    plan_version = models.PositiveIntegerField()
    plan = models.JSONField()
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    status = models.CharField(max_length=16, choices=Status, default=Status.PLANNED)
    starts_on = models.DateField()
    cohort = models.CharField(max_length=60, blank=True, default="", db_default="")
    """Slug of the cohort whose organisations the gates judge; empty: this organisation alone. Only operators set it, in an internal organisation."""
    paused_at = models.DateTimeField(null=True)
    pause_reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [models.Index(fields=["status", "-created_at"])]

    def __str__(self) -> str:
        return self.name

    @property
    def is_paused(self) -> bool:
        return self.paused_at is not None

    @property
    def is_under_way(self) -> bool:
        return self.status == self.Status.RUNNING

    @cached_property
    def frozen_plan(self) -> plans.Plan:
        return plans.thaw(self.plan)


class Phase(models.Model):
    class Status(models.TextChoices):
        WAITING = "waiting", "Not begun"
        CURRENT = "current", "Current"
        DONE = "done", "Done"
        ROLLED_BACK = "rolled_back", "Rolled back"

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="phases")
    position = models.PositiveSmallIntegerField()
    """0, 1, 2, … in the order of the plan."""
    key = models.CharField(max_length=60)
    title = models.CharField(max_length=120)
    lane = models.CharField(max_length=16, choices=[(lane.value, lane.value.title()) for lane in plans.Lane])
    status = models.CharField(max_length=16, choices=Status, default=Status.WAITING)
    planned_start = models.DateField()
    planned_end = models.DateField()
    entered_at = models.DateTimeField(null=True)
    left_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["rollout", "position"], name="phase_once_per_position"),
            models.UniqueConstraint(fields=["rollout"], condition=Q(status="current"), name="phase_one_current"),
        ]

    def __str__(self) -> str:
        return self.title

    def day(self, now: datetime) -> int:
        """1 on the first day in the phase; 0 when it was never entered."""
        return (now - self.entered_at).days + 1 if self.entered_at else 0

    @property
    def planned_days(self) -> int:
        return (self.planned_end - self.planned_start).days

    def is_late(self, now: datetime) -> bool:
        """Past its planned end, and longer in it than planned: a phase that was entered late, or again, has its own time."""
        return self.status == self.Status.CURRENT and now.date() > self.planned_end and self.day(now) > self.planned_days


class Rollback(models.Model):
    """A phase was left backwards. The clock runs from the decision until a person confirms that nobody is exposed any more."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="rollbacks")
    from_phase = models.ForeignKey(Phase, on_delete=models.CASCADE, related_name="+")
    to_phase = models.ForeignKey(Phase, null=True, on_delete=models.CASCADE, related_name="+")
    """None: the first phase was rolled back, the rollout is stopped."""
    reason = models.CharField(max_length=500)
    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    finished_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    rto_minutes = models.PositiveIntegerField(null=True)
    """What the plan promises for the phase; None when it promises nothing."""

    class Meta:
        ordering = ["-started_at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["rollout"], condition=Q(finished_at=None), name="rollback_one_under_way")]

    def __str__(self) -> str:
        return f"{self.from_phase} rolled back"

    def took_minutes(self, now: datetime) -> float:
        return ((self.finished_at or now) - self.started_at).total_seconds() / 60

    def is_over_rto(self, now: datetime) -> bool:
        return self.rto_minutes is not None and self.took_minutes(now) > self.rto_minutes


class ReleaseLogEntry(models.Model):
    """One line of the release log. Only ever added to."""

    class Kind(models.TextChoices):
        STARTED = "started", "Started"
        PHASE = "phase", "Phase"
        VERDICT = "verdict", "Verdict"
        SIGNATURE = "signature", "Signature"
        VOIDED = "voided", "Signature voided"
        ATTESTATION = "attestation", "Attestation"
        WAIVER = "waiver", "Waiver"
        PAUSED = "paused", "Paused"
        RESUMED = "resumed", "Resumed"
        ROLLBACK = "rollback", "Rollback"
        REOPENED = "reopened", "Reopened"
        FINISHED = "finished", "Finished"

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="log")
    sequence = models.PositiveIntegerField()
    gate = models.ForeignKey("rollouts.Gate", null=True, on_delete=models.CASCADE, related_name="log")
    at = models.DateTimeField()
    actor = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    actor_name = models.CharField(max_length=120)
    kind = models.CharField(max_length=16, choices=Kind)
    glyph = models.CharField(max_length=16, blank=True)
    """The verdict whose silhouette stands beside the line, where there is one."""
    text = models.TextField()

    class Meta:
        ordering = ["-sequence"]
        constraints = [models.UniqueConstraint(fields=["rollout", "sequence"], name="release_log_in_order")]
        indexes = [models.Index(fields=["gate", "-sequence"])]

    def __str__(self) -> str:
        return self.text[:80]
