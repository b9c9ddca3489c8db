"""A shadow: a sample of a model's calls is repeated to a candidate, which nobody sees answer; and the pairs of both answers."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from governance.models import User


class Shadow(models.Model):
    """Models, project and key are named as events name them: they outlive changes of the catalog."""

    class Status(models.TextChoices):
        DRAFT = "draft", "Waits for a second person"
        RUNNING = "running", "Under way"
        PAUSED = "paused", "Paused"
        DONE = "done", "Done"

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=160)
    source = models.CharField(max_length=80)
    """Slug of the model whose calls are repeated."""
    candidate = models.CharField(max_length=80)
    judge = models.CharField(max_length=80, blank=True)
    """Slug of the model that compares the answers; empty: nobody does."""
    project = models.CharField(max_length=48)
    """Slug of the one that pays."""
    share_percent = models.FloatField()
    """Of the calls."""
    cap_usd = models.DecimalField(max_digits=14, decimal_places=2)
    """A day, for the candidate's answers and the judge together."""
    latency_tolerance = models.FloatField()
    """Percent that the candidate may be slower, at the median and at p95; likewise the next two."""
    cost_tolerance = models.FloatField()
    length_tolerance = models.FloatField()
    """Percent that the mean number of output tokens may be more or less."""
    status = models.CharField(max_length=16, choices=Status, default=Status.DRAFT)
    reason = models.CharField(max_length=500, blank=True)
    """Of the pause or the end."""
    key_id = models.CharField(max_length=16, blank=True)
    """Public id of the virtual key that pays; empty before the start."""
    collected_at = models.DateTimeField(null=True)
    """Until when answers were paired."""
    judge_note = models.CharField(max_length=300, blank=True)
    """Why pairs could not be judged when it was last tried."""
    proposer = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    starter = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["source"], condition=Q(status__in=["running", "paused"]), name="shadow_one_per_model"),
            models.CheckConstraint(condition=Q(share_percent__gt=0, share_percent__lte=100), name="shadow_share_percent"),
            models.CheckConstraint(condition=Q(cap_usd__gt=0), name="shadow_cap_positive"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_open(self) -> bool:
        return self.status in (self.Status.RUNNING, self.Status.PAUSED)


class ShadowPair(models.Model):
    """One call and the answer that the candidate would have given. What was said is not here: it is kept by the payload rule, or not at all."""

    class Verdict(models.TextChoices):
        WAITING = "", "Not judged"
        PREFERRED = "preferred", "Candidate preferred"
        BASELINE = "baseline", "Present one preferred"
        TIE = "tie", "Tie"
        INCONSISTENT = "inconsistent", "Judged by order"
        NOT_KEPT = "not_kept", "Nothing kept to judge"
        WITHHELD = "withheld", "Personal data left"

    shadow = models.ForeignKey(Shadow, on_delete=models.CASCADE, related_name="pairs")
    call = models.UUIDField()
    """Event id of the call that was repeated."""
    answer = models.UUIDField()
    """Event id of the candidate's answer."""
    at = models.DateTimeField()
    is_ok = models.BooleanField()
    """The candidate answered."""
    call_ms = models.FloatField()
    answer_ms = models.FloatField()
    call_tokens = models.PositiveIntegerField(null=True)
    """Of the output; None when it is not known. Likewise the next three."""
    answer_tokens = models.PositiveIntegerField(null=True)
    call_usd = models.DecimalField(max_digits=34, decimal_places=14, null=True)
    answer_usd = models.DecimalField(max_digits=34, decimal_places=14, null=True)
    verdict = models.CharField(max_length=16, choices=Verdict, blank=True)
    judged_at = models.DateTimeField(null=True)
    """Without a verdict: when it was last tried."""

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["shadow", "answer"], name="shadow_pair_once")]
        indexes = [models.Index(fields=["shadow", "-at", "-id"], name="shadow_pair_newest")]

    def __str__(self) -> str:
        return f"{self.call} and {self.answer}"
