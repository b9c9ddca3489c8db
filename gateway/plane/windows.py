"""Calendar-aligned windows in a tenant's time zone."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.contract.snapshot import Window


class Span(NamedTuple):
    """Half-open, in seconds since the epoch, UTC."""

    start: float
    end: float


def span_of(window: Window, at: float, zone: ZoneInfo) -> Span:
    """The window that holds the moment `at`. Days have 23 or 25 hours when the clocks change."""
    local = datetime.fromtimestamp(at, zone)
    if window in ("minute", "hour"):
        # By the offset in force, since a wall-clock hour may occur twice; zones are offset by whole minutes at least.
        size = 60 if window == "minute" else 3600
        offset = local.utcoffset()
        shift = offset.total_seconds() if offset is not None else 0.0
        start = (at + shift) // size * size - shift
        return Span(start, start + size)
    if window == "day":
        first = local.date()
        last = first + timedelta(days=1)
    else:
        first = local.date().replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1)
    return Span(
        datetime.combine(first, time.min, zone).timestamp(),
        datetime.combine(last, time.min, zone).timestamp(),
    )
