"""One shape for every error: `{"detail": …, "code": …}`, with `fields` for a rejected body."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from governance.errors import DomainError

logger = logging.getLogger(__name__)


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. Unknown exceptions stay exceptions: they are defects, logged with their traceback."""
    if isinstance(error, DomainError):
        body: dict[str, Any] = {"detail": error.message, "code": error.code}
        if error.field:
            body["fields"] = {error.field: [error.message]}
        return Response(body, status=error.status)
    if isinstance(error, ValidationError):
        error = exceptions.ValidationError({"detail": error.messages} if not hasattr(error, "message_dict") else error.message_dict)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    response = exception_handler(error, context)
    if response is None:
        return None
    if isinstance(error, exceptions.ValidationError):
        fields = response.data if isinstance(response.data, dict) else {"non_field_errors": response.data}
        response.data = {"detail": _first(fields), "code": "invalid", "fields": fields}
    elif isinstance(error, PermissionDenied):
        response.data = {"detail": str(error) or "This token may not do that.", "code": "not_allowed"}
    else:
        assert isinstance(error, exceptions.APIException)
        code = error.get_codes()
        response.data = {"detail": str(error.detail), "code": code if isinstance(code, str) else error.default_code}
    return response


def _first(told: Any, path: tuple[str, ...] = ()) -> str:
    """The first of the errors in words, with the way to its field, as in `price.input: …`."""
    if isinstance(told, dict) and told:
        name, inner = next(iter(told.items()))
        return _first(inner, path if name in ("non_field_errors", "detail") else (*path, str(name)))
    if isinstance(told, list) and told:
        index, inner = next(((index, inner) for index, inner in enumerate(told) if inner), (0, told[0]))
        return _first(inner, (*path, str(index)) if isinstance(inner, dict | list) else path)
    return f"{'.'.join(path)}: {told}" if path else str(told)
