"""Answers that a cache keeps beside the payloads, for the erasure of what calls said. Filled by the floor that holds them (catalog)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

Erase = Callable[[str, datetime | None], int]
_erasures: list[Erase] = []


def register_erasure(erase: Erase) -> None:
    """`erase(project, until)` deletes the current tenant's: of the project unless empty, of calls that began before `until` if given.

    It joins the caller's transaction and returns how many.
    """
    _erasures[:] = [erase]


def erase_answers(project: str, until: datetime | None) -> int:
    return _erasures[0](project, until) if _erasures else 0
