"""The evidence of a rollback: every input of the verdict as canonical JSON, and the verdict again from it alone. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollouts import rollback_language as language
from rollouts import rollback_rules as rules
from rollouts.rollback_language import Measure, Rule
from rollouts.rollback_rules import Inputs, Judged, Memory, Outcome, Reading, Series, StepVerdict, Sums
from rollouts.rules import canonical, sha256


def judged_facts(one: Judged) -> dict[str, Any]:
    return {
        "text": one.comparison.text,
        "measure": one.comparison.measure.key,
        "title": one.comparison.measure.title,
        "unit": one.comparison.measure.unit,
        "window_s": one.comparison.window_s,
        "value": one.value,
        "limit": one.limit,
        "calls": one.calls,
        "bad_buckets": one.bad_buckets,
        "outcome": str(one.outcome),
        "reason": one.reason,
    }


def write(
    rule: Rule, inputs: Inputs, verdict: StepVerdict, memory: Memory, *, end: int, clear: float, facts: Mapping[str, Any]
) -> tuple[str, str]:
    """The evidence and its sha256. `facts` are of the flag and the rule, for people."""
    measures = {one.measure.key: one.measure for one in rule.comparisons if one.is_metric}
    body = {
        "rules": rules.VERSION,
        "rule": rule.text,
        "metrics": {key: [measure.title, measure.unit, measure.hint] for key, measure in measures.items()},
        "end": end,
        "clear": clear,
        "memory": [[at, str(said)] for at, said in memory],
        "outcome": str(verdict.outcome),
        "judged": [judged_facts(one) for one in verdict.judged],
        "baselines": dict(inputs.baselines),
        "readings": {name: [reading.value, reading.sample, reading.minimum] for name, reading in inputs.readings.items()},
        "treatment": _buckets(rule, inputs.treatment, end),
        "control": _buckets(rule, inputs.control, end),
        **facts,
    }
    text = canonical(body)
    return text, sha256(text)


def _buckets(rule: Rule, by_size: Mapping[int, Series], end: int) -> dict[str, list[list[Any]]]:
    """What the windows of the step hold, by bucket size."""
    found: dict[str, list[list[Any]]] = {}
    for size, series in sorted(by_size.items()):
        reach = max((one.window_s for one in rule.comparisons if one.bucket_s == size and not one.is_metric), default=0)
        found[str(size)] = [
            [
                start, sums.calls, sums.failed, sums.blocked, sums.priced, sums.cost, sums.cost_squared,
                {str(bucket): count for bucket, count in sums.latency.items()},
            ]
            for start, sums in sorted(series.buckets.items())
            if end - reach <= start < end
        ]  # fmt: skip
    return found


@dataclass(frozen=True)
class Recomputed:
    """What the evidence gives today. Empty `differences`: it holds."""

    outcome: Outcome
    differences: list[str]


def recompute(evidence: str, *, stored_sha256: str) -> Recomputed:
    """Judge the step again from the evidence alone."""
    facts = json.loads(evidence)
    metrics = {key: Measure(key, title, unit, hint) for key, (title, unit, hint) in facts["metrics"].items()}
    rule = language.parse(facts["rule"], metrics)
    inputs = Inputs(
        _series(facts["treatment"]), _series(facts["control"]), facts["baselines"],
        {name: Reading(*reading) for name, reading in facts["readings"].items()},
    )  # fmt: skip
    verdict = rules.judge(rule, inputs, end=facts["end"], clear=facts["clear"])
    memory = tuple((at, Outcome(said)) for at, said in facts["memory"])
    differences = []
    if sha256(evidence) != stored_sha256:
        differences.append("the evidence was changed after it was written")
    if verdict.outcome != facts["outcome"]:
        differences.append(f"stored {facts['outcome']}, recomputed {verdict.outcome}")
    if json.loads(canonical([judged_facts(one) for one in verdict.judged])) != facts["judged"]:
        differences.append("figures differ")
    if not rules.is_firing(rule, memory, end=facts["end"]):
        differences.append("the steps before don't make it fire")
    return Recomputed(verdict.outcome, differences)


def _series(by_size: Mapping[str, Sequence[Sequence[Any]]]) -> dict[int, Series]:
    return {int(size): Series({start: sums_of(numbers, latency) for start, *numbers, latency in rows}) for size, rows in by_size.items()}


def sums_of(numbers: Sequence[Any], latency: Mapping[str, int] | None) -> Sums:
    """From the columns of a minute, whose durations have their bucket as a text, as JSON has it."""
    sums = Sums(*numbers)
    sums.latency = {int(bucket): count for bucket, count in latency.items()} if latency else {}
    return sums
