"""One organisation that an operator gives a flag's treatment, or takes it from, for a time. Public, beside the operator's flag.

Who is exposed stands in the flag's exposure alone: a grant or an override that names the organisation. What stands here is why, by whom and
until when.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from governance.models import Tenant, User
from rollouts.models.flag import Flag, FlagChange


class TenantOverride(models.Model):
    placement: ClassVar[str] = "public"

    flag = models.ForeignKey(Flag, on_delete=models.CASCADE, related_name="tenant_overrides")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    variant = models.CharField(max_length=60)
    """The control takes the flag from the organisation; a treatment is given within its consent."""
    reason = models.CharField(max_length=300)
    until = models.DateTimeField()
    requested_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField()
    change = models.ForeignKey(FlagChange, on_delete=models.PROTECT, related_name="+")
    """That puts it in force: at once where it lowers, else once another operator agrees."""
    applied_at = models.DateTimeField(null=True)
    ending = models.ForeignKey(FlagChange, null=True, on_delete=models.PROTECT, related_name="+")
    """That takes back what protects; another operator agrees to it."""
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-requested_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["flag", "tenant"], condition=Q(ended_at=None), name="tenant_override_one_standing"),
            models.CheckConstraint(condition=Q(until__gt=models.F("requested_at")), name="tenant_override_ends_later"),
        ]

    def __str__(self) -> str:
        return f"{self.flag.key}: {self.variant} for {self.tenant.slug}"

    @property
    def exposes(self) -> bool:
        return self.variant != self.flag.control

    @property
    def state_words(self) -> str:
        if self.ended_at is not None:
            return "Ended" if self.applied_at else "Not agreed to"
        if self.applied_at is None:
            return "Waits for another operator"
        if self.ending is not None and self.ending.is_open:
            return "In force, its end waits for another operator"
        declined = self.ending is not None and self.ending.status == FlagChange.Status.REJECTED
        return "In force, its end was declined" if declined else "In force"
