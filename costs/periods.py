"""What a page covers, from its URL: a period of whole UTC days, the present month without one; or a span that ends now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

LONGEST = timedelta(days=400)
EARLIEST, LATEST = date(2000, 1, 1), date(2100, 12, 31)
"""Where an open period begins and ends."""


def midnight(day: date) -> datetime:
    """The first moment of a UTC day."""
    return datetime.combine(day, time(), UTC)


def hour_of(moment: datetime) -> datetime:
    """The first moment of the UTC hour that `moment` lies in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True)
class Period:
    """Whole days, both included."""

    first: date
    last: date

    @property
    def start(self) -> datetime:
        return midnight(self.first)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return midnight(self.last + timedelta(days=1))

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    @property
    def label(self) -> str:
        """`Nov 1 – 20, 2026`; of an open one `up to Nov 20, 2026` or `from Nov 1, 2026 on`."""
        if self.first == EARLIEST:
            return f"up to {Period(self.last, self.last).label}"
        if self.last == LATEST:
            return f"from {Period(self.first, self.first).label} on"
        if self.first == self.last:
            return f"{self.first:%b} {self.first.day}, {self.first.year}"
        if (self.first.year, self.first.month) == (self.last.year, self.last.month):
            return f"{self.first:%b} {self.first.day} – {self.last.day}, {self.last.year}"
        year = "" if self.first.year == self.last.year else f", {self.first.year}"
        return f"{self.first:%b} {self.first.day}{year} – {self.last:%b} {self.last.day}, {self.last.year}"

    @property
    def is_from_month_start(self) -> bool:
        """Within one month, from its first day on."""
        return self.first.day == 1 and (self.first.year, self.first.month) == (self.last.year, self.last.month)

    @property
    def month_end(self) -> date:
        """Last day of the month in which it ends."""
        return whole_month(self.last).last

    def before(self) -> Period:
        """As many days just before."""
        length = self.last - self.first
        return Period(self.first - timedelta(days=1) - length, self.first - timedelta(days=1))

    def months_before(self, months: int) -> Period:
        """The same days so many months before; where a month is shorter, up to its end."""
        return Period(_months_back(self.first, months), _months_back(self.last, months))

    def previous(self) -> Period:
        """The same days of the month before for a part of one month from its first day on, else as many days just before."""
        return self.months_before(1) if self.is_from_month_start else self.before()


def first_of_month(day: date, months: int = 0) -> date:
    """First day of the month that comes so many `months` after the one of `day`; before it, when negative."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, 1)


def whole_month(day: date) -> Period:
    """The month of a day."""
    return Period(first_of_month(day), first_of_month(day, 1) - timedelta(days=1))


def _months_back(day: date, months: int) -> date:
    month = whole_month(first_of_month(day, -months))
    return month.first.replace(day=min(day.day, month.last.day))


def parse_day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 2000 <= day.year <= 2100 else None


def this_month(today: date) -> Period:
    return Period(today.replace(day=1), today)


def from_query(query: Mapping[str, str], today: date) -> Period:
    """`from` and `to` as ISO dates. What is missing, unreadable or in the wrong order falls back to the present month."""
    month = this_month(today)
    first, last = parse_day(query.get("from", "")), parse_day(query.get("to", ""))
    if first is None and last is None:
        return month
    last = last or max(first or today, today)
    first = first or last.replace(day=1)
    if first > last or last - first > LONGEST:
        return month
    return Period(first, last)


def open_from_query(query: Mapping[str, str]) -> Period | None:
    """`from` and `to` as ISO dates, either of which may be open; None without both, for what is unreadable and for the wrong order."""
    first, last = parse_day(query.get("from", "")), parse_day(query.get("to", ""))
    if (first is None and last is None) or (first or EARLIEST) > (last or LATEST):
        return None
    return Period(first or EARLIEST, last or LATEST)


SHORTCUTS = {
    "this-month": "This month",
    "last-month": "Last month",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "90d": "Last 90 days",
    "custom": "From and to",
}
"""Periods that move with the day, so that a saved page stays true."""


def shortcut(name: str, today: date) -> Period | None:
    """The period that a key of SHORTCUTS means today; None for `custom` and unknown names."""
    if name == "this-month":
        return this_month(today)
    if name == "last-month":
        return whole_month(first_of_month(today, -1))
    days = {"7d": 7, "30d": 30, "90d": 90}.get(name)
    return Period(today - timedelta(days=days - 1), today) if days else None


def named_from_query(query: Mapping[str, str], today: date) -> tuple[str, Period]:
    """A key of SHORTCUTS and its period: as `period` says; `from` or `to` without it are a custom one; else the present month."""
    name = query.get("period", "")
    if name not in SHORTCUTS:
        name = "custom" if query.get("from") or query.get("to") else "this-month"
    return name, shortcut(name, today) or from_query(query, today)


COMPARISONS = {"": "automatic", "before": "the days just before", "month": "same days a month before", "year": "same days a year before"}


def compared(period: Period, how: str) -> Period | None:
    """What a period is compared with, by a key of COMPARISONS; anything else is nothing."""
    return {
        "": period.previous,
        "before": period.before,
        "month": lambda: period.months_before(1),
        "year": lambda: period.months_before(12),
    }.get(how, lambda: None)()


SPANS = {"24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days", "custom": "From and to"}
DEFAULT_SPAN = "30d"


@dataclass(frozen=True)
class Span:
    """Hours of the last day, or whole UTC days of which the last one may be unfinished."""

    name: str
    """A key of SPANS."""
    start: datetime
    end: datetime
    """The first moment after it."""

    @property
    def is_by_hour(self) -> bool:
        return self.name == "24h"

    @property
    def buckets(self) -> list[datetime]:
        """Where its hours or days begin."""
        step = timedelta(hours=1) if self.is_by_hour else timedelta(days=1)
        return [self.start + n * step for n in range((self.end - self.start) // step)]

    @property
    def days(self) -> Period:
        """Of whole days, for pages that know no hours."""
        return Period(self.start.date(), (self.end - timedelta(microseconds=1)).date())

    @property
    def label(self) -> str:
        return self.days.label if self.name == "custom" else SPANS[self.name]


def span(name: str, now: datetime, query: Mapping[str, str] | None = None) -> Span:
    """`name` as in SPANS; for `custom`, `query` has ISO dates `from` and `to` as `from_query` takes them, the last 30 days without."""
    now = now.astimezone(UTC)
    if name == "24h":
        end = hour_of(now) + timedelta(hours=1)
        return Span(name, end - timedelta(hours=24), end)
    today = now.date()
    if name == "custom" and query and (query.get("from") or query.get("to")):
        period = from_query(query, today)
    else:
        period = Period(today - timedelta(days=6 if name == "7d" else 29), today)
    return Span(name, period.start, period.end)


def span_from_query(query: Mapping[str, str], now: datetime) -> Span:
    """`period` names one of SPANS; `from` or `to` without it are a custom one."""
    fallback = "custom" if query.get("from") or query.get("to") else DEFAULT_SPAN
    name = query.get("period", "")
    return span(name if name in SPANS else fallback, now, query)
