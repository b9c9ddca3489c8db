"""Tags that calls must carry, with their versions, and how many calls and how much money did."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from governance.models import User


class RequiredTag(models.Model):
    """One tag. What it must be and where is in its versions; `active` is the one that the gateway has."""

    placement = "tenant"

    class Mode(models.TextChoices):
        OFF = "off", "Off"
        MONITOR = "monitor", "Counted only"
        ENFORCE = "enforce", "Enforced"

    name = models.CharField(max_length=40, unique=True)
    """As callers write it."""
    description = models.CharField(max_length=300, blank=True)
    mode = models.CharField(max_length=8, choices=Mode, default=Mode.OFF)
    active = models.ForeignKey("RequiredTagVersion", null=True, on_delete=models.PROTECT, related_name="+")
    """None while the mode is off."""
    enforce_on = models.DateField(null=True)
    """The first day, in the organisation's time zone, on which calls are refused; until then they are counted. None unless enforced."""
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(mode="off", active=None) | (~Q(mode="off") & Q(active__isnull=False)), name="required_tag_active"
            ),
            models.CheckConstraint(
                condition=Q(mode="enforce", enforce_on__isnull=False) | (~Q(mode="enforce") & Q(enforce_on=None)), name="required_tag_grace"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class RequiredTagVersion(models.Model):
    """What is required of a tag, from one edit to the next. Only its preview is added later."""

    placement = "tenant"

    class Fact(models.TextChoices):
        NONE = "", "Nothing"
        ENVIRONMENT = "environment", "The project's environment"
        COST_CENTRE = "cost_centre", "The project's cost centre"
        PROJECT = "project", "The project"
        OWNER = "owner", "The key's owner"
        AGENT = "agent", "The agent, as it names itself"

    required_tag = models.ForeignKey(RequiredTag, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    values = ArrayField(models.CharField(max_length=120), default=list)
    """What it may be, see `gateway.contract.tags.RequiredTag`; empty: anything. Likewise the next two."""
    projects = ArrayField(models.CharField(max_length=48), default=list)
    environments = ArrayField(models.CharField(max_length=16), default=list)
    fact = models.CharField(max_length=16, choices=Fact, blank=True)
    """Stands in where neither the caller nor a default says the tag."""
    note = models.CharField(max_length=300, blank=True)
    """Why it was written."""
    author = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    preview = models.JSONField(null=True)
    """What enforcing would have refused, see `costs.tagging.Preview.as_json`."""
    previewed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["required_tag", "number"], name="required_tag_version_once")]

    def __str__(self) -> str:
        return f"{self.required_tag}@{self.number}"


class TagDay(models.Model):
    """What was found of a required tag in the calls of one UTC day; a call counts once for each tag that covers it.

    Changed only together with events, in one transaction. The empty tag stands for all that a call must carry: `ok` when it has every one.
    """

    placement = "tenant"

    class Found(models.TextChoices):
        OK = "ok", "Tagged"
        MISSING = "missing", "Missing"
        NOT_ALLOWED = "not_allowed", "Not an allowed value"

    day = models.DateField()
    tag = models.TextField()
    project = models.TextField()
    key_id = models.TextField()
    agent = models.TextField()
    found = models.CharField(max_length=12, choices=Found)
    calls = models.BigIntegerField()
    """Refused ones too."""
    refused = models.BigIntegerField()
    """Of `calls`, for whatever reason."""
    denied = models.BigIntegerField()
    """Of `refused`, those for want of a required tag."""
    cost = models.DecimalField(max_digits=34, decimal_places=14)
    """USD over the priced calls."""
    unpriced_calls = models.BigIntegerField()

    class Meta:
        db_table = "tag_day"
        constraints = [models.UniqueConstraint(fields=["tag", "day", "project", "key_id", "agent", "found"], name="tag_day_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.tag or 'all'} {self.found}"
