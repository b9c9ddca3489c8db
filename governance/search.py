"""Search over everything: each app adds a source, each source returns only what the person may see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from governance.access import Permission, permissions_of
from governance.models import Membership

LIMIT_PER_SOURCE = 8


@dataclass(frozen=True)
class Hit:
    title: str
    subtitle: str
    url: str
    icon: str


@dataclass(frozen=True)
class Source:
    title: str
    permission: Permission
    find: Callable[[str, Membership, int], Iterable[Hit]]
    """query, who asks, how many at most"""


_sources: list[Source] = []


def register(source: Source) -> None:
    """Called from AppConfig.ready()."""
    _sources.append(source)


def find(query: str, membership: Membership) -> list[tuple[str, list[Hit]]]:
    """Hits by source, without empty sources. A query under two characters finds nothing."""
    query = query.strip()
    if len(query) < 2:
        return []
    granted = permissions_of(membership.roles)
    found = [(source.title, list(source.find(query, membership, LIMIT_PER_SOURCE))) for source in _sources if source.permission in granted]
    return [(title, hits) for title, hits in found if hits]
