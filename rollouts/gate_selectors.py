"""A gate as its page and the API show it: criteria, signatures, evaluations and their course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import DateTimeField, F, Func, Q, QuerySet, Value

from governance.access import Permission
from governance.models import Membership
from rollouts import rules, signing, wording
from rollouts.models import Attestation, Criterion, Evaluation, Gate, ReleaseLogEntry, Rollout, SignOff, Waiver
from rollouts.services.gates import EVALUATE_EVERY


def find_gate(rollout: Rollout, number: int) -> Gate | None:
    gate = Gate.objects.select_related("phase", "latest").filter(rollout=rollout, number=number).first()
    if gate is not None:
        gate.rollout = rollout
    return gate


@dataclass(frozen=True)
class Signature:
    """One role of a gate and what was said for it."""

    role: str
    label: str
    signoff: SignOff | None
    """The live one."""
    voided: SignOff | None
    """The newest voided one, when none is live."""
    holders: str

    @property
    def glyph(self) -> str:
        if self.signoff is not None:
            return "pass" if self.signoff.decision == SignOff.Decision.GO else "fail"
        return "error" if self.voided is not None else "waiting"


@dataclass(frozen=True)
class CriterionState:
    """A criterion with its newest evidence and what may be done about it."""

    criterion: Criterion
    record: dict[str, Any] | None
    attestation: Attestation | None
    asked_waiver: Waiver | None
    waiver: Waiver | None

    @property
    def verdict(self) -> str:
        return self.record["verdict"] if self.record else "waiting"


@dataclass(frozen=True)
class GateView:
    """Everything that the gate's page and its API answer say."""

    gate: Gate
    evaluation: Evaluation | None
    criteria: list[CriterionState]
    signatures: list[Signature]
    sentence: str
    next_evaluation_at: datetime | None
    evaluations: int
    log: list[ReleaseLogEntry]
    missing_roles: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if self.gate.status == Gate.Status.PASSED:
            return "pass"
        return self.evaluation.verdict if self.evaluation else "waiting"

    @property
    def is_ready(self) -> bool:
        return self.evaluation is not None and self.evaluation.is_ready

    @property
    def signed(self) -> int:
        return sum(
            1 for signature in self.signatures if signature.signoff is not None and signature.signoff.decision == SignOff.Decision.GO
        )

    @property
    def blockers(self) -> list[CriterionState]:
        """What keeps the gate shut, worst first."""
        return [
            state
            for state in self.criteria
            if state.record and state.record["severity"] != "observe" and rules.Verdict(state.verdict) not in rules.OPENS
        ]


def gate_view(gate: Gate, *, now: datetime) -> GateView:
    """The gate with its criteria worst first, its signatures and what changed lately. A constant number of queries."""
    evaluation = gate.latest if gate.latest_id else None
    records = {record["key"]: record for record in evaluation.records} if evaluation else {}
    asked: dict[int, Waiver] = {}
    in_force: dict[int, Waiver] = {}
    for waiver in (
        Waiver.objects.filter(criterion__gate=gate)
        .filter(Q(decided_at=None) | Q(approved=True, until__gt=now))
        .select_related("requested_by", "decided_by")
    ):
        (asked if waiver.decided_at is None else in_force)[waiver.criterion_id] = waiver
    attested: dict[int, Attestation] = {}
    if gate.opened_at:
        for attestation in (
            Attestation.objects.filter(criterion__gate=gate, at__gte=gate.opened_at).select_related("by").order_by("at", "pk")
        ):
            attested[attestation.criterion_id] = attestation
    states = [
        CriterionState(
            criterion, records.get(criterion.key), attested.get(criterion.pk), asked.get(criterion.pk), in_force.get(criterion.pk)
        )
        for criterion in gate.criteria.all()
    ]
    states.sort(
        key=lambda state: (
            state.criterion.severity == "observe",
            -rules.BADNESS[rules.Verdict(state.verdict)] if state.record else 0,
            state.criterion.position,
        )
    )
    signatures = signatures_of(gate)
    missing = [signature.role for signature in signatures if signature.signoff is None or signature.signoff.decision != SignOff.Decision.GO]
    return GateView(
        gate=gate,
        evaluation=evaluation,
        criteria=states,
        signatures=signatures,
        sentence=sentence_of(gate, missing),
        next_evaluation_at=evaluation.at + EVALUATE_EVERY if evaluation and gate.is_decidable and gate.rollout.is_under_way else None,
        evaluations=gate.evaluations.count(),
        log=list(ReleaseLogEntry.objects.filter(gate=gate).order_by("-sequence")[:8]),
        missing_roles=missing,
    )


def signatures_of(gate: Gate) -> list[Signature]:
    live: dict[str, SignOff] = {}
    voided: dict[str, SignOff] = {}
    for signoff in SignOff.objects.filter(gate=gate).select_related("person").order_by("at", "pk"):
        (live if signoff.voided_at is None else voided)[signoff.role] = signoff
    return [
        Signature(role, signing.label(role), live.get(role), None if role in live else voided.get(role), signing.holders_text(role))
        for role in gate.roles
    ]


def sentence_of(gate: Gate, missing_roles: Sequence[str]) -> str:
    """The verdict of the gate in one sentence."""
    if gate.status == Gate.Status.PASSED:
        return "Passed: all roles have said go"
    if gate.status == Gate.Status.CLOSED:
        return "Not reached yet"
    if gate.latest is None:
        return "Not evaluated yet, so not ready"
    sentence = wording.gate_sentence(gate.latest.records, is_ready=gate.latest.is_ready)
    if gate.status == Gate.Status.REJECTED:
        return f"No-go was said. {sentence}"
    if gate.latest.is_ready and missing_roles:
        names = ", ".join(signing.label(role).lower() if index else signing.label(role) for index, role in enumerate(missing_roles))
        return f"{sentence}. {names} {'has' if len(missing_roles) == 1 else 'have'} to sign"
    return sentence


def signable_role(gate: Gate, membership: Membership, signatures: Sequence[Signature]) -> str | None:
    """The role for which this person decides here: the one already signed by the person, else the first held one that is open."""
    if not membership.can(Permission.SIGN_GATES) or not gate.is_decidable:
        return None
    own = next(
        (signature.role for signature in signatures if signature.signoff and signature.signoff.person_id == membership.user_id), None
    )
    if own is not None:
        return own
    held = signing.held_by(membership.roles)
    return next((signature.role for signature in signatures if signature.role in held and signature.signoff is None), None)


def find_evaluation(gate: Gate, digest: str) -> Evaluation | None:
    """By the hash of its evidence, which is one record; or by a digest of verdicts: the newest record that has it."""
    found = Evaluation.objects.filter(gate=gate).select_related("requested_by")
    return found.filter(evidence_hash=digest).first() or found.filter(digest=digest).order_by("-sequence").first()


def evaluations_of(gate: Gate) -> QuerySet[Evaluation]:
    return Evaluation.objects.filter(gate=gate).defer("evidence").order_by("-sequence")


COURSE_SPAN = timedelta(days=14)
COURSE_POINTS = 24
COURSE_EVALUATIONS = 5_000
"""At most so many of the newest are looked through: 14 days of the schedule, and as many again by hand."""


@dataclass(frozen=True)
class Course:
    """What the measured criteria of a gate read, since it opened or for 14 days."""

    since: datetime
    values: dict[str, list[float | None]]
    """By criterion, oldest first; None: nothing measured."""


def course_of(gate: Gate) -> Course | None:
    """One query. The span is cut into equal parts, and the newest evaluation of each part speaks for it. None before the first evaluation."""
    latest = gate.latest if gate.latest_id else None
    if latest is None or gate.opened_at is None:
        return None
    start = max(gate.opened_at, latest.at - COURSE_SPAN)
    part = max((latest.at - start) / COURSE_POINTS, timedelta(seconds=1))
    found = Evaluation.objects.filter(gate=gate, sequence__gt=latest.sequence - COURSE_EVALUATIONS, at__gte=start, at__lte=latest.at)
    # Bins end with the newest evaluation, so that it is the last one of a full part.
    end = Value(latest.at + timedelta(microseconds=1))
    binned = found.annotate(part=Func(Value(part), F("at"), end, function="date_bin", output_field=DateTimeField()))
    newest = binned.order_by("part", "-sequence").distinct("part")
    read: dict[str, list[float | None]] = {}
    for evaluation in newest:
        for record in evaluation.records:
            if record["kind"] == "metric":
                read.setdefault(record["key"], []).append(record["reading"]["value"])
    return Course(start, read)


def replay(evaluation: Evaluation) -> rules.Replay:
    return rules.replay(
        evaluation.evidence,
        at=evaluation.at,
        stored_verdict=evaluation.verdict,
        stored_ready=evaluation.is_ready,
        stored_digest=evaluation.digest,
        stored_hash=evaluation.evidence_hash,
        previous_hash=evaluation.previous_hash,
    )
