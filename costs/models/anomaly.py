"""What was spent and not expected: found by the nightly and hourly tests, or reported by a person; and what people said of it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from governance.models import User


class AnomalyDimension(models.TextChoices):
    TENANT = "tenant", "Whole organisation"
    PROJECT = "project", "Project"
    MODEL = "model", "Model"
    KEY = "key", "Key"
    AGENT = "agent", "Agent"


class AnomalyPeriod(models.TextChoices):
    DAY = "day", "Day"
    HOUR = "hour", "Hour"


class Anomaly(models.Model):
    """Spend of one agent, model, project, key or of the organisation that is not what it should be, over one or more days or hours."""

    placement = "tenant"

    class Kind(models.TextChoices):
        SPIKE = "spike", "Spike"
        SHIFT = "shift", "New level"
        RAMP = "ramp", "Ramp"
        DROP = "drop", "Drop"
        UNIT_COST = "unit_cost", "Dearer calls"
        RUNAWAY = "runaway", "Runaway"
        REPORTED = "reported", "Reported as missed"

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        CLOSED = "closed", "Closed"

    class Feedback(models.TextChoices):
        NONE = "", "None yet"
        TRUE = "true", "Real"
        PLANNED = "planned", "Planned"
        FALSE = "false", "False alert"

    dimension = models.CharField(max_length=8, choices=AnomalyDimension)
    ref = models.CharField(max_length=200, blank=True)
    """Slug, agent name or key id; empty for the whole organisation and for calls without an agent."""
    period = models.CharField(max_length=4, choices=AnomalyPeriod)
    kind = models.CharField(max_length=10, choices=Kind)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    """The first moment after it."""
    expected = models.DecimalField(max_digits=20, decimal_places=6)
    """USD over the days or hours in `points`; so are the next two."""
    actual = models.DecimalField(max_digits=20, decimal_places=6)
    excess = models.DecimalField(max_digits=20, decimal_places=6)
    """actual - expected; negative for a drop."""
    score = models.FloatField()
    """The largest |z| of its points, in robust scales."""
    points = models.JSONField(default=list)
    """[{at, expected, actual, score}]: each day or stretch of hours that was told, USD as text."""
    band = models.JSONField(default=list)
    """[[day, low, expected, high, actual]] of the weeks before and of it, as it was seen; USD as numbers or null."""
    drivers = models.JSONField(default=list)
    """[[name, USD as text]], summing to `excess`; see `costs.drivers`."""
    contributors = models.JSONField(default=list)
    """[{dimension, ref, expected, actual, excess}], the largest of each dimension; USD as text."""
    also = models.JSONField(default=list)
    """[[dimension, ref]] of the alerts that this one stands for: wider ones that it explains, and narrower ones that are its parts."""
    status = models.CharField(max_length=12, choices=Status, default=Status.OPEN)
    feedback = models.CharField(max_length=8, choices=Feedback, blank=True, default="")
    feedback_note = models.CharField(max_length=400, blank=True)
    feedback_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    feedback_at = models.DateTimeField(null=True)
    planned_until = models.DateField(null=True)
    """While it is planned: nothing new is told of the same scope up to this day."""
    created_at = models.DateTimeField()

    class Meta:
        db_table = "anomaly"
        ordering = ["-first_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["dimension", "ref", "period", "kind", "first_at"], name="anomaly_once"),
            models.CheckConstraint(condition=Q(excess=models.F("actual") - models.F("expected")), name="anomaly_adds_up"),
            models.CheckConstraint(condition=Q(last_at__gt=models.F("first_at")), name="anomaly_not_empty"),
            models.CheckConstraint(
                condition=Q(feedback="", feedback_by=None, feedback_at=None)
                | (~Q(feedback="") & Q(feedback_by__isnull=False, feedback_at__isnull=False)),
                name="anomaly_feedback_by_somebody",
            ),
            models.CheckConstraint(condition=Q(planned_until=None) | Q(feedback="planned"), name="anomaly_planned_until"),
        ]
        indexes = [models.Index(fields=["-last_at"], name="anomaly_newest")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.scope_text}"

    @property
    def scope_text(self) -> str:
        if self.dimension == AnomalyDimension.TENANT:
            return "the whole organisation"
        return f"{self.get_dimension_display().lower()} {self.ref or '(none)'}"

    @property
    def change(self) -> Decimal | None:
        """Percent of what was expected; None when nothing was."""
        return self.excess / self.expected * 100 if self.expected else None

    @property
    def is_drop(self) -> bool:
        return self.excess < 0

    @property
    def top_driver(self) -> str:
        """Name of the driver that explains most; empty while unknown."""
        return max(self.drivers, key=lambda driver: abs(Decimal(driver[1])))[0] if self.drivers else ""

    def covers(self, at: datetime) -> bool:
        return self.first_at <= at < self.last_at


class AnomalyRun(models.Model):
    """One pass of the tests over one day or hour: what was not looked at is not free of anomalies."""

    placement = "tenant"

    period = models.CharField(max_length=4, choices=AnomalyPeriod)
    start = models.DateTimeField()
    series = models.IntegerField()
    """That had enough history to be tested."""
    flagged = models.IntegerField()
    """Before they were rolled up."""
    told = models.IntegerField()
    finished_at = models.DateTimeField()

    class Meta:
        db_table = "anomaly_run"
        constraints = [models.UniqueConstraint(fields=["period", "start"], name="anomaly_run_once")]

    def __str__(self) -> str:
        return f"{self.period} {self.start:%Y-%m-%d %H:%M}"


class AnomalySettings(models.Model):
    """How much an organisation wants to be told. One row; without it, the defaults."""

    placement = "tenant"

    class Sensitivity(models.TextChoices):
        LOW = "low", "Low"
        MEDIUM = "medium", "Medium"
        HIGH = "high", "High"

    id = models.SmallIntegerField(primary_key=True, default=1)
    sensitivity = models.CharField(max_length=8, choices=Sensitivity, default=Sensitivity.MEDIUM)
    floor = models.DecimalField(max_digits=12, decimal_places=2, default=Decimal(5))
    """USD: nothing smaller is told."""
    floor_percent = models.DecimalField(max_digits=5, decimal_places=2, default=Decimal(1))
    """Of the organisation's usual day: the floor is the larger of the two."""
    muted = ArrayField(models.CharField(max_length=210), default=list)
    """`dimension:ref` of what nobody wants to hear of."""

    class Meta:
        db_table = "anomaly_settings"
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="anomaly_settings_one_row"),
            models.CheckConstraint(condition=Q(floor__gte=0, floor_percent__gte=0, floor_percent__lte=100), name="anomaly_settings_floor"),
        ]

    def __str__(self) -> str:
        return f"{self.sensitivity}, from {self.floor} USD"
