"""Making, suspending and reopening tenants."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django_tenants.utils import schema_context

from governance import config
from governance.errors import TenantSlugTakenError
from governance.models import Membership, Tenant, User
from governance.models.tenant import RESERVED_SLUGS
from governance.roles import Role
from governance.services import audit, people, schemas


def create_tenant(
    *,
    slug: str,
    name: str,
    owner_email: str,
    actor: User | None,
    owner_password: str | None = None,
    kind: str = Tenant.Kind.CUSTOMER,
    tier: str = Tenant.Tier.FREE,
    region: str = "",
    time_zone: str = "UTC",
) -> Tenant:
    """Make a tenant with its own schema and its first owner. All or nothing: a failure leaves no half tenant.

    Raises TenantSlugTakenError when the address is reserved or in use, AccountNeededError when the owner has no account and no password is given.
    """
    if slug in RESERVED_SLUGS:
        raise TenantSlugTakenError(f"The address {slug} is reserved. Choose another.", field="slug")
    schema_name = f"t_{slug.replace('-', '_')}"
    with schema_context("public"):
        if Tenant.every.filter(Q(slug=slug) | Q(schema_name=schema_name)).exists():
            raise TenantSlugTakenError(f"The address {slug} is in use. Choose another.", field="slug")
        try:
            with transaction.atomic():
                owner = people.account_for(email=owner_email, password=owner_password, missing_field="owner_password")
                tenant: Tenant = Tenant.objects.create(
                    slug=slug, schema_name=schema_name, name=name, kind=kind, tier=tier, region=region, time_zone=time_zone
                )
                schemas.make_schema(tenant)
                Membership.objects.create(user=owner, tenant=tenant, roles=[Role.OWNER])
                audit.record("tenant.created", actor=actor, target=tenant, slug=slug, owner=owner.email, kind=kind, tier=tier)
                with schema_context(tenant.schema_name):
                    audit.record("tenant.created", actor=actor, target=tenant, slug=slug, owner=owner.email)
                    config.changed(tenant)
        except IntegrityError as error:  # somebody was faster
            raise TenantSlugTakenError(f"The address {slug} is in use. Choose another.", field="slug") from error
    return tenant


@transaction.atomic
def suspend_tenant(*, tenant: Tenant, actor: User, reason: str) -> Tenant:
    """Refuse all calls of the tenant within seconds; its people can still read. Idempotent."""
    tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if tenant.suspended_at is None:
        tenant.suspended_at = timezone.now()
        tenant.save(update_fields=["suspended_at"])
        audit.record_in_both("tenant.suspended", tenant=tenant, actor=actor, reason=reason)
        config.changed(tenant)
    return tenant


@transaction.atomic
def reopen_tenant(*, tenant: Tenant, actor: User) -> Tenant:
    """Let the tenant call again. Idempotent."""
    tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if tenant.suspended_at is not None:
        tenant.suspended_at = None
        tenant.save(update_fields=["suspended_at"])
        audit.record_in_both("tenant.reopened", tenant=tenant, actor=actor)
        config.changed(tenant)
    return tenant
