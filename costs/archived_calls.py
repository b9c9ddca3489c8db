"""Single calls that left the database, by key from the files of their months: as many as a page takes, in bounded time and memory.

A file is sorted by time, so it is read from where the page stands in steps of whole days, of which the counts are known. A filter that
finds little stops after `MOST_ROWS`, and says from where to go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from costs import archive_selectors, call_filters, parquet
from costs.call_filters import Condition
from costs.models import ArchivedMonth, Event

STEP_ROWS = 500_000
"""Calls that one query looks at, but a whole day at least."""
MOST_ROWS = 5_000_000
"""Calls that one page looks at, about a second of one processor."""
FIRST_ID = UUID(int=0)


@dataclass(frozen=True, order=True)
class Position:
    """Between two calls in their order, or at one."""

    at: datetime
    event_id: UUID = FIRST_ID


@dataclass(frozen=True)
class Found:
    rows: list[Event]
    """The nearest to where it was asked from; newest first."""
    reached: Position | None
    """Where the search stopped because it had looked at enough; None when it has looked at all that was asked for, or has as many as were asked for."""


def read(
    months: Sequence[ArchivedMonth],
    *,
    start: Position,
    end: datetime,
    asked: list[Condition],
    keys: Collection[str] | None,
    size: int,
) -> Found:
    """Up to `size` calls older than `start` that began at `end` or later; newer ones before `end` where that is later than `start`.

    With `keys` only calls with these. `months` have files. Raises ArchiveError when one is gone or damaged.
    """
    is_newer = end > start.at
    rows, looked_at = list[Event](), 0
    condition, parameters = _condition(asked, keys)
    for month in sorted(months, key=lambda one: one.month, reverse=not is_newer):
        steps = list(_steps(month, start, end, is_newer=is_newer))
        if not steps:
            continue
        with archive_selectors.local(month.path) as stored:
            for low, high, count in steps:
                if looked_at and looked_at + count > MOST_ROWS:
                    return Found(rows, Position(low if is_newer else high))
                archive_selectors.check_once(month, stored)
                looked_at += count
                span = {**parameters, "low": low, "high": high, "at": start.at, "id": str(start.event_id)}
                more = _nearest(stored, condition, span, size - len(rows), is_newer=is_newer)
                rows = [*more, *rows] if is_newer else [*rows, *more]
                if len(rows) >= size:
                    return Found(rows, None)
    return Found(rows, None)


def _condition(asked: list[Condition], keys: Collection[str] | None) -> tuple[str, dict[str, object]]:
    condition, parameters = call_filters.of_file(asked)
    if keys is None:
        return condition, parameters
    return f"{condition} AND list_contains($keys, key_id)", {**parameters, "keys": list(keys)}


def _steps(month: ArchivedMonth, start: Position, end: datetime, *, is_newer: bool) -> Iterator[tuple[datetime, datetime, int]]:
    """First and next moment of some days of a month, and how many calls they have; in the order in which they are looked at."""
    first, last = (start.at, end) if is_newer else (end, start.at)
    run: tuple[datetime, datetime, int] | None = None
    for text in sorted(month.days, reverse=not is_newer):
        low = datetime.fromisoformat(text).replace(tzinfo=UTC)
        high, count = low + timedelta(days=1), int(month.days[text]["events"])
        is_beyond = low >= last if is_newer else Position(low) >= start  # calls that began with the day itself may be older than `start`
        if high <= first or is_beyond:
            continue
        if run is not None and run[2] + count > STEP_ROWS:
            yield run
            run = None
        run = (low, high, count) if run is None else (min(run[0], low), max(run[1], high), run[2] + count)
    if run is not None:
        yield (run[0] if is_newer else max(run[0], first)), (min(run[1], last) if is_newer else run[1]), run[2]


def _nearest(stored: Path, condition: str, span: dict[str, object], size: int, *, is_newer: bool) -> list[Event]:
    """Keys first, then the whole rows: those are wide, and most of them are not wanted."""
    sign, order = (">", "") if is_newer else ("<", " DESC")
    found = parquet.read(
        stored,
        f"""SELECT CAST(event_id AS VARCHAR), epoch_us(started_at) FROM made
        WHERE started_at >= $low AND started_at < $high AND {condition}
            AND (started_at {sign} $at OR started_at = $at AND event_id {sign} CAST($id AS UUID))
        ORDER BY started_at{order}, event_id{order} LIMIT {size}""",  # noqa: S608  # signs and terms of our own
        span,
    )
    if not found:
        return []
    times = [datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds) for _, microseconds in found]
    wanted = {"ids": [event_id for event_id, _ in found], "first": min(times), "last": max(times)}
    return archive_selectors.calls_where(
        stored, "started_at BETWEEN $first AND $last AND list_contains($ids, CAST(event_id AS VARCHAR))", wanted
    )
