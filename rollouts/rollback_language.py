"""The language of rollback rules, and what a rule says. Pure.

    error_rate_5m > 5% for 3 of 5 min 200
    latency_p95_5m > baseline*1.3 or cost_per_call_1h > baseline*3
    error_rate_1m > control + 20% min 50
    guardrails.unredacted_pii_6h > 0

`<measure>_<window> <operator> <number | baseline | control>`, joined by `and`, `or` and brackets, then `for k of n` (steps) and `min N` (calls in the
window). A measure is one of `MEASURES`, of the calls that got the variant, or a registered metric (`noun.name`) of the whole organisation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rollouts.thresholds import COMPARE

MAX_LENGTH = 500
MAX_COMPARISONS = 8
MAX_DEPTH = 5
MAX_STEPS = 60
DEFAULT_MINIMUM = 200
"""Calls in a window. On a true 0.5% a rate of three times that is reached by chance in 1.9% of windows of 200 (research/rollouts-peers.md, §5)."""
MINUTE_S, SLICE_S = 60, 10
FINE_BELOW_S = 180
"""Shorter windows are looked at in slices of ten seconds, the others in minutes."""
LONGEST_CALLS_S, LONGEST_METRIC_S = 6 * 3600, 7 * 86_400
SHORTEST_S = 30

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
        if sign.text not in COMPARE:
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
