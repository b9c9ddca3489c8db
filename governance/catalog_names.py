"""Which projects, models, keys and deployments there are, for rules of this floor that name one. Filled by the floor that holds them (catalog)."""

from __future__ import annotations

from collections.abc import Callable

from governance.models import Membership

Source = Callable[[], dict[str, str]]
"""Gives short name and name of each one of the current tenant."""
Finder = Callable[[Membership, str, str], list[tuple[str, str]]]
"""Of a scope (project, model, key, deployment): what has a text in its names, as (what a rule calls it, what it is), as far as the person may see
it. The first few only, and none of agents, which name themselves."""
_sources: dict[str, Source] = {}
_finders: list[Finder] = []


def register_names(*, projects: Source, models: Source, finder: Finder) -> None:
    _sources.update(projects=projects, models=models)
    _finders[:] = [finder]


def project_names() -> dict[str, str]:
    """Short name to name."""
    return _sources["projects"]() if _sources else {}


def model_names() -> dict[str, str]:
    """Short name to name; those that are retired are not in it."""
    return _sources["models"]() if _sources else {}


def found_names(membership: Membership, scope: str, query: str) -> list[tuple[str, str]]:
    """See `Finder`."""
    return [name for finder in _finders for name in finder(membership, scope, query)]
