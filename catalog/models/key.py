"""A virtual key: what a program shows to the gateway instead of a provider's credential."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.db import models as db  # `models` is a field here
from django.utils import timezone

from catalog.models.project import Project
from gateway.contract.keys import new_id
from governance.models import User


class VirtualKey(db.Model):
    """Shown once, kept as a keyed digest. `public_id` is inside the key and may be written anywhere."""

    never_exported = ("digest", "previous_digest")

    class Purpose(db.TextChoices):
        STANDARD = "standard", "Program"
        PLAYGROUND = "playground", "Playground"
        SHADOW = "shadow", "Shadow"

    public_id = db.CharField(max_length=16, unique=True, default=new_id, editable=False)
    name = db.CharField(max_length=60)
    purpose = db.CharField(max_length=16, choices=Purpose, default=Purpose.STANDARD)
    """Keys of the playground and of shadows have no secret that anyone knows; the portal signs short-lived session tokens from them."""
    project = db.ForeignKey(Project, on_delete=db.PROTECT, related_name="keys")
    owner = db.ForeignKey(User, on_delete=db.PROTECT, related_name="+")
    digest = db.CharField(max_length=64)
    previous_digest = db.CharField(max_length=64, blank=True, editable=False)
    """Of the secret before the last rotation."""
    previous_until = db.DateTimeField(null=True, editable=False)
    """How long the previous secret is still good."""
    rotated_at = db.DateTimeField(null=True, editable=False)
    models = ArrayField(db.CharField(max_length=80), null=True, blank=True)
    """Slugs that it may call; None is every model."""
    tools = ArrayField(db.CharField(max_length=48), null=True, blank=True)
    """Tool namespaces that it may use; None is all."""
    requests_per_minute = db.PositiveIntegerField(null=True, blank=True)
    monthly_budget_usd = db.DecimalField(max_digits=14, decimal_places=2, null=True, blank=True)
    tags = db.JSONField(default=dict)
    """Of its calls, where the caller does not say otherwise: name to value."""
    created_at = db.DateTimeField(auto_now_add=True)
    expires_at = db.DateTimeField()
    revoked_at = db.DateTimeField(null=True)
    spend_30d_usd = db.DecimalField(max_digits=34, decimal_places=14, default=Decimal(), editable=False)
    """Noted from the rollups every few minutes, so that thousands of keys can be sorted by it; a page shows the rollups themselves."""
    last_used_at = db.DateTimeField(null=True, editable=False)
    """Likewise."""

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            db.UniqueConstraint(
                fields=["owner", "project"], condition=db.Q(purpose="playground", revoked_at=None), name="key_one_playground_per_person"
            ),
            db.CheckConstraint(condition=db.Q(monthly_budget_usd=None) | db.Q(monthly_budget_usd__gte=0), name="key_budget_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def state(self) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at > timezone.now() else "expired"

    @property
    def has_two_secrets(self) -> bool:
        """The previous one still works."""
        return self.previous_until is not None and self.previous_until > timezone.now() and self.revoked_at is None

    def is_live(self, at: datetime | None = None) -> bool:
        return self.revoked_at is None and self.expires_at > (at or timezone.now())
