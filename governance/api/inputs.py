"""What a program sends, checked: a bad body or query is answered with 400 and its fields."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request


def body_of(request: Request, shape: type[serializers.Serializer[Any]], *, partial: bool = False) -> dict[str, Any]:
    """`partial`: only what was sent, whatever the shape requires. Raises ValidationError."""
    return _checked(shape(data=request.data, partial=partial))


def query_of(request: Request, shape: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Of a name that stands more than once, the last value. Raises ValidationError."""
    return _checked(shape(data=request.query_params.dict()))


def _checked(given: serializers.Serializer[Any]) -> dict[str, Any]:
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)
