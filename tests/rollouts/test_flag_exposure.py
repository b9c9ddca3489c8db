"""What raises exposure, how shares are laid out, and what may be written."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gateway.contract.flags import BUCKETS, Cohort, Exposure, Override, Range
from rollouts import exposure as rules
from rollouts.exposure import ExposureError

ONE = (Range("on", 0, BUCKETS),)
BASE = Exposure(
    on=True,
    overrides=(Override(attribute="user", values=("ana",), variant="on"), Override(attribute="project", values=("bank",), variant="off")),
    cohorts=(Cohort(name="pilot", attribute="project", values=("search", "support")),),
    regions=("eu", "us"),
    percentage=10_000,
    ranges=ONE,
)


def with_(**fields: Any) -> Exposure:
    return msgspec.structs.replace(BASE, **fields)


@pytest.mark.parametrize(
    "after",
    [
        BASE,
        with_(on=False, percentage=BUCKETS, regions=()),
        with_(percentage=9_999),
        with_(regions=("eu",)),
        with_(cohorts=(Cohort(name="renamed", attribute="project", values=("search",)),)),
        with_(overrides=BASE.overrides[1:]),
        with_(overrides=(Override(attribute="user", values=("ben",), variant="off"), *BASE.overrides)),
    ],
)
def test_what_surely_exposes_nobody_more_is_lowering(after: Exposure) -> None:
    assert rules.raises(BASE, after, "off") == []


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (with_(percentage=10_001), "Percentage from 10% to 10.001%"),
        (with_(regions=()), "More regions"),
        (with_(regions=("eu", "us", "in")), "More regions"),
        (with_(cohorts=()), "More in the stage's cohorts"),
        (with_(cohorts=(Cohort(name="pilot", attribute="tier", values=("search",)),)), "More in the stage's cohorts"),
        (with_(overrides=BASE.overrides[:1]), "Overrides that expose, or fewer that protect"),
        (with_(overrides=BASE.overrides[::-1]), "Overrides that expose, or fewer that protect"),
        (with_(overrides=(*BASE.overrides, Override(attribute="user", values=("ben",), variant="on"))), "Overrides that expose"),
        (with_(ranges=(Range("on", 0, 50_000), Range("beta", 50_000, BUCKETS))), "Other shares of the variants"),
    ],
)
def test_what_may_expose_somebody_is_raising(after: Exposure, reason: str) -> None:
    [found] = rules.raises(BASE, after, "off")

    assert found.startswith(reason)


def test_switching_on_is_raising_whatever_else_it_lowers() -> None:
    assert rules.raises(with_(on=False), with_(percentage=0), "off") == ["Switches the flag on"]


def test_differences_name_only_what_changed() -> None:
    assert rules.differences(BASE, with_(percentage=25_000, regions=())) == [("Regions", "eu, us", "all"), ("Percentage", "10%", "25%")]


shares = some.lists(some.integers(0, 30), min_size=3, max_size=3).filter(lambda sizes: sum(sizes) > 0)


def _weights(sizes: list[int]) -> dict[str, int]:
    parts = [size * BUCKETS // sum(sizes) for size in sizes]
    parts[0] += BUCKETS - sum(parts)
    return {name: part for name, part in zip("abc", parts, strict=True) if part}


@settings(max_examples=50)
@given(shares, shares)
def test_new_shares_move_no_more_than_they_must(one: list[int], other: list[int]) -> None:
    before = rules.lay_out(_weights(one))
    after = rules.lay_out(_weights(other), before)

    assert rules.weights_of(after) == _weights(other)
    assert after[0].start == 0
    assert after[-1].end == BUCKETS
    assert all(left.end == right.start for left, right in pairwise(after))
    stayed = sum(max(0, min(old.end, new.end) - max(old.start, new.start)) for old in before for new in after if old.variant == new.variant)
    assert stayed == sum(min(size, _weights(other).get(name, 0)) for name, size in _weights(one).items())


@pytest.mark.parametrize(
    ("kind", "variants", "control", "field"),
    [
        ("boolean", {"on": True}, "on", "variants"),
        ("boolean", {"on": True, "off": "no"}, "off", "variants"),
        ("integer", {"on": 1, "off": True}, "off", "variants"),
        ("number", {"on": "1", "off": 0}, "off", "variants"),
        ("object", {"on": [], "off": {}}, "off", "variants"),
        ("string", {"on": "a", "": "b"}, "on", "variants"),
        ("string", {"on": "a", "off": "b"}, "control", "control"),
    ],
)
def test_variants_that_do_not_fit_are_refused(kind: Any, variants: dict[str, Any], control: str, field: str) -> None:
    with pytest.raises(ExposureError) as refused:
        rules.check_variants(kind, variants, control)

    assert refused.value.field == field


def test_numbers_become_fractions_for_clients_that_tell_them_apart() -> None:
    assert repr(rules.check_variants("number", {"low": 1, "high": 2.5}, "low")["low"]) == "1.0"


@pytest.mark.parametrize(
    ("exposure", "field"),
    [
        (with_(percentage=BUCKETS + 1), "percentage"),
        (with_(ranges=()), "weights"),
        (with_(ranges=(Range("on", 0, 10),)), "weights"),
        (with_(ranges=(Range("off", 0, BUCKETS),)), "weights"),
        (with_(ranges=(Range("none", 0, BUCKETS),)), "weights"),
        (with_(regions=("no spaces",)), "regions"),
        (with_(overrides=(Override(attribute="user", values=("ana",), variant="none"),)), "overrides"),
        (with_(overrides=(BASE.overrides[0], Override(attribute="user", values=("ana",), variant="off"))), "overrides"),
        (with_(overrides=(Override(attribute="user", values=(), variant="on"),)), "overrides"),
        (with_(overrides=(Override(attribute="not this", values=("a",), variant="on"),)), "overrides"),
        (with_(cohorts=(*BASE.cohorts, *BASE.cohorts)), "cohorts"),
    ],
)
def test_exposure_that_contradicts_itself_is_refused(exposure: Exposure, field: str) -> None:
    with pytest.raises(ExposureError) as refused:
        rules.check(exposure, {"on": True, "off": False}, "off")

    assert refused.value.field == field


def test_rules_are_written_as_lines_and_read_back() -> None:
    overrides, cohorts = rules.override_lines(BASE.overrides), rules.cohort_lines(BASE.cohorts)

    assert overrides == ["user = ana -> on", "project = bank -> off"]
    assert cohorts == ["pilot: project = search, support"]
    assert rules.parse_overrides("\n".join(overrides)) == BASE.overrides
    assert rules.parse_cohorts("\n\n".join(cohorts)) == BASE.cohorts


@pytest.mark.parametrize("text", ["user = ana", "user -> on", "ana"])
def test_line_that_is_no_override_is_quoted_back(text: str) -> None:
    with pytest.raises(ExposureError, match=text):
        rules.parse_overrides(text)


@pytest.mark.parametrize("text", ["project = a", "pilot: project", "two words: project = a"])
def test_line_that_is_no_cohort_is_quoted_back(text: str) -> None:
    with pytest.raises(ExposureError, match=text):
        rules.parse_cohorts(text)
