"""What callers of a deprecated model are told, in the headers of every answer and in the list of models."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any
from urllib.parse import quote

from gateway.contract.snapshot import Leaving
from gateway.plane.http import HeaderList


def leaving_headers(leaving: Leaving) -> HeaderList:
    """`Deprecation` (RFC 9745), `Sunset` (RFC 8594) and `Link` with the relation `successor-version` (RFC 5829), as far as they are known."""
    headers: HeaderList = []
    if leaving.since is not None:
        headers.append((b"deprecation", b"@%d" % leaving.since))
    if leaving.until is not None:
        headers.append((b"sunset", formatdate(leaving.until, usegmt=True).encode()))
    if leaving.successor:
        headers.append((b"link", f'</v1/models/{quote(leaving.successor)}>; rel="successor-version"'.encode()))
    return headers


def leaving_facts(leaving: Leaving | None) -> dict[str, Any]:
    """Beside the protocol's own fields of a model in a list; nothing of one that stays."""
    if leaving is None:
        return {}
    return {"deprecated_at": leaving.since, "retires_at": leaving.until, "successor": leaving.successor or None}
