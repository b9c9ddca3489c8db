"""Making and suspending tenants."""

import time

import pytest
from django.db import connection
from django_tenants.utils import schema_exists

from governance.access import Role
from governance.errors import TenantSlugTakenError
from governance.models import AuditEntry, Membership, Tenant, User
from governance.services import tenants
from tests.clock import allowed


def test_tenant_is_made_in_under_five_seconds_with_its_owner(db: None, olga: User, bob: User) -> None:
    started = time.monotonic()
    tenant = tenants.create_tenant(slug="initech", name="Initech", owner_email=bob.email, actor=olga)

    assert time.monotonic() - started < allowed(5)
    assert schema_exists("t_initech")
    assert Membership.objects.get(tenant=tenant, user=bob).roles == [Role.OWNER]
    assert AuditEntry.objects.filter(event="tenant.created", target_name="Initech").exists()
    with tenant:
        assert AuditEntry.objects.get(event="tenant.created").details["slug"] == "initech"


def test_public_tables_are_not_in_a_tenants_schema(acme: Tenant) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 't_acme'")
        tables = {name for (name,) in cursor.fetchall()}

    assert not tables & {"governance_user", "governance_tenant", "governance_membership", "inbox", "django_session", "gateway_snapshot"}
    assert {"governance_auditentry", "governance_consent", "catalog_model"} <= tables


@pytest.mark.parametrize("slug", ["acme", "platform", "public"])
def test_taken_or_reserved_address_leaves_nothing_behind(db: None, olga: User, bob: User, slug: str) -> None:
    before = Tenant.objects.count(), AuditEntry.objects.count()

    with pytest.raises(TenantSlugTakenError):
        tenants.create_tenant(slug=slug, name="Again", owner_email=bob.email, actor=olga)

    assert (Tenant.objects.count(), AuditEntry.objects.count()) == before
    assert connection.schema_name == "public"  # type: ignore[attr-defined]


def test_suspending_is_noted_in_both_logs_and_told_to_the_gateway(db: None, olga: User) -> None:
    acme = Tenant.objects.get(slug="acme")

    suspended = tenants.suspend_tenant(tenant=acme, actor=olga, reason="unpaid")
    tenants.suspend_tenant(tenant=acme, actor=olga, reason="again")

    assert suspended.is_suspended
    acme.refresh_from_db()
    assert acme.config_version == suspended.config_version + 1
    assert AuditEntry.objects.filter(event="tenant.suspended").count() == 1
    with acme:
        assert AuditEntry.objects.get(event="tenant.suspended").details == {"reason": "unpaid"}

    assert not tenants.reopen_tenant(tenant=acme, actor=olga).is_suspended
