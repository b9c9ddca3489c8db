"""Spend of a period by one dimension, against an earlier one and towards the end of the month. Money from rollups only.

Without a filter it is read from the sums by day, hundreds of rows; a filter needs the hours, which know all dimensions at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from catalog import selectors as catalog_selectors
from costs import cheaper, price_selectors, selectors
from costs import forecast as forecasting
from costs.forecast import Forecast, TooLittle
from costs.models import UsageDay, UsageHour
from costs.periods import Period
from costs.selectors import FILTERS, NONE, UNKNOWN

SHOWN = 100
"""Lines of a page; a breakdown by thousands of keys is for the CSV."""
_TOKENS = F("uncached_input_tokens") + F("cached_input_tokens") + F("cache_write_tokens") + F("output_tokens")
_FIGURES = ("calls", "cost", "unpriced_calls", "refused", "errors", "tokens", "untagged_calls", "untagged_cost", "estimated_calls")
_SUMS: dict[str, Any] = {
    "n_calls": Sum("calls"),
    "n_cost": Sum("cost"),
    "n_unpriced_calls": Sum("unpriced_calls"),
    "n_refused": Sum("calls", filter=Q(outcome="refused"), default=0),
    "n_errors": Sum("calls", filter=Q(outcome="error"), default=0),
    "n_tokens": Sum(_TOKENS),
    "n_untagged_calls": Sum("untagged_calls", filter=~Q(outcome="refused"), default=0),
    "n_untagged_cost": Sum("cost", filter=Q(untagged_calls__gt=0), default=Decimal()),
    "n_estimated_calls": Sum("estimated_calls"),
}


@dataclass(frozen=True)
class Line:
    """One value of the grouping, or the total."""

    value: str
    """In the URL; `(none)` where the dimension is not known."""
    label: str
    cost: Decimal
    calls: int
    tokens: int
    unpriced_calls: int
    refused: int
    errors: int
    share: Decimal | None = None
    """Percent of the money."""
    before: Decimal | None = None
    """Spend of the period that this one is compared with."""

    @property
    def per_thousand(self) -> Decimal | None:
        """USD per 1,000 served calls that have a price."""
        served = self.calls - self.refused - self.unpriced_calls
        return self.cost / served * 1000 if served > 0 else None

    @property
    def change(self) -> Decimal | None:
        """Percent against the earlier period; None when it had no spend."""
        return (self.cost - self.before) / self.before * 100 if self.before else None

    @property
    def difference(self) -> Decimal:
        """USD against the earlier period."""
        return self.cost - (self.before or Decimal())

    @property
    def drop(self) -> Decimal | None:
        """The change without its sign."""
        return None if self.change is None else abs(self.change)

    @property
    def is_unpriced(self) -> bool:
        """No money is known, although calls should have cost some."""
        return self.cost == 0 and self.unpriced_calls > 0

    @property
    def is_unknown(self) -> bool:
        return self.value == NONE


@dataclass(frozen=True)
class Spend:
    """Everything that the spend page shows of one period, filter and grouping."""

    period: Period
    earlier: Period | None
    """What it is compared with."""
    group: str
    total: Line
    lines: list[Line]
    """Costly ones first; values that had spend only in the earlier period are in it, too."""
    by_day: dict[date, dict[str, Decimal]]
    """Day to line value to money; days without calls are missing."""
    earlier_days: dict[date, Decimal]
    """Money by day of the earlier period; days without calls are missing."""
    untagged_calls: int
    untagged_cost: Decimal
    served_calls: int
    estimated_calls: int
    complete_through: datetime

    @property
    def coverage_calls(self) -> Decimal | None:
        """Percent of served calls with project, key, model and agent."""
        return Decimal(self.served_calls - self.untagged_calls) / self.served_calls * 100 if self.served_calls else None

    @property
    def coverage_cost(self) -> Decimal | None:
        """The same by money."""
        return (self.total.cost - self.untagged_cost) / self.total.cost * 100 if self.total.cost else None

    @property
    def shown(self) -> list[Line]:
        """What a page lists; the rest stands in `rest`."""
        return self.lines[:SHOWN]

    @property
    def rest(self) -> Line | None:
        """Everything behind the lines that a page lists, as one."""
        hidden = self.lines[SHOWN:]
        if not hidden:
            return None
        sums = {name: sum(getattr(line, name) for line in hidden) for name in ("calls", "tokens", "unpriced_calls", "refused", "errors")}
        cost = sum((line.cost for line in hidden), Decimal())
        before = sum((line.before or Decimal() for line in hidden), Decimal()) if self.earlier else None
        share = cost / self.total.cost * 100 if self.total.cost else None
        return Line(value="", label=f"{len(hidden):,} more", cost=cost, share=share, before=before, **sums)

    @property
    def is_empty(self) -> bool:
        return self.total.calls == 0


@dataclass(frozen=True)
class _Source:
    """The rollup that answers a filter with the fewest rows."""

    chosen: Mapping[str, str]
    keys: list[str] | None

    @property
    def has_days(self) -> bool:
        return not self.chosen and self.keys is None

    def _hours(self, period: Period) -> QuerySet[UsageHour]:
        hours = selectors.only(UsageHour.objects.filter(hour__gte=period.start, hour__lt=period.end), self.chosen)
        return hours if self.keys is None else hours.filter(key_id__in=self.keys)

    def _days(self, period: Period, dimension: str) -> QuerySet[UsageDay]:
        return UsageDay.objects.filter(dimension=dimension, day__gte=period.first, day__lte=period.last)

    def figures(self, period: Period, group: str) -> Iterable[tuple[Any, ...]]:
        """(value, day, *_FIGURES)."""
        if self.has_days:
            return self._days(period, group).order_by().values_list("value", "day", *_FIGURES).iterator(chunk_size=5000)
        hours = self._hours(period).values_list(FILTERS[group], TruncDate("hour", tzinfo=UTC))
        return hours.annotate(**_SUMS).iterator(chunk_size=5000)

    def sums(self, period: Period, group: str) -> tuple[dict[str, list[Any]], dict[date, dict[str, Decimal]]]:
        """_FIGURES by value, and money by day and value as it stands in a URL."""
        figures: dict[str, list[Any]] = {}
        by_day: dict[date, dict[str, Decimal]] = defaultdict(dict)
        if self.has_days:
            days = self._days(period, group).order_by()
            sums = {f"n_{name}": Sum(name) for name in _FIGURES}
            figures = {value: own for value, *own in days.values_list("value").annotate(**sums)}
            for value, day, money in days.values_list("value", "day", "cost"):
                by_day[day][value or NONE] = money
            return figures, by_day
        for value, day, *found in self.figures(period, group):
            by_day[day][value or NONE] = found[1]
            own = figures.get(value)
            figures[value] = found if own is None else [one + other for one, other in zip(own, found, strict=True)]
        return figures, by_day

    def money(self, period: Period, group: str) -> tuple[dict[str, Decimal], dict[date, Decimal]]:
        """By value, and by day."""
        if self.has_days:
            return dict(self._days(period, group).order_by().values_list("value").annotate(money=Sum("cost"))), self.money_by_day(period)
        by_value: dict[str, Decimal] = defaultdict(Decimal)
        by_day: dict[date, Decimal] = defaultdict(Decimal)
        rows = self._hours(period).values_list(FILTERS[group], TruncDate("hour", tzinfo=UTC)).annotate(money=Sum("cost"))
        for value, day, cost in rows:
            by_value[value] += cost
            by_day[day] += cost
        return dict(by_value), dict(by_day)

    def money_by_day(self, period: Period) -> dict[date, Decimal]:
        if self.has_days:
            return dict(self._days(period, UsageDay.Dimension.ALL).values_list("day", "cost"))
        return dict(self._hours(period).values_list(TruncDate("hour", tzinfo=UTC)).annotate(money=Sum("cost")))


def spend(
    period: Period, group: str, chosen: Mapping[str, str], *, keys: Iterable[str] | None = None, earlier: Period | None = None
) -> Spend:
    """Spend of the period by `group` (a key of GROUPS), narrowed by `chosen`; `keys` limits it to these key ids. Compared with `earlier`, if any."""
    source = _Source(chosen, None if keys is None else list(keys))
    figures, by_day = source.sums(period, group)
    totals = [sum(column) for column in zip(*figures.values(), strict=True)] or [0] * len(_FIGURES)
    before, earlier_days = source.money(earlier, group) if earlier else ({}, {})
    for value, money in before.items():
        if money:
            figures.setdefault(value, [0] * len(_FIGURES))
    labels = selectors.labels(group, figures)
    total = _line("", "Total", totals, Decimal(totals[1]), sum(before.values(), Decimal()) if before else None)
    lines = [
        _line(value or NONE, labels.get(value, value) or UNKNOWN[group], own, total.cost, before.get(value))
        for value, own in figures.items()
    ]
    lines.sort(key=lambda line: (-line.cost, -line.calls, -(line.before or 0), line.label))
    named = dict(zip(_FIGURES, totals, strict=True))
    return Spend(
        period=period,
        earlier=earlier,
        group=group,
        total=total,
        lines=lines,
        by_day=dict(by_day),
        earlier_days=earlier_days,
        untagged_calls=named["untagged_calls"],
        untagged_cost=Decimal(named["untagged_cost"]),
        served_calls=named["calls"] - named["refused"],
        estimated_calls=named["estimated_calls"],
        complete_through=selectors.complete_through(),
    )


def _line(value: str, label: str, figures: list[Any], whole: Decimal, before: Decimal | None) -> Line:
    named = dict(zip(_FIGURES, figures, strict=True))
    cost = Decimal(named["cost"])
    return Line(
        value=value,
        label=label,
        cost=cost,
        calls=named["calls"],
        tokens=named["tokens"],
        unpriced_calls=named["unpriced_calls"],
        refused=named["refused"],
        errors=named["errors"],
        share=cost / whole * 100 if whole else None,
        before=before,
    )


def spend_by_day(period: Period, group: str, chosen: Mapping[str, str], *, keys: Iterable[str] | None = None) -> list[tuple[Any, ...]]:
    """The page's figures by day and group, for a CSV: day, name, calls, refused, failed, unpriced, tokens, USD."""
    source = _Source(chosen, None if keys is None else list(keys))
    rows = sorted(source.figures(period, group), key=lambda row: (row[1], row[0]))
    labels = selectors.labels(group, {row[0] for row in rows})
    named = ((value, day, dict(zip(_FIGURES, figures, strict=True))) for value, day, *figures in rows)
    return [
        (
            day,
            labels.get(value, value) or UNKNOWN[group],
            *(own[name] for name in ("calls", "refused", "errors", "unpriced_calls", "tokens", "cost")),
        )
        for value, day, own in named
    ]


def outlook(
    period: Period, chosen: Mapping[str, str], *, keys: Iterable[str] | None = None, at: datetime | None = None
) -> Forecast | TooLittle:
    """What the month of `period` will have cost, for the same filter; `period` ends today and begins on the month's first day, in UTC."""
    now = (at or timezone.now()).astimezone(UTC)
    today = now.date()
    source = _Source(chosen, None if keys is None else list(keys))
    days = source.money_by_day(Period(today - timedelta(days=forecasting.HISTORY_DAYS), today))
    recent = UsageDay.objects.filter(
        dimension=UsageDay.Dimension.HOUR, day__gte=today - timedelta(days=forecasting.LEVEL_DAYS), day__lt=today
    )
    profile = dict(recent.order_by().values_list("value").annotate(money=Sum("cost")))
    return forecasting.forecast(
        spent=sum((money for day, money in days.items() if day >= period.first), Decimal()),
        days=days,
        today=today,
        last_day=period.month_end,
        rest_of_today=forecasting.rest_of_day([profile.get(f"{hour:02}", Decimal()) for hour in range(24)], now.hour, now.minute / 60),
    )


def cheaper_hints(period: Period, keys: Iterable[str]) -> list[cheaper.Hint]:
    """For the models that these keys used in the period."""
    hours = (
        UsageHour.objects.filter(key_id__in=list(keys), hour__gte=period.start, hour__lt=period.end).exclude(model="").exclude(kind="tool")
    )
    rows = hours.values_list("model").annotate(
        read=Sum(F("uncached_input_tokens") + F("cached_input_tokens") + F("cache_write_tokens")), written=Sum("output_tokens")
    )
    used = {model: cheaper.Used(read, written) for model, read, written in rows}
    return cheaper.hints(used, catalog_selectors.served_models(), price_selectors.current_prices()) if used else []
