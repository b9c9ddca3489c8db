"""Calls of the last day, hour by hour, for the home page. From the hourly rollup."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Sum

from costs import charts
from costs.models import UsageHour
from costs.periods import hour_of

HOURS = 24


@dataclass(frozen=True)
class Traffic:
    """Of the hour that runs and the 23 before it."""

    by_hour: tuple[int, ...]
    """All calls, the oldest hour first."""
    failed: int
    refused: int
    before: int
    """Calls of the 24 hours before these."""

    @property
    def calls(self) -> int:
        return sum(self.by_hour)

    @property
    def most(self) -> int:
        """In one hour."""
        return max(self.by_hour)

    @property
    def failed_percent(self) -> float | None:
        """Of the calls that were not refused; None when there were none."""
        served = self.calls - self.refused
        return 100 * self.failed / served if served else None

    @property
    def refused_percent(self) -> float | None:
        return 100 * self.refused / self.calls if self.calls else None

    @property
    def spark(self) -> str:
        return charts.spark([Decimal(count) for count in self.by_hour], width=132)


def last_day(now: datetime) -> Traffic | None:
    """None while nobody called in the last two days."""
    this_hour = hour_of(now)
    first = this_hour - timedelta(hours=HOURS - 1)
    rows = (
        UsageHour.objects.filter(hour__gte=first - timedelta(hours=HOURS), hour__lte=this_hour)
        .order_by()
        .values_list("hour", "outcome")
        .annotate(calls=Sum("calls"))
    )
    by_hour: Counter[datetime] = Counter()
    by_outcome: Counter[str] = Counter()
    before = 0
    for hour, outcome, calls in rows:
        if hour < first:
            before += calls
            continue
        by_hour[hour] += calls
        by_outcome[outcome] += calls
    if not by_hour and not before:
        return None
    return Traffic(
        by_hour=tuple(by_hour[first + timedelta(hours=place)] for place in range(HOURS)),
        failed=by_outcome[UsageHour.Outcome.ERROR],
        refused=by_outcome[UsageHour.Outcome.REFUSED],
        before=before,
    )
