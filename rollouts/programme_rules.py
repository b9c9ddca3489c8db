"""How a programme does: funnel, retention, times and survey scores. Pure.

What has not had the time to happen yet is counted neither as done nor as missed, and a share without anybody in it is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import scipy  # whose parts are imported when they are asked for: most processes never do

WEEK = timedelta(days=7)
RETAINED_AFTER = 4
"""Weeks after the first governed call in which there must be calls again."""
SHOWN_WEEKS = 9
FEWEST_ANSWERS = 5
"""Below this a score would tell more about who answered than about the programme, and could tell who it was."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Journey:
    """One membership's moments, UTC; None for what has not happened."""

    invited_at: datetime | None
    enrolled_at: datetime | None
    activated_at: datetime | None
    first_call_at: datetime | None
    days: tuple[date, ...]
    """With governed calls, since it enrolled."""
    is_in: bool


@dataclass(frozen=True)
class Step:
    key: str
    title: str
    count: int
    of: int
    """Who could have come here by now."""

    @property
    def share(self) -> float | None:
        """Percent; None when nobody could have."""
        return 100 * self.count / self.of if self.of else None


def funnel(journeys: Sequence[Journey], *, today: date) -> list[Step]:
    """Each step among those of the step before; `retained` only among those whose fourth week is over."""
    invited = [one for one in journeys if one.invited_at]
    enrolled = [one for one in invited if one.enrolled_at]
    active = [one for one in enrolled if one.activated_at]
    called = [one for one in active if one.first_call_at]
    weekly = [one for one in called if one.is_in and any(today - WEEK < day <= today for day in one.days)]
    could = [one for one in called if _week_is_over(one, RETAINED_AFTER, today)]
    retained = [one for one in could if RETAINED_AFTER in weeks_with_calls(one)]
    return [
        Step("invited", "Invited", len(invited), len(journeys)),
        Step("enrolled", "Enrolled", len(enrolled), len(invited)),
        Step("activated", "Activated", len(active), len(enrolled)),
        Step("called", "First governed call", len(called), len(active)),
        Step("weekly", "Calls in the last 7 days", len(weekly), len(called)),
        Step("retained", "Calls in week 4", len(retained), len(could)),
    ]


def weeks_with_calls(journey: Journey) -> frozenset[int]:
    """Whole weeks since the day of the first call, 0 being the first seven days."""
    if journey.first_call_at is None:
        return frozenset()
    start = journey.first_call_at.date()
    return frozenset((day - start).days // 7 for day in journey.days if day >= start)


def _week_is_over(journey: Journey, week: int, today: date) -> bool:
    return journey.first_call_at is not None and journey.first_call_at.date() + (week + 1) * WEEK <= today


@dataclass(frozen=True)
class Row:
    """Organisations whose first call was in the week that begins on `monday`."""

    monday: date
    size: int
    shares: tuple[float | None, ...]
    """Percent with calls in week 0, 1, …; None while the week is not over for all of them."""


def retention(journeys: Iterable[Journey], *, today: date) -> list[Row]:
    """By week of the first call, the oldest first."""
    groups: dict[date, list[Journey]] = {}
    for one in journeys:
        if one.first_call_at is not None:
            day = one.first_call_at.date()
            groups.setdefault(day - timedelta(days=day.weekday()), []).append(one)
    return [Row(monday, len(group), _shares(group, today)) for monday, group in sorted(groups.items())]


def _shares(group: Sequence[Journey], today: date) -> tuple[float | None, ...]:
    return tuple(
        100 * sum(week in weeks_with_calls(one) for one in group) / len(group)
        if all(_week_is_over(one, week, today) for one in group)
        else None
        for week in range(SHOWN_WEEKS)
    )


@dataclass(frozen=True)
class Times:
    """How long something took, in seconds."""

    n: int
    waiting: int
    """Those for whom it has not happened yet: they are in no quantile."""
    median: float | None
    p90: float | None

    @property
    def median_ms(self) -> float | None:
        """For the template filter `duration`."""
        return None if self.median is None else 1000 * self.median

    @property
    def p90_ms(self) -> float | None:
        return None if self.p90 is None else 1000 * self.p90


def times_to_first_call(journeys: Sequence[Journey]) -> Times:
    """From enrolment."""
    took = [
        (one.first_call_at - one.enrolled_at).total_seconds()
        for one in journeys
        if one.first_call_at is not None and one.enrolled_at is not None
    ]
    waiting = sum(1 for one in journeys if one.enrolled_at is not None and one.first_call_at is None and one.is_in)
    return Times(len(took), waiting, quantile(took, 0.5), quantile(took, 0.9))


def quantile(values: Sequence[float], q: float) -> float | None:
    """The smallest value that at least the share `q` does not pass; None without values."""
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)] if values else None


# Surveys


@dataclass(frozen=True)
class Score:
    n: int
    value: float | None
    """None below `FEWEST_ANSWERS`."""
    low: float | None
    high: float | None


def csat(scores: Sequence[int]) -> Score:
    """Mean of answers from 1 to 5."""
    return _score([float(score) for score in scores], 1.0, 5.0)


def nps(scores: Sequence[int]) -> Score:
    """Percent of promoters (9 and 10) less percent of detractors (0 to 6)."""
    return _score([100.0 if score >= 9 else -100.0 if score <= 6 else 0.0 for score in scores], -100.0, 100.0)


def csat_by_organisation(scores: Sequence[Sequence[int]]) -> Score:
    """Mean of the organisations' means; `n` is the organisations. None while there are fewer than `FEWEST_ANSWERS` answers in all."""
    if sum(map(len, scores)) < FEWEST_ANSWERS:
        return Score(len(scores), None, None, None)
    return _mean([sum(one) / len(one) for one in scores], 1.0, 5.0)


def _score(values: Sequence[float], lowest: float, highest: float) -> Score:
    return _mean(values, lowest, highest) if len(values) >= FEWEST_ANSWERS else Score(len(values), None, None, None)


def _mean(values: Sequence[float], lowest: float, highest: float) -> Score:
    """With a 95% t interval. For the interval alone, one answer at each end is added, so that agreement of a few has a width.

    Source: pseudo observations, Agresti and Caffo, The American Statistician 54 (2000).
    """
    mean, padded = sum(values) / len(values), [*values, lowest, highest]
    centre = sum(padded) / len(padded)
    variance = sum((value - centre) ** 2 for value in padded) / (len(padded) - 1)
    half = float(scipy.special.stdtrit(len(padded) - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance / len(padded))
    return Score(len(values), mean, max(lowest, min(mean, centre - half)), min(highest, max(mean, centre + half)))


# Drills

RTO_ONE = timedelta(hours=1)
RTO_ALL = timedelta(hours=4)
"""Of the founding plan of the gateway: within an hour for a single partner, within four for all of them."""


def rto_of(organisations: int) -> timedelta:
    return RTO_ONE if organisations == 1 else RTO_ALL


def drill_verdict(seconds: Sequence[float | None], *, given_up: int, without_planes: int) -> str:
    """For the template tag `verdict`, of a drill over several organisations. What was never measured is not passed."""
    if given_up:
        return "fail"
    measured = [each for each in seconds if each is not None]
    if len(measured) < len(seconds):
        return "waiting"
    if not measured or without_planes:
        return "no_data"
    return "pass" if max(measured) <= rto_of(len(measured)).total_seconds() else "fail"
