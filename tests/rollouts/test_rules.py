"""The two sentences that hold in every fold: no data is never a pass; without evaluation or criteria a gate is never ready."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts import rules
from rollouts.rules import Attested, Judgement, Measured, MetricCriterion, Verdict, Waived

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
BELOW_50 = MetricCriterion("gateway.overhead_p99", "<", 50, "ms", minimum_sample=100)
numbers = st.floats(-1e6, 1e6, allow_nan=False)
verdicts = st.sampled_from(list(Verdict))


def judge(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    sample: int = 1000,
    criterion: MetricCriterion = BELOW_50,
    **values: Any,
) -> Judgement:
    return rules.judge_metric(criterion, Measured(value, sample, low, high, **values), at=AT)


@pytest.mark.parametrize(
    ("operator", "value", "low", "high", "verdict"),
    [
        ("<", 12.0, 11.0, 13.0, "pass"),
        ("<", 53.8, 51.9, 55.6, "fail"),
        ("<", 50.0, 48.0, 52.0, "inconclusive"),
        ("<", 50.0, None, None, "fail"),
        ("<=", 50.0, None, None, "pass"),
        (">", 50.0, None, None, "fail"),
        (">=", 50.0, None, None, "pass"),
        (">", 62.0, 54.0, 70.0, "pass"),
        (">", 62.0, 48.0, 70.0, "inconclusive"),
        (">", 40.0, 30.0, 45.0, "fail"),
        ("=", 50.0, None, None, "pass"),
        ("=", 51.0, None, None, "fail"),
        ("=", 50.5, 49.0, 52.0, "inconclusive"),
        ("<", 49.0, 48.0, 50.0, "inconclusive"),
    ],
)
def test_verdict_is_where_the_whole_interval_lies(operator: str, value: float, low: float | None, high: float | None, verdict: str) -> None:
    criterion = MetricCriterion("m", operator, 50, "ms", minimum_sample=1)

    assert judge(value, low, high, criterion=criterion).verdict == verdict


def test_no_value_is_no_data() -> None:
    assert judge(None).verdict == Verdict.NO_DATA


def test_too_small_a_sample_is_inconclusive_however_good_the_value() -> None:
    assert judge(1.0, sample=99).verdict == Verdict.INCONCLUSIVE
    assert judge(1.0, sample=0).verdict == Verdict.NO_DATA
    assert judge(99.0, sample=99).verdict == Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("value", "low", "high"), [(float("nan"), None, None), (float("inf"), None, None), (1.0, 2.0, 3.0), (5.0, 2.0, 3.0), (2.0, 3.0, 1.0)]
)
def test_reading_that_contradicts_itself_is_an_error(value: float, low: float | None, high: float | None) -> None:
    assert judge(value, low, high).verdict == Verdict.ERROR


def test_census_of_nothing_can_fail_and_never_pass() -> None:
    some = MetricCriterion("tools.registered", ">", 50, "count", minimum_sample=0)
    few = MetricCriterion("tools.suspended", "<", 5, "count", minimum_sample=0)

    assert judge(0.0, sample=0, criterion=some).verdict == Verdict.FAIL
    assert judge(0.0, sample=0, criterion=few).verdict == Verdict.NO_DATA


def test_metric_that_raised_is_an_error() -> None:
    assert judge(1.0, error="broke").verdict == Verdict.ERROR


def test_rule_that_must_hold_for_a_while_passes_only_then() -> None:
    criterion = MetricCriterion("m", "<", 50, "ms", minimum_sample=1, sustain_hours=24)

    begun = judge(1.0, criterion=criterion)
    halfway = judge(1.0, criterion=criterion, held_since=AT - timedelta(hours=12))
    held = judge(1.0, criterion=criterion, held_since=AT - timedelta(hours=24))

    assert (begun.verdict, begun.held_since) == (Verdict.INCONCLUSIVE, AT)
    assert (halfway.verdict, halfway.reason) == (Verdict.INCONCLUSIVE, "holds for 12 of 24 h")
    assert held.verdict == Verdict.PASS


def test_holding_begins_anew_after_a_long_pause() -> None:
    before = {"held_since": (AT - timedelta(days=2)).isoformat()}

    assert rules.held_since(before, previous_at=AT - timedelta(minutes=10), at=AT) == AT - timedelta(days=2)
    assert rules.held_since(before, previous_at=AT - timedelta(hours=3), at=AT) is None
    assert rules.held_since(None, previous_at=None, at=AT) is None


def test_attestation_decides_only_once_it_is_there() -> None:
    assert rules.judge_attestation(None).verdict == Verdict.NO_DATA
    assert rules.judge_attestation(Attested(True, "", "Rita", AT)).verdict == Verdict.PASS
    assert rules.judge_attestation(Attested(False, "", "Rita", AT)).verdict == Verdict.FAIL


@given(
    minimum=st.integers(0, 200),
    value=st.none() | st.floats(),
    sample=st.integers(-5, 500),
    low=st.none() | st.floats(),
    high=st.none() | st.floats(),
    threshold=numbers,
    operator=st.sampled_from(["<", "<=", ">", ">=", "="]),
)
def test_only_a_measured_value_with_its_sample_passes(
    minimum: int, value: float | None, sample: int, low: float | None, high: float | None, threshold: float, operator: str
) -> None:
    judgement = rules.judge_metric(MetricCriterion("m", operator, threshold, "ms", minimum), Measured(value, sample, low, high), at=AT)

    assert judgement.verdict != Verdict.PASS or (value is not None and sample >= max(minimum, 1))


@given(value=numbers, spread=st.floats(0, 1e3), threshold=numbers)
def test_pass_and_fail_are_opposites_of_opposite_rules(value: float, spread: float, threshold: float) -> None:
    measured = Measured(value, 1000, value - spread, value + spread)
    below = rules.judge_metric(MetricCriterion("m", "<", threshold, "ms", 1), measured, at=AT).verdict
    not_below = rules.judge_metric(MetricCriterion("m", ">=", threshold, "ms", 1), measured, at=AT).verdict

    swapped = {Verdict.PASS: Verdict.FAIL, Verdict.FAIL: Verdict.PASS, Verdict.INCONCLUSIVE: Verdict.INCONCLUSIVE}
    assert not_below == swapped[below]


@given(st.lists(verdicts))
def test_fold_is_never_better_than_its_worst_part(found: list[Verdict]) -> None:
    folded = rules.worst(found)

    assert all(rules.BADNESS[folded] >= rules.BADNESS[verdict] for verdict in found)
    assert rules.is_ready(found) == (bool(found) and set(found) <= {Verdict.PASS, Verdict.WAIVED})
    assert rules.is_ready(found) == (folded in rules.OPENS)


@given(st.lists(verdicts), st.sampled_from([Verdict.NO_DATA, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.FAIL]), st.integers(0, 20))
def test_one_criterion_without_data_keeps_every_gate_shut(found: list[Verdict], bad: Verdict, place: int) -> None:
    found.insert(min(place, len(found)), bad)

    assert not rules.is_ready(found)
    assert rules.worst(found) not in rules.OPENS


def test_nothing_to_judge_is_never_ready() -> None:
    assert rules.worst([]) == Verdict.NO_DATA
    assert not rules.is_ready([])


@given(
    raw=verdicts.filter(lambda verdict: verdict not in rules.OPENS),
    covers=verdicts.filter(lambda verdict: verdict not in rules.OPENS),
    hours=st.integers(-48, 48),
    waivable=st.booleans(),
)
def test_waiver_covers_what_it_was_given_for_until_it_ends(raw: Verdict, covers: Verdict, hours: int, waivable: bool) -> None:
    judged = rules.apply_waiver(Judgement(raw, raw, "because"), Waived(covers, AT + timedelta(hours=hours)), at=AT, waivable=waivable)

    holds = waivable and hours > 0 and rules.BADNESS[raw] <= rules.BADNESS[covers]
    assert judged.verdict == (Verdict.WAIVED if holds else raw)
    assert judged.raw == raw


# Evidence


def record(
    key: str = "overhead",
    *,
    value: float | None = 12.0,
    low: float | None = 11.0,
    high: float | None = 13.0,
    sample: int = 4000,
    severity: str = "hard",
    **rule: Any,
) -> dict[str, Any]:
    base: dict[str, Any] = {
        "key": key,
        "title": key,
        "kind": "metric",
        "severity": severity,
        "role": "engineering",
        "attestation": None,
        "waiver": None,
        "window": None,
        "rule": {
            "metric": "m",
            "operator": "<",
            "threshold": 50.0,
            "unit": "ms",
            "window_hours": 24,
            "minimum_sample": 100,
            "sustain_hours": 0,
            **rule,
        },
        "reading": {"value": value, "sample": sample, "low": low, "high": high, "statistics": {}, "error": "", "held_since": None},
    }
    judgement = rules.judge_record(base, at=AT)
    return {**base, "verdict": str(judgement.verdict), "raw": str(judgement.raw), "reason": judgement.reason}


def stored(*records: dict[str, Any]) -> dict[str, Any]:
    evidence = rules.canonical({"at": AT.isoformat(), "criteria": list(records)})
    deciding = [Verdict(each["verdict"]) for each in records if each["severity"] != "observe"]
    return {
        "evidence": evidence,
        "at": AT,
        "stored_verdict": rules.worst(deciding),
        "stored_ready": rules.is_ready(deciding),
        "stored_digest": rules.digest(records),
        "stored_hash": rules.evidence_hash(evidence, previous=rules.GENESIS),
        "previous_hash": rules.GENESIS,
    }


@given(value=st.none() | numbers, spread=st.floats(0, 1e3), sample=st.integers(0, 300))
def test_every_verdict_comes_out_again_from_its_evidence(value: float | None, spread: float, sample: int) -> None:
    kept = stored(
        record(value=value, low=None if value is None else value - spread, high=None if value is None else value + spread, sample=sample),
        record("other"),
    )

    assert rules.replay(**kept).differences == []


def test_replay_finds_a_changed_figure() -> None:
    kept = stored(record(value=53.8, low=51.9, high=55.6))
    kept["evidence"] = kept["evidence"].replace("53.8", "43.8").replace("51.9", "41.9").replace("55.6", "45.6")

    assert rules.replay(**kept).differences == [
        "overhead: stored fail, recomputed pass",
        "gate: stored fail, recomputed pass",
        "readiness: stored False, recomputed True",
        "the verdict digest differs",
        "the evidence was changed after it was written",
    ]


def test_replay_finds_a_changed_verdict() -> None:
    kept = stored(record(value=53.8, low=51.9, high=55.6))

    replayed = rules.replay(**{**kept, "stored_verdict": "pass", "stored_ready": True})

    assert replayed.verdict == Verdict.FAIL
    assert not replayed.is_ready
    assert len(replayed.differences) == 2


def test_observed_criterion_decides_nothing() -> None:
    kept = stored(record(), record("watched", value=90.0, low=80.0, high=99.0, severity="observe"))

    assert kept["stored_ready"]
    assert rules.replay(**kept).differences == []
    assert not stored(record("watched", severity="observe"))["stored_ready"]


def test_digest_ignores_figures_and_order_and_sees_rules_and_verdicts() -> None:
    first = rules.digest([record("a"), record("b")])

    assert rules.digest([record("b", value=14.0, low=13.0, high=15.0), record("a")]) == first
    assert rules.digest([record("a"), record("b", threshold=40.0)]) != first
    assert rules.digest([record("a"), record("b", value=60.0, low=58.0, high=61.0)]) != first
    assert rules.digest([record("a")]) != first


def test_digest_is_stable_over_releases() -> None:
    """If this changes, every signature of every running gate is voided: raise rules.VERSION only when that is meant."""
    assert rules.digest([record()]) == rules.sha256(
        '{"criteria":[{"key":"overhead","kind":"metric","rule":{"metric":"m","minimum_sample":100,"operator":"<","sustain_hours":0,"threshold":50.0,"unit":"ms","window_hours":24},'
        '"severity":"hard","verdict":"pass"}],"rules":1}'
    )


def test_canonical_text_refuses_what_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        rules.canonical({"value": float("nan")})
    assert json.loads(rules.canonical({"b": 1, "a": "ä"})) == {"a": "ä", "b": 1}
