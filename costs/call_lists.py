"""Single calls page by page, newest first: those in the database, and behind them those in the files of archived months.

A page is of one or the other, and months are in one only, so nothing is listed twice or left out where they meet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from costs import archived_calls, call_filters, call_spans, selectors
from costs.archived_calls import Position
from costs.models import ArchivedMonth, Event
from costs.periods import Period
from costs.services import ingest
from governance.models import Membership
from governance.pages import PAGE_SIZE, decode_cursor, encode_cursor, keyset_page

ORDER = ("-started_at", "-event_id")


@dataclass(frozen=True)
class Cursor:
    """Where a page begins, and whether it has what is newer."""

    position: Position
    is_newer: bool

    def __str__(self) -> str:
        return encode_cursor([self.position.at.isoformat(), self.position.event_id], self.is_newer)

    @classmethod
    def read(cls, text: str) -> Cursor | None:
        """None when it is none of ours."""
        decoded = decode_cursor(text, len(ORDER))
        if decoded is None:
            return None
        is_newer, (at, event_id) = decoded
        try:
            moment, found = parse_datetime(at), UUID(event_id)
        except ValueError:
            return None
        is_ours = moment is not None and timezone.is_aware(moment) and 2000 <= moment.year <= 2100
        return cls(Position(moment, found), is_newer) if moment is not None and is_ours else None


@dataclass(frozen=True)
class Calls:
    """A page of calls with the cursors of its neighbours."""

    rows: Sequence[Event]
    next_cursor: str | None
    previous_cursor: str | None
    kept_from: datetime | None = None
    """The first moment in the database; None while nothing has left it."""
    is_archived: bool = False
    """Read from files."""
    goes_on: bool = False
    """Whether the next page is of files while this one is not."""
    searched_to: datetime | None = None
    """Archived calls beyond this were not looked at yet: the neighbour goes on."""
    deleted: Sequence[ArchivedMonth] = field(default_factory=tuple)
    """Months of the period whose calls are nowhere any more, oldest first."""


def calls_page(
    *,
    membership: Membership,
    own: bool,
    chosen: Mapping[str, str],
    period: Period | None,
    cursor: Cursor | None = None,
    size: int = PAGE_SIZE,
) -> Calls:
    """Calls that the person may see (`own`: only with their keys), narrowed by `call_filters.conditions`. Raises ArchiveError."""
    seam = ingest.kept_from()
    left = [] if seam is None or (period is not None and period.start >= seam) else _left(period)
    months = [month for month in left if month.path]
    deleted = [month for month in left if not month.path]
    keys = None if selectors.sees_all_calls(membership) and not own else selectors.own_keys(membership.user)
    if seam is not None and months and _is_of_files(cursor, period, seam):
        return _of_files(months, deleted, seam=seam, keys=keys, chosen=chosen, period=period, cursor=cursor, size=size)
    events = call_filters.filter_events(selectors.events_visible_to(membership, own=own), chosen, period)
    start, is_newer = (cursor.position.at, cursor.is_newer) if cursor else (None, False)
    within = call_spans.calls_within(chosen, keys=keys, period=period, start=start, is_newer=is_newer, size=size)
    if within is not None:
        events = events.filter(within)
    page = keyset_page(events, order=ORDER, cursor=str(cursor) if cursor else "", size=size)
    # Reached from the files there is nothing older behind it in the database, though a page that was read backwards always has a next one.
    is_turned = seam is not None and cursor == Cursor(Position(seam), is_newer=True)
    goes_on = seam is not None and bool(months) and (is_turned or page.next_cursor is None)
    following = str(Cursor(Position(seam), is_newer=False)) if goes_on and seam is not None else page.next_cursor
    return Calls(page.rows, following, page.previous_cursor, kept_from=seam, goes_on=goes_on, deleted=deleted)


def _left(period: Period | None) -> list[ArchivedMonth]:
    """Months with calls that left the database, of a period, oldest first."""
    found = ArchivedMonth.objects.filter(events__gt=0).defer("days").order_by("month")
    if period is not None:
        found = found.filter(month__gte=period.first.replace(day=1), month__lte=period.last)
    return list(found)


def _is_of_files(cursor: Cursor | None, period: Period | None, seam: datetime) -> bool:
    if cursor is None:
        return period is not None and period.end <= seam
    return cursor.position < Position(seam) or (cursor.position == Position(seam) and not cursor.is_newer)


def _of_files(
    months: list[ArchivedMonth],
    deleted: list[ArchivedMonth],
    *,
    seam: datetime,
    keys: Collection[str] | None,
    chosen: Mapping[str, str],
    period: Period | None,
    cursor: Cursor | None,
    size: int,
) -> Calls:
    newest = seam if period is None else min(period.end, seam)
    oldest = Period(months[0].month, months[0].month).start if period is None else period.start
    is_newer = cursor is not None and cursor.is_newer
    start = cursor.position if cursor else Position(newest)
    asked = call_filters.conditions(chosen)
    with_days = list(ArchivedMonth.objects.filter(month__in=[month.month for month in months]))
    end = newest if is_newer else oldest
    is_over = asked is None or (start.at >= end if is_newer else start <= Position(end))
    found = (
        archived_calls.Found([], None)
        if asked is None or is_over
        else archived_calls.read(with_days, start=start, end=end, asked=asked, keys=keys, size=size + 1)
    )
    rows = found.rows[-size:] if is_newer else found.rows[:size]
    beyond = len(found.rows) > size
    first, last = (
        (Position(rows[0].started_at, rows[0].event_id), Position(rows[-1].started_at, rows[-1].event_id)) if rows else (start, start)
    )
    reached = found.reached
    in_database = Position(seam) if period is None or period.end > seam else None
    before: Position | None
    after: Position | None
    if is_newer:
        before = first if beyond else reached or in_database
        # Going on from where nothing newer was found, the call that the search started from is the next one.
        after = last if rows else Position(start.at + timedelta(microseconds=1))
    else:
        before = in_database if start == Position(seam) else first if cursor else None
        after = last if beyond else reached
    return Calls(
        rows,
        str(Cursor(after, is_newer=False)) if after else None,
        str(Cursor(before, is_newer=True)) if before else None,
        kept_from=seam,
        is_archived=True,
        searched_to=reached.at if reached else None,
        deleted=deleted,
    )
