"""Criteria, over-recruitment and the order of the stages: pure rules."""

from __future__ import annotations

import pytest

from gateway.contract.flags import Cohort as Line
from rollouts import cohort_rules as rules
from rollouts.cohort_rules import CriterionError

CRITERIA = "tier in pro, business\nkind not in internal\ncalls_per_day >= 100\nopen_incidents = 0\nconsent = granted"
GOOD: dict[str, rules.Figure] = {"tier": "pro", "kind": "partner", "calls_per_day": 100.0, "open_incidents": 0.0, "consent": "granted"}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "pass"),
        ({"tier": "free"}, "fail"),
        ({"kind": "internal"}, "fail"),
        ({"calls_per_day": 99.9}, "fail"),
        ({"consent": "withdrawn"}, "fail"),
        ({"calls_per_day": None}, "no_data"),
        ({"kind": ""}, "no_data"),
        ({"calls_per_day": None, "tier": "free"}, "fail"),
    ],
)
def test_all_criteria_must_hold_and_what_is_not_known_is_no_pass(change: dict[str, rules.Figure], verdict: str) -> None:
    assert rules.folded(rules.judge(rules.parse(CRITERIA), GOOD | change)) == verdict


def test_without_figures_nothing_passes_whatever_is_asked() -> None:
    for fact, facts in rules.FACTS.items():
        line = f"{fact} >= 0" if facts.is_number else f"{fact} not in nobody"
        assert rules.folded(rules.judge(rules.parse(line), {})) == "no_data"
    assert rules.folded([]) == "no_data"


@pytest.mark.parametrize(
    "text", ["", "tier", "tier >= 3", "calls_per_day in 3", "spend_usd >= -1", "weather = fine", "tier in ,", "models > 1e9"]
)
def test_criterion_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(CriterionError):
        rules.parse(text)


def test_more_are_asked_than_there_are_places() -> None:
    assert [rules.recruits(5, 40), rules.recruits(5, 0), rules.recruits(3, 10)] == [7, 5, 4]


def test_last_member_takes_its_line_along_and_nobody_elses() -> None:
    tier = Line(name="tier-free", attribute="tier", values=("free",))
    lines = rules.with_members("pilot", ["acme"], [tier])

    assert rules.members("pilot", lines) == {"acme"}
    assert rules.with_members("pilot", [], lines) == (tier,)


def test_stage_is_open_when_its_audience_is_exposed() -> None:
    free, canary, general = rules.BY_KEY["tier-free"], rules.BY_KEY["canary"], rules.BY_KEY["general"]
    lines = rules.opened(free, rules.with_members("pilot", ["acme"], []))

    assert [rules.is_open(stage, lines, on=True) for stage in (free, canary, general)] == [True, True, False]
    assert not rules.is_open(free, lines, on=False)
    assert rules.is_open(general, (), on=True)
