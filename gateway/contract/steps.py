"""Long work in steps: a generator that yields wherever others may have their turn, and returns what came of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")


def at_once(steps: Generator[Any, None, T]) -> T:
    """Do all steps of what is short, or holds up nobody."""
    results: list[T] = []
    for _ in _into(results, steps):
        pass
    return results[0]


def _into(results: list[T], steps: Generator[Any, None, T]) -> Generator[Any, None, None]:
    """Takes the result without an exception that tells it: those cost as much as a short request does otherwise."""
    results.append((yield from steps))
