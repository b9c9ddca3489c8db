"""Making and suspending tenants."""

import time

import pytest
from django.db import connection
from django_tenants.utils import schema_exists
from psycopg import sql

from governance.access import Role
from governance.errors import TenantSlugTakenError
from governance.models import AuditEntry, Membership, SchemaRecipe, Tenant, User
from governance.services import tenants
from governance.services.schemas import migrations_digest, names_schema
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


def shape(schema: str) -> set[tuple[object, ...]]:
    """Everything that makes a schema, as PostgreSQL tells it: columns, constraints, indexes, partitions, functions, sequences, migrations."""
    questions = (
        "SELECT 'column', table_name, column_name, ordinal_position, data_type, udt_name, is_nullable, column_default, is_identity, collation_name,"
        " generation_expression FROM information_schema.columns WHERE table_schema = %(schema)s",
        "SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), condeferrable, condeferred, convalidated"
        " FROM pg_constraint WHERE connamespace = %(schema)s::regnamespace",
        "SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = %(schema)s",
        "SELECT 'relation', relname, relkind, relispartition, pg_get_partkeydef(oid), reloptions::text"
        " FROM pg_class WHERE relnamespace = %(schema)s::regnamespace",
        "SELECT 'function', proname, prosrc FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace",
        "SELECT 'trigger', tgrelid::regclass::text, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
        " WHERE relnamespace = %(schema)s::regnamespace AND NOT tgisinternal",
    )
    found: set[tuple[object, ...]] = set()
    with connection.cursor() as cursor:
        for question in questions:
            cursor.execute(question, {"schema": schema})
            found |= {tuple(value.replace(schema, "") if isinstance(value, str) else value for value in row) for row in cursor.fetchall()}
        cursor.execute(
            sql.SQL("SELECT 'migration', app, name FROM {}.django_migrations").format(sql.Identifier(schema)).as_string(cursor.connection)
        )
        return found | set(cursor.fetchall())


def test_schema_made_from_the_recipe_is_the_migrated_one(db: None) -> None:
    """In the tests' template `acme` was migrated, and `globex` made from what that wrote down."""
    assert SchemaRecipe.objects.get().digest == migrations_digest()

    migrated = shape("t_acme")
    assert len(migrated) > 1000
    assert shape("t_globex") == migrated


def test_short_address_is_not_taken_for_a_part_of_another_name(db: None) -> None:
    statements = SchemaRecipe.objects.get().statements

    assert "t_id" in statements  # in tenant_id, or the like
    assert not names_schema(statements, "t_id")
    assert names_schema("CREATE TABLE t_id.event ()", "t_id")
    assert names_schema('CREATE TABLE "t_id"."event" ()', "t_id")


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
