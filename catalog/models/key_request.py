"""Asking for a virtual key of a project whose keys are made by request."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models as db  # `models` is a field here

from catalog.models.key import VirtualKey
from catalog.models.project import Project
from governance.models import User

TAKE_WITHIN = timedelta(days=14)
"""After that an agreement is void: what was agreed to should be of use now."""


class KeyRequest(db.Model):
    """What the key is to be. It never changes but by its decision; the person who asked takes the key, since it is shown once."""

    placement = "tenant"

    class Status(db.TextChoices):
        WAITING = "waiting", "Waiting"
        AGREED = "agreed", "Agreed"
        DECLINED = "declined", "Declined"
        WITHDRAWN = "withdrawn", "Withdrawn"
        TAKEN = "taken", "Taken"

    project = db.ForeignKey(Project, on_delete=db.PROTECT, related_name="key_requests")
    requester = db.ForeignKey(User, on_delete=db.PROTECT, related_name="+")
    name = db.CharField(max_length=60)
    why = db.CharField(max_length=500)
    models = ArrayField(db.CharField(max_length=80), null=True)
    """As of the key: slugs, None is every model."""
    tools = ArrayField(db.CharField(max_length=48), null=True)
    requests_per_minute = db.PositiveIntegerField(null=True)
    monthly_budget_usd = db.DecimalField(max_digits=14, decimal_places=2, null=True)
    lifetime_days = db.PositiveSmallIntegerField()
    """Counted from when the key is taken."""
    status = db.CharField(max_length=10, choices=Status, default=Status.WAITING)
    asked_at = db.DateTimeField()
    decided_by = db.ForeignKey(User, null=True, on_delete=db.PROTECT, related_name="+")
    decided_at = db.DateTimeField(null=True)
    note = db.CharField(max_length=200, blank=True)
    key = db.OneToOneField(VirtualKey, null=True, on_delete=db.PROTECT, related_name="request")

    class Meta:
        ordering = ["-pk"]
        indexes = [db.Index(fields=["status", "-id"], name="key_request_by_status")]

    def __str__(self) -> str:
        return f"{self.name} for {self.project.slug}"

    @property
    def take_until(self) -> datetime | None:
        """None unless it was agreed to."""
        return self.decided_at + TAKE_WITHIN if self.decided_at is not None and self.status == self.Status.AGREED else None
