"""The language of rollback rules, one step's verdict, and when a rule fires."""

from __future__ import annotations

import itertools
import re
from typing import Any, Literal

import numpy as np
import pytest

from costs import sketch
from rollouts import rollback_language as language
from rollouts import rollback_lint as linting
from rollouts import rollback_rules as rules
from rollouts.rollback_language import Comparison, Node, RuleError
from rollouts.rollback_rules import EMPTY, Inputs, Outcome, Reading, Series, Sums

END = 1_800_000_000
COVERAGE = {"attribution.coverage": language.Measure("attribution.coverage", "Coverage", "%", "quality")}


def minutes(*buckets: Sums, size: int = 60) -> Series:
    """The last of them ends at END."""
    return Series({END - size * (len(buckets) - place): each for place, each in enumerate(buckets)})


def errors(*failed: int, calls: int = 100) -> Series:
    return minutes(*(Sums(calls=calls, failed=each) for each in failed))


def inputs(treatment: Series, control: Series = EMPTY, size: int = 60, **more: Any) -> Inputs:
    return Inputs({size: treatment}, {size: control}, more.pop("baselines", {}), **more)


def judged(text: str, given: Inputs, **options: Any) -> Outcome:
    return rules.judge(language.parse(text, COVERAGE), given, end=END, **options).outcome


def test_a_rule_is_read_with_its_parts() -> None:
    rule = language.parse(
        "(latency_p95_5m > baseline*1.3 or cost_per_call_1h > $0.02) and error_rate_1m >= control + 2pp for 3 of 5 min 50"
    )

    latency, cost, failed = rule.comparisons
    assert (rule.needed, rule.of, rule.minimum, rule.step_s, rule.reach_s) == (3, 5, 50, 10, 3600)
    assert (latency.limit, latency.bucket_s) == (language.Limit("baseline", 1.3), 60)
    assert (cost.limit, cost.text) == (language.Limit("number", offset=0.02), "cost_per_call_1h > $0.02")
    assert (failed.limit, failed.bucket_s) == (language.Limit("control", offset=2.0), 10)
    assert isinstance(rule.condition, Node)
    assert rule.condition.word == "and"


@pytest.mark.parametrize(
    ("text", "position", "told"),
    [
        ("", 0, "Write a condition"),
        ("error_rate_5m", 13, "expected after error_rate_5m"),
        ("error_rate_5m > 5", 16, "write for example 5%"),
        ("error_rate_5m > 5% for 6 of 5", 23, "never be bad"),
        ("error_rate_5m > 5% for 0 of 5", 23, "whole number from 1"),
        ("(error_rate_5m > 5%", 19, "“)” is missing"),
        ("faithfulness_6h < 90%", 0, "no measure faithfulness"),
        ("error_rate > 5%", 0, "with its window"),
        ("error_rate_7h > 5%", 0, "30s to 6h"),
        ("error_rate_35s > 5%", 0, "tens of seconds"),
        ("latency_p95_5m > baseline*", 26, "factor above 0"),
        ("latency_p95_5m > 5%", 17, "write for example 800ms"),
        ("error_rate_5m > 120%", 16, "at most 100%"),
        ("error_rate_5m > 5% ; drop", 19, "no meaning"),
        ("error_rate_5m > 5% min 9 min 9", 25, "second time"),
        ("error_rate_5m > 5% latency", 19, "not expected"),
        ("attribution.coverage_30m < 90%", 0, "whole hours"),
        ("attribution.coverage_6h < baseline*2", 26, "whole organisation"),
        ("(" * 6 + "error_rate_5m > 5%" + ")" * 6, 5, "at most 5 deep"),
        (" or ".join(["error_rate_5m > 5%"] * 9), 176, "at most 8 comparisons"),
        ("x" * 501, 500, "at most 500"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_with_its_place(text: str, position: int, told: str) -> None:
    with pytest.raises(RuleError, match=re.escape(told)) as caught:
        language.parse(text, COVERAGE)

    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "treatment", "outcome"),
    [
        ("error_rate_5m > 5%", errors(0, 0, 10, 10, 10), Outcome.BAD),
        ("error_rate_5m > 5%", errors(0, 0, 0, 0, 90), Outcome.HOLD),  # one bad minute never fires
        ("error_rate_5m > 5%", errors(4, 4, 4, 4, 4), Outcome.FINE),
        ("error_rate_5m > 5%", errors(5, 5, 5, 5, 4), Outcome.HOLD),  # 4.8%: not clear of the limit
        ("error_rate_5m > 5%", errors(90, 90, calls=99), Outcome.UNKNOWN),
        ("error_rate_5m > 5%", EMPTY, Outcome.UNKNOWN),
        ("error_rate_5m > 5% min 1", minutes(Sums()), Outcome.UNKNOWN),
        ("cost_per_call_5m > $0.01", minutes(*[Sums(priced=100, cost=1.1)] * 5), Outcome.BAD),
        ("cost_per_call_5m > $0.01", minutes(*[Sums(calls=100)] * 5), Outcome.UNKNOWN),  # unpriced is not free
        ("blocked_rate_5m >= 10%", minutes(*[Sums(calls=90, blocked=10)] * 5), Outcome.BAD),
        ("latency_p95_5m > 2s", minutes(*[Sums(latency={sketch.bucket(10**6): 94, sketch.bucket(3 * 10**6): 6})] * 5), Outcome.BAD),
        ("latency_p95_5m > 2s", minutes(*[Sums(latency={sketch.bucket(10**6): 96, sketch.bucket(3 * 10**6): 4})] * 5), Outcome.FINE),
    ],
)
def test_a_step_is_judged_by_its_window(text: str, treatment: Series, outcome: Outcome) -> None:
    assert judged(text, inputs(treatment)) is outcome


def test_limits_follow_the_control_and_the_baseline_and_are_unknown_without() -> None:
    treatment = errors(30, 30, 30, 30, 30)

    assert judged("error_rate_5m > control*2", inputs(treatment, errors(10, 10, 10, 10, 10))) is Outcome.BAD
    assert judged("error_rate_5m > control*2", inputs(treatment, errors(40, 40, 40, 40, 40))) is Outcome.FINE
    assert judged("error_rate_5m > control*2", inputs(treatment, errors(1, calls=10))) is Outcome.UNKNOWN
    assert judged("error_rate_5m > baseline*3", inputs(treatment, baselines={"error_rate": 1.0})) is Outcome.BAD
    assert judged("error_rate_5m > baseline*3", inputs(treatment)) is Outcome.UNKNOWN


def test_short_windows_are_looked_at_in_slices() -> None:
    bad, fine = Sums(calls=50, failed=40), Sums(calls=50)

    assert judged("error_rate_1m > 20% min 100", inputs(minutes(fine, fine, fine, bad, bad, bad, size=10), size=10)) is Outcome.BAD
    assert judged("error_rate_1m > 20% min 100", inputs(minutes(fine, fine, fine, fine, bad, bad, size=10), size=10)) is Outcome.HOLD


def test_registered_metrics_are_read_and_missing_ones_are_unknown() -> None:
    text, name = "attribution.coverage_6h < 90%", "attribution.coverage_6h"

    outcomes = [
        judged(text, inputs(EMPTY, readings={name: reading}))
        for reading in (Reading(85.0, 200, 100), Reading(99.5, 200, 100), Reading(85.0, 20, 100), Reading(None))
    ]

    assert outcomes == [Outcome.BAD, Outcome.FINE, Outcome.UNKNOWN, Outcome.UNKNOWN]


def test_unknown_is_never_fine_in_any_fold() -> None:
    one, other = language.parse("error_rate_5m > 5% and latency_p95_5m > 2s").comparisons
    folds: dict[Literal["and", "or"], dict[tuple[Outcome, Outcome], Outcome]] = {"and": {}, "or": {}}
    for word, first, second in itertools.product(folds, Outcome, Outcome):
        judgements = {id(part): rules.Judged(part, outcome, None, None, 0, 0, "") for part, outcome in ((one, first), (other, second))}
        folds[word][first, second] = rules._fold(Node(word, (one, other)), judgements)

    for (first, second), outcome in folds["or"].items():
        assert (outcome is Outcome.FINE) == (first is second is Outcome.FINE)
    for (first, second), outcome in folds["and"].items():
        assert (outcome is Outcome.BAD) == (first is second is Outcome.BAD)
        assert (outcome is Outcome.FINE) == (Outcome.FINE in (first, second))


def fire(text: str, outcomes: str) -> list[int]:
    """Places at which it fires; b, f, h, u for the outcomes of its steps."""
    rule, fired = language.parse(text), []
    memory: rules.Memory = ()
    names = {"b": Outcome.BAD, "f": Outcome.FINE, "h": Outcome.HOLD, "u": Outcome.UNKNOWN}
    for place, letter in enumerate(outcomes):
        end = END + 60 * place
        memory = rules.remember(memory, end=end, outcome=names[letter], of=rule.of)
        if rules.is_firing(rule, memory, end=end):
            fired.append(place)
    return fired


@pytest.mark.parametrize(
    ("outcomes", "fired"),
    [
        ("bbb", [2]),
        ("bfbfb", [4]),
        ("bffffb", []),
        ("bbuuuuub", [7]),  # missing data freezes: nothing is forgotten
        ("bbhhhhhb", [7]),
        ("bbbu", [2]),  # and never fires by itself
        ("bb" + "u" * 61 + "b", []),  # but what is an hour old says nothing any more
    ],
)
def test_k_of_n_steps_must_be_bad(outcomes: str, fired: list[int]) -> None:
    assert fire("error_rate_5m > 5% for 3 of 5", outcomes) == fired


def test_a_step_counts_once_however_often_it_is_judged() -> None:
    memory: rules.Memory = ()
    for _ in range(3):
        memory = rules.remember(memory, end=END, outcome=Outcome.BAD, of=5)

    assert memory == ((END, Outcome.BAD),)


def test_replay_tells_every_time_it_would_have_fired() -> None:
    rule = language.parse("error_rate_5m > 5% for 2 of 3")
    failed = [0] * 30 + [50] * 10 + [0] * 30 + [50] * 10 + [0] * 20
    arms = {"new": inputs(errors(*failed))}

    seen = rules.replay(rule, lambda _: arms, start=END - 6000, end=END)
    cooled = rules.replay(rule, lambda _: arms, start=END - 6000, end=END, cooldown_s=3600)

    assert [(END - one.at) // 60 for one in seen.episodes] == [66, 26]  # the third bad minute, and one step more
    assert len(cooled.episodes) == 1
    assert seen.unknown == 1  # the first step has 100 calls
    assert seen.episodes[0].verdict.breaching[0].bad_buckets == 4


def test_rolling_sums_are_those_counted_anew() -> None:
    random = np.random.default_rng(7)
    series = minutes(*(Sums(calls=int(n), failed=int(n) // 3, latency={int(n) % 5: 1}) for n in random.integers(1, 99, 90)))

    for end in range(END - 3000, END, 60):
        fresh = Series(series.buckets).total(end, 600)
        rolled = series.total(end, 600)
        assert (rolled.calls, rolled.failed) == (fresh.calls, fresh.failed)
        assert {bucket: n for bucket, n in rolled.latency.items() if n} == fresh.latency


# The linter


LIKE_NOW = linting.Traffic(
    Sums(calls=100_000, failed=500, priced=100_000, cost=200.0, cost_squared=1.2, latency={300: 96_000, 320: 4_000}), 120.0, 120.0
)
BASELINES = {"error_rate": 0.5, "cost_per_call": 0.002}


def lint(text: str, traffic: linting.Traffic = LIKE_NOW, **more: Any) -> linting.Lint:
    return linting.lint(language.parse(text, COVERAGE), traffic, baselines=BASELINES, **more)


def test_earliest_trigger_of_the_briefs_examples() -> None:
    """research/rollouts-peers.md, §5: from .95, six hours below .90 need 18.9 min of total failure; 3x over 1 h needs 13.3 min at ten times."""
    faithful = lint("attribution.coverage_6h < 90%", linting.Traffic(metrics={"attribution.coverage_6h": 95.0}))
    cost = lint("cost_per_call_1h > baseline*3")

    assert faithful.earliest_s == pytest.approx(18.9 * 60 + linting.LAG_S, abs=6)
    assert cost.earliest_s == pytest.approx(13.3 * 60 + linting.LAG_S, abs=3)
    assert [finding.level for finding in cost.findings] == ["warning"]
    assert "Add a fast companion, for example cost_per_call_5m > baseline*3" in cost.findings[0].text
    assert lint("error_rate_5m > 5% for 3 of 5").earliest_s == 180 + 120 + linting.LAG_S


def test_a_fast_companion_settles_the_warning() -> None:
    companion = linting.Companion(frozenset({"cost"}), 200.0)

    assert [finding.level for finding in lint("cost_per_call_1h > baseline*3", companions=[companion]).findings] == ["info"]


@pytest.mark.parametrize(
    ("text", "traffic", "told"),
    [
        ("error_rate_5m > 1%", LIKE_NOW, "chance alone fires it"),
        ("error_rate_1m > 50% min 50", LIKE_NOW, "a single bad minute can fire it, also one that is everybody's"),
        ("error_rate_5m > 5%", linting.Traffic(LIKE_NOW.sums, 10.0, 10.0), "about 50 calls of the treatment, and 200 are needed"),
        ("error_rate_5m > control*2", linting.Traffic(LIKE_NOW.sums, 100.0, 4.0), "The control has about 20 calls in 5m"),
        ("latency_p95_5m > baseline*2", LIKE_NOW, "no baseline of latency_p95"),
        ("error_rate_5m > 5%", linting.Traffic(), "decided no calls in the last day"),
        ("cost_per_call_5m > $0.50", LIKE_NOW, "Not even a total failure"),
    ],
)
def test_the_linter_says_what_a_rule_lacks(text: str, traffic: linting.Traffic, told: str) -> None:
    assert any(told in finding.text for finding in lint(text, traffic).findings)


def test_false_alarms_are_about_what_a_simulation_gives() -> None:
    """60 calls a minute that fail at 2%, five-minute windows, a limit of 4%: up-crossings over 400 simulated weeks."""
    random = np.random.default_rng(11)
    steps = 400 * 10_080
    failed = random.binomial(60, 0.02, steps).astype(np.int32)
    window = np.convolve(failed, np.ones(5, np.int32), "valid")
    beyond = window > 0.04 * 300
    simulated = np.count_nonzero(beyond[1:] & ~beyond[:-1]) / 400

    sums = Sums(calls=1_000_000, failed=20_000)
    told = lint("error_rate_5m > 4% min 100", linting.Traffic(sums, 60.0, 60.0)).false_alarms_per_week

    assert told == pytest.approx(simulated, rel=0.4)


@pytest.mark.parametrize(
    ("per_week", "told"), [(70.0, "about 10 times a day"), (3.1, "about 3 times a week"), (1.0, "about once a week"), (0.1, "about once in 10 weeks"), (0.001, "less than once a year")]
)  # fmt: skip
def test_how_often_in_words(per_week: float, told: str) -> None:
    assert linting.often(per_week) == told


def test_a_comparison_is_hashable_by_itself() -> None:
    [one] = language.parse("error_rate_5m > 5%").comparisons

    assert isinstance(one, Comparison)
    assert (one.name, language.window_text(90), language.window_text(172_800)) == ("error_rate_5m", "90s", "2d")
