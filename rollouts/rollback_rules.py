"""The language of rollback rules: parsing, judging a step, and when a rule fires. Pure.

    error_rate_5m > 5% for 3 of 5 min 200
    latency_p95_5m > baseline*1.3 or cost_per_call_1h > baseline*3
    error_rate_1m > control + 20% min 50
    guardrails.unredacted_pii_6h > 0

`<measure>_<window> <operator> <number | baseline | control>`, joined by `and`, `or` and brackets, then `for k of n` (steps) and `min N` (calls in the
window). A measure is one of `MEASURES`, of the calls that got the variant, or a registered metric (`noun.name`) of the whole organisation.

Three answers exist: bad, fine and unknown. Nothing to judge, or too little, is unknown: it never counts as fine and forgets nothing that was bad.
A window is only bad when three of its buckets are bad by themselves, so that a burst within one bucket fires nothing.
"""

from __future__ import annotations

import bisect
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from costs import sketch

VERSION = 1
"""Grows when the same evidence would be judged otherwise. Part of the evidence."""
MAX_LENGTH = 500
MAX_COMPARISONS = 8
MAX_DEPTH = 5
MAX_STEPS = 60
DEFAULT_MINIMUM = 200
"""Calls in a window. On a true 0.5% a rate of three times that is reached by chance in 1.9% of windows of 200 (research/rollouts-peers.md, §5)."""
DISTINCT = 3
"""Buckets of a window that must be bad by themselves."""
MINUTE_S, SLICE_S = 60, 10
FINE_BELOW_S = 180
"""Shorter windows are looked at in slices of ten seconds, the others in minutes."""
LONGEST_CALLS_S, LONGEST_METRIC_S = 6 * 3600, 7 * 86_400
SHORTEST_S = 30
MAX_GAP_S = 3600
"""A verdict older than this says nothing about now."""

FailureClass = Literal["error", "latency", "cost", "quality", "data"]
Reference = Literal["number", "baseline", "control"]


class RuleError(ValueError):
    """A rule that can't be read; `position` is the place in the text, from 0."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True)
class Measure:
    key: str
    title: str
    unit: str
    hint: FailureClass
    """What kind of failure a breach points at."""
    quantile: float = 0.0


MEASURES: Mapping[str, Measure] = {
    measure.key: measure
    for measure in (
        Measure("error_rate", "Failed calls", "%", "error"),
        Measure("blocked_rate", "Calls that a guardrail stopped", "%", "data"),
        Measure("latency_p50", "Latency, median", "ms", "latency", 0.5),
        Measure("latency_p95", "Latency, P95", "ms", "latency", 0.95),
        Measure("latency_p99", "Latency, P99", "ms", "latency", 0.99),
        Measure("cost_per_call", "Cost of a call", "USD", "cost"),
    )
}
_UNITS: Mapping[str, tuple[str, float]] = {
    "%": ("%", 1.0), "pp": ("%", 1.0), "ms": ("ms", 1.0), "s": ("ms", 1000.0), "USD": ("USD", 1.0), "$": ("USD", 1.0),
}  # fmt: skip
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


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


# The rule


@dataclass(frozen=True)
class Limit:
    reference: Reference
    factor: float = 1.0
    offset: float = 0.0
    """In the measure's unit; the whole limit when the reference is a number."""

    def value(self, reference: float | None) -> float | None:
        if self.reference == "number":
            return self.offset
        return None if reference is None else reference * self.factor + self.offset


@dataclass(frozen=True)
class Comparison:
    measure: Measure
    window_s: int
    operator: str
    limit: Limit
    text: str
    position: int
    is_metric: bool
    """A registered metric of the organisation, not calls of the variant."""

    @property
    def bucket_s(self) -> int:
        return SLICE_S if self.window_s < FINE_BELOW_S and not self.is_metric else MINUTE_S

    @property
    def name(self) -> str:
        return f"{self.measure.key}_{window_text(self.window_s)}"


@dataclass(frozen=True)
class Node:
    """Comparisons joined by one word."""

    word: Literal["and", "or"]
    parts: tuple[Node | Comparison, ...]


@dataclass(frozen=True)
class Rule:
    text: str
    condition: Node | Comparison
    comparisons: tuple[Comparison, ...]
    needed: int = 1
    """Of the last `of` steps with a verdict, so many must be bad, the newest among them."""
    of: int = 1
    minimum: int = DEFAULT_MINIMUM

    @property
    def step_s(self) -> int:
        return min(comparison.bucket_s for comparison in self.comparisons)

    @property
    def reach_s(self) -> int:
        """How far back the calls reach that a step looks at."""
        return max((comparison.window_s for comparison in self.comparisons if not comparison.is_metric), default=0)

    @property
    def references(self) -> set[Reference]:
        return {comparison.limit.reference for comparison in self.comparisons}

    @property
    def watches_calls(self) -> bool:
        return any(not comparison.is_metric for comparison in self.comparisons)


def window_text(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z][A-Za-z0-9_.]*)|(?P<number>\d+(?:\.\d+)?)|(?P<sign><=|>=|<|>|\*|\+|-|\(|\)|%|\$)|(?P<other>\S))", re.ASCII
)
_MEASURE = re.compile(r"(?P<key>[a-z][a-z0-9_.]*)_(?P<count>\d{1,6})(?P<unit>[smhd])", re.ASCII)
_SIZES = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


class _Parser:
    def __init__(self, text: str, metrics: Mapping[str, Measure]) -> None:
        self._text = text
        self._metrics = metrics
        self._tokens = list(self._cut())
        self._place = 0
        self.comparisons: list[Comparison] = []

    def _cut(self) -> Iterator[_Token]:
        place, end = 0, len(self._text.rstrip())
        while place < end:
            found = _TOKEN.match(self._text, place)
            assert found is not None
            kind = str(found.lastgroup)
            if kind == "other":
                raise RuleError(f"“{found[kind]}” has no meaning here.", found.start(kind))
            yield _Token(kind, found[kind], found.start(kind))
            place = found.end()

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place] if self._place < len(self._tokens) else _Token("end", "", len(self._text.rstrip()))

    def _take(self) -> _Token:
        token = self._next
        self._place += 1
        return token

    def _taken(self, text: str) -> bool:
        if self._next.text != text or self._next.kind == "end":
            return False
        self._place += 1
        return True

    def _expect(self, text: str, what: str) -> None:
        token = self._next
        if not self._taken(text):
            raise RuleError(
                f"{what} is missing here." if token.kind == "end" else f"{what} is expected, not “{token.text}”.", token.position
            )

    def rule(self) -> Rule:
        if self._next.kind == "end":
            raise RuleError("Write a condition, for example error_rate_5m > 5%.", 0)
        condition = self._joined("or", 0)
        needed = of = 1
        minimum = DEFAULT_MINIMUM
        seen: set[str] = set()
        while self._next.text in ("for", "min"):
            word = self._take()
            if word.text in seen:
                raise RuleError(f"“{word.text}” stands here for the second time.", word.position)
            seen.add(word.text)
            if word.text == "min":
                minimum = self._whole("the least number of calls", 1, 1_000_000)
            else:
                place = self._next.position
                needed = self._whole("how many steps must be bad", 1, MAX_STEPS)
                self._expect("of", "“of”")
                of = self._whole("of how many steps", 1, MAX_STEPS)
                if needed > of:
                    raise RuleError(f"{needed} of {of} steps can never be bad.", place)
        if self._next.kind != "end":
            raise RuleError(
                f"“{self._next.text}” is not expected here: “and”, “or”, “for k of n” and “min N” may follow.", self._next.position
            )
        return Rule(self._text.strip(), condition, tuple(self.comparisons), needed, of, minimum)

    def _joined(self, word: Literal["and", "or"], depth: int) -> Node | Comparison:
        def part() -> Node | Comparison:
            return self._joined("and", depth) if word == "or" else self._single(depth)

        parts = [part()]
        while self._taken(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Node(word, tuple(parts))

    def _single(self, depth: int) -> Node | Comparison:
        if self._next.text == "(":
            if depth == MAX_DEPTH:
                raise RuleError(f"Brackets go at most {MAX_DEPTH} deep.", self._next.position)
            self._take()
            inside = self._joined("or", depth + 1)
            self._expect(")", "“)”")
            return inside
        return self._comparison()

    def _comparison(self) -> Comparison:
        token = self._take()
        measure, window_s, is_metric = self._measure(token)
        sign = self._take()
        if sign.text not in _COMPARE:
            raise RuleError(f"One of < <= > >= is expected after {token.text}.", sign.position)
        limit = self._limit(measure, is_metric)
        before = self._tokens[self._place - 1]
        text = self._text[token.position : before.position + len(before.text)]
        if len(self.comparisons) == MAX_COMPARISONS:
            raise RuleError(f"A rule has at most {MAX_COMPARISONS} comparisons.", token.position)
        made = Comparison(measure, window_s, sign.text, limit, text, token.position, is_metric)
        self.comparisons.append(made)
        return made

    def _measure(self, token: _Token) -> tuple[Measure, int, bool]:
        found = _MEASURE.fullmatch(token.text)
        if token.kind != "name" or found is None:
            raise RuleError(
                "A measure with its window is expected, for example error_rate_5m"
                + (f", not “{token.text}”." if token.text else "."), token.position,
            )  # fmt: skip
        key, window_s = found["key"], int(found["count"]) * _SIZES[found["unit"]]
        measure = MEASURES.get(key)
        if measure is not None:
            if not SHORTEST_S <= window_s <= LONGEST_CALLS_S or window_s % (SLICE_S if window_s < FINE_BELOW_S else MINUTE_S):
                raise RuleError("Windows of calls are 30s to 6h: whole tens of seconds below 3m, whole minutes from there.", token.position)
            return measure, window_s, False
        measure = self._metrics.get(key)
        if measure is None:
            known = ", ".join(MEASURES)
            raise RuleError(f"There is no measure {key}. There are {known}, and the registered metrics.", token.position)
        if not 3600 <= window_s <= LONGEST_METRIC_S or window_s % 3600:
            raise RuleError(f"{key} is read over whole hours: 1h to 7d.", token.position)
        return measure, window_s, True

    def _limit(self, measure: Measure, is_metric: bool) -> Limit:
        token = self._take()
        if token.kind == "number" or token.text == "$":
            self._place -= 1
            return Limit("number", offset=self._amount(measure))
        if token.text not in ("baseline", "control"):
            raise RuleError("A number, “baseline” or “control” is expected.", token.position)
        if is_metric:
            raise RuleError(
                f"{measure.key} is of the whole organisation: it has no {token.text}. Compare it with a number.", token.position
            )
        reference: Reference = "baseline" if token.text == "baseline" else "control"
        if self._taken("*"):
            factor = self._take()
            if factor.kind != "number" or float(factor.text) <= 0:
                raise RuleError("A factor above 0 is expected after “*”.", factor.position)
            return Limit(reference, factor=float(factor.text))
        for sign in (1, -1):
            if self._taken("+" if sign == 1 else "-"):
                return Limit(reference, offset=sign * self._amount(measure))
        return Limit(reference)

    def _amount(self, measure: Measure) -> float:
        """A number in the measure's unit."""
        dollars = self._taken("$")
        token = self._take()
        if token.kind != "number":
            raise RuleError("A number is expected.", token.position)
        value = float(token.text)
        unit = "$" if dollars else ""
        if not dollars and self._next.text in _UNITS:
            unit = self._take().text
        given, factor = _UNITS.get(unit, (unit, 1.0))
        if unit and measure.unit == "s" and given == "ms":
            given, factor = "s", factor / 1000
        if measure.unit in ("%", "pp", "ms", "s", "USD") and given != measure.unit and not (measure.unit == "pp" and given == "%"):
            shown = {"%": "5%", "pp": "2pp", "ms": "800ms or 2s", "s": "2s", "USD": "$0.02"}[measure.unit]
            raise RuleError(f"{measure.key} is in {measure.unit}: write for example {shown}.", token.position)
        if unit and measure.unit not in ("%", "pp", "ms", "s", "USD"):
            raise RuleError(f"{measure.key} is a {measure.unit}: write the number alone.", token.position)
        if measure.unit == "%" and value > 100:
            raise RuleError("A share is at most 100%.", token.position)
        return value * factor

    def _whole(self, what: str, least: int, most: int) -> int:
        token = self._take()
        if token.kind != "number" or "." in token.text or len(token.text) > 7 or not least <= int(token.text) <= most:
            raise RuleError(f"A whole number from {least} to {most:,} is expected: {what}.", token.position)
        return int(token.text)


def parse(text: str, metrics: Mapping[str, Measure] | None = None) -> Rule:
    """Read a rule. `metrics`: the registered metrics that it may name. Raises RuleError."""
    if len(text) > MAX_LENGTH:
        raise RuleError(f"A rule has at most {MAX_LENGTH} characters.", MAX_LENGTH)
    return _Parser(text, metrics or {}).rule()


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
    compare = _COMPARE[one.operator]
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
