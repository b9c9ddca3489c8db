"""Rules that calls must satisfy, with their versions."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models

from governance.models.user import User

name_validator = RegexValidator(r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$", "Use lower-case letters, digits and hyphens.")


class Policy(models.Model):
    """One named rule. What it says is in its versions; `active` is the one that the gateway has."""

    placement = "tenant"

    class Mode(models.TextChoices):
        OFF = "off", "Off"
        DRY_RUN = "dry_run", "Dry run"
        ENFORCE = "enforce", "Enforced"

    namespace = models.CharField(max_length=40, validators=[name_validator])
    name = models.CharField(max_length=60, validators=[name_validator])
    description = models.CharField(max_length=300, blank=True)
    is_critical = models.BooleanField(default=False)
    """Asked before the others, and enforced first."""
    mode = models.CharField(max_length=8, choices=Mode, default=Mode.OFF)
    active = models.ForeignKey("PolicyVersion", null=True, on_delete=models.PROTECT, related_name="+")
    """None while the mode is off."""
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["namespace", "name"]
        constraints = [models.UniqueConstraint(fields=["namespace", "name"], name="policy_name_once")]

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"


class PolicyVersion(models.Model):
    """What a policy says, from one edit to the next. Only its replay is added later."""

    placement = "tenant"

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    when = models.TextField()
    """CEL: which calls it covers."""
    require = models.TextField()
    """CEL: what they must satisfy."""
    reason = models.CharField(max_length=300, blank=True)
    """Said to a caller who is refused."""
    note = models.CharField(max_length=300, blank=True)
    """Why it was written."""
    author = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    replay = models.JSONField(null=True)
    """What it would have done to past calls, see `governance.replay.Replay.as_json`."""
    replayed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["policy", "number"], name="policy_version_once")]

    def __str__(self) -> str:
        return f"{self.policy}@{self.number}"
