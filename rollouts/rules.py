"""What a criterion's verdict is, when a gate is ready, and what a signature is bound to.

Pure: plain values in, plain values out, no clock and no database. The evidence of an evaluation holds every input of
`judge`, so `replay` can come to every past verdict again from the evidence alone.

Two sentences hold in every fold: no data is never a pass, and a gate without an evaluation, or without a criterion that
decides, is never ready. (Where that went wrong elsewhere: research/rollouts-peers.md, §3.)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast

from rollouts import aggregation
from rollouts.thresholds import side

VERSION = 1
"""Grows when the same evidence would get another verdict. Part of the digest, so that such a change voids signatures."""

GENESIS = "0" * 64
MAX_GAP = timedelta(hours=1)
"""Nobody knows what happened between two evaluations further apart than this: holding begins anew."""


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict, not a password
    WAIVED = "waived"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"
    ERROR = "error"
    FAIL = "fail"


BADNESS = {verdict: rank for rank, verdict in enumerate(Verdict)}
"""Best to worst. A waiver given for one verdict also covers the better ones, never a worse one."""
OPENS = frozenset({Verdict.PASS, Verdict.WAIVED})


@dataclass(frozen=True)
class MetricCriterion:
    """A criterion that a metric decides."""

    metric: str
    operator: str
    threshold: float
    unit: str
    minimum_sample: int
    sustain_hours: int = 0
    sustain_times: int = 0
    """Of the last `sustain_of` evaluations, this one among them."""
    sustain_of: int = 0


@dataclass(frozen=True)
class Measured:
    """What was read. `error` is set when reading broke; then the figures are not."""

    value: float | None = None
    sample: int = 0
    low: float | None = None
    high: float | None = None
    statistics: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    is_unbounded: bool = False
    """Nothing bounds it above; then `high` says nothing."""
    why_none: str = ""
    """Why there is no value, where that is known."""
    held_since: datetime | None = None
    """Since when, without a break before this evaluation, the rule has held; None when it had not."""
    held_before: tuple[bool, ...] = ()
    """Whether the rule held in the evaluations before this one, oldest first; for `sustain_of`."""


@dataclass(frozen=True)
class Attested:
    """What somebody with the right role stated, with its evidence."""

    met: bool
    summary: str
    by: str
    at: datetime


@dataclass(frozen=True)
class Waived:
    """An approved waiver."""

    covers: Verdict
    until: datetime


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    raw: Verdict
    """The verdict without the waiver."""
    reason: str
    held_since: datetime | None = None
    """To be carried to the next evaluation."""
    held: tuple[bool, ...] = ()
    """Likewise: whether the rule held, here and before; empty when nobody asks how often."""


def judge_metric(criterion: MetricCriterion, measured: Measured, *, at: datetime) -> Judgement:
    """As the reading alone says, or, where the criterion asks for it, in so many of the last evaluations."""
    judgement = _judge_reading(criterion, measured, at=at)
    if not criterion.sustain_of:
        return judgement
    held = (*measured.held_before, judgement.verdict is Verdict.PASS)[-criterion.sustain_of :]
    if judgement.verdict is Verdict.PASS and sum(held) < criterion.sustain_times:
        reason = f"held in {sum(held)} of the last {len(held)} evaluations, {criterion.sustain_times} of {criterion.sustain_of} are needed"
        return Judgement(Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, reason, judgement.held_since, held)
    return replace(judgement, held=held)


def _judge_reading(criterion: MetricCriterion, measured: Measured, *, at: datetime) -> Judgement:
    """pass: the whole interval is on the good side and the sample is reached; fail: the whole interval is on the bad side;
    inconclusive: the interval straddles the threshold, the sample is too small, or it has not held long enough."""
    if measured.error:
        return Judgement(Verdict.ERROR, Verdict.ERROR, measured.error)
    if measured.value is None:
        return Judgement(Verdict.NO_DATA, Verdict.NO_DATA, measured.why_none or "nothing was measured in the window")
    low = measured.value if measured.low is None else measured.low
    high = measured.value if measured.high is None else measured.high
    if not all(math.isfinite(number) for number in (measured.value, low, high)) or not low <= measured.value <= high or measured.sample < 0:
        return Judgement(Verdict.ERROR, Verdict.ERROR, "the metric returned a reading that contradicts itself")
    high = math.inf if measured.is_unbounded else high
    if measured.sample < criterion.minimum_sample:
        if measured.sample == 0:
            return Judgement(Verdict.NO_DATA, Verdict.NO_DATA, f"no observations, {criterion.minimum_sample} are needed")
        return Judgement(Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, f"{measured.sample} of {criterion.minimum_sample} observations")
    is_good = side(criterion.operator, criterion.threshold, low, high)
    if is_good is None:
        return Judgement(Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, "the threshold is inside the interval")
    if not is_good:
        return Judgement(
            Verdict.FAIL,
            Verdict.FAIL,
            "the whole interval is on the wrong side of the threshold" if high > low else "the value is on the wrong side of the threshold",
        )
    if measured.sample == 0:
        return Judgement(Verdict.NO_DATA, Verdict.NO_DATA, "nothing was observed, and nothing never passes")
    since = measured.held_since or at
    if at - since < timedelta(hours=criterion.sustain_hours):
        hours = int((at - since).total_seconds() // 3600)
        return Judgement(Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, f"holds for {hours} of {criterion.sustain_hours} h", since)
    return Judgement(
        Verdict.PASS,
        Verdict.PASS,
        "the whole interval is on the right side of the threshold" if high > low else "the value is on the right side of the threshold",
        since,
    )


def judge_attestation(attested: Attested | None) -> Judgement:
    if attested is None:
        return Judgement(Verdict.NO_DATA, Verdict.NO_DATA, "not attested yet")
    if attested.met:
        return Judgement(Verdict.PASS, Verdict.PASS, f"attested by {attested.by}")
    return Judgement(Verdict.FAIL, Verdict.FAIL, f"attested as not met by {attested.by}")


def apply_waiver(judgement: Judgement, waived: Waived | None, *, at: datetime, waivable: bool) -> Judgement:
    """A waiver that is approved, has not ended and was given for a verdict this bad or worse."""
    covered = (
        waived is not None
        and waivable
        and judgement.raw is not Verdict.PASS
        and waived.until > at
        and BADNESS[judgement.raw] <= BADNESS[waived.covers]
    )
    if not covered or waived is None:
        return judgement
    return replace(judgement, verdict=Verdict.WAIVED, reason=f"waived to {waived.until:%b} {waived.until.day}; {judgement.reason}")


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gate's verdict. Of nothing it is no data, never pass."""
    return max(verdicts, key=BADNESS.__getitem__, default=Verdict.NO_DATA)


def is_ready(deciding: Iterable[Verdict]) -> bool:
    """Whether a person may say go: there is something to judge, and all of it passes or is waived."""
    found = list(deciding)
    return bool(found) and all(verdict in OPENS for verdict in found)


def held_since(previous: Mapping[str, Any] | None, *, previous_at: datetime | None, at: datetime) -> datetime | None:
    """What the previous evidence of a criterion says about holding, unless the pause since then was too long to know."""
    if previous is None or previous_at is None or at - previous_at > MAX_GAP or not previous.get("held_since"):
        return None
    return datetime.fromisoformat(previous["held_since"])


def held_before(previous: Mapping[str, Any] | None, *, previous_at: datetime | None, at: datetime) -> tuple[bool, ...]:
    """In which evaluations before this one the rule held, oldest first; of none when the pause since then was too long to know."""
    if previous is None or previous_at is None or at - previous_at > MAX_GAP:
        return ()
    return tuple(previous.get("held", ()))


# Evidence: one JSON object per criterion with every input of its verdict, and the verdict.


def canonical(value: Any) -> str:
    """One text for equal values. NaN and infinities are refused: JSON has none."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def digest(records: Iterable[Mapping[str, Any]]) -> str:
    """What a signature is bound to: the criteria with their rules, the version of these rules, and the verdicts.

    Figures are not part of it: an evaluation with other figures and the same verdicts asks nobody to sign again.
    """
    parts = [
        {"key": record["key"], "kind": record["kind"], "rule": record["rule"], "severity": record["severity"], "verdict": record["verdict"]}
        for record in records
    ]
    return sha256(canonical({"rules": VERSION, "criteria": sorted(parts, key=lambda part: part["key"])}))


def evidence_hash(evidence: str, *, previous: str) -> str:
    """Chains the evaluations of a gate: a changed, removed or inserted one is found."""
    return sha256(f"{previous}\n{evidence}")


def judge_record(record: Mapping[str, Any], *, at: datetime) -> Judgement:
    """The verdict of one criterion from its evidence."""
    if record["kind"] == "metric":
        rule, reading = record["rule"], record["reading"]
        if "over" in rule and not reading["error"]:
            reading = {**reading, **aggregation.together(rule["over"], reading["members"])}
        measured = Measured(
            value=reading["value"],
            sample=reading["sample"],
            low=reading["low"],
            high=reading["high"],
            error=reading["error"],
            is_unbounded=bool(reading.get("statistics", {}).get("is_unbounded")),
            why_none=aggregation.why_unknown(reading) if "over" in rule and not reading["error"] else "",
            held_since=_time(reading["held_since"]),
            held_before=tuple(reading.get("held_before", ())),
        )
        judgement = judge_metric(
            MetricCriterion(
                rule["metric"],
                rule["operator"],
                rule["threshold"],
                rule["unit"],
                rule["minimum_sample"],
                rule["sustain_hours"],
                rule.get("sustain_times", 0),
                rule.get("sustain_of", 0),
            ),
            measured,
            at=at,
        )
    else:
        stated = record["attestation"]
        judgement = judge_attestation(
            None if stated is None else Attested(stated["met"], stated["summary"], stated["by"], cast(datetime, _time(stated["at"])))
        )
    waiver = record["waiver"]
    waived = None if waiver is None else Waived(Verdict(waiver["covers"]), cast(datetime, _time(waiver["until"])))
    return apply_waiver(judgement, waived, at=at, waivable=record["severity"] != "security")


@dataclass(frozen=True)
class Replay:
    """What recomputing an evaluation from its evidence found. Empty `differences` means that it holds."""

    verdict: Verdict
    is_ready: bool
    digest: str
    differences: list[str]


def replay(
    evidence: str, *, at: datetime, stored_verdict: str, stored_ready: bool, stored_digest: str, stored_hash: str, previous_hash: str
) -> Replay:
    """Judge every criterion again from the evidence, fold, and compare with what was stored."""
    records = json.loads(evidence)["criteria"]
    differences, deciding, again = [], [], []
    for record in records:
        judgement = judge_record(record, at=at)
        if judgement.verdict != record["verdict"]:
            differences.append(f"{record['key']}: stored {record['verdict']}, recomputed {judgement.verdict}")
        if record["severity"] != "observe":
            deciding.append(judgement.verdict)
        again.append({**record, "verdict": str(judgement.verdict)})
    verdict, ready, computed = worst(deciding), is_ready(deciding), digest(again)
    if verdict != stored_verdict:
        differences.append(f"gate: stored {stored_verdict}, recomputed {verdict}")
    if ready != stored_ready:
        differences.append(f"readiness: stored {stored_ready}, recomputed {ready}")
    if computed != stored_digest:
        differences.append("the verdict digest differs")
    if evidence_hash(evidence, previous=previous_hash) != stored_hash:
        differences.append("the evidence was changed after it was written")
    return Replay(verdict, ready, computed, differences)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
