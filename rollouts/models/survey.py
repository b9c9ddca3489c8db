"""What people say about what is being rolled out: for the programme of a cohort, or for a gate of their own organisation. Public.

An answer names the organisation and the day, not the person; that somebody was asked, so that nobody is asked too often, stands apart.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from governance.models import Tenant, User
from rollouts import plans
from rollouts.models.cohort import Cohort


class SurveySubject(models.TextChoices):
    """What a plan rolls out, as people are asked about it."""

    COSTS = "costs", "cost attribution and anomaly detection"
    GATEWAY = "gateway", "the AI gateway"


class SurveyKind(models.TextChoices):
    CSAT = "csat", "Satisfaction, 1 to 5"
    NPS = "nps", "Recommendation, 0 to 10"


class SurveyAnswer(models.Model):
    placement: ClassVar[str] = "public"

    cohort = models.ForeignKey(Cohort, null=True, on_delete=models.CASCADE, related_name="answers")
    """None: a rollout of the organisation itself asked."""
    subject = models.CharField(max_length=16, choices=SurveySubject, blank=True, default="", db_default="")
    """Empty: the cohort alone."""
    stage = models.CharField(
        max_length=16, choices=[(lane.value, lane.value.title()) for lane in plans.Lane], blank=True, default="", db_default=""
    )
    """Lane of the phase whose gate asked; empty: none did."""
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=4, choices=SurveyKind)
    score = models.PositiveSmallIntegerField()
    comment = models.CharField(max_length=1000, blank=True)
    on = models.DateField()
    """UTC. A day, not a moment. In a small cohort it can still be told from `SurveyPrompt` whose answer it is: only the pages keep them apart."""

    class Meta:
        ordering = ["-on", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="csat", score__gte=1, score__lte=5) | Q(kind="nps", score__lte=10), name="survey_score_on_its_scale"
            ),
            models.CheckConstraint(condition=Q(cohort__isnull=False) | ~Q(subject=""), name="survey_is_about_something"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.score}"


class SurveyPrompt(models.Model):
    """Somebody was asked, and answered or put it away."""

    placement: ClassVar[str] = "public"

    person = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    cohort = models.ForeignKey(Cohort, null=True, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=4, choices=SurveyKind)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["person", "-at"], name="survey_prompt_by_person")]

    def __str__(self) -> str:
        return f"{self.person} asked at {self.at:%Y-%m-%d %H:%M}"


class SurveyOptOut(models.Model):
    """The organisation wants nobody asked."""

    placement: ClassVar[str] = "public"

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="+")
    by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.tenant}: no surveys"
