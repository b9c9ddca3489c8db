"""Long work in steps: a generator that yields wherever others may have their turn, and returns what came of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")


def at_once(steps: Generator[Any, None, T]) -> T:
    """Do all steps of what is short, or holds up nobody."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
