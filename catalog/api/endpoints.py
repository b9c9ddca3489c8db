"""What the catalog's endpoints share. They translate; rules are in services and selectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from rest_framework import generics
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

from catalog.errors import InvalidValueError
from governance.access import Permission
from governance.api.serializers import ErrorSerializer
from governance.requests import ApiRequest

BAD: dict[int, Any] = {
    400: ErrorSerializer,
    401: ErrorSerializer,
    403: ErrorSerializer,
    404: ErrorSerializer,
    409: ErrorSerializer,
    422: ErrorSerializer,
}
NETWORK: dict[int, Any] = {**BAD, 502: ErrorSerializer}
MANAGED: dict[str, Any] = {
    "GET": Permission.VIEW,
    "POST": Permission.MANAGE_CATALOG,
    "PATCH": Permission.MANAGE_CATALOG,
    "DELETE": Permission.MANAGE_CATALOG,
}


def one(rows: QuerySet[Any], **by: Any) -> Any:
    """The row, or 404 as for one that does not exist."""
    found = rows.filter(**by).first()
    if found is None:
        raise NotFound
    return found


def named_in_body(value: Any, rows: QuerySet[Any], field: str, **by: Any) -> Any:
    """A row named in a body; its absence is the body's error, not a 404."""
    found = rows.filter(**by).first()
    if found is None:
        raise InvalidValueError(f"There is no {field} {value}.", field=field)
    return found


class RowsView(generics.GenericAPIView[Any]):
    """A paged list whose rows are put together after paging, so that figures are read once per page."""

    request: ApiRequest
    make_rows: Callable[[Any], Any] | None = None

    def get(self, request: ApiRequest) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        rows = self.make_rows(page) if self.make_rows is not None else page
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)
