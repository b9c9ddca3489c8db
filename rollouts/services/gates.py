"""Evaluating a gate, reopening it, and entering the phase behind it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from governance import metrics
from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit
from rollouts import rules, signing, tasks, wording
from rollouts.errors import EvidenceMissingError, GateNotOpenError
from rollouts.models import Attestation, Criterion, Evaluation, Gate, Phase, ReleaseLogEntry, Rollout, SignOff, Waiver
from rollouts.services.locking import check_decidable, lock_gate
from rollouts.services.release_log import note

logger = logging.getLogger(__name__)

EVALUATE_EVERY = timedelta(minutes=5)
"""How old the newest evaluation of an open gate may get. A gate that has none is due at once."""
READ_TIMEOUT_MS = 20_000
"""How long one metric may take: a slow one must not hold the rollout's lock for longer."""


Readings = dict[tuple[str, int], dict[str, Any]]
"""What metrics read up to one moment, by metric and hours."""


def evaluate_gates(found: Iterable[Gate], *, at: datetime | None = None) -> int:
    """Evaluate those that are due by the schedule, all as of one moment, so that a metric over a window is read once for all of them.

    Each gate in its own transaction: what goes wrong with one is logged, leaves the others alone, and is raised at the end (ExceptionGroup).
    Returns how many were due.
    """
    at, readings, failures, due = at or timezone.now(), Readings(), [], 0
    for gate in found:
        try:
            done = evaluate_gate(gate=gate, trigger=Evaluation.Trigger.SCHEDULE, at=at, only_when_due=True, readings=readings)
            due += done is not None
        except Exception as error:  # the next gate must not pay for it
            logger.exception("gate.not_evaluated", extra={"gate": gate.pk})
            failures.append(error)
    if failures:
        raise ExceptionGroup("gates could not all be evaluated", failures)
    return due


@transaction.atomic
def evaluate_gate(
    *,
    gate: Gate,
    trigger: Evaluation.Trigger,
    actor: User | None = None,
    at: datetime | None = None,
    only_when_due: bool = False,
    readings: Readings | None = None,
) -> Evaluation | None:
    """Judge every criterion of an open gate and write the evidence. A changed verdict voids the signatures that were bound to the old ones.

    A metric that raises makes the verdict of its criterion an error and leaves the others alone. `readings`: what other gates have read up to the
    same `at`; what is read here is added. Returns None when `only_when_due` and another evaluation was quicker.

    Raises NotUnderWayError, GateNotOpenError.
    """
    began = time.monotonic()
    gate = lock_gate(gate)
    at = at or timezone.now()
    if only_when_due and not (gate.rollout.is_under_way and gate.is_decidable and is_due(gate, at=at)):
        return None
    check_decidable(gate)
    previous = gate.latest
    records = _records(gate, previous, at, {} if readings is None else readings)
    deciding = [rules.Verdict(record["verdict"]) for record in records if record["severity"] != Criterion.Severity.OBSERVE]
    evidence = rules.canonical(
        {"rollout": gate.rollout.slug, "gate": gate.number, "at": at.isoformat(), "rules": rules.VERSION, "criteria": records}
    )
    # The newest since the gate opened is the newest at all; only a gate that opened again has older ones.
    last = previous or Evaluation.objects.filter(gate=gate).order_by("-sequence").first()
    previous_hash = last.evidence_hash if last else rules.sha256(f"{rules.GENESIS}:{gate.pk}:{current_schema()}")
    evaluation = Evaluation.objects.create(
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
        took_ms=int((time.monotonic() - began) * 1000),
    )
    gate.latest = evaluation
    gate.save(update_fields=["latest"])
    changed = previous is None or previous.digest != evaluation.digest
    if changed:
        _note_change(gate, previous, evaluation, records)
    if changed or actor is not None:
        audit.record(
            "gate.evaluated",
            actor=actor,
            target=gate,
            at=at,
            verdict=str(evaluation.verdict),
            ready=evaluation.is_ready,
            digest=evaluation.digest,
        )
    return evaluation


def is_due(gate: Gate, *, at: datetime) -> bool:
    """Never evaluated, evaluated too long ago, or a waiver that counted has ended since."""
    if gate.latest is None or at - gate.latest.at >= EVALUATE_EVERY:
        return True
    return Waiver.objects.filter(criterion__gate=gate, approved=True, until__gt=gate.latest.at, until__lte=at).exists()


@transaction.atomic
def reopen_gate(*, gate: Gate, reason: str, actor: User, at: datetime | None = None) -> Gate:
    """Take back a no-go so that people can sign again. The roles that said no-go sign anew; go signatures stay while the verdicts do.

    Raises GateNotOpenError (nobody said no-go), EvidenceMissingError (no reason).
    """
    gate = lock_gate(gate)
    at = at or timezone.now()
    check_decidable(gate)
    if gate.status != Gate.Status.REJECTED:
        raise GateNotOpenError("Nobody has said no-go to this gate.")
    if not reason.strip():
        raise EvidenceMissingError("Say what has changed since the no-go.", field="reason")
    void_signatures(gate, reason=f"reopened by {actor}: {reason}"[:300], at=at, decision=SignOff.Decision.NO_GO)
    gate.status = Gate.Status.OPEN
    gate.save(update_fields=["status"])
    note(
        rollout=gate.rollout,
        kind=ReleaseLogEntry.Kind.REOPENED,
        gate=gate,
        actor=actor,
        at=at,
        text=f"Gate {gate.number} reopened by {actor}: {reason}",
    )
    audit.record("gate.reopened", actor=actor, target=gate, at=at, reason=reason)
    return gate


def void_signatures(
    gate: Gate, *, reason: str, at: datetime, decision: SignOff.Decision | None = None, keep_digest: str = ""
) -> list[SignOff]:
    """Void the gate's live signatures, of one decision only or except those bound to a digest. The caller holds the lock."""
    live = SignOff.objects.filter(gate=gate, voided_at=None).select_related("person")
    if decision is not None:
        live = live.filter(decision=decision)
    voided = list(live.exclude(digest=keep_digest) if keep_digest else live)
    for signoff in voided:
        signoff.voided_at, signoff.void_reason = at, reason
        signoff.save(update_fields=["voided_at", "void_reason"])
        audit.record("signature.voided", actor=None, target=signoff, at=at, reason=reason)
    return voided


def open_phase(phase: Phase, *, rollout: Rollout, actor: User | None, at: datetime) -> None:
    """Enter a phase and open its gate. The caller holds the lock and has checked that it may be entered."""
    phase.status, phase.entered_at, phase.left_at = Phase.Status.CURRENT, at, None
    phase.save(update_fields=["status", "entered_at", "left_at"])
    Gate.objects.filter(phase=phase).update(status=Gate.Status.OPEN, opened_at=at, decided_at=None, latest=None)
    note(rollout=rollout, kind=ReleaseLogEntry.Kind.PHASE, actor=actor, at=at, text=f"{phase.title} begins")
    audit.record("phase.entered", actor=actor, target=phase, target_name=f"{rollout.name}: {phase.title}", at=at, position=phase.position)
    # People look at the gate at once; without a broker the schedule comes to it within half a minute.
    transaction.on_commit(partial(tasks.evaluate_tenant.delay, schema_name=current_schema()), robust=True)


def pass_gate(gate: Gate, *, actor: User, at: datetime) -> None:
    """Close the gate behind the phase and enter the next one, or finish the rollout. The caller holds the lock and has checked that all have signed."""
    rollout, phase = gate.rollout, gate.phase
    gate.status, gate.decided_at = Gate.Status.PASSED, at
    gate.save(update_fields=["status", "decided_at"])
    phase.status, phase.left_at = Phase.Status.DONE, at
    phase.save(update_fields=["status", "left_at"])
    audit.record("gate.passed", actor=actor, target=gate, at=at, digest=gate.latest.digest if gate.latest else "")
    following = Phase.objects.filter(rollout=rollout, position=phase.position + 1).first()
    if following is not None:
        open_phase(following, rollout=rollout, actor=actor, at=at)
        return
    rollout.status, rollout.closed_at = Rollout.Status.FINISHED, at
    rollout.save(update_fields=["status", "closed_at"])
    note(rollout=rollout, kind=ReleaseLogEntry.Kind.FINISHED, actor=actor, at=at, text=f"{rollout.name} is finished")
    audit.record("rollout.finished", actor=actor, target=rollout, at=at)


def _records(gate: Gate, previous: Evaluation | None, at: datetime, readings: Readings) -> list[dict[str, Any]]:
    """One evidence record per criterion: every input of the verdict, then the verdict."""
    criteria = list(gate.criteria.all())
    attestations: dict[int, Attestation] = {}
    if any(criterion.is_attested for criterion in criteria):
        made = Attestation.objects.filter(criterion__gate=gate, at__gte=gate.opened_at, at__lte=at)
        attestations = {attestation.criterion_id: attestation for attestation in made.select_related("by").order_by("at", "pk")}
    waivers: dict[int, Waiver] = {}
    for waiver in (
        Waiver.objects.filter(criterion__gate=gate, approved=True, until__gt=at)
        .select_related("requested_by", "decided_by")
        .order_by("decided_at")
    ):
        waivers[waiver.criterion_id] = waiver
    before = {record["key"]: record for record in previous.records} if previous else {}
    records = []
    for criterion in criteria:
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
            "waiver": _waiver(waivers.get(criterion.pk)),
        }
        if criterion.is_attested:
            record["rule"] = {"evidence": criterion.evidence}
            record["attestation"] = _attestation(attestations.get(criterion.pk))
        else:
            record.update(_measured(criterion, readings, at))
            held = rules.held_since(before.get(criterion.key), previous_at=previous.at if previous else None, at=at)
            record["reading"] = {**record["reading"], "held_since": held.isoformat() if held else None}
        judgement = rules.judge_record(record, at=at)
        record.update(
            verdict=str(judgement.verdict),
            raw=str(judgement.raw),
            reason=judgement.reason,
            held_since=judgement.held_since.isoformat() if judgement.held_since else None,
        )
        records.append(record)
    # What is hashed is what will be read: tuples and numbers of other kinds become JSON's own here, once.
    result: list[dict[str, Any]] = json.loads(json.dumps(records, default=str))
    return result


def _measured(criterion: Criterion, readings: Readings, at: datetime) -> dict[str, Any]:
    assert criterion.window_hours is not None
    window = metrics.Window(at - timedelta(hours=criterion.window_hours), at)
    key = (criterion.metric, criterion.window_hours)
    if key not in readings:
        readings[key] = read_metric(criterion.metric, window)
    reading = dict(readings[key])
    metric = registered(criterion.metric)
    if metric is not None and metric.unit != criterion.unit and not reading["error"]:
        reading = {**_EMPTY, "error": f"{criterion.metric} is in {metric.unit}, the rule is in {criterion.unit}"}
    # A census (models served, now) has a minimum of 0: none of them is a figure that can fail, though never pass.
    minimum = max(criterion.minimum_sample or 0, metric.minimum_sample if metric else 1)
    return {
        "rule": {
            "metric": criterion.metric,
            "operator": criterion.operator,
            "threshold": criterion.threshold,
            "unit": criterion.unit,
            "window_hours": criterion.window_hours,
            "minimum_sample": minimum,
            "sustain_hours": criterion.sustain_hours,
        },
        "window": {"start": window.start.isoformat(), "end": window.end.isoformat()},
        "reading": reading,
    }


_EMPTY: Mapping[str, Any] = {"value": None, "sample": 0, "low": None, "high": None, "statistics": {}, "error": ""}


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


def _note_change(gate: Gate, previous: Evaluation | None, evaluation: Evaluation, records: list[dict[str, Any]]) -> None:
    """Say in the release log what changed, and void what was signed on other verdicts."""
    if previous is None:
        text = f"Gate {gate.number} evaluated for the first time: {wording.tally(records)}."
    else:
        text = wording.changes(previous.records, records)
    voided = void_signatures(
        gate,
        reason="a verdict changed" if previous else "the gate was evaluated anew",
        at=evaluation.at,
        decision=SignOff.Decision.GO,
        keep_digest=evaluation.digest,
    )
    for signoff in voided:
        text += f" {signing.label(signoff.role)}'s signature was voided."
    note(
        rollout=gate.rollout,
        kind=ReleaseLogEntry.Kind.VERDICT,
        gate=gate,
        actor=None,
        at=evaluation.at,
        glyph=str(evaluation.verdict),
        text=text,
    )
    was_ready = previous is not None and previous.is_ready
    if evaluation.is_ready != was_ready:
        name = gate.rollout.name
        alerts.notify(
            topic="gate.ready" if evaluation.is_ready else "gate.blocked",
            severity=Severity.INFO if evaluation.is_ready else Severity.WARNING,
            title=f"Gate {gate.number} of {name} {'is ready to be signed' if evaluation.is_ready else 'is blocked again'}",
            text=text,
            path=f"release/rollouts/{gate.rollout.slug}/gates/{gate.number}/",
            permission=Permission.VIEW,
            key=f"gate:{evaluation.evidence_hash}",
            data={"rollout": gate.rollout.slug, "gate": gate.number, "digest": evaluation.digest},
            at=evaluation.at,
        )
