"""Making the schema of an organisation.

Django's migrations keep the state of every model after every operation, which takes seconds (`governance.migration_state`), while the statements
take half a second. So the first organisation is migrated and its statements are written down; the next ones are made from them. They name no
schema, since a connection is inside the one that it works in.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django import get_version
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from psycopg import sql

from governance.models import SchemaRecipe, Tenant
from governance.schema import enter_public, enter_tenant

# Questions, and what the transaction around them does by itself.
_NOT_NEEDED = re.compile(r"\s*(select|savepoint|release|set\s+search_path|create\s+schema)\b", re.IGNORECASE)


def make_schema(tenant: Tenant) -> None:
    """Create and fill the tenant's schema. Leaves the connection in the public one."""
    digest = migrations_digest()
    recipe = SchemaRecipe.objects.filter(digest=digest).first()
    if recipe is None:
        statements: list[str] = []
        with connection.execute_wrapper(_writing_down(statements)):
            tenant.create_schema(check_if_exists=True, sync_schema=True, verbosity=0)
        enter_public()  # creating the schema leaves the connection inside it
        _keep(digest, statements, tenant)
        return
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(tenant.schema_name)).as_string(cursor.connection))
        enter_tenant(tenant)
    with connection.cursor() as cursor:
        cursor.execute(recipe.statements)
    enter_public()


def _writing_down(statements: list[str]) -> Callable[..., Any]:
    def wrapper(execute: Callable[..., Any], statement: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if not _NOT_NEEDED.match(str(statement)):
            for row in params if many else [params]:
                statements.append(context["cursor"].mogrify(statement, row) if row else str(statement))
        return execute(statement, params, many, context)

    return wrapper


def _keep(digest: str, statements: list[str], tenant: Tenant) -> None:
    text = ";\n".join(statement.rstrip().rstrip(";") for statement in statements)
    if names_schema(text, tenant.schema_name):
        raise RuntimeError("a migration names the schema that it runs in; it must leave that to the connection")
    SchemaRecipe.objects.exclude(digest=digest).delete()
    SchemaRecipe.objects.get_or_create(digest=digest, defaults={"statements": text, "recorded_at": timezone.now()})


def names_schema(statements: str, schema_name: str) -> bool:
    """Whether the schema itself is named; `t_id` stands in `tenant_id` too."""
    return re.search(rf"\b{re.escape(schema_name)}\b", statements) is not None


def migrations_digest() -> str:
    """Of Django's version and the text of every migration, so that one that is changed in place counts as another."""
    digest = hashlib.sha256(get_version().encode())
    for key, migration in sorted(MigrationLoader(None, ignore_no_migrations=True).disk_migrations.items()):
        digest.update(repr(key).encode())
        digest.update(Path(sys.modules[type(migration).__module__].__file__ or "").read_bytes())
    return digest.hexdigest()
