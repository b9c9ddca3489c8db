"""Which projects there are, for rules of this floor that name one. Filled by the floor that holds them (catalog)."""

from __future__ import annotations

from collections.abc import Callable

_sources: list[Callable[[], dict[str, str]]] = []


def register_projects(source: Callable[[], dict[str, str]]) -> None:
    """`source()` gives short name and name of each project of the current tenant."""
    _sources[:] = [source]


def project_names() -> dict[str, str]:
    """Short name to name."""
    return _sources[0]() if _sources else {}
