"""Whether there are rows of several kinds, asked in one statement.

The frame of every page asks a dozen tables whether anything waits for the person, and nearly always nothing does. What is
there at all is seen at a glance first; who may decide it, and how many there are, is counted only of what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import QuerySet

Rows = Callable[[], QuerySet[Any]]
"""Gives the same rows whoever asks and whenever: its statement is written once and kept, so it may hold no person, time or tenant."""


def present(kinds: Collection[Rows]) -> frozenset[Rows]:
    """Those that have a row in the current schema. One statement; none for no kinds."""
    if not kinds:
        return frozenset()
    ordered = tuple(sorted(kinds, key=lambda rows: (rows.__module__, rows.__qualname__)))
    statement, parameters = _statement(ordered)
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found = cursor.fetchone()
    return frozenset(rows for rows, is_there in zip(ordered, found, strict=True) if is_there)


@cache
def _statement(kinds: tuple[Rows, ...]) -> tuple[str, tuple[Any, ...]]:
    compiled = [rows().order_by().values("pk").query.sql_with_params() for rows in kinds]
    return (
        f"SELECT {', '.join(f'EXISTS({statement})' for statement, _ in compiled)}",
        tuple(value for _, parameters in compiled for value in parameters),
    )
