"""Passing over a criterion for a while: one person asks, another agrees."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from governance.models import Membership, User
from governance.services import audit
from rollouts import rules, signing
from rollouts.errors import EvidenceMissingError, NotWaivableError, RoleNotHeldError, SelfApprovalError, WaiverDecidedError
from rollouts.models import Criterion, Evaluation, ReleaseLogEntry, Waiver
from rollouts.services import gates
from rollouts.services.locking import check_decidable, lock_gate
from rollouts.services.release_log import note

LONGEST = timedelta(days=90)


@transaction.atomic
def request_waiver(*, criterion: Criterion, reason: str, until: datetime, actor: User, at: datetime | None = None) -> Waiver:
    """Ask that the criterion be passed over until a time. It counts once somebody else with the criterion's role agrees.

    Raises NotWaivableError (security criteria, passing ones, never evaluated ones), EvidenceMissingError, GateNotOpenError.
    """
    gate = lock_gate(criterion.gate)
    at = at or timezone.now()
    check_decidable(gate)
    if not criterion.is_waivable:
        raise NotWaivableError(f"{criterion.title} can't be waived: {criterion.get_severity_display().lower()}.")
    if not reason.strip():
        raise EvidenceMissingError("Say why the risk is acceptable.", field="reason")
    if not at < until <= at + LONGEST:
        raise EvidenceMissingError(f"A waiver ends within {LONGEST.days} days from now.", field="until")
    if gate.latest is None:
        raise NotWaivableError("The gate was not evaluated yet, so nobody knows what would be waived.")
    record = next(record for record in gate.latest.records if record["key"] == criterion.key)
    if record["raw"] == rules.Verdict.PASS:
        raise NotWaivableError(f"{criterion.title} passes; there is nothing to waive.")
    if Waiver.objects.filter(criterion=criterion, decided_at=None).exists():
        raise WaiverDecidedError("A waiver for this criterion has been asked for already and waits for approval.")
    waiver = Waiver.objects.create(
        criterion=criterion, covers=record["raw"], reason=reason.strip(), until=until, requested_by=actor, requested_at=at
    )
    note(
        rollout=gate.rollout,
        kind=ReleaseLogEntry.Kind.WAIVER,
        gate=gate,
        actor=actor,
        at=at,
        glyph="waiting",
        text=f"Waiver of {criterion.title} to {until:%Y-%m-%d} asked for by {actor}: {waiver.reason}",
    )
    audit.record("waiver.requested", actor=actor, target=waiver, at=at, covers=waiver.covers, until=until.isoformat(), reason=waiver.reason)
    return waiver


@transaction.atomic
def decide_waiver(*, waiver: Waiver, approve: bool, person: Membership, at: datetime | None = None) -> Waiver:
    """Agree to a waiver or decline it; the gate is evaluated at once.

    Raises SelfApprovalError, RoleNotHeldError, WaiverDecidedError, GateNotOpenError. Whoever asked may take it back.
    """
    gate = lock_gate(waiver.criterion.gate)
    at = at or timezone.now()
    check_decidable(gate)
    waiver = Waiver.objects.select_related("criterion", "requested_by").get(pk=waiver.pk)
    own = waiver.requested_by_id == person.user_id
    if waiver.decided_at is not None:
        raise WaiverDecidedError("This waiver was decided before.")
    if own and approve:
        raise SelfApprovalError("Nobody approves their own waiver: ask somebody else.")
    if not own and waiver.criterion.role not in signing.held_by(person.roles):
        raise RoleNotHeldError(
            f"Deciding a waiver for {signing.label(waiver.criterion.role)} takes the role {signing.holders_text(waiver.criterion.role)}."
        )
    if approve and waiver.until <= at:
        raise WaiverDecidedError("The waiver has ended before it was approved. Ask for a new one.")
    waiver.approved, waiver.decided_by, waiver.decided_at = approve, person.user, at
    waiver.save(update_fields=["approved", "decided_by", "decided_at"])
    act = "approved" if approve else "taken back" if own else "declined"
    note(
        rollout=gate.rollout,
        kind=ReleaseLogEntry.Kind.WAIVER,
        gate=gate,
        actor=person.user,
        at=at,
        glyph="waived" if approve else "",
        text=f"Waiver of {waiver.criterion.title} to {waiver.until:%Y-%m-%d} {act} by {person.user}",
    )
    audit.record(
        "waiver.approved" if approve else "waiver.declined", actor=person.user, target=waiver, at=at, requested_by=str(waiver.requested_by)
    )
    if approve:
        gates.evaluate_gate(gate=gate, trigger=Evaluation.Trigger.ACT, at=at)
    return waiver


@transaction.atomic
def end_waiver(*, waiver: Waiver, actor: User, at: datetime | None = None) -> Waiver:
    """Let an approved waiver end now; the gate is evaluated at once. Raises WaiverDecidedError, GateNotOpenError."""
    gate = lock_gate(waiver.criterion.gate)
    at = at or timezone.now()
    check_decidable(gate)
    waiver = Waiver.objects.select_related("criterion").get(pk=waiver.pk)
    if not waiver.approved or waiver.until <= at:
        raise WaiverDecidedError("This waiver is not in force.")
    waiver.until = at
    waiver.save(update_fields=["until"])
    note(
        rollout=gate.rollout,
        kind=ReleaseLogEntry.Kind.WAIVER,
        gate=gate,
        actor=actor,
        at=at,
        text=f"Waiver of {waiver.criterion.title} ended early by {actor}",
    )
    audit.record("waiver.ended", actor=actor, target=waiver, at=at)
    gates.evaluate_gate(gate=gate, trigger=Evaluation.Trigger.ACT, at=at)
    return waiver
