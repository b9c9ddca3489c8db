"""Rollback rules, their readings and what they did, in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from governance.templatetags.gatehouse import duration
from rollouts import wording
from rollouts.models import RollbackRule
from rollouts.rollback_evidence import sums_of
from rollouts.rollback_language import FINE_BELOW_S, MEASURES, MINUTE_S, SLICE_S, window_text
from rollouts.rollback_rules import Judged, StepVerdict

OUTCOMES = {"bad": "beyond the limit", "fine": "fine", "hold": "not clear yet", "unknown": "unknown"}


def judged(one: Judged) -> str:
    """`Failed calls 34.2% over 5m, limit 5%`"""
    measure = one.comparison.measure
    value, limit = wording.figure(one.value, measure.unit), wording.figure(one.limit, measure.unit)
    return f"{measure.title} {value} over {window_text(one.comparison.window_s)}, limit {limit}"


def breach(verdict: StepVerdict) -> str:
    return "; ".join(judged(one) for one in verdict.breaching)


def readings(rule: RollbackRule) -> list[dict[str, Any]]:
    """Of the last step, by comparison."""
    return [reading(each) for each in rule.reading]


def reading(found: dict[str, Any]) -> dict[str, Any]:
    """One comparison's facts, as a page shows them."""
    return {
        **found,
        "shown_value": wording.figure(found["value"], found["unit"]),
        "shown_limit": wording.figure(found["limit"], found["unit"]),
        "word": OUTCOMES[found["outcome"]],
    }


def baselines(rule: RollbackRule) -> list[str]:
    """`Failed calls 0.5%, of 4,200 calls on 7 days`"""
    return [
        f"{MEASURES[key].title} {wording.figure(found['value'], MEASURES[key].unit)}, of {found['calls']:,.0f} calls on {found['days']} day"
        + ("" if found["days"] == 1 else "s")
        for key, found in rule.baselines.items()
    ]


def earliest(seconds: float | None) -> str:
    return "never" if seconds is None else str(duration(round(seconds) * 1000))


def buckets(facts: dict[str, Any], breached: dict[str, Any]) -> list[dict[str, Any]]:
    """The window of a breach bucket by bucket: when, calls and value of treatment and control. Empty for a registered metric."""
    measure = MEASURES.get(breached["measure"])
    if measure is None:
        return []
    size = str(SLICE_S if breached["window_s"] < FINE_BELOW_S else MINUTE_S)
    first = facts["end"] - breached["window_s"]
    rows: dict[int, dict[str, Any]] = {}
    for arm in ("treatment", "control"):
        for start, *numbers, latency in facts[arm].get(size, []):
            if start >= first:
                value, calls = sums_of(numbers, latency).read(measure)
                rows.setdefault(start, {"at": datetime.fromtimestamp(start, UTC)})[arm] = (wording.figure(value, measure.unit), calls)
    return [rows[start] for start in sorted(rows)]


FIRST_STEPS: Mapping[str, str] = {
    "error": "Open the failed calls and read their error codes: is it the provider, the model's name, or what is sent to it?",
    "latency": "Open the slowest calls and see on which step their time went: the upstream, or a guardrail?",
    "cost": "Open the dearest calls and compare their tokens with the control's: longer prompts, longer answers, or another price?",
    "quality": "Read the metric's evidence, and a sample of answers of the treatment beside the control's.",
    "data": "Open the calls that a guardrail stopped and see what it found: is data going where it should not?",
}
"""What to do first, by class of failure."""
