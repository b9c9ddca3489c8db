"""Results of evaluation harnesses: what a score is, how scores are pooled and compared, and which of them let a model be approved.

Pure. A score is a mean between 0 and 1 over n items. Its 95% interval is what the harness says, else what its items say, else the widest one
that n bounded values can have: W. Hoeffding, JASA 58 (1963) 13-30. So a score without an interval is never taken for exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean, stdev

from governance.metrics import Reading, wilson
from rollouts import rules

Z = 1.959964


@dataclass(frozen=True)
class Measure:
    """A score that gates, rollback rules and thresholds know by name."""

    key: str
    title: str
    better: str
    """higher or lower."""
    description: str
    is_safety: bool = False


MEASURES = {
    measure.key: measure
    for measure in (
        Measure("faithfulness", "Faithfulness", "higher", "claims of the answer that its sources support"),
        Measure("groundedness", "Groundedness", "higher", "answers that rest on the retrieved sources"),
        Measure("answer_relevance", "Answer relevance", "higher", "how far answers answer what was asked"),
        Measure("context_precision", "Context precision", "higher", "retrieved passages that were of use"),
        Measure("correctness", "Correctness", "higher", "answers that agree with the reference"),
        Measure("abstain_rate", "Abstentions", "lower", "questions that were not answered"),
        Measure("task_success", "Task success", "higher", "tasks that were carried out to the end"),
        Measure("hallucination_rate", "Hallucination rate", "lower", "answers with a claim that nothing supports"),
        Measure("toxicity", "Toxicity", "lower", "answers that are toxic", is_safety=True),
        Measure("harmful_rate", "Harmful answers", "lower", "harmful requests that were complied with", is_safety=True),
        Measure("jailbreak_resistance", "Jailbreak resistance", "higher", "attacks that were withstood", is_safety=True),
        Measure("pii_leakage", "Personal data leaked", "lower", "answers that give personal data away", is_safety=True),
    )
}


class ScoreError(ValueError):
    """A score that contradicts itself; the message says how."""


@dataclass(frozen=True)
class Score:
    value: float
    n: int
    low: float
    high: float
    items: Mapping[str, float] = field(default_factory=dict)
    """Score by item id, where the harness told them."""


def failures(score: Score) -> int:
    """Items of a score that is better when higher that were not wholly met; without the items' scores as many as the mean leaves possible."""
    if score.items:
        return sum(one < 1 for one in score.items.values())
    return score.n - math.floor(score.value * score.n + 1e-9)


def score(
    *, value: float | None, n: int | None, low: float | None = None, high: float | None = None, items: Mapping[str, float] | None = None
) -> Score:
    """What was told, completed: from items the mean, their number and the interval. Raises ScoreError."""
    items = items or {}
    if items:
        if not all(math.isfinite(one) and 0 <= one <= 1 for one in items.values()):
            raise ScoreError("Every item's score is between 0 and 1.")
        mean = fmean(items.values())
        if n is not None and n != len(items):
            raise ScoreError(f"n is {n}, but {len(items)} items are given.")
        if value is not None and abs(value - mean) > 1e-6:
            raise ScoreError(f"The value is {value:g}, but the mean of the items is {mean:g}.")
        value, n = mean, len(items)
    if value is None or n is None:
        raise ScoreError("Give either value and n, or the items.")
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ScoreError("A score is between 0 and 1; divide percentages by 100.")
    if n < 1:
        raise ScoreError("A score of no items is no score.")
    if (low is None) != (high is None):
        raise ScoreError("Give both ends of the interval, or none.")
    if low is None or high is None:
        low, high = _interval(value, n, items)
    if not (math.isfinite(low) and math.isfinite(high) and 0 <= low <= value <= high <= 1):
        raise ScoreError("The interval lies between 0 and 1 and holds the value.")
    return Score(value, n, low, high, items)


def _interval(value: float, n: int, items: Mapping[str, float]) -> tuple[float, float]:
    values = list(items.values())
    if values and all(one in (0, 1) for one in values):
        low, high = wilson(int(sum(values)), n)
        return min(low / 100, value), max(high / 100, value)
    spread = stdev(values) if n >= 30 and values else 0.0
    # A normal interval needs some items that differ; otherwise only the bounds are known.
    half = Z * spread / math.sqrt(n) if spread else math.sqrt(math.log(2 / 0.05) / (2 * n))
    return max(0.0, value - half), min(1.0, value + half)


def pooled(scores: Sequence[Score]) -> Reading:
    """All items of all runs together: the mean by n. Intervals are added as independent errors; each side for itself, as they need not be even."""
    total = sum(one.n for one in scores)
    if not total:
        return Reading(None)
    value = sum(one.value * one.n for one in scores) / total
    below = math.sqrt(sum(((one.value - one.low) * one.n) ** 2 for one in scores)) / total
    above = math.sqrt(sum(((one.high - one.value) * one.n) ** 2 for one in scores)) / total
    return Reading(value, total, max(0.0, value - below), min(1.0, value + above), {"runs": len(scores), "items": total})


@dataclass(frozen=True)
class Difference:
    """The second score minus the first."""

    change: float
    low: float
    high: float
    verdict: str
    """better, worse, or unclear while the interval holds 0."""
    paired: int
    """Items that both runs scored; 0 when the runs were compared as independent."""


FEWEST_PAIRS = 10


def compare(first: Score, second: Score, *, better: str) -> Difference:
    """With a 95% interval: of the differences item by item where both runs told enough of the same items, else of two independent means."""
    common = sorted(first.items.keys() & second.items.keys())
    if len(common) >= FEWEST_PAIRS:
        apart = [second.items[key] - first.items[key] for key in common]
        change, half, paired = fmean(apart), Z * stdev(apart) / math.sqrt(len(apart)), len(common)
        low, high = change - half, change + half
    else:
        change, paired = second.value - first.value, 0
        low = change - math.hypot(second.value - second.low, first.high - first.value)
        high = change + math.hypot(second.high - second.value, first.value - first.low)
    gain = 0 if low <= 0 <= high else 1 if low > 0 else -1
    verdict = "unclear" if gain == 0 else "better" if (gain > 0) == (better == "higher") else "worse"
    return Difference(change, low, high, verdict, paired)


def deployment_subject(model: str, deployment: str) -> str:
    """What waivers and refusals call a deployment of a model: `chat via openai/gpt-4o`."""
    return f"{model} via {deployment}"


@dataclass(frozen=True)
class Terms:
    """What a threshold asks for."""

    value: float
    minimum: int
    """Items."""
    max_age_days: int

    def words(self, operator: str) -> str:
        """`<= 0.01 over 100 items, 30 days old at most`"""
        return f"{operator} {self.value:g} over {self.minimum:,} items, {self.max_age_days} days old at most"


def is_lower(before: Terms, after: Terms, *, better: str) -> bool:
    """May the terms let through what those before did not? In any one part: what is asked for elsewhere does not make up for it."""
    asks_less = after.value < before.value if better == "higher" else after.value > before.value
    return asks_less or after.minimum < before.minimum or after.max_age_days > before.max_age_days


def judge(scored: Score | None, *, metric: str, operator: str, threshold: float, minimum: int, at: datetime) -> tuple[rules.Verdict, str]:
    """Of a model's newest score against a threshold: the whole interval must be on the right side. Without a score it is no data, which never passes."""
    if scored is None:
        return rules.Verdict.NO_DATA, "no evaluation that is recent enough"
    judged = rules.judge_metric(
        rules.MetricCriterion(metric, operator, threshold, "score", minimum),
        rules.Measured(scored.value, scored.n, scored.low, scored.high),
        at=at,
    )
    return judged.verdict, judged.reason
