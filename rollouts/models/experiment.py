"""An experiment on a flag, and the readings that were taken of it. No placement: it lives wherever rollouts do."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db import models
from django.db.models import Q

from gateway.contract.flags import BUCKETS
from governance.models import User
from rollouts.advice import MEASURES, Guardrail, Report, Terms, replay
from rollouts.models.flag import Flag, FlagChange, FlagVersion


class Experiment(models.Model):
    """Which variant of a flag is better, by terms that are fixed before the first call counts."""

    class Metric(models.TextChoices):
        ERROR_RATE = "error_rate", MEASURES["error_rate"].title
        LATENCY = "latency", MEASURES["latency"].title
        TTFT = "ttft", MEASURES["ttft"].title
        COST = "cost", MEASURES["cost"].title
        OUTPUT_TOKENS = "output_tokens", MEASURES["output_tokens"].title

    class Better(models.TextChoices):
        LOWER = "lower", "Lower is better"
        HIGHER = "higher", "Higher is better"

    class Method(models.TextChoices):
        SEQUENTIAL = "sequential", "Sequential: look at any time"
        FIXED = "fixed", "Fixed horizon: one look, at the minimum"
        SPRT = "sprt", "SPRT: an effect of this size, or none"

    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        RUNNING = "running", "Running"
        STOPPED = "stopped", "Waits for a decision"
        DECIDED = "decided", "Decided"

    class Decision(models.TextChoices):
        PROMOTE = "promote", "Promote"
        HOLD = "hold", "Hold"
        ROLLBACK = "rollback", "Roll back"

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=160)
    hypothesis = models.TextField()
    flag = models.ForeignKey(Flag, on_delete=models.PROTECT, related_name="experiments")
    champion = models.CharField(max_length=60)
    """The variant that the others are measured against; pinned, and never promoted by its own experiment."""
    metric = models.CharField(max_length=16, choices=Metric)
    better = models.CharField(max_length=8, choices=Better)
    effect = models.FloatField()
    """The smallest one worth finding: percent of the champion's mean, or percentage points of a rate."""
    guardrails = models.JSONField(default=list)
    """[{metric, margin}]"""
    expected_latency_delta = models.FloatField(null=True)
    """What whoever made the challenger expects of its mean latency against the champion's, in percent; shown beside what is measured."""
    expected_quality_gain = models.FloatField(null=True)
    """Likewise of its quality, in percentage points; no call tells it, so that it is a statement only."""
    minimum_units = models.PositiveIntegerField()
    """Per arm; the horizon of a fixed one."""
    max_days = models.PositiveSmallIntegerField()
    method = models.CharField(max_length=16, choices=Method)
    auto_promote = models.BooleanField(default=False)
    """May it propose the winner itself? The change still needs whom the flag's policy names."""
    label = models.CharField(max_length=60, blank=True)
    """Of the prompt whose versions are compared: it moves to the winner's with the promotion. Empty: none does."""
    status = models.CharField(max_length=16, choices=Status, default=Status.DRAFT)
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    version = models.ForeignKey(FlagVersion, null=True, on_delete=models.PROTECT, related_name="+")
    """Whose split is measured."""
    shares = models.JSONField(default=dict)
    """Intended share of the units by variant, together 1."""
    started_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    """Calls from then on do not count."""
    end_reason = models.CharField(max_length=200, blank=True)
    latest = models.ForeignKey("rollouts.ExperimentReading", null=True, on_delete=models.PROTECT, related_name="+")
    decision = models.CharField(max_length=16, choices=Decision, blank=True)
    winner = models.CharField(max_length=60, blank=True)
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    """None: it proposed its winner itself."""
    decided_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=500, blank=True)
    change = models.ForeignKey(FlagChange, null=True, on_delete=models.PROTECT, related_name="+")
    """What the decision did to the flag."""

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["flag"], condition=Q(status="running"), name="experiment_one_per_flag"),
            models.CheckConstraint(
                condition=Q(status="draft") | Q(started_at__isnull=False, version__isnull=False), name="experiment_started_with_a_split"
            ),
            models.CheckConstraint(
                condition=Q(status="decided", decided_at__isnull=False) & ~Q(decision="") | ~Q(status="decided") & Q(decision=""),
                name="experiment_decided_once",
            ),
            models.CheckConstraint(condition=Q(effect__gt=0), name="experiment_looks_for_something"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def state_words(self) -> str:
        """`Running`, `Promoted new`"""
        if self.decision:
            done = {"promote": f"Promoted {self.winner}", "hold": "Held", "rollback": "Rolled back"}
            return done[self.decision]
        return self.get_status_display()

    @property
    def is_open(self) -> bool:
        return self.status in (self.Status.RUNNING, self.Status.STOPPED)

    @property
    def ends_at(self) -> datetime | None:
        """When it stops by itself at the latest; None for a draft."""
        return self.started_at + timedelta(days=self.max_days) if self.started_at else None

    @property
    def terms(self) -> Terms:
        return Terms(
            champion=self.champion, shares=self.shares, rooms=self._rooms(), metric=self.metric,
            better="lower" if self.better == "lower" else "higher", effect=self.effect,
            guardrails=[Guardrail(each["metric"], each["margin"]) for each in self.guardrails], minimum_units=self.minimum_units,
            method=self.method,
        )  # fmt: skip

    def _rooms(self) -> dict[str, int]:
        """The control has the buckets that are not exposed; all treatments may be in any of the exposed."""
        control = self.flag.control
        unexposed = round(BUCKETS * self.shares.get(control, 0.0))
        return {name: unexposed if name == control else BUCKETS - unexposed for name in self.shares}


class ExperimentReading(models.Model):
    """The sums of every arm at one look, as the exact text that was hashed, and the advice that followed. Never changed."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="readings")
    sequence = models.PositiveIntegerField()
    at = models.DateTimeField()
    requested_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    """None: on schedule."""
    advice = models.CharField(max_length=16, choices=Experiment.Decision)
    assignment_p = models.FloatField()
    """The smallest so far."""
    evidence = models.TextField()
    """Canonical JSON. Text, not jsonb: a database that rewrites numbers would change the hash."""
    evidence_hash = models.CharField(max_length=64, unique=True)
    previous_hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-sequence"]
        constraints = [models.UniqueConstraint(fields=["experiment", "sequence"], name="reading_in_order")]

    def __str__(self) -> str:
        return f"Reading {self.sequence} of {self.experiment_id}"

    @cached_property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.evidence)
        return found

    @cached_property
    def report(self) -> Report:
        return replay(self.record)
