"""A rehearsal of switching something off, or taking it back, and of the way back."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.db import models

from governance.models.effect import Effect
from governance.models.tenant import Tenant
from governance.models.user import User


class Drill(models.Model):
    """Two changes that refuse no call, away and back, each timed to every process of the gateway. Public, where effects are measured."""

    placement: ClassVar[str] = "public"

    class Kind(models.TextChoices):
        PHASE = "phase", "Phase"
        PROJECT = "project", "Project"
        PILLAR = "pillar", "Pillar"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="drills")
    kind = models.CharField(max_length=8, choices=Kind)
    reference = models.CharField(max_length=140)
    title = models.CharField(max_length=140)
    rto_s = models.PositiveIntegerField()
    """As promised when it began, by a phase's rollback plan or the programme."""
    actor = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    started_at = models.DateTimeField()
    away = models.OneToOneField(Effect, on_delete=models.RESTRICT, related_name="+")
    back = models.OneToOneField(Effect, null=True, on_delete=models.RESTRICT, related_name="+")
    """None: the way back has not begun, or never did because the way there failed."""
    ended_at = models.DateTimeField(null=True)
    verdict = models.CharField(max_length=8, choices=Effect.VERDICTS, default="waiting")
    """Of both ways against the RTO; final once it has ended."""

    class Meta:
        ordering = ["-started_at", "-pk"]
        indexes = [models.Index(fields=["tenant", "-started_at"], name="drill_by_tenant")]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "kind", "reference"], condition=models.Q(ended_at=None), name="drill_one_under_way"),
            models.CheckConstraint(condition=models.Q(ended_at=None) ^ ~models.Q(verdict="waiting"), name="drill_ends_with_a_verdict"),
        ]

    def __str__(self) -> str:
        return f"Drill of {self.title}"

    @property
    def rto(self) -> timedelta:
        return timedelta(seconds=self.rto_s)

    @property
    def rto_minutes(self) -> float:
        return self.rto_s / 60
