"""What tests of pages need."""

from __future__ import annotations

from typing import Any

HTMX = {"HX-Request": "true"}


def text_of(response: Any) -> str:
    return str(response.content.decode())
