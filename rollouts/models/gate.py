"""A gate at the end of a phase, its criteria, and the immutable evidence of each evaluation."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from governance.models import User
from rollouts.models.rollout import Phase, Rollout
from rollouts.rules import Verdict
from rollouts.signing import SigningRole


class Gate(models.Model):
    class Status(models.TextChoices):
        CLOSED = "closed", "Not reached"
        OPEN = "open", "Open"
        REJECTED = "rejected", "No-go"
        PASSED = "passed", "Passed"

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="gates")
    phase = models.OneToOneField(Phase, on_delete=models.CASCADE, related_name="gate")
    number = models.PositiveSmallIntegerField()
    """1 is the gate at the end of the first phase."""
    title = models.CharField(max_length=160)
    roles = ArrayField(models.CharField(max_length=16, choices=SigningRole.choices))
    status = models.CharField(max_length=16, choices=Status, default=Status.CLOSED)
    planned_on = models.DateField()
    opened_at = models.DateTimeField(null=True)
    decided_at = models.DateTimeField(null=True)
    latest = models.ForeignKey("rollouts.Evaluation", null=True, on_delete=models.SET_NULL, related_name="+")
    """The newest evaluation since the gate opened; None means never evaluated, which is never ready."""

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["rollout", "number"], name="gate_once_per_number")]

    def __str__(self) -> str:
        return f"Gate {self.number} of {self.rollout.name}"

    @property
    def is_decidable(self) -> bool:
        return self.status in (self.Status.OPEN, self.Status.REJECTED)


class Criterion(models.Model):
    """A frozen copy of the plan's criterion."""

    class Kind(models.TextChoices):
        METRIC = "metric", "Measured"
        ATTESTATION = "attestation", "Attested"

    class Severity(models.TextChoices):
        HARD = "hard", "Must hold"
        SECURITY = "security", "Must hold, can't be waived"
        OBSERVE = "observe", "Only observed"

    gate = models.ForeignKey(Gate, on_delete=models.CASCADE, related_name="criteria")
    position = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=60)
    title = models.CharField(max_length=160)
    quote = models.TextField()
    origin = models.CharField(max_length=16)
    group = models.CharField(max_length=80, blank=True)
    owner = models.CharField(max_length=60, blank=True)
    role = models.CharField(max_length=16, choices=SigningRole.choices)
    kind = models.CharField(max_length=16, choices=Kind)
    severity = models.CharField(max_length=16, choices=Severity, default=Severity.HARD)
    evidence = models.TextField(blank=True)
    metric = models.CharField(max_length=80, blank=True)
    operator = models.CharField(max_length=2, blank=True)
    threshold = models.FloatField(null=True)
    unit = models.CharField(max_length=8, blank=True)
    window_hours = models.PositiveIntegerField(null=True)
    minimum_sample = models.PositiveIntegerField(null=True)
    sustain_hours = models.PositiveIntegerField(default=0)
    sustain_times = models.PositiveSmallIntegerField(default=0, db_default=0)
    sustain_of = models.PositiveSmallIntegerField(default=0, db_default=0)
    """It must have held in `sustain_times` of so many evaluations; 0 of 0 when this one is enough."""
    over = models.JSONField(null=True)
    """How organisations are taken together, see `plans.schema.Over`; None when each must meet the rule. Only of a rollout over a cohort."""

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["gate", "key"], name="criterion_once_per_gate"),
            models.CheckConstraint(
                condition=Q(kind="attestation", metric="")
                | (Q(kind="metric", threshold__isnull=False, window_hours__isnull=False) & ~Q(metric="")),
                name="criterion_is_measured_or_attested",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_waivable(self) -> bool:
        return self.severity == self.Severity.HARD

    @property
    def is_attested(self) -> bool:
        return self.kind == self.Kind.ATTESTATION


class Evaluation(models.Model):
    """One evaluation of a gate: the evidence as the exact text that was hashed, and what followed from it. Never changed."""

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule", "On schedule"
        PERSON = "person", "By a person"
        ACT = "act", "After an act"

    gate = models.ForeignKey(Gate, on_delete=models.CASCADE, related_name="evaluations")
    sequence = models.PositiveIntegerField()
    at = models.DateTimeField()
    trigger = models.CharField(max_length=16, choices=Trigger)
    requested_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    rules_version = models.PositiveSmallIntegerField()
    verdict = models.CharField(max_length=16, choices=[(verdict.value, verdict.value) for verdict in Verdict])
    is_ready = models.BooleanField()
    digest = models.CharField(max_length=64)
    evidence = models.TextField()
    """Canonical JSON. Text, not jsonb: a database that rewrites numbers would change the hash."""
    evidence_hash = models.CharField(max_length=64, unique=True)
    previous_hash = models.CharField(max_length=64)
    took_ms = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-sequence"]
        constraints = [models.UniqueConstraint(fields=["gate", "sequence"], name="evaluation_in_order")]
        indexes = [models.Index(fields=["gate", "digest", "-sequence"])]

    def __str__(self) -> str:
        return f"Evaluation {self.sequence} of {self.gate}"

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The evidence, one record per criterion, in the order of the criteria."""
        found: list[dict[str, Any]] = json.loads(self.evidence)["criteria"]
        return found


class SignOff(models.Model):
    """A person's decision for one role, bound to the digest of the verdicts that the person saw."""

    class Decision(models.TextChoices):
        GO = "go", "Go"
        NO_GO = "no_go", "No-go"

    gate = models.ForeignKey(Gate, on_delete=models.CASCADE, related_name="signoffs")
    role = models.CharField(max_length=16, choices=SigningRole.choices)
    person = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    decision = models.CharField(max_length=8, choices=Decision)
    comment = models.TextField(blank=True)
    digest = models.CharField(max_length=64)
    evaluation = models.ForeignKey(Evaluation, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()
    voided_at = models.DateTimeField(null=True)
    void_reason = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["gate", "role"], condition=Q(voided_at=None), name="signoff_once_per_role"),
            models.UniqueConstraint(fields=["gate", "person"], condition=Q(voided_at=None), name="signoff_once_per_person"),
        ]

    def __str__(self) -> str:
        return f"{self.get_decision_display()} for {self.get_role_display()} by {self.person}"


class Attestation(models.Model):
    """A statement, with its evidence, that a criterion which nothing measures is met or is not. The newest one since the gate opened counts."""

    criterion = models.ForeignKey(Criterion, on_delete=models.CASCADE, related_name="attestations")
    met = models.BooleanField()
    summary = models.CharField(max_length=40, blank=True)
    """What stands in the value column, for example `4 of 5`."""
    note = models.TextField()
    link = models.URLField(max_length=500, blank=True)
    file = models.FileField(blank=True, max_length=300)
    file_name = models.CharField(max_length=200, blank=True)
    file_sha256 = models.CharField(max_length=64, blank=True)
    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"{'Met' if self.met else 'Not met'}: {self.criterion}"


class Waiver(models.Model):
    """A criterion may be passed over until a date, with a reason, when a second person agrees."""

    criterion = models.ForeignKey(Criterion, on_delete=models.CASCADE, related_name="waivers")
    covers = models.CharField(max_length=16)
    """The verdict at the time of asking; better ones are covered too, worse ones never."""
    reason = models.TextField()
    until = models.DateTimeField()
    requested_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    approved = models.BooleanField(null=True)

    class Meta:
        ordering = ["-requested_at", "-pk"]
        constraints = [
            models.CheckConstraint(condition=~Q(decided_by=F("requested_by")) | Q(approved=False), name="waiver_four_eyes"),
            models.UniqueConstraint(fields=["criterion"], condition=Q(decided_at=None), name="waiver_one_asked"),
        ]

    def __str__(self) -> str:
        return f"Waiver {self.pk}: {self.criterion}"
