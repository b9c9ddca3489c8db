"""A JSON column that keeps the order of keys."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.types.json import Json, Jsonb


class OrderedJSONField(models.JSONField):
    """`json` instead of `jsonb`: a schema's properties stay in the order in which their author put them.

    What is lost is indexing and key look-ups in SQL, which nobody does with a tool's definition.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "json"

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        adapted = super().get_db_prep_value(value, connection, prepared)
        # On its way through `jsonb`, as which Django would send it, the text would lose its order already.
        return Json(adapted.obj) if isinstance(adapted, Jsonb) else adapted

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        # psycopg decodes `json` itself; Django's own decoding is only for `jsonb`, which it asks for as text.
        return super().from_db_value(value, expression, connection) if isinstance(value, str) else value
