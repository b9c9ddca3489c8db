"""A feature flag, the versions of its exposure, and the changes that people proposed. No placement: it lives wherever rollouts do."""

from __future__ import annotations

import secrets
from functools import cached_property

import msgspec
from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q

from gateway.contract.flags import Exposure
from gateway.contract.treatments import Comparison, comparison_of
from governance.models import FeatureClass, User
from rollouts.exposure import KEY_PATTERN
from rollouts.models.rollout import Phase, Rollout

key_validator = RegexValidator(KEY_PATTERN, "Write ai.<feature>.<change-id> in lower-case letters, digits and hyphens.")


def new_salt() -> str:
    return secrets.token_hex(8)


class Flag(models.Model):
    """What a flag is. Who is exposed stands in its versions, so that everything here can stay as it was made."""

    class Kind(models.TextChoices):
        BOOLEAN = "boolean", "Boolean"
        STRING = "string", "String"
        INTEGER = "integer", "Integer"
        NUMBER = "number", "Number"
        OBJECT = "object", "Object"

    class Policy(models.TextChoices):
        RAISING = "raising", "Changes that may raise exposure"
        EVERY = "every", "Every change"

    key = models.CharField(max_length=120, unique=True, validators=[key_validator])
    title = models.CharField(max_length=160)
    description = models.TextField(blank=True)
    feature_class = models.CharField(max_length=32, choices=FeatureClass)
    """The consent without which everybody gets the control."""
    kind = models.CharField(max_length=16, choices=Kind)
    variants = models.JSONField()
    """Value by name."""
    control = models.CharField(max_length=60)
    sticky = models.CharField(max_length=60)
    rollout_salt = models.CharField(max_length=32, default=new_salt)
    variant_salt = models.CharField(max_length=32, default=new_salt)
    """Salts are made once and never change; neither is a row's id, which an import would change."""
    policy = models.CharField(max_length=16, choices=Policy, default=Policy.RAISING)
    """What a second person must approve."""
    model = models.CharField(max_length=80, blank=True)
    """The slug that calls name; the variants' values are the slugs that serve them, or treatments. Empty: it binds no model."""
    rollout = models.ForeignKey(Rollout, null=True, blank=True, on_delete=models.PROTECT, related_name="flags")
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True)
    current = models.ForeignKey("rollouts.FlagVersion", null=True, on_delete=models.PROTECT, related_name="+")
    """In force. Only null between the two inserts that make a flag."""

    class Meta:
        ordering = ["key"]
        constraints = [
            models.UniqueConstraint(fields=["model"], condition=Q(archived_at=None) & ~Q(model=""), name="flag_once_per_model"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def is_archived(self) -> bool:
        return self.archived_at is not None

    @property
    def exposure(self) -> Exposure:
        assert self.current is not None
        return self.current.exposed

    @cached_property
    def comparison(self) -> Comparison:
        """What the variants do to a call. Only of a flag that binds a model."""
        return comparison_of(self.variants)

    @cached_property
    def waiting_change(self) -> FlagChange | None:
        """The one that waits for approval."""
        return self.changes.select_related("proposed_by", "phase", "base").filter(status=FlagChange.Status.PROPOSED).first()


class FlagVersion(models.Model):
    """Who is exposed, as of a moment. Never changed."""

    flag = models.ForeignKey(Flag, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    exposure = models.JSONField()
    """`gateway.contract.flags.Exposure`"""
    at = models.DateTimeField()

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["flag", "number"], name="flag_version_in_order")]

    def __str__(self) -> str:
        return f"{self.flag.key}, version {self.number}"

    @cached_property
    def exposed(self) -> Exposure:
        return msgspec.convert(self.exposure, Exposure)


class FlagChange(models.Model):
    """A proposal to replace the exposure, and what became of it. What is proposed is never edited: a better idea is a new change."""

    class Status(models.TextChoices):
        PROPOSED = "proposed", "Waits for approval"
        APPLIED = "applied", "Applied"
        REJECTED = "rejected", "Rejected"
        OVERTAKEN = "overtaken", "Overtaken"

    flag = models.ForeignKey(Flag, on_delete=models.CASCADE, related_name="changes")
    number = models.PositiveIntegerField()
    base = models.ForeignKey(FlagVersion, on_delete=models.PROTECT, related_name="+")
    """The version that the proposer saw."""
    exposure = models.JSONField()
    raises = ArrayField(models.CharField(max_length=200), default=list)
    """Why it may raise exposure; empty when it surely does not."""
    needs_approval = models.BooleanField()
    is_emergency = models.BooleanField(default=False)
    phase = models.ForeignKey(Phase, null=True, on_delete=models.PROTECT, related_name="+")
    """The stage that it belongs to: it can't be applied before that phase is entered."""
    prompt = models.CharField(max_length=120, blank=True)
    """A version, as `greeting@3`, to which `label` moves when the change is applied: what an experiment promotes. Empty: none."""
    label = models.CharField(max_length=60, blank=True)
    reason = models.CharField(max_length=500)
    status = models.CharField(max_length=16, choices=Status)
    proposed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    """None: a rollback rule lowered it, or a membership that was announced to end."""
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    comment = models.CharField(max_length=500, blank=True)
    version = models.OneToOneField(FlagVersion, null=True, on_delete=models.PROTECT, related_name="change")
    """What it became."""
    review_due_at = models.DateTimeField(null=True)
    reviewed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    reviewed_at = models.DateTimeField(null=True)
    review_comment = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["flag", "number"], name="flag_change_in_order"),
            models.UniqueConstraint(fields=["flag"], condition=Q(status="proposed"), name="flag_one_change_proposed"),
            models.CheckConstraint(
                condition=~Q(status="applied") | Q(needs_approval=False) | (Q(decided_by__isnull=False) & ~Q(decided_by=F("proposed_by"))),
                name="flag_change_four_eyes",
            ),
            models.CheckConstraint(condition=Q(reviewed_by=None) | ~Q(reviewed_by=F("proposed_by")), name="flag_review_by_another"),
            models.CheckConstraint(condition=Q(is_emergency=False) | Q(raises=[]), name="flag_emergency_only_lowers"),
        ]

    def __str__(self) -> str:
        return f"{self.flag.key}, change {self.number}"

    @cached_property
    def exposed(self) -> Exposure:
        return msgspec.convert(self.exposure, Exposure)

    @property
    def proposer(self) -> str:
        return str(self.proposed_by) if self.proposed_by else "a rollback rule" if self.is_emergency else "an announced end"

    @property
    def is_open(self) -> bool:
        return self.status == self.Status.PROPOSED

    @property
    def awaits_review(self) -> bool:
        return self.review_due_at is not None and self.reviewed_at is None
