"""Periods, shares and the slowing curve of budgets: pure arithmetic. Money in USD as Decimal, shares as fractions of 1."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from costs.periods import first_of_month


@dataclass(frozen=True)
class Span:
    """One period of a budget, half-open, aware UTC. Aligned as the gateway aligns the windows of its limits."""

    start: datetime
    end: datetime
    zone: ZoneInfo

    @property
    def first_day(self) -> date:
        """In the organisation's time zone."""
        return self.start.astimezone(self.zone).date()

    @property
    def last_day(self) -> date:
        return (self.end - timedelta(seconds=1)).astimezone(self.zone).date()

    @property
    def days(self) -> int:
        return (self.last_day - self.first_day).days + 1

    def elapsed(self, at: datetime) -> Decimal:
        """Fraction of the period that is over at `at`, from 0 to 1."""
        whole = (self.end - self.start).total_seconds()
        return Decimal(min(max((at - self.start).total_seconds(), 0.0), whole)) / Decimal(whole)

    @property
    def label(self) -> str:
        return f"{self.first_day:%b} {self.first_day.day}" if self.days == 1 else f"{self.first_day:%B %Y}"


def span_of(period: str, at: datetime, zone: ZoneInfo) -> Span:
    """The day or month (in `zone`) that holds the moment `at`. Days have 23 or 25 hours when the clocks change."""
    first = at.astimezone(zone).date()
    if period == "day":
        following = first + timedelta(days=1)
    else:
        first = first_of_month(first)
        following = first_of_month(first, 1)
    return Span(
        datetime.combine(first, time(), zone).astimezone(UTC),
        datetime.combine(following, time(), zone).astimezone(UTC),
        zone,
    )


def admitted(share: Decimal, start: Decimal) -> Decimal:
    """Fraction of calls that a throttling budget lets through at `share` of its amount, when slowing begins at `start`.

    1 until `start`, then falling on a straight line to 0 at 1.
    """
    if share <= start:
        return Decimal(1)
    return max(Decimal(), (1 - share) / (1 - start))
