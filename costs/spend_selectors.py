"""Spend of a period by one dimension, against an earlier one and towards the end of the month. Money from rollups only.

Without a filter it is read from the sums by day, hundreds of rows; a filter needs the hours, which know most dimensions at once, or the days
of an attribute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import F, Q, QuerySet, Sum, Value
from django.db.models.functions import TruncDate
from django.utils import timezone

from catalog import selectors as catalog_selectors
from costs import attribute_days, cheaper, dimensions, price_selectors, selectors
from costs import forecast as forecasting
from costs.attribute_days import UNCOUNTED
from costs.forecast import Forecast, TooLittle
from costs.models import AttributeDay, TokenDay, UsageDay, UsageHour
from costs.models.rollup import INPUT_TOKENS, TOKENS, known_cost
from costs.periods import Period
from costs.selectors import NONE

SHOWN = 100
"""Lines of a page; a breakdown by thousands of keys is for the CSV."""
_FIGURES = ("calls", "cost", "unpriced_calls", "refused", "errors", "tokens", "untagged_calls", "untagged_cost", "estimated_calls")
_CLASS_FIGURES = (*_FIGURES, "unpriced_tokens")
"""Of a token class; what a class does not have is None."""
_SUMS: dict[str, Any] = {
    "n_calls": Sum("calls"),
    "n_cost": Sum("cost"),
    "n_unpriced_calls": Sum("unpriced_calls"),
    "n_refused": Sum("calls", filter=Q(outcome="refused"), default=0),
    "n_errors": Sum("calls", filter=Q(outcome="error"), default=0),
    "n_tokens": Sum(TOKENS),
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
    unpriced_calls: int | None
    """This and the next two are None of a token class."""
    refused: int | None
    errors: int | None
    unpriced_tokens: int | None = None
    """Only of a token class."""
    share: Decimal | None = None
    """Percent of the money."""
    before: Decimal | None = None
    """Spend of the period that this one is compared with."""

    @property
    def per_thousand(self) -> Decimal | None:
        """USD per 1,000 served calls that have a price."""
        if self.refused is None or self.unpriced_calls is None:
            return None
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
        return known_cost(self.cost, self.unpriced_calls or self.unpriced_tokens) is None

    @property
    def per_million(self) -> Decimal | None:
        """USD per 1,000,000 tokens that have a price."""
        priced = self.tokens - (self.unpriced_tokens or 0)
        return self.cost / priced * 1_000_000 if priced > 0 else None

    @property
    def is_unknown(self) -> bool:
        return self.value == NONE

    @property
    def is_other(self) -> bool:
        """Nothing that calls can be found by: what was not counted, and values beyond those kept."""
        return self.value in (UNCOUNTED, attribute_days.OTHER)


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
        sums = {
            name: sum(getattr(line, name) or 0 for line in hidden) for name in ("calls", "tokens", "unpriced_calls", "refused", "errors")
        }
        cost = sum((line.cost for line in hidden), Decimal())
        before = sum((line.before or Decimal() for line in hidden), Decimal()) if self.earlier else None
        share = cost / self.total.cost * 100 if self.total.cost else None
        return Line(value="", label=f"{len(hidden):,} more", cost=cost, share=share, before=before, **sums)

    @property
    def is_empty(self) -> bool:
        return self.total.calls == 0


Figures = dict[str, list[Any]]
"""_FIGURES by value."""
ByDay = dict[date, dict[str, Decimal]]
"""Money by day, and by value as it stands in a URL."""


class _Rollup(ABC):
    """What answers a grouping: figures by value, and money by day and value."""

    @abstractmethod
    def rows(self, period: Period) -> Iterable[tuple[Any, ...]]:
        """(value, day, *_FIGURES); a value may stand more than once on a day."""

    def sums(self, period: Period) -> tuple[Figures, ByDay]:
        figures: Figures = {}
        by_day: ByDay = defaultdict(lambda: defaultdict(Decimal))
        for value, day, *found in self.rows(period):
            by_day[day][value or NONE] += found[1]
            figures[value] = _added(figures[value], found) if value in figures else found
        return figures, {day: dict(values) for day, values in by_day.items()}

    def money(self, period: Period) -> tuple[dict[str, Decimal], dict[date, Decimal]]:
        """By value, and by day."""
        figures, by_day = self.sums(period)
        return {value: own[1] for value, own in figures.items()}, {day: sum(values.values(), Decimal()) for day, values in by_day.items()}


@dataclass(frozen=True)
class _Days(_Rollup):
    """One dimension without a filter: hundreds of rows."""

    dimension: str

    def _days(self, period: Period, dimension: str = "") -> QuerySet[UsageDay]:
        return UsageDay.objects.filter(dimension=dimension or self.dimension, day__gte=period.first, day__lte=period.last).order_by()

    def rows(self, period: Period) -> Iterable[tuple[Any, ...]]:
        return self._days(period).values_list("value", "day", *_FIGURES).iterator(chunk_size=5000)

    def sums(self, period: Period) -> tuple[Figures, ByDay]:
        days = self._days(period)
        sums = {f"n_{name}": Sum(name) for name in _FIGURES}
        by_day: ByDay = defaultdict(dict)
        for value, day, money in days.values_list("value", "day", "cost"):
            by_day[day][value or NONE] = money
        return {value: own for value, *own in days.values_list("value").annotate(**sums)}, dict(by_day)

    def money(self, period: Period) -> tuple[dict[str, Decimal], dict[date, Decimal]]:
        by_value = self._days(period).values_list("value").annotate(money=Sum("cost"))
        return dict(by_value), dict(self._days(period, UsageDay.Dimension.ALL).values_list("day", "cost"))


@dataclass(frozen=True)
class _Narrowed(_Rollup):
    """Rows that have all dimensions of an hour; `column` is empty for all calls together."""

    chosen: Mapping[str, str]
    keys: list[str] | None
    column: str

    def _narrow(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        rows = selectors.only(rows, self.chosen)
        return rows if self.keys is None else rows.filter(key_id__in=self.keys)

    @property
    def _by(self) -> F | Value:
        return F(self.column) if self.column else Value("")

    def _rows_of(self, days: QuerySet[AttributeDay]) -> Iterable[tuple[Any, ...]]:
        sums = {f"n_{name}": Sum(name) for name in _FIGURES}
        yield from self._narrow(days).values_list(self._by, "day").annotate(**sums).iterator(chunk_size=5000)

    def _money_of(self, days: QuerySet[AttributeDay]) -> tuple[dict[str, Decimal], dict[date, Decimal]]:
        return _by_value_and_day(self._narrow(days).values_list(self._by, "day").annotate(money=Sum("cost")))


@dataclass(frozen=True)
class _Hours(_Narrowed):
    """Of the hours, or of days where those have every call. Some keys are found in the hours at once, by an index."""

    def _hours(self, period: Period) -> QuerySet[UsageHour]:
        return self._narrow(UsageHour.objects.filter(hour__gte=period.start, hour__lt=period.end))

    def _days(self, period: Period) -> QuerySet[AttributeDay] | None:
        return selectors.counted_days(period) if self.keys is None else None

    def rows(self, period: Period) -> Iterable[tuple[Any, ...]]:
        if (days := self._days(period)) is not None:
            return self._rows_of(days)
        return self._hours(period).values_list(self._by, TruncDate("hour", tzinfo=UTC)).annotate(**_SUMS).iterator(chunk_size=5000)

    def money(self, period: Period) -> tuple[dict[str, Decimal], dict[date, Decimal]]:
        if (days := self._days(period)) is not None:
            return self._money_of(days)
        return _by_value_and_day(self._hours(period).values_list(self._by, TruncDate("hour", tzinfo=UTC)).annotate(money=Sum("cost")))


@dataclass(frozen=True)
class _Attribute(_Narrowed):
    """One attribute by day: grouped by it, or narrowed to one of its values."""

    attribute: str

    def _days(self, period: Period) -> QuerySet[AttributeDay]:
        days = AttributeDay.objects.filter(attribute=self.attribute, day__gte=period.first, day__lte=period.last).order_by()
        if value := self.chosen.get(self.attribute):
            days = days.filter(value="" if value == NONE else value)
        return days

    def rows(self, period: Period) -> Iterable[tuple[Any, ...]]:
        return self._rows_of(self._days(period))

    def money(self, period: Period) -> tuple[dict[str, Decimal], dict[date, Decimal]]:
        return self._money_of(self._days(period))


@dataclass(frozen=True)
class _Environments(_Rollup):
    """Projects, summed up by their environment of today."""

    projects: _Rollup

    def rows(self, period: Period) -> Iterable[tuple[Any, ...]]:
        found = dimensions.environments()
        return ((found.get(project, ""), day, *figures) for project, day, *figures in self.projects.rows(period))


@dataclass(frozen=True)
class _TokenClasses(_Rollup):
    """Money by token class. A call counts in each class that it used, and its outcome in none."""

    chosen: Mapping[str, str]

    def rows(self, period: Period) -> Iterable[tuple[Any, ...]]:
        days = selectors.only(TokenDay.objects.filter(day__gte=period.first, day__lte=period.last), self.chosen).order_by()
        sums = days.values_list("token_class", "day").annotate(
            n_calls=Sum("calls"), n_cost=Sum("cost"), n_tokens=Sum("tokens"), n_unpriced=Sum("unpriced_tokens")
        )
        for token_class, day, calls, cost, tokens, unpriced in sums:
            known = {"calls": calls, "cost": cost, "tokens": tokens, "unpriced_tokens": unpriced}
            yield token_class, day, *(known.get(name) for name in _CLASS_FIGURES)


def _added(one: list[Any], other: list[Any]) -> list[Any]:
    return [None if mine is None else mine + theirs for mine, theirs in zip(one, other, strict=True)]


def _by_value_and_day(rows: Iterable[tuple[Any, ...]]) -> tuple[dict[str, Decimal], dict[date, Decimal]]:
    by_value: dict[str, Decimal] = defaultdict(Decimal)
    by_day: dict[date, Decimal] = defaultdict(Decimal)
    for value, day, cost in rows:
        by_value[value] += cost
        by_day[day] += cost
    return dict(by_value), dict(by_day)


def _rollup(group: str, chosen: Mapping[str, str], keys: list[str] | None) -> _Rollup:
    """The rollup that answers with the fewest rows; an empty `group` is all calls together."""
    if group == dimensions.TOKEN_CLASS:
        return _TokenClasses(chosen)
    if group == dimensions.ENVIRONMENT:
        return _Environments(_rollup("project", chosen, keys))
    if not chosen and keys is None:
        return _Days(group or UsageDay.Dimension.ALL)
    attribute = next((name for name in (group, *chosen) if dimensions.is_attribute(name)), "")
    if attribute:
        return _Attribute(chosen, keys, "value" if group == attribute else selectors.FILTERS.get(group, ""), attribute)
    return _Hours(chosen, keys, selectors.FILTERS.get(group, ""))


def _is_whole(group: str, chosen: Mapping[str, str]) -> bool:
    """Whether every call stands in a line, also of days long past: attributes and token classes are counted from some day on."""
    return group != dimensions.TOKEN_CLASS and (not dimensions.is_attribute(group) or group in chosen)


def spend(
    period: Period, group: str, chosen: Mapping[str, str], *, keys: Iterable[str] | None = None, earlier: Period | None = None
) -> Spend:
    """Spend of the period by `group` (see `dimensions.groups`), narrowed by `chosen`; `keys` limits it to these key ids. Compared with `earlier`, if any.

    Raises SpendQueryError for what is not counted together.
    """
    dimensions.check(group, chosen, own=keys is not None)
    own_keys = None if keys is None else list(keys)
    rollup, everything = _rollup(group, chosen, own_keys), _rollup("", chosen, own_keys)
    figures, by_day = rollup.sums(period)
    before, earlier_days = rollup.money(earlier) if earlier else ({}, {})
    for value, money in before.items():
        if money:
            figures.setdefault(value, [0] * len(_FIGURES))
    if _is_whole(group, chosen):
        totals = [sum(column) for column in zip(*figures.values(), strict=True)] or [0] * len(_FIGURES)
    else:
        totals, figures, by_day = _with_rest(everything, period, group, figures, by_day)
        if earlier:
            _, earlier_days = everything.money(earlier)
            before |= _rest({UNCOUNTED: sum(earlier_days.values(), Decimal()) - sum(before.values(), Decimal())})
            for value in before:
                figures.setdefault(value, [0] * len(_FIGURES))
    labels = dimensions.labels(group, figures) | {UNCOUNTED: "Not counted by it"}
    total = _line("", "Total", totals, Decimal(totals[1]), sum(before.values(), Decimal()) if before else None)
    lines = [
        _line(value or NONE, labels.get(value, value) or dimensions.unknown(group), own, total.cost, before.get(value))
        for value, own in figures.items()
    ]
    lines.sort(key=lambda line: (line.value == UNCOUNTED, -line.cost, -line.calls, -(line.before or 0), line.label))
    named = dict(zip(_FIGURES, totals, strict=True))
    return Spend(
        period=period,
        earlier=earlier,
        group=group,
        total=total,
        lines=lines,
        by_day=by_day,
        earlier_days=earlier_days,
        untagged_calls=named["untagged_calls"],
        untagged_cost=Decimal(named["untagged_cost"]),
        served_calls=named["calls"] - named["refused"],
        estimated_calls=named["estimated_calls"],
        complete_through=selectors.complete_through(),
    )


def _with_rest(everything: _Rollup, period: Period, group: str, figures: Figures, by_day: ByDay) -> tuple[list[Any], Figures, ByDay]:
    """Totals of all calls, and the lines with one more for what stands in none of them: never left out in silence."""
    whole, whole_days = everything.sums(period)
    totals = next(iter(whole.values()), [0] * len(_FIGURES))
    rest = [all_of - sum(own[index] or 0 for own in figures.values()) for index, all_of in enumerate(totals)]
    if group == dimensions.TOKEN_CLASS:  # a call counts in each class that it used: only money adds up
        rest = [money if name == "cost" else 0 if name in ("calls", "tokens") else None for name, money in zip(_FIGURES, rest, strict=True)]
    if not any(rest):
        return totals, figures, by_day
    days = {
        day: by_day.get(day, {}) | _rest({UNCOUNTED: sum(all_of.values(), Decimal()) - sum(by_day.get(day, {}).values(), Decimal())})
        for day, all_of in whole_days.items()
    }
    return totals, {**figures, UNCOUNTED: rest}, days


def _rest(found: dict[str, Decimal]) -> dict[str, Decimal]:
    return {value: money for value, money in found.items() if money}


def _line(value: str, label: str, figures: list[Any], whole: Decimal, before: Decimal | None) -> Line:
    named = dict(zip(_CLASS_FIGURES, figures, strict=False))  # only classes have the last
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
        unpriced_tokens=named.get("unpriced_tokens"),
        share=cost / whole * 100 if whole else None,
        before=before,
    )


def spend_by_day(period: Period, group: str, chosen: Mapping[str, str], *, keys: Iterable[str] | None = None) -> list[tuple[Any, ...]]:
    """The page's figures by day and group, for a CSV: day, name, calls, refused, failed, unpriced, tokens, USD; None where it is not known.

    Raises SpendQueryError.
    """
    dimensions.check(group, chosen, own=keys is not None)
    figures: dict[tuple[date, str], list[Any]] = {}
    for value, day, *found in _rollup(group, chosen, None if keys is None else list(keys)).rows(period):
        figures[day, value] = _added(figures[day, value], found) if (day, value) in figures else found
    labels = dimensions.labels(group, {value for _, value in figures})
    names = ("calls", "refused", "errors", "unpriced_calls", "tokens", "cost")
    rows = []
    for (day, value), own in sorted(figures.items()):
        named = dict(zip(_FIGURES, own, strict=False))
        rows.append((day, labels.get(value, value) or dimensions.unknown(group), *(named[name] for name in names)))
    return rows


def outlook(
    period: Period, chosen: Mapping[str, str], *, keys: Iterable[str] | None = None, at: datetime | None = None
) -> Forecast | TooLittle:
    """What the month of `period` will have cost, for the same filter; `period` ends today and begins on the month's first day, in UTC."""
    now = (at or timezone.now()).astimezone(UTC)
    today = now.date()
    past = Period(today - timedelta(days=forecasting.HISTORY_DAYS), today)
    _, days = _rollup("", chosen, None if keys is None else list(keys)).money(past)
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
    rows = hours.values_list("model").annotate(read=Sum(INPUT_TOKENS), written=Sum("output_tokens"))
    used = {model: cheaper.Used(read, written) for model, read, written in rows}
    return cheaper.hints(used, catalog_selectors.served_models(), price_selectors.current_prices()) if used else []
