"""How a drill is judged, and when the next one is due. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

_WORST_FIRST = ("fail", "no_data", "waiting", "pass")


def worst(verdicts: Sequence[str]) -> str:
    """Of the ways away and back: the drill is as good as the worse one."""
    return min(verdicts, key=_WORST_FIRST.index)


def due_at(last_passed_at: datetime | None, *, since: datetime, every: timedelta) -> datetime:
    """A drill that failed, or reached no process, puts nothing off."""
    return max(since, last_passed_at or since) + every
