"""Judging a step of a rollback rule, and when the rule fires. Pure; the language is `rollouts.rollback_language`.

Three answers exist: bad, fine and unknown. Nothing to judge, or too little, is unknown: it never counts as fine and forgets nothing that was bad.
A window is only bad when three of its buckets are bad by themselves, so that a burst within one bucket fires nothing.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from costs import sketch
from rollouts.rollback_language import SLICE_S, Comparison, FailureClass, Measure, Node, Rule
from rollouts.thresholds import COMPARE

VERSION = 1
"""Grows when the same evidence would be judged otherwise. Part of the evidence."""
DISTINCT = 3
"""Buckets of a window that must be bad by themselves."""
MAX_GAP_S = 3600
"""A verdict older than this says nothing about now."""


# What was counted


@dataclass
class Sums:
    """Calls of one variant in one bucket, as sums: buckets can be added."""

    calls: int = 0
    """Served: not refused."""
    failed: int = 0
    """Of them."""
    blocked: int = 0
    """Refused by a guardrail, beside `calls`."""
    priced: int = 0
    cost: float = 0.0
    """USD, of the priced ones."""
    cost_squared: float = 0.0
    latency: dict[int, int] = field(default_factory=dict)
    """Calls that went well by bucket of their duration (`costs.sketch`)."""

    def add(self, other: Sums, sign: int = 1) -> None:
        self.calls += sign * other.calls
        self.failed += sign * other.failed
        self.blocked += sign * other.blocked
        self.priced += sign * other.priced
        self.cost += sign * other.cost
        self.cost_squared += sign * other.cost_squared
        for bucket, count in other.latency.items():
            self.latency[bucket] = self.latency.get(bucket, 0) + sign * count

    def read(self, measure: Measure) -> tuple[float | None, int]:
        """Value in the measure's unit, and how many calls stand behind it."""
        if measure.key == "error_rate":
            return (100 * self.failed / self.calls if self.calls else None), self.calls
        if measure.key == "blocked_rate":
            asked = self.calls + self.blocked
            return (100 * self.blocked / asked if asked else None), asked
        if measure.key == "cost_per_call":
            return (self.cost / self.priced if self.priced else None), self.priced
        counts = {bucket: count for bucket, count in self.latency.items() if count}
        value = sketch.quantile(counts, measure.quantile)
        return (None if value is None else value / 1000), sum(counts.values())


class Series:
    """Sums of one variant by the start of their bucket (seconds since the epoch), of one bucket size."""

    def __init__(self, buckets: Mapping[int, Sums]) -> None:
        self.starts = sorted(buckets)
        self.buckets = buckets
        self._rolling: dict[int, tuple[int, int, Sums]] = {}

    def since(self, moment: float) -> Series:
        """Only the buckets that begin at or after it."""
        return Series({start: self.buckets[start] for start in self.starts if start >= moment})

    def within(self, start: int, end: int) -> Iterator[Sums]:
        """Buckets that begin in [start, end)."""
        for place in range(bisect.bisect_left(self.starts, start), bisect.bisect_left(self.starts, end)):
            yield self.buckets[self.starts[place]]

    def total(self, end: int, window_s: int) -> Sums:
        """Over [end - window_s, end). Quick for ends that grow, as in a dry run: only what enters and leaves is counted."""
        low, high = bisect.bisect_left(self.starts, end - window_s), bisect.bisect_left(self.starts, end)
        first, last, total = self._rolling.get(window_s, (low, low, Sums()))
        if not (first <= low <= last <= high):
            first, last, total = low, low, Sums()
        for place in range(last, high):
            total.add(self.buckets[self.starts[place]])
        for place in range(first, low):
            total.add(self.buckets[self.starts[place]], -1)
        self._rolling[window_s] = (low, high, total)
        return total


EMPTY = Series({})


# Judging one step


class Outcome(StrEnum):
    BAD = "bad"
    FINE = "fine"
    HOLD = "hold"
    """Between the level that clears and the one that fires: nothing new is said."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reading:
    """What a registered metric was; None is no data."""

    value: float | None
    sample: int = 0
    minimum: int = 1


@dataclass(frozen=True)
class Inputs:
    """Everything that a step is judged from."""

    treatment: Mapping[int, Series]
    """By bucket size in seconds."""
    control: Mapping[int, Series]
    baselines: Mapping[str, float]
    """By measure, in its unit: frozen when the rule was armed."""
    readings: Mapping[str, Reading] = field(default_factory=dict)
    """Of registered metrics, by the comparison's name."""


@dataclass(frozen=True)
class Judged:
    """One comparison at one step."""

    comparison: Comparison
    outcome: Outcome
    value: float | None
    limit: float | None
    calls: int
    bad_buckets: int
    reason: str


@dataclass(frozen=True)
class StepVerdict:
    outcome: Outcome
    judged: tuple[Judged, ...]

    @property
    def breaching(self) -> list[Judged]:
        return [one for one in self.judged if one.outcome is Outcome.BAD]


def judge(rule: Rule, inputs: Inputs, *, end: int, clear: float = 0.1) -> StepVerdict:
    """The step that ends at `end`, in seconds since the epoch.

    `clear`: how far the value must be back on the good side of the limit, as a share of it, before a step counts as fine.
    """
    judged = {id(one): _compare(one, rule, inputs, end, clear) for one in rule.comparisons}
    return StepVerdict(_fold(rule.condition, judged), tuple(judged.values()))


def _fold(node: Node | Comparison, judged: Mapping[int, Judged]) -> Outcome:
    """Kleene's logic, with hold beside unknown: neither is known to be bad, neither is known to be fine."""
    if isinstance(node, Comparison):
        return judged[id(node)].outcome
    outcomes = [_fold(part, judged) for part in node.parts]
    decides, other = (Outcome.FINE, Outcome.BAD) if node.word == "and" else (Outcome.BAD, Outcome.FINE)
    if decides in outcomes:
        return decides
    for weak in (Outcome.UNKNOWN, Outcome.HOLD):
        if weak in outcomes:
            return weak
    return other


def _compare(one: Comparison, rule: Rule, inputs: Inputs, end: int, clear: float) -> Judged:
    def said(outcome: Outcome, reason: str, bad: int = 0) -> Judged:
        return Judged(one, outcome, value, limit, calls, bad, reason)

    value: float | None
    limit: float | None = None
    if one.is_metric:
        reading = inputs.readings.get(one.name, Reading(None))
        value, calls, limit, least = reading.value, reading.sample, one.limit.offset, reading.minimum
    else:
        value, calls = inputs.treatment.get(one.bucket_s, EMPTY).total(end, one.window_s).read(one.measure)
        least = rule.minimum
    if value is None or not math.isfinite(value):
        return said(Outcome.UNKNOWN, "nothing was measured")
    if calls < least:
        return said(Outcome.UNKNOWN, f"{calls} of {least} calls")
    if not one.is_metric:
        limit = _limit_of(one, rule, inputs, end)
        if limit is None:
            return said(Outcome.UNKNOWN, f"{one.limit.reference} is not known")
    assert limit is not None
    compare = COMPARE[one.operator]
    if not compare(value, limit):
        margin = abs(limit) * clear
        level = limit - margin if one.operator in (">", ">=") else limit + margin
        return said(Outcome.HOLD, "not clear of the limit yet") if compare(value, level) else said(Outcome.FINE, "within the limit")
    if one.is_metric:
        return said(Outcome.BAD, "beyond the limit")
    bad = sum(
        1
        for bucket in inputs.treatment[one.bucket_s].within(end - one.window_s, end)
        if (alone := bucket.read(one.measure)[0]) is not None and compare(alone, limit)
    )
    if bad < DISTINCT:
        return said(Outcome.HOLD, f"only {bad} bad {'slice' if one.bucket_s == SLICE_S else 'minute'}{'' if bad == 1 else 's'}", bad)
    return said(Outcome.BAD, "beyond the limit", bad)


def _limit_of(one: Comparison, rule: Rule, inputs: Inputs, end: int) -> float | None:
    if one.limit.reference == "baseline":
        return one.limit.value(inputs.baselines.get(one.measure.key))
    if one.limit.reference == "number":
        return one.limit.offset
    value, calls = inputs.control.get(one.bucket_s, EMPTY).total(end, one.window_s).read(one.measure)
    return one.limit.value(value) if calls >= rule.minimum else None


# When it fires


Memory = tuple[tuple[int, Outcome], ...]
"""Steps with a verdict, oldest first: when they ended, and bad or fine. What held or was unknown is left out: it changes nothing."""


def remember(memory: Iterable[tuple[int, Outcome]], *, end: int, outcome: Outcome, of: int) -> Memory:
    """With one more step. A step that was judged before is not counted again."""
    kept = [(at, said) for at, said in memory if end - MAX_GAP_S <= at < end]
    if outcome in (Outcome.BAD, Outcome.FINE):
        kept.append((end, outcome))
    return tuple(kept[-of:])


def is_firing(rule: Rule, memory: Memory, *, end: int) -> bool:
    """The step that just ended is bad, and enough of those before."""
    return bool(memory) and memory[-1] == (end, Outcome.BAD) and sum(said is Outcome.BAD for _, said in memory) >= rule.needed


@dataclass(frozen=True)
class Episode:
    """A time at which the rule would have rolled back."""

    at: int
    """End of the step that fired."""
    first_bad: int
    """End of the first bad step before it."""
    verdict: StepVerdict
    variant: str = ""


@dataclass(frozen=True)
class Replay:
    steps: int
    unknown: int
    bad: int
    """Steps that were bad, whether or not it fired."""
    episodes: tuple[Episode, ...]


def replay(
    rule: Rule,
    arms_at: Callable[[int], Mapping[str, Inputs]],
    *,
    start: int,
    end: int,
    step_s: int | None = None,
    clear: float = 0.1,
    cooldown_s: int = 0,
    most: int = 100,
) -> Replay:
    """Judge every step of (start, end] as the watcher would have. After firing, it fires again only once it was clear and the cool-down is over.

    `arms_at`: inputs by treatment for a step that ends at a moment.
    """
    memory: Memory = ()
    episodes: list[Episode] = []
    steps = unknown = bad = 0
    is_over, last = True, -math.inf
    stride = step_s or rule.step_s
    for at in range(start + stride, end + 1, stride):
        variant, verdict = worst_arm({name: judge(rule, inputs, end=at, clear=clear) for name, inputs in arms_at(at).items()})
        steps += 1
        unknown += verdict.outcome is Outcome.UNKNOWN
        bad += verdict.outcome is Outcome.BAD
        memory = remember(memory, end=at, outcome=verdict.outcome, of=rule.of)
        is_over = is_over or verdict.outcome is Outcome.FINE
        if is_over and is_firing(rule, memory, end=at) and at - last >= cooldown_s:
            is_over, last = False, at
            episodes.append(Episode(at, first_bad(memory), verdict, variant))
    return Replay(steps, unknown, bad, tuple(episodes[:most]))


def first_bad(memory: Memory) -> int:
    """End of the first bad step of those that fired."""
    return min(at for at, said in memory if said is Outcome.BAD)


_RANK = {Outcome.FINE: 0, Outcome.HOLD: 1, Outcome.UNKNOWN: 2, Outcome.BAD: 3}


def worst_arm(verdicts: Mapping[str, StepVerdict]) -> tuple[str, StepVerdict]:
    """One bad treatment is enough; one that nobody can judge keeps the rule from calling the step fine."""
    if not verdicts:
        return "", StepVerdict(Outcome.UNKNOWN, ())
    name = max(verdicts, key=lambda each: _RANK[verdicts[each].outcome])
    return name, verdicts[name]


def failure_class(breaching: Sequence[Judged]) -> FailureClass:
    """What the breach points at: the comparison furthest beyond its limit."""
    order: tuple[FailureClass, ...] = ("error", "data", "quality", "latency", "cost")
    return min((one.comparison.measure.hint for one in breaching), key=order.index, default="quality")
