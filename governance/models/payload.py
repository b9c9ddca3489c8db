"""What calls said, as far as the organisation keeps it, and the rules that decide how far that is."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from governance.models.user import User


class PayloadMode(models.TextChoices):
    """The strictest first. The detectors are in `gateway.contract.payloads`."""

    NONE = "none", "Nothing"
    METADATA = "metadata", "Figures only"
    REDACTED = "redacted", "Redacted texts"
    FULL = "full", "Full texts"


class PayloadSetting(models.Model):
    """The rule in force for the organisation, or a project's own. No row for the organisation means `metadata`."""

    placement: ClassVar[str] = "tenant"

    ref = models.CharField(max_length=48, blank=True, unique=True)
    """The project's short name; empty for the organisation."""
    mode = models.CharField(max_length=8, choices=PayloadMode)
    days = models.PositiveSmallIntegerField()
    """How long a payload is kept at most."""
    set_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    set_at = models.DateTimeField()

    class Meta:
        ordering = ["ref"]
        constraints = [models.CheckConstraint(condition=models.Q(days__gte=1, days__lte=90), name="payload_days_in_range")]

    def __str__(self) -> str:
        return self.ref or "the organisation"


class PayloadRequest(models.Model):
    """One decision about a rule: a stricter one holds at once, a wider one waits for a second person. Together they are the history."""

    placement: ClassVar[str] = "tenant"

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        APPLIED = "applied", "In force"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"

    ref = models.CharField(max_length=48, blank=True)
    mode = models.CharField(max_length=8, choices=PayloadMode, blank=True)
    """Empty: the project gives up its own rule."""
    days = models.PositiveSmallIntegerField()
    reason = models.CharField(max_length=300)
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    asked_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["ref"], condition=models.Q(status="waiting"), name="payload_request_one_waiting")]

    def __str__(self) -> str:
        return f"{self.get_mode_display() or 'As the organisation'} for {self.ref or 'the organisation'}"


class CallPayload(models.Model):
    """What one call asked and was answered, sealed. Apart from its event, which knows nothing of it, and gone before it."""

    placement: ClassVar[str] = "tenant"
    never_exported = ("sealed", "subject")

    event_id = models.UUIDField(primary_key=True)
    """The call's."""
    at = models.DateTimeField()
    """When the call began."""
    expires_at = models.DateTimeField()
    project = models.TextField()
    key_id = models.TextField()
    model = models.TextField()
    mode = models.CharField(max_length=8, choices=PayloadMode)
    subject = models.TextField(blank=True)
    """Keyed digest of the end user that the caller named."""
    sealed = models.TextField()
    """`gateway.contract.payloads.seal`."""
    stored_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "call_payload"
        indexes = [
            models.Index(fields=["-at", "-event_id"], name="call_payload_newest"),
            models.Index(fields=["expires_at"], name="call_payload_expiry"),
            models.Index(fields=["subject"], name="call_payload_subject", condition=~models.Q(subject="")),
        ]

    def __str__(self) -> str:
        return str(self.event_id)
