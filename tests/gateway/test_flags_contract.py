"""Who gets which variant: the one implementation, against values worked out by other means."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gateway.contract.flags import BUCKETS, Cohort, Exposure, Flag, Override, Range, bucket, decide, percent_text

EVERYBODY = Exposure(on=True, percentage=BUCKETS, ranges=(Range("on", 0, BUCKETS),))


def a_flag(exposure: Exposure = EVERYBODY, **fields: Any) -> Flag:
    facts: dict[str, Any] = {
        "key": "ai.search.rerank-1", "version": 3, "kind": "string", "variants": {"off": "old", "on": "new", "beta": "newer"},
        "control": "off", "feature_class": "assistants", "sticky": "user", "rollout_salt": "r", "variant_salt": "v",
    }  # fmt: skip
    return Flag(**{**facts, **fields}, exposure=exposure)


def with_(exposure: Exposure, **fields: Any) -> Exposure:
    return msgspec.structs.replace(exposure, **fields)


@pytest.mark.parametrize(
    ("salt", "subject", "expected"),
    # printf '%s' salt:subject | sha256sum; the first 16 hexadecimal digits modulo 100,000
    [("salt", "alice", 48_627), ("salt", "bob", 42_330), ("s1", "tenant-42", 87_540), ("x", "", 21_744)],
)
def test_bucket_is_what_sha256sum_says(salt: str, subject: str, expected: int) -> None:
    assert bucket(salt, subject) == expected


def test_buckets_are_even() -> None:
    counted = Counter(bucket("salt", str(number)) // 10_000 for number in range(20_000))

    chi_square = sum((counted[decile] - 2000) ** 2 / 2000 for decile in range(10))

    assert chi_square < 27.88  # 9 degrees of freedom, one in a thousand; the subjects are fixed, so this never flickers


@settings(max_examples=50)
@given(some.text(max_size=20), some.integers(0, BUCKETS), some.integers(0, BUCKETS))
def test_a_larger_percentage_keeps_everybody_and_their_variant(user: str, one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    halves = (Range("on", 0, 50_000), Range("beta", 50_000, BUCKETS))
    before = decide(a_flag(Exposure(on=True, percentage=smaller, ranges=halves)), {"user": user}, True)
    after = decide(a_flag(Exposure(on=True, percentage=larger, ranges=halves)), {"user": user}, True)

    assert before.variant in ("off", after.variant)


def test_being_exposed_says_nothing_about_the_variant() -> None:
    halves = (Range("on", 0, 50_000), Range("beta", 50_000, BUCKETS))
    flag = a_flag(Exposure(on=True, percentage=20_000, ranges=halves))

    counted = Counter(decide(flag, {"user": str(number)}, True).variant for number in range(10_000))

    assert 0.78 < counted["off"] / 10_000 < 0.82
    assert 0.45 < counted["on"] / (counted["on"] + counted["beta"]) < 0.55


def test_rules_decide_in_their_order() -> None:
    exposure = with_(
        EVERYBODY,
        overrides=(Override(attribute="user", values=("ana",), variant="beta"),),
        cohorts=(Cohort(name="pilot", attribute="project", values=("search",)),),
        regions=("eu",),
        percentage=0,
    )
    flag = a_flag(exposure)
    context = {"user": "ana", "project": "other", "region": "us"}

    def asked(flag: Flag = flag, consent: bool = False, **more: str) -> tuple[str, str, str]:
        decision = decide(flag, context | more, consent)
        return decision.rule, decision.variant, decision.reason

    assert asked(a_flag(with_(exposure, on=False))) == ("switch", "off", "DISABLED")
    assert asked() == ("override", "beta", "TARGETING_MATCH")
    assert asked(user="ben") == ("consent", "off", "DISABLED")
    assert asked(user="ben", consent=True) == ("cohort", "off", "DEFAULT")
    assert asked(user="ben", consent=True, project="search") == ("region", "off", "DEFAULT")
    assert asked(user="ben", consent=True, project="search", region="eu") == ("percentage", "off", "DEFAULT")
    full = a_flag(with_(exposure, percentage=BUCKETS))
    assert asked(full, user="ben", consent=True, project="search", region="eu") == ("percentage", "on", "TARGETING_MATCH")


def test_everybody_is_everybody_without_any_context() -> None:
    decision = decide(a_flag(), {}, True)

    assert (decision.variant, decision.value, decision.reason) == ("on", "new", "STATIC")


@pytest.mark.parametrize("given_user", [None, "", {"id": 1}])
def test_missing_sticky_attribute_is_the_control_with_a_reason(given_user: Any) -> None:
    decision = decide(a_flag(with_(EVERYBODY, percentage=99_999)), {"user": given_user}, True)

    assert (decision.variant, decision.rule, decision.bucket) == ("off", "percentage", None)
    assert "no user" in decision.detail


def test_missing_region_is_the_control_with_a_reason() -> None:
    decision = decide(a_flag(with_(EVERYBODY, regions=("eu",))), {"user": "ana"}, True)

    assert (decision.variant, decision.rule) == ("off", "region")
    assert "no region" in decision.detail


@pytest.mark.parametrize(("value", "hits"), [("7", True), (7, True), (7.5, False), (["6", 7], True), (True, False), ({"a": 7}, False)])
def test_values_of_a_context_are_compared_as_text(value: Any, hits: bool) -> None:
    exposure = with_(EVERYBODY, percentage=0, overrides=(Override(attribute="account", values=("7",), variant="on"),))

    assert (decide(a_flag(exposure), {"account": value}, True).variant == "on") is hits


def test_bucket_stands_in_the_decision() -> None:
    decision = decide(a_flag(with_(EVERYBODY, percentage=1)), {"user": "ana"}, True)

    assert decision.bucket == bucket("r", "ana")
    assert decision.reason == "SPLIT"


@pytest.mark.parametrize(("share", "text"), [(0, "0%"), (1, "0.001%"), (12_500, "12.5%"), (100_000, "100%"), (10_000, "10%")])
def test_share_in_words(share: int, text: str) -> None:
    assert percent_text(share) == text
