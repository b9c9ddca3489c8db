"""The evidence of a gate's evaluation: one record per criterion with every input of its verdict, and the verdict.

Readings are taken once for all gates that are judged as of the same moment; the rest of the inputs is read for many gates at a time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django_tenants.utils import tenant_context

from governance import metrics
from governance.models import Tenant, User
from governance.schema import current_schema
from rollouts import aggregation, rules
from rollouts.aggregation import Aggregate
from rollouts.models import Attestation, CohortMember, Criterion, Evaluation, Gate, Waiver

logger = logging.getLogger(__name__)

READ_TIMEOUT_MS = 20_000
"""How long one metric may take: a slow one must not hold the rollout's lock for longer."""
COHORT_READ_EVERY = timedelta(minutes=10)
"""An act of a person takes a cohort's figures as the schedule has read them, unless they are older."""
NEVER_NEGATIVE = frozenset(["count", "ms", "s", "h", "days"])
"""Units of figures that are 0 at least, also where they are not known."""
_EMPTY: Mapping[str, Any] = {"value": None, "sample": 0, "low": None, "high": None, "statistics": {}, "error": ""}

Readings = dict[tuple[str, str, int, str], dict[str, Any]]
"""What metrics read up to one moment, by schema, metric, hours, and the cohort of the rollout for which it was read, where it may matter."""


@dataclass
class Inputs:
    """What the verdicts of one gate rest on, beside the readings."""

    criteria: list[Criterion] = field(default_factory=list)
    attestations: dict[int, Attestation] = field(default_factory=dict)
    waivers: dict[int, Waiver] = field(default_factory=dict)
    cohort: str = ""
    organisations: list[Tenant] = field(default_factory=list)
    """Whose figures count, when the rollout is over a cohort."""


def inputs_of(gates: Collection[Gate], *, at: datetime) -> dict[int, Inputs]:
    """By gate. Three queries for any number of gates, and one for each cohort; of attestations, the newest since each gate opened."""
    organisations = {slug: _active_in(slug) for slug in {gate.rollout.cohort for gate in gates} if slug}
    found = {gate.pk: Inputs(cohort=gate.rollout.cohort, organisations=organisations.get(gate.rollout.cohort, [])) for gate in gates}
    for criterion in Criterion.objects.filter(gate__in=found).order_by("gate", "position"):
        found[criterion.gate_id].criteria.append(criterion)
    made = Attestation.objects.filter(criterion__gate__in=found, at__gte=F("criterion__gate__opened_at"), at__lte=at)
    for attestation in made.select_related("by", "criterion").order_by("at", "pk"):
        found[attestation.criterion.gate_id].attestations[attestation.criterion_id] = attestation
    in_force = Waiver.objects.filter(criterion__gate__in=found, approved=True, until__gt=at)
    for waiver in in_force.select_related("requested_by", "decided_by", "criterion").order_by("decided_at"):
        found[waiver.criterion.gate_id].waivers[waiver.criterion_id] = waiver
    return found


def build(
    gate: Gate,
    inputs: Inputs,
    *,
    previous: Evaluation | None,
    last: Evaluation | None,
    at: datetime,
    readings: Readings,
    trigger: Evaluation.Trigger,
    actor: User | None = None,
) -> Evaluation:
    """The evaluation, not saved yet. `previous` is the newest since the gate opened, `last` the newest at all; what is read here is added to `readings`."""
    before = {record["key"]: record for record in previous.records} if previous else {}
    judged = [_record(criterion, inputs, before.get(criterion.key), previous, at, readings, trigger) for criterion in inputs.criteria]
    evidence = rules.canonical(
        {"rollout": gate.rollout.slug, "gate": gate.number, "at": at.isoformat(), "rules": rules.VERSION, "criteria": judged}
    )
    # What is hashed is what will be read, so the rest follows from the text.
    records: list[dict[str, Any]] = json.loads(evidence)["criteria"]
    deciding = [rules.Verdict(record["verdict"]) for record in records if record["severity"] != Criterion.Severity.OBSERVE]
    previous_hash = last.evidence_hash if last else rules.sha256(f"{rules.GENESIS}:{gate.pk}:{current_schema()}")
    return Evaluation(
        gate=gate,
        sequence=(last.sequence if last else 0) + 1,
        at=at,
        trigger=trigger,
        requested_by=actor,
        rules_version=rules.VERSION,
        verdict=rules.worst(deciding),
        is_ready=rules.is_ready(deciding),
        digest=rules.digest(records),
        evidence=evidence,
        evidence_hash=rules.evidence_hash(evidence, previous=previous_hash),
        previous_hash=previous_hash,
    )


def read_for(gate_ids: Iterable[int], *, at: datetime, readings: Readings) -> None:
    """Read each metric and window that these gates are bound to, once, and add it to `readings`. Holds no lock."""
    bound = Criterion.objects.filter(gate__in=list(gate_ids), kind=Criterion.Kind.METRIC)
    alone = bound.filter(gate__rollout__cohort="").order_by("metric", "window_hours").values_list("metric", "window_hours").distinct()
    for metric, hours in alone:
        if hours is not None:  # a constraint says so
            _reading(metric, hours, at, readings)
    organisations: dict[str, list[Tenant]] = {}
    for criterion in bound.exclude(gate__rollout__cohort="").select_related("gate__rollout").order_by("metric", "window_hours"):
        cohort = criterion.gate.rollout.cohort
        if cohort not in organisations:
            organisations[cohort] = _active_in(cohort)
        _measured(criterion, Inputs(cohort=cohort, organisations=organisations[cohort]), readings, at)


def _active_in(cohort: str) -> list[Tenant]:
    members = CohortMember.objects.filter(cohort__slug=cohort, state=CohortMember.State.ACTIVE)
    return list(Tenant.objects.filter(pk__in=members.values("tenant")).order_by("slug"))


def registered(key: str) -> metrics.Metric | None:
    try:
        return metrics.get(key)
    except KeyError:
        return None


def read_metric(key: str, window: metrics.Window) -> dict[str, Any]:
    """A reading as plain values. Whatever goes wrong in the metric is an error of this reading, logged with its traceback."""
    metric = registered(key)
    if metric is None:
        return {**_EMPTY, "error": f"no app offers the metric {key}"}
    try:
        with transaction.atomic(), connection.cursor() as cursor:  # a savepoint: an SQL error inside the metric stays inside
            cursor.execute("SELECT current_setting('statement_timeout')")
            before = cursor.fetchone()[0]
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(READ_TIMEOUT_MS)])
            found = metric.read(window)
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [before])
            reading = {
                "value": _number(found.value),
                "sample": int(found.sample),
                "low": _number(found.low),
                "high": _number(found.high),
                "statistics": json.loads(json.dumps(dict(found.statistics), default=str, allow_nan=False)),
                "error": "",
            }
            rules.canonical(reading)
            return reading
    except Exception as error:  # the metric is another app's code: its defect must not hide the other criteria
        logger.exception("metric.failed", extra={"metric": key})
        return {**_EMPTY, "error": f"{key} could not be read: {type(error).__name__}"}


def _record(
    criterion: Criterion,
    inputs: Inputs,
    before: Mapping[str, Any] | None,
    previous: Evaluation | None,
    at: datetime,
    readings: Readings,
    trigger: Evaluation.Trigger,
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "key": criterion.key,
        "title": criterion.title,
        "kind": criterion.kind,
        "severity": criterion.severity,
        "role": criterion.role,
        "rule": None,
        "window": None,
        "reading": None,
        "attestation": None,
        "waiver": _waiver(inputs.waivers.get(criterion.pk)),
    }
    if criterion.is_attested:
        record["rule"] = {"evidence": criterion.evidence}
        record["attestation"] = _attestation(inputs.attestations.get(criterion.pk))
    else:
        if trigger != Evaluation.Trigger.SCHEDULE and before is not None and _is_recent_of_cohort(before, inputs.cohort, at):
            record.update({name: before[name] for name in ("rule", "window", "reading")})
        else:
            record.update(_measured(criterion, inputs, readings, at))
        held = rules.held_since(before, previous_at=previous.at if previous else None, at=at)
        record["reading"] = {**record["reading"], "held_since": held.isoformat() if held else None}
        if criterion.sustain_of:
            earlier = rules.held_before(before, previous_at=previous.at if previous else None, at=at)
            record["reading"]["held_before"] = list(earlier)[1 - criterion.sustain_of :]
    judgement = rules.judge_record(record, at=at)
    record.update(
        verdict=str(judgement.verdict),
        raw=str(judgement.raw),
        reason=judgement.reason,
        held_since=judgement.held_since.isoformat() if judgement.held_since else None,
    )
    if judgement.held:
        # Only the schedule's evaluations add to the count: nobody gets there by evaluating again and again.
        record["held"] = list(judgement.held) if trigger == Evaluation.Trigger.SCHEDULE else record["reading"]["held_before"]
    return record


def _is_recent_of_cohort(before: Mapping[str, Any], cohort: str, at: datetime) -> bool:
    """Whether the last evaluation has just read the cohort: what people do must not read every organisation again while the rollout is locked."""
    asked = (before["rule"] or {}).get("over") or {}
    return asked.get("cohort") == cohort != "" and at - datetime.fromisoformat(before["window"]["end"]) <= COHORT_READ_EVERY


def _measured(criterion: Criterion, inputs: Inputs, readings: Readings, at: datetime) -> dict[str, Any]:
    assert criterion.window_hours is not None
    over = over_cohort(criterion) if inputs.cohort else None
    key = over["metric"] if over else criterion.metric
    metric = registered(key)
    # A census (models served, now) has a minimum of 0: none of them is a figure that can fail, though never pass.
    minimum = max(criterion.minimum_sample or 0, metric.minimum_sample if metric else 1)
    rule: dict[str, Any] = {
        "metric": key,
        "operator": criterion.operator,
        "threshold": criterion.threshold,
        "unit": criterion.unit,
        "window_hours": criterion.window_hours,
        "minimum_sample": minimum,
        "sustain_hours": criterion.sustain_hours,
    }
    if criterion.sustain_of:
        rule |= {"sustain_times": criterion.sustain_times, "sustain_of": criterion.sustain_of}
    if over is None:
        reading = _reading(key, criterion.window_hours, at, readings, cohort=inputs.cohort)
    else:
        members = [
            {"organisation": tenant.slug, **_reading(key, criterion.window_hours, at, readings, tenant)} for tenant in inputs.organisations
        ]
        over |= {
            "cohort": inputs.cohort,
            "minimum_sample": metric.minimum_sample if metric else 1,
            "floor": 0 if metric and metric.unit in NEVER_NEGATIVE else None,
        }
        rule |= {"over": over, "minimum_sample": criterion.minimum_sample or 1}
        if over["aggregate"] == Aggregate.SHARE:
            strict = over["more_than"]
            rule |= {"operator": ">=" if strict is None else ">", "threshold": over["at_least"] if strict is None else strict, "unit": "%"}
        reading = {**aggregation.together(over, members), "members": members}
    # A share and a count are of organisations, whatever is measured of each.
    is_figure = over is None or over["aggregate"] in (Aggregate.MEDIAN, Aggregate.SUM)
    if metric is not None and metric.unit != criterion.unit and is_figure and not reading["error"]:
        reading = {**reading, **_EMPTY, "error": f"{key} is in {metric.unit}, the rule is in {criterion.unit}"}
    return {
        "rule": rule,
        "window": {"start": (at - timedelta(hours=criterion.window_hours)).isoformat(), "end": at.isoformat()},
        "reading": reading,
    }


def over_cohort(criterion: Criterion) -> dict[str, Any] | None:
    """How organisations are taken together for this criterion; None when its metric is of all of them anyway."""
    over = aggregation.taken_together(criterion.over, metric=criterion.metric, operator=criterion.operator, threshold=criterion.threshold)
    metric = registered(over["metric"])
    return None if metric is not None and metric.scope == "programme" else over


def _reading(
    metric: str, hours: int, at: datetime, readings: Readings, tenant: Tenant | None = None, *, cohort: str = ""
) -> dict[str, Any]:
    name = (current_schema() if tenant is None else tenant.schema_name, metric, hours, cohort)
    if name not in readings:
        with nullcontext() if tenant is None else tenant_context(tenant):
            readings[name] = read_metric(metric, metrics.Window(at - timedelta(hours=hours), at, cohort))
    return readings[name]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _attestation(attestation: Attestation | None) -> dict[str, Any] | None:
    if attestation is None:
        return None
    return {
        "id": attestation.pk,
        "met": attestation.met,
        "summary": attestation.summary,
        "note": attestation.note,
        "link": attestation.link,
        "file_name": attestation.file_name,
        "file_sha256": attestation.file_sha256,
        "by": str(attestation.by),
        "at": attestation.at.isoformat(),
    }


def _waiver(waiver: Waiver | None) -> dict[str, Any] | None:
    if waiver is None:
        return None
    return {
        "id": waiver.pk,
        "covers": waiver.covers,
        "until": waiver.until.isoformat(),
        "reason": waiver.reason,
        "requested_by": str(waiver.requested_by),
        "approved_by": str(waiver.decided_by),
    }
