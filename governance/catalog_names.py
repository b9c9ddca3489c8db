"""Which projects and models there are, for rules of this floor that name one. Filled by the floor that holds them (catalog)."""

from __future__ import annotations

from collections.abc import Callable

Source = Callable[[], dict[str, str]]
"""Gives short name and name of each one of the current tenant."""
_sources: dict[str, Source] = {}


def register_names(*, projects: Source, models: Source) -> None:
    _sources.update(projects=projects, models=models)


def project_names() -> dict[str, str]:
    """Short name to name."""
    return _sources["projects"]() if _sources else {}


def model_names() -> dict[str, str]:
    """Short name to name; those that are retired are not in it."""
    return _sources["models"]() if _sources else {}
