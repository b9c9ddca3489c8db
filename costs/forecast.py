"""What a period will have cost at its end: run rate with a weekday profile, and an interval. Pure.

Level: mean of the last 14 whole days, each divided by the factor of its weekday. Factor of a weekday: mean of its days over
at most 56 whole days by the mean of all, drawn towards 1 by one imaginary average day, so that one odd Sunday is not a rule.
A coming day costs level x factor; the rest of the present day is the share of a day that fell after this hour over the same days.

The 80% interval is normal: the daily residuals' variance for each day to come, widened for their day-to-day correlation, plus the
uncertainty of the level itself (a mean of 14 days), which all coming days share. Known spend has no uncertainty; the lower end
never falls below it. With fewer than 14 whole days of history there is no forecast: a guess would look like a figure.

A day on which an anomaly was told counts like any other, whatever was said of it: a false alert was ordinary spend, and neither *real* nor
*planned* says whether it comes again. Leaving out what is judged would take the recurring part of odd days from the mean, and an anomaly's
excess is that of its own scope, not of each budget and filter. So one odd day stands in the level with a fourteenth, for 14 days, and
widens the interval for as long as it is history.

Source: the decomposition is the classical seasonal one (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3.4, 5.8);
the variance of a sum of correlated residuals is textbook (1 + 2r/(1 - r) for a first-order process).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from math import sqrt
from statistics import fmean

LEVEL_DAYS = 14
HISTORY_DAYS = 56
Z = 1.2816
"""Half-width of the central 80% of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class Coming:
    """A day to come, USD: expected, and the 80% interval of this day alone."""

    day: date
    low: Decimal
    expected: Decimal
    high: Decimal


@dataclass(frozen=True)
class Forecast:
    """Spend of the whole period in USD: expected, and the 80% interval."""

    expected: Decimal
    low: Decimal
    high: Decimal
    days: int
    """Whole days of history behind it."""
    runs_out_on: date | None
    """Day on which expected spend reaches the amount; None when it does not within the period."""
    coming: tuple[Coming, ...] = ()
    """The days after today."""


@dataclass(frozen=True)
class TooLittle:
    """No forecast, and why."""

    days: int
    needed: int = LEVEL_DAYS


def forecast(
    *,
    spent: Decimal,
    days: Mapping[date, Decimal],
    today: date,
    last_day: date,
    rest_of_today: float,
    amount: Decimal | None = None,
) -> Forecast | TooLittle:
    """Spend at the end of `last_day`, given `spent` so far in the period.

    `days` holds USD by whole day before `today`; days between the first of them and today that are missing cost nothing.
    `rest_of_today` is the fraction of a day's money that usually falls after this moment.
    """
    history = _history(days, today)
    if len(history) < LEVEL_DAYS:
        return TooLittle(len(history))
    factors = _weekday_factors(history)
    recent = history[-LEVEL_DAYS:]
    level = sum(cost for _, cost in recent) / max(sum(factors[day.weekday()] for day, _ in recent), 1e-9)
    coming = [(today, rest_of_today * level * factors[today.weekday()])]
    coming += [(day, level * factors[day.weekday()]) for day in _days_between(today, last_day)]
    expected = sum(cost for _, cost in coming)
    half = Z * _deviation(history, level, factors, len(coming) - 1 + rest_of_today)
    so_far, one_day = float(spent), Z * _deviation(history, level, factors, 1)
    return Forecast(
        expected=_cents(so_far + expected),
        low=_cents(so_far + max(0.0, expected - half)),
        high=_cents(so_far + expected + half),
        days=len(history),
        runs_out_on=None if amount is None else _runs_out(so_far, coming, float(amount)),
        coming=tuple(Coming(day, _cents(max(0.0, cost - one_day)), _cents(cost), _cents(cost + one_day)) for day, cost in coming[1:]),
    )


def rest_of_day(hours: Sequence[Decimal], hour: int, fraction: float) -> float:
    """Share of a day's money after `hour` (0 to 23) and a `fraction` of it, from sums by local hour; evenly spread without any."""
    whole = sum(hours, Decimal())
    if not whole:
        return max(0.0, 1 - (hour + fraction) / 24)
    rest = sum(hours[hour + 1 :], Decimal()) + hours[hour] * Decimal(1 - fraction)
    return float(rest / whole)


def _history(days: Mapping[date, Decimal], today: date) -> list[tuple[date, float]]:
    known = [day for day, cost in days.items() if day < today and cost]
    if not known:
        return []
    first = max(min(known), today - timedelta(days=HISTORY_DAYS))
    return [(day, float(days.get(day, 0))) for day in (first + timedelta(days=n) for n in range((today - first).days))]


def _weekday_factors(history: Sequence[tuple[date, float]]) -> list[float]:
    mean = fmean(cost for _, cost in history)
    if mean <= 0:
        return [1.0] * 7
    factors = []
    for weekday in range(7):
        found = [cost for day, cost in history if day.weekday() == weekday]
        factors.append((sum(found) + mean) / (len(found) + 1) / mean)
    return factors


def _deviation(history: Sequence[tuple[date, float]], level: float, factors: Sequence[float], ahead: float) -> float:
    """Standard deviation of the money of `ahead` coming days.

    Residuals are taken against the mean of the history, not of the last days, so that a trend widens the interval.
    """
    mean = sum(cost for _, cost in history) / max(sum(factors[day.weekday()] for day, _ in history), 1e-9)
    residuals = [cost - mean * factors[day.weekday()] for day, cost in history]
    variance = sum(residual * residual for residual in residuals) / max(1, len(residuals) - 7)
    pairs = sum(one * other for one, other in pairwise(residuals))
    correlation = min(0.8, max(0.0, pairs / (variance * len(residuals)) if variance else 0.0))
    widened = variance * (1 + correlation) / (1 - correlation)
    return sqrt(widened * ahead + widened * ahead * ahead / LEVEL_DAYS)


def _days_between(today: date, last_day: date) -> list[date]:
    return [today + timedelta(days=n) for n in range(1, (last_day - today).days + 1)]


def _runs_out(so_far: float, coming: Sequence[tuple[date, float]], amount: float) -> date | None:
    for day, cost in coming:
        so_far += cost
        if so_far >= amount:
            return day
    return None


def _cents(usd: float) -> Decimal:
    return Decimal(usd).quantize(Decimal("0.01"))
