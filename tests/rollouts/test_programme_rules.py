"""Funnel, retention, times and scores: what has not had its time counts neither way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from rollouts import programme_rules as rules
from rollouts.programme_rules import Journey, Step

START = datetime(2026, 9, 7, 12, tzinfo=UTC)  # a Monday
NEW = Journey(START, START, START, START + timedelta(hours=2), (START.date(),), True)


def days(*numbers: int) -> tuple[date, ...]:
    return tuple(START.date() + timedelta(days=number) for number in numbers)


def test_each_step_is_counted_among_those_who_could_have_come_there() -> None:
    today = START.date() + timedelta(days=40)
    stayed = replace(NEW, days=days(0, 29, 38))
    left = replace(NEW, days=days(0, 3), is_in=False)
    young = replace(NEW, first_call_at=START + timedelta(days=20), days=days(20, 39))
    waits = replace(NEW, first_call_at=None, days=())
    asked = Journey(START, None, None, None, (), False)

    steps = {step.key: (step.count, step.of) for step in rules.funnel([stayed, left, young, waits, asked], today=today)}

    assert steps == {"invited": (5, 5), "enrolled": (4, 5), "activated": (4, 4), "called": (3, 4), "weekly": (2, 3), "retained": (1, 2)}
    assert Step("retained", "", 0, 0).share is None
    assert all(step.share is None for step in rules.funnel([], today=today))


def test_week_of_retention_is_unknown_until_it_is_over_for_all() -> None:
    other = replace(NEW, first_call_at=START + timedelta(days=2), days=days(2, 10))

    rows = rules.retention([replace(NEW, days=days(0, 6)), other], today=START.date() + timedelta(days=15))

    assert [(row.monday, row.size, row.shares[:3]) for row in rows] == [(START.date(), 2, (100.0, None, None))]
    later = rules.retention([replace(NEW, days=days(0, 6)), other], today=START.date() + timedelta(days=16))
    assert later[0].shares[:3] == (100.0, 50.0, None)


def test_times_leave_out_who_has_not_called_and_say_how_many() -> None:
    journeys = [replace(NEW, first_call_at=START + timedelta(minutes=minutes)) for minutes in range(1, 11)]

    times = rules.times_to_first_call([*journeys, replace(NEW, first_call_at=None)])

    assert (times.n, times.waiting, times.median, times.p90) == (10, 1, 300.0, 540.0)
    assert rules.times_to_first_call([]) == rules.Times(0, 0, None, None)


def test_score_has_an_interval_and_none_from_a_few_answers() -> None:
    assert rules.csat([5] * 4) == rules.Score(4, None, None, None)
    all_same = rules.csat([5] * 20)
    assert all_same.value == 5.0
    assert all_same.low is not None
    assert 4.0 < all_same.low < 5.0 == all_same.high
    mixed = rules.nps([10, 9, 9, 8, 7, 6, 0, 10])
    assert mixed.value == pytest.approx(25.0)
    assert mixed.low is not None
    assert mixed.high is not None
    assert -100 <= mixed.low < 25 < mixed.high <= 100


@pytest.mark.parametrize(
    ("seconds", "given_up", "without_planes", "verdict"),
    [
        ([], 0, 0, "no_data"),
        ([1.0, None], 0, 0, "waiting"),
        ([1.0, None], 1, 0, "fail"),
        ([0.4, 1.0], 0, 1, "no_data"),
        ([3_601.0], 0, 0, "fail"),
        ([3_601.0, 2.0], 0, 0, "pass"),
        ([14_401.0, 2.0], 0, 0, "fail"),
    ],
)
def test_drill_passes_only_when_everything_was_measured_in_time(
    seconds: list[float | None], given_up: int, without_planes: int, verdict: str
) -> None:
    assert rules.drill_verdict(seconds, given_up=given_up, without_planes=without_planes) == verdict
