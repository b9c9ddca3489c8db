"""Evaluating a gate, reopening it, and entering the phase behind it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit
from rollouts import signing, tasks, wording
from rollouts.errors import EvidenceMissingError, GateNotOpenError
from rollouts.models import Evaluation, Gate, Phase, ReleaseLogEntry, Rollout, SignOff, Waiver
from rollouts.services import evidence
from rollouts.services.evidence import Readings
from rollouts.services.locking import check_decidable, lock_gate
from rollouts.services.release_log import note

logger = logging.getLogger(__name__)

EVALUATE_EVERY = timedelta(minutes=5)
"""How old the newest evaluation of an open gate may get. A gate that has none is due at once."""
GATES_AT_A_TIME = 250
"""Written in one transaction: a person who acts on one of them waits for a fraction of a second."""


def evaluate_gates(found: Iterable[Gate], *, at: datetime | None = None) -> int:
    """Evaluate those that are due by the schedule, all as of one moment. Each metric over a window is read once for all of them, before anything is locked.

    Gates whose verdicts are what they were are written many at a time; a gate whose verdicts change, or that can't be judged, has its own transaction:
    what goes wrong with one is logged, leaves the others alone, and is raised at the end (ExceptionGroup). A gate on which somebody is acting at the
    moment is left to the next round. Returns how many were evaluated.
    """
    at, readings, failures, done = at or timezone.now(), Readings(), [], 0
    gates = {gate.pk: gate for gate in found}
    ids = list(due_gates(at=at).filter(pk__in=gates).values_list("pk", flat=True))
    evidence.read_for(ids, at=at, readings=readings)
    for first in range(0, len(ids), GATES_AT_A_TIME):
        some = ids[first : first + GATES_AT_A_TIME]
        try:
            written, rest = _evaluate_unchanged(some, at=at, readings=readings)
        except DatabaseError:
            logger.exception("gate.not_evaluated_together", extra={"first": some[0]})
            written, rest = 0, some
        done += written
        for pk in rest:
            try:
                one = evaluate_gate(gate=gates[pk], trigger=Evaluation.Trigger.SCHEDULE, at=at, only_when_due=True, readings=readings)
                done += one is not None
            except Exception as error:  # the next gate must not pay for it
                logger.exception("gate.not_evaluated", extra={"gate": pk})
                failures.append(error)
    if failures:
        raise ExceptionGroup("gates could not all be evaluated", failures)
    return done


@transaction.atomic
def _evaluate_unchanged(gate_ids: Collection[int], *, at: datetime, readings: Readings) -> tuple[int, list[int]]:
    """Write the evaluations that change nothing. Returns how many, and the due gates that are left: their verdicts change, or judging them raises."""
    running = Rollout.objects.filter(pk__in=Gate.objects.filter(pk__in=gate_ids).values("rollout"), status=Rollout.Status.RUNNING)
    free = running.select_for_update(skip_locked=True, no_key=True).defer("plan").order_by("pk")
    rollouts = {rollout.pk: rollout for rollout in free}
    due = list(due_gates(at=at).filter(pk__in=gate_ids, rollout__in=rollouts).select_related("latest"))
    for gate in due:
        gate.rollout = rollouts[gate.rollout_id]
    inputs = evidence.inputs_of(due, at=at)
    began, same, rest = time.monotonic(), [], []
    for gate in due:
        evaluation = _try_build(gate, inputs[gate.pk], at=at, readings=readings)
        if evaluation is None or gate.latest is None or evaluation.digest != gate.latest.digest:
            rest.append(gate.pk)
        else:
            same.append(evaluation)
    for evaluation in same:
        evaluation.took_ms = int((time.monotonic() - began) * 1000 / len(due))
    _write(same)
    return len(same), rest


def _write(evaluations: list[Evaluation]) -> None:
    """Insert them and make each the newest of its gate, in one statement. They travel as one JSON text: quoting each evidence as the member of an array
    took half of the time of a round."""
    names = [str(field.column) for field in Evaluation._meta.concrete_fields if not field.primary_key]
    rows = [{field.column: getattr(one, field.attname) for field in Evaluation._meta.concrete_fields} for one in evaluations]
    columns = ", ".join(names)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH made AS (
                INSERT INTO rollouts_evaluation ({columns})
                SELECT {columns} FROM json_populate_recordset(NULL::rollouts_evaluation, %s::json) RETURNING id, gate_id
            )
            UPDATE rollouts_gate g SET latest_id = made.id FROM made WHERE g.id = made.gate_id
            """,  # noqa: S608 - the names are the model's own columns
            [json.dumps(rows, default=str)],
        )


def _try_build(gate: Gate, inputs: evidence.Inputs, *, at: datetime, readings: Readings) -> Evaluation | None:
    """None for a gate that was never evaluated and for one that can't be judged: the caller meets its error again where it is told."""
    if gate.latest is None:
        return None
    try:
        return evidence.build(
            gate, inputs, previous=gate.latest, last=gate.latest, at=at, readings=readings, trigger=Evaluation.Trigger.SCHEDULE
        )
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ):  # raised again, and logged, where the gate is evaluated on its own
        return None


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
    if only_when_due and not due_gates(at=at).filter(pk=gate.pk).exists():
        return None
    check_decidable(gate)
    previous = gate.latest
    # The newest since the gate opened is the newest at all; only a gate that opened again has older ones.
    last = previous or Evaluation.objects.filter(gate=gate).order_by("-sequence").first()
    evaluation = evidence.build(
        gate,
        evidence.inputs_of([gate], at=at)[gate.pk],
        previous=previous,
        last=last,
        at=at,
        readings=Readings() if readings is None else readings,
        trigger=trigger,
        actor=actor,
    )
    evaluation.took_ms = int((time.monotonic() - began) * 1000)
    evaluation.save(force_insert=True)
    gate.latest = evaluation
    gate.save(update_fields=["latest"])
    changed = previous is None or previous.digest != evaluation.digest
    if changed:
        _note_change(gate, previous, evaluation)
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


def due_gates(*, at: datetime) -> QuerySet[Gate]:
    """Open gates of rollouts under way that were never evaluated, too long ago, or before a waiver that counted ended."""
    lapsed = Waiver.objects.filter(approved=True, until__lte=at, until__gt=F("criterion__gate__latest__at")).values("criterion__gate")
    open_gates = Gate.objects.filter(rollout__status=Rollout.Status.RUNNING, status__in=[Gate.Status.OPEN, Gate.Status.REJECTED])
    return open_gates.filter(Q(latest=None) | Q(latest__at__lte=at - EVALUATE_EVERY) | Q(pk__in=lapsed)).order_by("pk")


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


def _note_change(gate: Gate, previous: Evaluation | None, evaluation: Evaluation) -> None:
    """Say in the release log what changed, and void what was signed on other verdicts."""
    if previous is None:
        text = f"Gate {gate.number} evaluated for the first time: {wording.tally(evaluation.records)}."
    else:
        text = wording.changes(previous.records, evaluation.records)
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
