"""A token with which a program uses the REST API in a person's name, within one tenant or on the platform."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from gateway.contract.keys import new_id
from governance.models.tenant import Tenant
from governance.models.user import User


class ApiToken(models.Model):
    """Rights are those of the person, never more. The token itself is shown once; here is its keyed digest."""

    placement = "public"

    public_id = models.CharField(max_length=16, unique=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE, related_name="+")
    """None: a platform token of an operator."""
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=60)
    digest = models.CharField(max_length=64)
    roles = ArrayField(models.CharField(max_length=24), default=list)
    """Narrows the person's roles; empty means all that the person has."""
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name
