"""Saying go or no-go."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from governance.models import Membership
from governance.services import audit
from rollouts import signing, wording
from rollouts.errors import AlreadySignedError, EvidenceMissingError, NotReadyError, RejectedError, RoleNotHeldError, VerdictChangedError
from rollouts.models import Evaluation, Gate, ReleaseLogEntry, SignOff
from rollouts.services import gates
from rollouts.services.locking import check_decidable, check_may_advance, lock_gate
from rollouts.services.release_log import note


def sign(
    *, gate: Gate, role: str, decision: str, digest: str, person: Membership, comment: str = "", at: datetime | None = None
) -> SignOff:
    """Record one person's decision for one role; with the last go that was missing, the next phase begins in the same transaction.

    The gate is evaluated again first, so that nobody signs figures that are minutes old. `digest` is that of the verdicts
    the person saw: go to others is refused. No-go is possible at any time and stays until the gate is reopened.

    Raises RoleNotHeldError, GateNotOpenError, NotUnderWayError, RollbackUnderWayError, NotReadyError, VerdictChangedError,
    RejectedError, AlreadySignedError, EvidenceMissingError (a no-go without a reason).
    """
    check_holds(gate, role, person)
    if decision == SignOff.Decision.NO_GO and not comment.strip():
        raise EvidenceMissingError("Say what is missing, so that others know what opens the gate.", field="comment")
    # In its own transaction: what was found stays in the evidence, also when the signature is refused because of it.
    gates.evaluate_gate(gate=gate, trigger=Evaluation.Trigger.ACT, at=at)
    return _record(gate=gate, role=role, decision=decision, digest=digest, person=person, comment=comment.strip(), at=at)


def check_holds(gate: Gate, role: str, person: Membership) -> None:
    """Raises RoleNotHeldError unless the gate asks for the role and the person holds it in the organisation."""
    if role not in gate.roles:
        raise RoleNotHeldError(f"This gate does not ask for a signature of {role}.", field="role")
    if role not in signing.held_by(person.roles):
        raise RoleNotHeldError(f"Signing for {signing.label(role)} takes the role {signing.holders_text(role)}.", field="role")


@transaction.atomic
def _record(*, gate: Gate, role: str, decision: str, digest: str, person: Membership, comment: str, at: datetime | None) -> SignOff:
    gate = lock_gate(gate)
    at = at or timezone.now()
    check_decidable(gate)
    evaluation = gate.latest
    if evaluation is None:
        raise NotReadyError("The gate was never evaluated.")
    live = list(SignOff.objects.filter(gate=gate, voided_at=None).select_related("person"))
    for signoff in live:
        if signoff.person_id == person.user_id and signoff.role != role:
            raise AlreadySignedError(
                f"You have signed this gate for {signing.label(signoff.role)}. Nobody signs for two roles.", field="role"
            )
    if decision == SignOff.Decision.GO:
        _check_go(gate, evaluation, digest, role, live)
    for signoff in live:
        if signoff.role == role:  # only a no-go gets here: it takes the place of what the role said before
            signoff.voided_at, signoff.void_reason = at, f"replaced by a no-go of {person.user}"
            signoff.save(update_fields=["voided_at", "void_reason"])
    signoff = SignOff.objects.create(
        gate=gate, role=role, person=person.user, decision=decision, comment=comment, digest=evaluation.digest, evaluation=evaluation, at=at
    )
    go = decision == SignOff.Decision.GO
    note(
        rollout=gate.rollout,
        kind=ReleaseLogEntry.Kind.SIGNATURE,
        gate=gate,
        actor=person.user,
        at=at,
        glyph="pass" if go else "fail",
        text=f"{signing.label(role)}: {'go' if go else 'no-go'} for {gate.title} by {person.user} on {wording.short(evaluation.digest)}{f': {comment}' if comment else ''}",
    )
    audit.record(
        "gate.signed",
        actor=person.user,
        target=gate,
        at=at,
        role=role,
        decision=decision,
        comment=comment,
        digest=evaluation.digest,
        evidence=evaluation.evidence_hash,
    )
    if not go:
        gate.status = Gate.Status.REJECTED
        gate.save(update_fields=["status"])
    elif set(gate.roles) <= {role} | {other.role for other in live if other.decision == SignOff.Decision.GO}:
        gates.pass_gate(gate, actor=person.user, at=at)
    return signoff


def _check_go(gate: Gate, evaluation: Evaluation, digest: str, role: str, live: list[SignOff]) -> None:
    check_may_advance(gate.rollout)
    rejection = next((signoff for signoff in live if signoff.decision == SignOff.Decision.NO_GO), None)
    if gate.status == Gate.Status.REJECTED or rejection is not None:
        who = f" by {rejection.person} for {signing.label(rejection.role)}" if rejection else ""
        raise RejectedError(f"No-go{who} holds until the gate is reopened.")
    signed = next((signoff for signoff in live if signoff.role == role), None)
    if signed is not None:
        raise AlreadySignedError(f"{signed.person} has signed for {signing.label(role)}.", field="role")
    if not evaluation.is_ready:
        raise NotReadyError(f"{wording.gate_sentence(evaluation.records, is_ready=False)}. Go is possible once nothing blocks.")
    if digest != evaluation.digest:
        raise VerdictChangedError("The verdicts have changed since this page was shown. Look at them again, then sign.")
