"""Lists are paged by key: `?cursor=` is opaque, `next` and `previous` are links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request


class KeysetPagination(CursorPagination):
    """DRF's cursor pages; a view names its order as `ordering`."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    ordering = "-pk"
    offset_cutoff = 1_000_000
    """Among rows of the same value pages go on by their number, and more than DRF's 1,000 may share one: keys that nobody has used yet."""

    def decode_cursor(self, request: Request) -> Any:
        cursor = super().decode_cursor(request)
        if cursor is not None and "\0" in str(cursor.position):  # no cursor of ours: PostgreSQL knows no NUL in a text
            raise NotFound(self.invalid_cursor_message)
        return cursor

    def _get_position_from_instance(self, instance: Any, ordering: Sequence[str]) -> str:
        """As in DRF, but an order may follow a relation (`user__name`), which DRF reads as an attribute of that name."""
        value: Any = instance
        for part in ordering[0].lstrip("-").split("__"):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        return str(value)

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        ordering = getattr(view, "ordering", self.ordering)
        return (ordering,) if isinstance(ordering, str) else tuple(ordering)
