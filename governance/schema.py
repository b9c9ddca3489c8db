"""The schema that this thread's database connection is in, typed: django-tenants adds it without types."""

from __future__ import annotations

from typing import Any, cast

from django.db import connection

from governance.models import Tenant


def current_schema() -> str:
    """`public`, or the schema of the tenant that was entered."""
    return cast(str, cast(Any, connection).schema_name)


def enter_tenant(tenant: Tenant) -> None:
    """Everything on this connection happens in the tenant's schema from now on."""
    cast(Any, connection).set_tenant(tenant)


def enter_public() -> None:
    cast(Any, connection).set_schema_to_public()
