"""Giving a tenant its data, and forgetting it: the rights to portability and to erasure (GDPR articles 20 and 17)."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.files.storage import default_storage
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.utils import timezone
from django_tenants.utils import schema_context
from psycopg import sql

from governance import erasure
from governance.errors import NotConfirmedError, TenantOpenError
from governance.models import ApiToken, Drill, Effect, Membership, Tenant, User
from governance.services import audit

FORMAT = 1
ROWS_AT_ONCE = 1000
_TENANT = ("slug", "public_id", "name", "kind", "tier", "region", "time_zone", "suspended_at", "created_at")


def export_tenant(*, tenant: Tenant, actor: User | None) -> Iterator[bytes]:
    """Everything the tenant has, as the bytes of a ZIP file: `manifest.json`, `tenant.json`, `people.jsonl`, `tables/<name>.jsonl`
    with one JSON object a row, and `files/` as they were uploaded. Credentials are left out (`never_exported` of a model).

    Made while it is read, table by table; a table is read in one statement, so it is consistent in itself.
    """
    with transaction.atomic():
        audit.record_in_both("tenant.exported", tenant=tenant, actor=actor)
    return _zipped(tenant)


@transaction.atomic
def delete_tenant(*, tenant: Tenant, actor: User, reason: str, confirm: str) -> Tenant:
    """Remove the schema, the files, the memberships and tokens, and what apps keep elsewhere; all or nothing.

    People who belong to no other tenant and don't run the platform lose their names and addresses. What stays is a row with
    address and public id, and the platform's own audit log. There is no way back, so `confirm` must be the tenant's address.
    Raises NotConfirmedError, and TenantOpenError unless suspended.
    """
    if confirm != tenant.slug:
        raise NotConfirmedError(f"Type {tenant.slug} to delete {tenant.name} for ever.", field="confirm")
    with schema_context("public"):
        tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if not tenant.is_suspended:
            raise TenantOpenError("Suspend the tenant first, so that nobody is surprised.")
        audit.record("tenant.deleted", actor=actor, target=tenant, reason=reason, public_id=tenant.public_id)
        members = list(Membership.objects.filter(tenant=tenant).values_list("user_id", flat=True))
        Membership.objects.filter(tenant=tenant).delete()
        ApiToken.objects.filter(tenant=tenant).delete()
        for user in User.objects.filter(pk__in=members, memberships=None, is_operator=False):
            _forget_person(user)
        for eraser in erasure.erasers:
            eraser(tenant)
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # PostgreSQL drops no table that has a check still to come
            cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(tenant.schema_name)).as_string(cursor.connection))
        Drill.objects.filter(tenant=tenant).delete()
        # Only now that what refers to them is gone, and past the collector: it would look for that in this schema, where it never was.
        Effect.objects.filter(tenant=tenant)._raw_delete(using=DEFAULT_DB_ALIAS)
        tenant.deleted_at = timezone.now()
        tenant.name, tenant.region = tenant.slug, ""
        tenant.published_version = tenant.config_version
        tenant.save(update_fields=["deleted_at", "name", "region", "published_version"])
        transaction.on_commit(lambda: _delete_files(tenant.schema_name))
    return tenant


def _forget_person(user: User) -> None:
    """The row stays, since other tenants' logs and decisions may refer to it; the person can't be told from it any more."""
    user.email, user.name, user.is_active = f"deleted-{user.pk}@invalid", "Deleted person", False
    user.set_unusable_password()
    user.save(update_fields=["email", "name", "is_active", "password"])


class _Sink(io.RawIOBase):
    """Where the ZIP is written, until somebody takes it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


def _zipped(tenant: Tenant) -> Iterator[bytes]:
    sink = _Sink()
    counts: dict[str, int] = {}
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tenant.json", json.dumps({name: getattr(tenant, name) for name in _TENANT}, default=str, indent=1))
        archive.writestr("people.jsonl", "".join(json.dumps(person) + "\n" for person in _people(tenant)))
        for table in _tables(tenant.schema_name):
            counts[table] = 0
            with archive.open(f"tables/{table}.jsonl", "w", force_zip64=True) as entry:
                for row in _rows(tenant.schema_name, table):
                    entry.write(row.encode() + b"\n")
                    counts[table] += 1
                    if counts[table] % ROWS_AT_ONCE == 0:
                        yield sink.take()
        for name in _files(tenant.schema_name):
            with default_storage.open(name, "rb") as source, archive.open(f"files/{name}", "w", force_zip64=True) as entry:
                for chunk in source.chunks():
                    entry.write(chunk)
                    yield sink.take()
        manifest = {"format": FORMAT, "tenant": tenant.slug, "exported_at": timezone.now().isoformat(), "rows": counts}
        archive.writestr("manifest.json", json.dumps(manifest, indent=1))
    yield sink.take()


def _people(tenant: Tenant) -> Iterator[dict[str, Any]]:
    for member in Membership.objects.filter(tenant=tenant).select_related("user").order_by("pk"):
        yield {
            "email": member.user.email,
            "name": member.user.name,
            "roles": member.roles,
            "since": member.created_at.isoformat(),
            "tokens": list(ApiToken.objects.filter(user=member.user, tenant=tenant).values_list("name", flat=True)),
        }


def _tables(schema_name: str) -> list[str]:
    """All tables of the schema; of a partitioned one the parent."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1",
            [schema_name],
        )
        return [name for (name,) in cursor.fetchall()]


def _rows(schema_name: str, table: str) -> Iterator[str]:
    """Each row as JSON text, without credentials. Numbers stay exact: PostgreSQL writes numeric in full."""
    hidden = [name for model in apps.get_models() if model._meta.db_table == table for name in getattr(model, "never_exported", ())]
    query = sql.SQL("SELECT (to_jsonb(row) - {}::text[])::text FROM {} AS row").format(
        sql.Literal(hidden), sql.Identifier(schema_name, table)
    )
    with connection.chunked_cursor() as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield from (text for (text,) in rows)


def _files(folder: str) -> Iterator[str]:
    """Names of all stored files below a folder."""
    if not default_storage.exists(folder):
        return
    folders, files = default_storage.listdir(folder)
    yield from (f"{folder}/{name}" for name in files)
    for name in folders:
        yield from _files(f"{folder}/{name}")


def _delete_files(folder: str) -> None:
    for name in list(_files(folder)):
        default_storage.delete(name)
