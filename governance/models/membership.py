"""Who belongs to a tenant, and in which roles."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from governance.models.tenant import Tenant
from governance.models.user import User
from governance.roles import Permission, Role, permissions_of


class Membership(models.Model):
    placement = "public"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    roles = ArrayField(models.CharField(max_length=24, choices=Role.choices))
    last_area = models.CharField(max_length=16, blank=True)
    """The area whose sidebar a shared page keeps."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "tenant"], name="membership_once_per_tenant")]
        ordering = ["user__name"]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant}"

    def can(self, permission: Permission) -> bool:
        """Whether any of the roles grants it."""
        return permission in permissions_of(self.roles)

    @property
    def role_labels(self) -> list[str]:
        return [Role(role).label for role in self.roles]
