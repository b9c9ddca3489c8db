"""A JSON column that keeps the order of keys."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class OrderedJSONField(models.JSONField):
    """`json` instead of `jsonb`: a schema's properties stay in the order in which their author put them.

    What is lost is indexing and key look-ups in SQL, which nobody does with a tool's definition.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "json"

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        # psycopg decodes `json` itself; Django's own decoding is only for `jsonb`, which it asks for as text.
        return super().from_db_value(value, expression, connection) if isinstance(value, str) else value
