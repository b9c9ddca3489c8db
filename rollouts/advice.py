"""If we stop now, what do we know? Pure: an experiment's terms and one reading's sums in, effects and advice out.

A reading's evidence holds every input, so `replay` comes to the same advice from the evidence alone. As with gates, no data is never a pass:
a guardrail that can't be told keeps a treatment from being promoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from rollouts import statistics
from rollouts.statistics import Interval, Moments, Scale

ALPHA = 0.05
POWER = 0.8
BROKEN_BELOW = 0.001
"""Of the test of the assignment, as GrowthBook and Flagsmith have it."""
ALARM_UNITS = 100
"""Per arm before a guardrail may alarm: the intervals are for large samples."""
Advice = Literal["promote", "hold", "rollback"]


@dataclass(frozen=True)
class Measure:
    """What an experiment may be about. Relative effects are changes of the mean in percent; absolute ones are percentage points."""

    title: str
    unit: str
    scale: Scale


MEASURES: dict[str, Measure] = {
    "error_rate": Measure("Error rate", "%", "absolute"),
    "latency": Measure("Mean latency", "ms", "relative"),
    "ttft": Measure("Mean time to first token", "ms", "relative"),
    "cost": Measure("Cost per call", "USD", "relative"),
    "output_tokens": Measure("Output tokens per call", "tokens", "relative"),
}


class Method(StrEnum):
    SEQUENTIAL = "sequential"
    FIXED = "fixed"
    SPRT = "sprt"


class Standing(StrEnum):
    """Where an interval lies. Of an effect: better, worse, open; of a guardrail: kept, breached, open."""

    BETTER = "better"
    WORSE = "worse"
    NONE = "none"
    """Wald's test has given the effect up."""
    KEPT = "kept"
    BREACHED = "breached"
    OPEN = "open"
    NO_DATA = "no_data"


@dataclass(frozen=True)
class Guardrail:
    metric: str
    margin: float
    """How much more than the champion's is tolerated, in percent (of the mean) or percentage points."""


@dataclass(frozen=True)
class Terms:
    """What was agreed before the first call was counted."""

    champion: str
    shares: Mapping[str, float]
    """Intended share of the subjects by variant, the champion's among them; together 1."""
    rooms: Mapping[str, int]
    """Buckets by variant in which its units may be."""
    metric: str
    better: Literal["lower", "higher"]
    effect: float
    """The smallest one worth finding, above 0, in percent or percentage points."""
    guardrails: Sequence[Guardrail]
    minimum_units: int
    """Per arm. For a fixed horizon it is the horizon."""
    method: str


@dataclass(frozen=True)
class Arm:
    units: int
    calls: int
    moments: Mapping[str, Moments]


@dataclass(frozen=True)
class Effect:
    """One treatment against the champion on one metric; figures in percent or percentage points."""

    metric: str
    standing: Standing
    value: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    """1 - p, 0 to 1."""
    margin: float | None = None
    """Of a guardrail."""


@dataclass(frozen=True)
class Contender:
    """A treatment, and what is known about it."""

    variant: str
    primary: Effect
    guardrails: list[Effect]

    @property
    def may_win(self) -> bool:
        return self.primary.standing == Standing.BETTER and all(each.standing == Standing.KEPT for each in self.guardrails)

    @property
    def breached(self) -> list[Effect]:
        return [each for each in self.guardrails if each.standing == Standing.BREACHED]


@dataclass(frozen=True)
class Report:
    advice: Advice
    sentence: str
    winner: str
    """Whom the advice would promote; else empty."""
    sound: bool
    """No sign that units were assigned otherwise than intended."""
    assignment_p: float
    """Valid at every look."""
    chi_square_p: float
    """Of this look alone."""
    reached: bool
    """Every arm has the minimum."""
    contenders: list[Contender]

    @property
    def confidence(self) -> float | None:
        return next((each.primary.confidence for each in self.contenders if each.variant == self.winner), None)


def report(terms: Terms, arms: Mapping[str, Arm], *, earlier_p: float = 1.0) -> Report:
    """`earlier_p`: the smallest p-value of the assignment at the looks before."""
    variants = list(terms.shares)
    units = [arms[name].units if name in arms else 0 for name in variants]
    shares = statistics.expected_shares([terms.shares[name] for name in variants], [terms.rooms[name] for name in variants], sum(units))
    assignment_p = min(earlier_p, statistics.assignment_evidence(units, shares))
    sound, reached = assignment_p >= BROKEN_BELOW, min(units) >= terms.minimum_units
    contenders = [_contender(terms, arms, name) for name in variants if name != terms.champion]
    advice, sentence, winner = _fold(terms, contenders, sound=sound, units=dict(zip(variants, units, strict=True)))
    return Report(
        advice, sentence, winner, sound, assignment_p, statistics.assignment_chi_square(units, shares), reached, contenders
    )  # fmt: skip


def _fold(terms: Terms, contenders: list[Contender], *, sound: bool, units: Mapping[str, int]) -> tuple[Advice, str, str]:
    if not sound:
        return "hold", "The assignment is broken: the arms do not have the shares that were meant, so no figure below can be trusted.", ""
    for each in contenders:
        if each.breached:
            named = _named(each.breached)
            return "rollback", f"{each.variant} breaks a guardrail: {named} is worse than {terms.champion} by more than agreed.", ""
    fewest = min(units, key=lambda name: units[name])
    if units[fewest] < terms.minimum_units:
        return "hold", f"Too early: {fewest} has {units[fewest]:,} of {terms.minimum_units:,} units.", ""
    title = MEASURES[terms.metric].title
    able = [each for each in contenders if each.may_win]
    if able:
        best = max(able, key=lambda each: _gain(terms, each))
        return "promote", f"{best.variant} is better than {terms.champion} on {title.lower()}, and every guardrail is kept.", best.variant
    better = [each for each in contenders if each.primary.standing == Standing.BETTER]
    if better:
        unsettled = [one for one in better[0].guardrails if one.standing != Standing.KEPT]
        return "hold", f"{better[0].variant} is better on {title.lower()}, but not settled: {_named(unsettled)}.", ""
    if all(each.primary.standing == Standing.WORSE for each in contenders):
        return "rollback", f"{terms.champion} is better on {title.lower()}: nothing is gained by waiting.", ""
    if all(each.primary.standing in (Standing.WORSE, Standing.NONE) for each in contenders):
        return "hold", f"There is no effect of the size that was looked for: keep {terms.champion}.", ""
    if any(each.primary.standing == Standing.NO_DATA for each in contenders):
        return "hold", f"{title} can't be compared: an arm has no calls with a value, or {terms.champion} has a mean of 0.", ""
    return "hold", f"Open: the interval still holds both a better and a worse {title.lower()}.", ""


def _named(effects: Sequence[Effect]) -> str:
    return ", ".join(MEASURES[each.metric].title.lower() for each in effects)


def _gain(terms: Terms, contender: Contender) -> float:
    value = contender.primary.value or 0.0
    return value if terms.better == "higher" else -value


def _contender(terms: Terms, arms: Mapping[str, Arm], variant: str) -> Contender:
    treatments = len(terms.shares) - 1
    guard_alpha = ALPHA / (treatments * max(1, len(terms.guardrails)))
    return Contender(
        variant,
        _primary(terms, arms, variant, ALPHA / treatments),
        [_guardrail(terms, arms, variant, each, guard_alpha) for each in terms.guardrails],
    )


def _seen(terms: Terms, arms: Mapping[str, Arm], variant: str, metric: str) -> statistics.Difference | None:
    if variant not in arms or terms.champion not in arms:
        return None
    base, treated = arms[terms.champion].moments[metric], arms[variant].moments[metric]
    if min(base.units, treated.units) < 2:
        return None
    if metric == "error_rate":  # a rate of 0 in both arms must not look certain
        base, treated = base.padded(), treated.padded()
    return statistics.difference(base, treated, MEASURES[metric].scale)


def _primary(terms: Terms, arms: Mapping[str, Arm], variant: str, alpha: float) -> Effect:
    seen = _seen(terms, arms, variant, terms.metric)
    if seen is None:
        return Effect(terms.metric, Standing.NO_DATA)
    if terms.method == Method.FIXED and min(arms[name].units for name in arms) >= terms.minimum_units and len(arms) >= len(terms.shares):
        found = statistics.fixed(seen, alpha=alpha)
    else:
        found = statistics.sequential(seen, alpha=alpha, planned_units=2 * terms.minimum_units)
    standing = _side(found, terms.better)
    if terms.method == Method.SPRT:
        standing = _walked(terms, seen, alpha)
    # Bonferroni's share goes into the confidence, so that one bar (95%) holds for any number of treatments.
    confidence = 1 - min(1.0, found.p_value * ALPHA / alpha)
    return Effect(terms.metric, standing, 100 * seen.value, 100 * found.low, 100 * found.high, confidence)


def _side(found: Interval, better: str) -> Standing:
    if found.low > 0:
        return Standing.BETTER if better == "higher" else Standing.WORSE
    if found.high < 0:
        return Standing.BETTER if better == "lower" else Standing.WORSE
    return Standing.OPEN


def _walked(terms: Terms, seen: statistics.Difference, alpha: float) -> Standing:
    """Wald's test in both directions: for the effect looked for, and for one as large the wrong way."""
    wanted = terms.effect / 100 * (1 if terms.better == "higher" else -1)
    upper, lower = statistics.sprt_bounds(alpha / 2, 1 - POWER)
    if statistics.sprt_evidence(seen, wanted) >= upper:
        return Standing.BETTER
    if statistics.sprt_evidence(seen, -wanted) >= upper:
        return Standing.WORSE
    return Standing.NONE if statistics.sprt_evidence(seen, wanted) <= lower else Standing.OPEN


def _guardrail(terms: Terms, arms: Mapping[str, Arm], variant: str, rule: Guardrail, alpha: float) -> Effect:
    """Always sequential: an alarm may come at any look. Breached and kept mean the whole interval, as with gates."""
    seen = _seen(terms, arms, variant, rule.metric)
    if seen is None:
        return Effect(rule.metric, Standing.NO_DATA, margin=rule.margin)
    found = statistics.sequential(seen, alpha=alpha, planned_units=2 * terms.minimum_units)
    standing = Standing.OPEN
    if min(arms[name].moments[rule.metric].units for name in (variant, terms.champion)) >= min(ALARM_UNITS, terms.minimum_units):
        standing = (
            Standing.BREACHED if 100 * found.low > rule.margin else Standing.KEPT if 100 * found.high < rule.margin else Standing.OPEN
        )
    return Effect(rule.metric, standing, 100 * seen.value, 100 * found.low, 100 * found.high, 1 - found.p_value, rule.margin)


# What else the sums tell


def mean_of(arm: Arm, metric: str) -> float | None:
    """Per call, in the metric's unit: a rate is in percent."""
    mean = arm.moments[metric].mean
    return 100 * mean if mean is not None and metric == "error_rate" else mean


def change_of(champion: Arm, arm: Arm, metric: str) -> float | None:
    """The plain change of the mean without an interval, in percent or percentage points; None where it can't be told."""
    base, mean = mean_of(champion, metric), mean_of(arm, metric)
    if base is None or mean is None:
        return None
    if MEASURES[metric].scale == "absolute":
        return mean - base
    return 100 * (mean / base - 1) if base > 0 else None


# Evidence: plain values, so that it can be kept as text and read again


def evidence(terms: Terms, arms: Mapping[str, Arm], *, earlier_p: float) -> dict[str, Any]:
    return {
        "terms": {
            "champion": terms.champion, "shares": dict(terms.shares), "rooms": dict(terms.rooms), "metric": terms.metric,
            "better": terms.better, "effect": terms.effect,
            "guardrails": [{"metric": each.metric, "margin": each.margin} for each in terms.guardrails],
            "minimum_units": terms.minimum_units, "method": str(terms.method),
        },
        "arms": {
            name: {"units": arm.units, "calls": arm.calls, "moments": {metric: list(each.parts) for metric, each in arm.moments.items()}}
            for name, arm in arms.items()
        },
        "earlier_p": earlier_p,
    }  # fmt: skip


def arms_of(record: Mapping[str, Any]) -> dict[str, Arm]:
    return {
        name: Arm(arm["units"], arm["calls"], {metric: Moments(*parts) for metric, parts in arm["moments"].items()})
        for name, arm in record["arms"].items()
    }


def terms_of(record: Mapping[str, Any]) -> Terms:
    terms = record["terms"]
    return Terms(**{**terms, "guardrails": [Guardrail(**each) for each in terms["guardrails"]]})


def replay(record: Mapping[str, Any]) -> Report:
    """The report on a reading, from its evidence alone."""
    return report(terms_of(record), arms_of(record), earlier_p=record["earlier_p"])
