"""What evaluation harnesses found, and what a model must have scored before it is approved. No placement: it lives wherever rollouts do."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from governance.models import FeatureClass, User
from rollouts import evaluation_rules


class EvaluationRun(models.Model):
    """One run of a harness over a data set, as the harness told it. Never changed."""

    key = models.CharField(max_length=120, unique=True)
    """The harness's own name for the run: told again with the same content, it is the same run."""
    harness = models.CharField(max_length=60)
    dataset = models.CharField(max_length=120)
    """With its version, for example `support-faq@2026-11`."""
    model = models.CharField(max_length=80, blank=True)
    """Slug in the catalog."""
    deployment = models.CharField(max_length=200, blank=True)
    prompt_version = models.CharField(max_length=120, blank=True)
    commit = models.CharField(max_length=64, blank=True)
    url = models.URLField(max_length=500, blank=True)
    at = models.DateTimeField()
    """When it was evaluated, by the harness."""
    received_at = models.DateTimeField()
    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    """Whose token told it."""
    fingerprint = models.CharField(max_length=64)
    """sha256 of what was told."""

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [
            models.Index(fields=["-at", "-id"], name="evaluation_run_newest"),
            models.Index(fields=["model", "-at"], name="evaluation_run_of_model"),
        ]
        constraints = [models.CheckConstraint(condition=~Q(model="") | ~Q(prompt_version=""), name="evaluation_run_is_about_something")]

    def __str__(self) -> str:
        return self.key

    @property
    def subject(self) -> str:
        return ", ".join(part for part in (self.model, self.deployment, self.prompt_version) if part)


class EvaluationScore(models.Model):
    class Better(models.TextChoices):
        HIGHER = "higher", "Higher is better"
        LOWER = "lower", "Lower is better"

    run = models.ForeignKey(EvaluationRun, on_delete=models.CASCADE, related_name="scores")
    metric = models.CharField(max_length=60)
    better = models.CharField(max_length=8, choices=Better)
    is_safety = models.BooleanField(default=False)
    value = models.FloatField()
    """0 to 1."""
    n = models.PositiveIntegerField()
    low = models.FloatField()
    high = models.FloatField()
    items = models.JSONField(default=dict)
    """Score by item id, where the harness told them."""

    class Meta:
        ordering = ["-is_safety", "metric"]
        constraints = [
            models.UniqueConstraint(fields=["run", "metric"], name="evaluation_score_once_per_run"),
            models.CheckConstraint(
                condition=Q(low__gte=0, low__lte=F("value"), high__gte=F("value"), high__lte=1, n__gt=0), name="evaluation_score_in_bounds"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.metric} {self.value:g}"

    @property
    def facts(self) -> evaluation_rules.Score:
        return evaluation_rules.Score(self.value, self.n, self.low, self.high, self.items)

    @property
    def title(self) -> str:
        known = evaluation_rules.MEASURES.get(self.metric)
        return known.title if known else self.metric


class EvaluationThreshold(models.Model):
    """What every model of a feature class must have scored before it is approved."""

    class Operator(models.TextChoices):
        AT_LEAST = ">=", "at least"
        AT_MOST = "<=", "at most"

    feature_class = models.CharField(max_length=32, choices=FeatureClass)
    metric = models.CharField(max_length=60)
    operator = models.CharField(max_length=2, choices=Operator)
    value = models.FloatField()
    minimum = models.PositiveIntegerField()
    """Items of the run, at least."""
    max_age_days = models.PositiveSmallIntegerField()
    set_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    set_at = models.DateTimeField()

    class Meta:
        ordering = ["feature_class", "metric"]
        constraints = [models.UniqueConstraint(fields=["feature_class", "metric"], name="evaluation_threshold_once")]

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.value:g} for {self.get_feature_class_display()}"

    @property
    def is_safety(self) -> bool:
        known = evaluation_rules.MEASURES.get(self.metric)
        return known is not None and known.is_safety

    @property
    def terms(self) -> evaluation_rules.Terms:
        return evaluation_rules.Terms(self.value, self.minimum, self.max_age_days)

    @property
    def waiting_change(self) -> EvaluationThresholdChange | None:
        """Less safety, which waits for a second person. Reads all that was asked: prefetch `changes` for a list."""
        return next((change for change in self.changes.all() if change.decided_at is None), None)


class EvaluationThresholdChange(models.Model):
    """A threshold on safety shall ask for less, or for nothing any more, when a second person agrees. What is proposed is never edited."""

    threshold = models.ForeignKey(EvaluationThreshold, on_delete=models.CASCADE, related_name="changes")
    removes = models.BooleanField(default=False)
    value = models.FloatField()
    minimum = models.PositiveIntegerField()
    max_age_days = models.PositiveSmallIntegerField()
    """What it shall be; of a removal, what it is."""
    reason = models.CharField(max_length=500)
    requested_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    approved = models.BooleanField(null=True)

    class Meta:
        ordering = ["-requested_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(approved=True) | (Q(decided_by__isnull=False) & ~Q(decided_by=F("requested_by"))),
                name="evaluation_threshold_change_four_eyes",
            ),
            models.UniqueConstraint(fields=["threshold"], condition=Q(decided_at=None), name="evaluation_threshold_change_one_asked"),
        ]

    def __str__(self) -> str:
        return f"Removal of {self.threshold}" if self.removes else f"{self.threshold}: {self.after}"

    @property
    def now(self) -> str:
        return self.threshold.terms.words(self.threshold.operator)

    @property
    def after(self) -> str:
        return "removed" if self.removes else self.terms.words(self.threshold.operator)

    @property
    def terms(self) -> evaluation_rules.Terms:
        return evaluation_rules.Terms(self.value, self.minimum, self.max_age_days)


class EvaluationWaiver(models.Model):
    """A model, a prompt version or a deployment may pass over a threshold until a date, with a reason, when a second person agrees."""

    threshold = models.ForeignKey(EvaluationThreshold, on_delete=models.CASCADE, related_name="waivers")
    model = models.CharField(max_length=300)
    """Or a prompt version, `greeting@3`, or a deployment, `chat via openai/gpt-4o`."""
    reason = models.CharField(max_length=500)
    until = models.DateTimeField()
    requested_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    approved = models.BooleanField(null=True)

    class Meta:
        ordering = ["-requested_at", "-pk"]
        constraints = [
            models.CheckConstraint(condition=~Q(decided_by=F("requested_by")) | Q(approved=False), name="evaluation_waiver_four_eyes"),
            models.UniqueConstraint(fields=["threshold", "model"], condition=Q(decided_at=None), name="evaluation_waiver_one_asked"),
        ]

    def __str__(self) -> str:
        return f"{self.model}: {self.threshold}"
