"""A traffic shift: a flag's challenger gets a larger share step by step, and the windows it was judged by."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from django.db import models
from django.db.models import Q

from governance.models import User
from rollouts.models.flag import Flag, FlagChange, FlagVersion
from rollouts.shift_rules import Judgement, Margins, replay


class Shift(models.Model):
    class Status(models.TextChoices):
        RUNNING = "running", "Under way"
        PAUSED = "paused", "Paused"
        FINISHED = "finished", "Finished"
        ENDED = "ended", "Ended"

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=160)
    flag = models.ForeignKey(Flag, on_delete=models.PROTECT, related_name="shifts")
    challenger = models.CharField(max_length=60)
    steps = models.JSONField()
    """Percent, rising, the last one 100."""
    window_calls = models.PositiveIntegerField()
    """By the challenger, at each step below 100%."""
    latency_margin = models.FloatField()
    error_margin = models.FloatField()
    savings_floor = models.FloatField()
    status = models.CharField(max_length=16, choices=Status, default=Status.RUNNING)
    step = models.PositiveSmallIntegerField()
    """Index of the one that is in force or asked for."""
    change = models.ForeignKey(FlagChange, null=True, on_delete=models.PROTECT, related_name="+")
    """What asks for the step; None where the flag had it already."""
    version = models.ForeignKey(FlagVersion, null=True, on_delete=models.PROTECT, related_name="+")
    """With which the step came into force; None while its change waits."""
    entered_at = models.DateTimeField(null=True)
    seen_calls = models.PositiveBigIntegerField(default=0)
    """By the challenger in the present window, when it was looked at last."""
    looked_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=500, blank=True)
    """Of the pause or the end; what is known while it is under way."""
    proposer = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    """In whose name steps are proposed: whoever started or resumed it."""
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["flag"], condition=Q(status__in=["running", "paused"]), name="shift_one_per_flag"),
            models.CheckConstraint(condition=Q(window_calls__gt=0), name="shift_looks_at_calls"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_open(self) -> bool:
        return self.status in (self.Status.RUNNING, self.Status.PAUSED)

    @property
    def percentage(self) -> int:
        """Of the present step."""
        return int(self.steps[self.step])

    @property
    def is_in_force(self) -> bool:
        return self.entered_at is not None

    @property
    def margins(self) -> Margins:
        return Margins(self.latency_margin, self.error_margin, self.savings_floor)


class ShiftWindow(models.Model):
    """What a step was judged by, as the exact text that was hashed. Never changed."""

    class Verdict(models.TextChoices):
        GO = "go", "Go on"
        WAIT = "wait", "Wait"
        PAUSE = "pause", "Pause"

    shift = models.ForeignKey(Shift, on_delete=models.CASCADE, related_name="windows")
    sequence = models.PositiveIntegerField()
    percentage = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    requested_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    """None: on schedule."""
    verdict = models.CharField(max_length=8, choices=Verdict)
    evidence = models.TextField()
    evidence_hash = models.CharField(max_length=64, unique=True)
    previous_hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-sequence"]
        constraints = [models.UniqueConstraint(fields=["shift", "sequence"], name="shift_window_in_order")]

    def __str__(self) -> str:
        return f"Window {self.sequence} of {self.shift_id}"

    @cached_property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.evidence)
        return found

    @cached_property
    def judgement(self) -> Judgement:
        return replay(self.record)
