"""Groups of organisations that the operator leads through a preview, and where each of them stands.

Public: the operator's flag beside it decides who is exposed. What stands here is who was screened, asked, enrolled and let go; nobody is
exposed by it alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from governance.models import Tenant, User
from rollouts.cohort_rules import Criterion, Outcome, parse, recruits
from rollouts.models.flag import Flag


class Cohort(models.Model):
    """Who is wanted, by criteria that are judged on live figures."""

    placement: ClassVar[str] = "public"

    slug = models.SlugField(max_length=60, unique=True)
    """Also the name of its line in the flag's exposure."""
    name = models.CharField(max_length=100)
    purpose = models.CharField(max_length=500, blank=True)
    """What those who are asked read."""
    flag = models.ForeignKey(Flag, on_delete=models.PROTECT, related_name="cohorts")
    """The operator's: it lives in the public schema, and its road of changes is the only one to exposure."""
    criteria = models.TextField()
    """As they are written, one per line; see `cohort_rules.parse`."""
    places = models.PositiveIntegerField()
    over_recruitment = models.PositiveSmallIntegerField()
    """Percent beyond the places, because some drop out."""
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    screened_at = models.DateTimeField(null=True)
    """When screening was last asked for."""
    closed_at = models.DateTimeField(null=True)
    """From then on nobody is screened, asked or activated; its members wind down."""

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [models.CheckConstraint(condition=Q(places__gte=1), name="cohort_has_places")]

    def __str__(self) -> str:
        return self.name

    @property
    def rules(self) -> tuple[Criterion, ...]:
        return parse(self.criteria)

    @property
    def recruits(self) -> int:
        return recruits(self.places, self.over_recruitment)

    @property
    def is_closed(self) -> bool:
        return self.closed_at is not None


class CohortMember(models.Model):
    """Where one organisation stands in a cohort, and the figures that it was judged by."""

    placement: ClassVar[str] = "public"

    class State(models.TextChoices):
        CANDIDATE = "candidate", "Screened"
        INVITED = "invited", "Invited"
        DECLINED = "declined", "Declined"
        ENROLLED = "enrolled", "Enrolled"
        ACTIVE = "active", "Active"
        WINDING_DOWN = "winding_down", "Winding down"
        LEFT = "left", "Left"

    class Verdict(models.TextChoices):
        PASS = "pass", "Meets the criteria"
        FAIL = "fail", "Misses a criterion"
        NO_DATA = "no_data", "Figures are missing"

    TAKES_A_PLACE: ClassVar[tuple[str, ...]] = (State.INVITED, State.ENROLLED, State.ACTIVE)
    IN_IT: ClassVar[tuple[str, ...]] = (State.ENROLLED, State.ACTIVE, State.WINDING_DOWN)

    cohort = models.ForeignKey(Cohort, on_delete=models.CASCADE, related_name="members")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=16, choices=State, default=State.CANDIDATE)
    verdict = models.CharField(max_length=8, choices=Verdict)
    evidence = models.JSONField(default=list)
    """[{criterion, figure, verdict}] of the last screening before the invitation; kept as it was from then on."""
    weight = models.FloatField(default=0)
    """Governed calls per day: among those who meet the criteria, who calls more is asked first."""
    screened_at = models.DateTimeField()
    override_reason = models.CharField(max_length=300, blank=True)
    """Why it was asked in spite of the screening; empty for everybody else."""
    invited_at = models.DateTimeField(null=True)
    answer_by = models.DateTimeField(null=True)
    answered_at = models.DateTimeField(null=True)
    answered_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    activated_at = models.DateTimeField(null=True)
    """When the gateway was first told to expose it."""
    winding_down_at = models.DateTimeField(null=True)
    leaves_at = models.DateTimeField(null=True)
    """When a wind-down that was announced ends."""
    left_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=300, blank=True)
    """Of the last step that had one."""
    days_with_calls = ArrayField(models.DateField(), default=list)
    """Since it was activated, UTC; kept by the screening task for the programme's funnel and retention."""
    first_call_at = models.DateTimeField(null=True)
    """The first governed call since it enrolled."""

    class Meta:
        ordering = ["tenant__name"]
        constraints = [
            models.UniqueConstraint(fields=["cohort", "tenant"], name="cohort_member_once"),
            models.CheckConstraint(
                condition=Q(state__in=["candidate", "declined", "left"]) | Q(invited_at__isnull=False), name="cohort_member_was_invited"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["enrolled", "active", "winding_down"]) | Q(answered_at__isnull=False), name="cohort_member_agreed"
            ),
            models.CheckConstraint(condition=~Q(state="winding_down") | Q(leaves_at__isnull=False), name="cohort_member_has_an_end"),
        ]
        indexes = [models.Index(fields=["tenant", "state"], name="cohort_member_by_tenant")]

    def __str__(self) -> str:
        return f"{self.tenant} in {self.cohort}"

    @property
    def outcomes(self) -> list[Outcome]:
        return [Outcome(each["criterion"], each["figure"], each["verdict"]) for each in self.evidence]

    @property
    def glyph(self) -> str:
        """For the template tag `verdict`."""
        return str(self.verdict)

    @property
    def since(self) -> datetime:
        """When it came into its present state."""
        moments = {
            self.State.INVITED: self.invited_at,
            self.State.DECLINED: self.answered_at or self.invited_at,
            self.State.ENROLLED: self.answered_at,
            self.State.ACTIVE: self.activated_at,
            self.State.WINDING_DOWN: self.winding_down_at,
            self.State.LEFT: self.left_at,
        }
        return moments.get(self.State(self.state)) or self.screened_at
