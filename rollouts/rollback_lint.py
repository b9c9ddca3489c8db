"""What a rollback rule will do before it does it: how soon it can act, how often it will cry wolf, and what it lacks. Pure.

False alarms are counted as up-crossings of a moving window of independent calls: the chance that a single window is beyond the limit is exact for
rates and percentiles (binomial) and normal for costs; how often windows that overlap cross anew is Rice's formula (Bell System Technical Journal 24,
1945). Calls that resemble each other alarm more often, the distinct bad buckets and `for k of n` less often; neither is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import scipy  # whose parts are imported when they are asked for: most processes never do

from costs import sketch
from rollouts.rollback_language import FINE_BELOW_S, MINUTE_S, Comparison, FailureClass, Node, Rule, window_text
from rollouts.rollback_rules import DISTINCT, Sums

ACT_WITHIN_S = 600
"""The promise: a breach is acted on within ten minutes."""
LAG_S = 20
"""From the end of a step until its calls are counted and judged, at most: five seconds to settle, a tick every ten, one to run."""
TEN_TIMES = 10.0
"""What a runaway cost is taken to be, when asked how soon a rule sees it."""
OFTEN_PER_WEEK = 0.25
WEEK_S = 7 * 86_400

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Traffic:
    """What the flag's calls are like now."""

    sums: Sums = field(default_factory=Sums)
    """Of all variants, over the last day."""
    calls_per_minute: float = 0.0
    """Of the treatments together, while there were any."""
    control_per_minute: float = 0.0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Present values of registered metrics, by the comparison's name."""


@dataclass(frozen=True)
class Finding:
    level: Level
    text: str
    position: int | None = None
    """In the rule's text, from 0."""


@dataclass(frozen=True)
class Lint:
    findings: tuple[Finding, ...]
    earliest_s: float | None
    """From the first bad call of a total failure until the rule fires; None when it never does."""
    false_alarms_per_week: float | None
    """At the present traffic; None where nothing can be said."""


@dataclass(frozen=True)
class Companion:
    """Another armed rule of the flag."""

    hints: frozenset[FailureClass]
    earliest_s: float | None


def lint(rule: Rule, traffic: Traffic, *, baselines: Mapping[str, float] | None = None, companions: Iterable[Companion] = ()) -> Lint:
    """`baselines` as they would be if the rule were armed now, by measure."""
    known = baselines or {}
    waits = {id(one): _wait_s(one, traffic, known) for one in rule.comparisons}
    condition_s = _soonest(rule.condition, waits)
    earliest = None if condition_s is None else condition_s + (rule.needed - 1) * rule.step_s + LAG_S
    rates = {id(one): _alarms_per_week(one, rule, traffic, known) for one in rule.comparisons}
    alarms = _together(rule.condition, rates)
    findings = [
        *_about_sample(rule, traffic),
        *_about_references(rule, traffic, known),
        *_about_speed(rule, earliest, companions),
        *_about_bursts(rule),
        *_about_alarms(rule, alarms),
    ]
    return Lint(tuple(findings), earliest, alarms)


# How soon


def _soonest(node: Node | Comparison, waits: Mapping[int, float | None]) -> float | None:
    if isinstance(node, Comparison):
        return waits[id(node)]
    found = [_soonest(part, waits) for part in node.parts]
    if node.word == "and":
        return None if any(one is None for one in found) else max(one for one in found if one is not None)
    return min((one for one in found if one is not None), default=None)


def _wait_s(one: Comparison, traffic: Traffic, baselines: Mapping[str, float]) -> float | None:
    """How long a total failure must last until the window is beyond the limit."""
    share = _share_needed(one, traffic, baselines)
    if share is None:
        return None
    return max(share * one.window_s, 0.0 if one.is_metric else float(DISTINCT * one.bucket_s))


def _share_needed(one: Comparison, traffic: Traffic, baselines: Mapping[str, float]) -> float | None:
    """Of the window's calls, how many must fail totally (score 0, a failure each, ten times the cost). None: not even all."""
    present = _present(one, traffic)
    if present is None and one.measure.unit == "%" and not one.is_metric:
        present = 0.0  # before the first call, nothing has failed
    limit = _limit(one, traffic, baselines)
    if limit is None or present is None:
        return 1.0
    rises = one.operator in (">", ">=")
    if one.measure.quantile:
        return 1 - one.measure.quantile if rises else one.measure.quantile
    if (limit < present) if rises else (limit > present):
        return 0.0
    if rises:
        worst = 100.0 if one.measure.unit == "%" else TEN_TIMES * present
        if one.is_metric and one.measure.unit not in ("%", "USD", "ms", "s"):
            return 1.0
        return (limit - present) / (worst - present) if worst > limit else None
    return (present - limit) / present if present > 0 and limit > 0 else None


def _present(one: Comparison, traffic: Traffic) -> float | None:
    return traffic.metrics.get(one.name) if one.is_metric else traffic.sums.read(one.measure)[0]


def _limit(one: Comparison, traffic: Traffic, baselines: Mapping[str, float]) -> float | None:
    """What the limit is now; a control like the present calls."""
    reference = baselines.get(one.measure.key) if one.limit.reference == "baseline" else _present(one, traffic)
    return one.limit.value(reference)


# How often by chance


def _together(node: Node | Comparison, rates: Mapping[int, float | None]) -> float | None:
    """`and` is at most the rarest of its parts; `or` at most all of them together."""
    if isinstance(node, Comparison):
        return rates[id(node)]
    found = [_together(part, rates) for part in node.parts]
    known = [one for one in found if one is not None]
    if node.word == "and":
        return min(known, default=None)
    return sum(known) if len(known) == len(found) else None


def _alarms_per_week(one: Comparison, rule: Rule, traffic: Traffic, baselines: Mapping[str, float]) -> float | None:
    calls = traffic.calls_per_minute * one.window_s / 60
    if one.is_metric or calls < rule.minimum or calls < 1:
        return None
    controls = traffic.control_per_minute * one.window_s / 60 if one.limit.reference == "control" else None
    limit = _limit(one, traffic, baselines)
    if limit is None or (controls is not None and controls < 1):
        return None
    chance = _chance(one, traffic.sums, limit, calls, controls)
    return (
        None if chance is None else crossings(chance, steps=WEEK_S / rule.step_s, overlap=1 - rule.step_s / max(one.window_s, rule.step_s))
    )


def crossings(chance: float, *, steps: float, overlap: float) -> float:
    """Expected up-crossings in `steps` windows, each beyond the limit by `chance`, of which neighbours share `overlap` of their calls."""
    if chance <= 0:
        return 0.0
    z = -float(scipy.special.ndtri(chance))
    return steps * min(chance, math.acos(overlap) / (2 * math.pi) * math.exp(-z * z / 2))


def _chance(one: Comparison, sums: Sums, limit: float, calls: float, controls: float | None) -> float | None:
    """That a window of so many calls, all like the present ones, is beyond the limit."""
    rises = one.operator in (">", ">=")
    n = round(calls)
    if one.measure.key == "cost_per_call":
        if sums.priced < 2:
            return None
        mean = sums.cost / sums.priced
        variance = max(sums.cost_squared / sums.priced - mean * mean, 0.0)
        spread = math.sqrt(variance * (1 / calls + (one.limit.factor**2 / controls if controls else 0)))
        return _normal(limit - mean if rises else mean - limit, spread)
    if one.measure.quantile:
        total = sum(sums.latency.values())
        if not total:
            return None
        over = sum(count for bucket, count in sums.latency.items() if sketch.middle(bucket) / 1000 > limit)
        share, threshold = (over + 0.5) / (total + 1), 1 - one.measure.quantile
        noise = threshold * (1 - threshold) / controls if controls else 0.0
    else:
        value, total = sums.read(one.measure)
        if value is None:
            return None
        share, threshold = (value / 100 * total + 0.5) / (total + 1), limit / 100
        noise = one.limit.factor**2 * share * (1 - share) / controls if controls else 0.0
    if noise:
        gap = threshold - share if rises else share - threshold
        return _normal(gap, math.sqrt(share * (1 - share) / calls + noise))
    edge = n * threshold
    if rises:
        most = math.floor(edge) if one.operator == ">" else math.ceil(edge) - 1
        return float(scipy.special.bdtrc(most, n, share)) if 0 <= most < n else float(most < 0)
    most = math.ceil(edge) - 1 if one.operator == "<" else math.floor(edge)
    return float(scipy.special.bdtr(most, n, share)) if 0 <= most < n else float(most >= n)


def _normal(gap: float, spread: float) -> float:
    if spread == 0:
        return 1.0 if gap < 0 else 0.0
    return float(scipy.special.ndtr(-gap / spread))


# What it lacks


def _about_sample(rule: Rule, traffic: Traffic) -> Iterable[Finding]:
    for one in rule.comparisons:
        if one.is_metric:
            continue
        if not traffic.sums.calls:
            yield Finding("info", "The flag has decided no calls in the last day: nothing can be said about false alarms yet.")
            return
        expected = traffic.calls_per_minute * one.window_s / 60
        if expected < rule.minimum:
            yield Finding(
                "warning",
                f"{one.name} will hold about {expected:,.0f} calls of the treatment, and {rule.minimum:,} are needed: "
                "the rule would be frozen, not watching. Take a longer window or a smaller min.", one.position,
            )  # fmt: skip


def _about_references(rule: Rule, traffic: Traffic, baselines: Mapping[str, float]) -> Iterable[Finding]:
    for one in rule.comparisons:
        if one.limit.reference == "baseline" and one.measure.key not in baselines:
            yield Finding(
                "error", f"There is no baseline of {one.measure.key} yet: the control has too few calls in the last seven days. "
                "Compare with “control” or a number.", one.position,
            )  # fmt: skip
        expected = traffic.control_per_minute * one.window_s / 60
        if one.limit.reference == "control" and traffic.sums.calls and expected < rule.minimum:
            yield Finding(
                "warning", f"The control has about {expected:,.0f} calls in {window_text(one.window_s)}, and {rule.minimum:,} are needed to "
                "compare with it.", one.position,
            )  # fmt: skip


def _about_speed(rule: Rule, earliest: float | None, companions: Iterable[Companion]) -> Iterable[Finding]:
    if earliest is not None and earliest <= ACT_WITHIN_S:
        return
    said = (
        "Not even a total failure makes it fire."
        if earliest is None
        else f"It can't act before {earliest / 60:.1f} min of total failure; ten minutes are promised."
    )
    hints = frozenset(one.measure.hint for one in rule.comparisons)
    if any(each.hints & hints and each.earliest_s is not None and each.earliest_s <= ACT_WITHIN_S for each in companions):
        yield Finding("info", f"{said} Another rule of this flag covers the first minutes.")
        return
    slowest = max(rule.comparisons, key=lambda one: one.window_s)
    example = "error_rate_5m > 10%" if slowest.is_metric else f"{slowest.measure.key}_5m {slowest.text.split(None, 1)[-1]}"
    yield Finding("warning", f"{said} Add a fast companion, for example {example} for 3 of 5.", slowest.position)


def _about_bursts(rule: Rule) -> Iterable[Finding]:
    for one in rule.comparisons:
        if one.is_metric or one.window_s + (rule.needed - 1) * rule.step_s >= DISTINCT * MINUTE_S:
            continue
        shorter = one.window_s < FINE_BELOW_S
        text = f"{one.name} looks at less than three minutes: " if shorter else ""
        if one.limit.reference == "control":
            yield Finding("info", f"{text}a single bad minute can fire it, but not one that is as bad for the control.", one.position)
        else:
            yield Finding(
                "warning", f"{text}a single bad minute can fire it, also one that is everybody's. Compare with “control”, or take 3m or more.",
                one.position,
            )  # fmt: skip


def _about_alarms(rule: Rule, alarms: float | None) -> Iterable[Finding]:
    if alarms is not None and alarms > OFTEN_PER_WEEK:
        yield Finding(
            "warning",
            f"At the present traffic chance alone fires it {often(alarms)}. Take a limit further out, a longer window or for k of n.",
        )


def often(per_week: float) -> str:
    """`about once in 3 weeks`, in words."""
    if per_week >= 7:
        return f"about {per_week / 7:,.0f} times a day"
    if per_week >= 1.5:
        return f"about {per_week:.0f} times a week"
    if per_week > 1 / 52:
        return f"about once in {1 / per_week:.0f} weeks" if per_week < 0.75 else "about once a week"
    return "less than once a year"
