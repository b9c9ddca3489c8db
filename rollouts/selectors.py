"""What may be seen of rollouts, and how pages and API see it. Everything here is in the current schema, so within one organisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, DateTimeField, F, Func, Prefetch, Q, QuerySet, Value

from gateway.contract.flags import BUCKETS, percent_text
from governance.access import Permission, permissions_of
from governance.drills import Subject
from governance.models import Drill, Effect, Membership, Tenant, User
from rollouts import exposure, plans, rules, signing, wording
from rollouts.models import Attestation, Criterion, Evaluation, Flag, Gate, Phase, ReleaseLogEntry, Rollback, Rollout, SignOff, Waiver
from rollouts.services.gates import EVALUATE_EVERY

# Rollouts


def rollouts(*, tab: str = "", query: str = "") -> QuerySet[Rollout]:
    """Newest first, by tab (`running`, `planned`, `closed`; empty: all) and by name, address or owner."""
    found = Rollout.objects.select_related("owner").defer("plan").order_by("-created_at", "-pk")
    if tab == "running":
        found = found.filter(status=Rollout.Status.RUNNING)
    elif tab == "planned":
        found = found.filter(status=Rollout.Status.PLANNED)
    elif tab == "closed":
        found = found.filter(status__in=[Rollout.Status.FINISHED, Rollout.Status.STOPPED])
    if query:
        found = found.filter(Q(name__icontains=query) | Q(slug__icontains=query) | Q(owner__name__icontains=query))
    return found


def rollout_counts() -> dict[str, int]:
    counted = dict(Rollout.objects.order_by().values_list("status").annotate(n=Count("pk")))
    return {
        "running": counted.get("running", 0),
        "planned": counted.get("planned", 0),
        "closed": counted.get("finished", 0) + counted.get("stopped", 0),
    }


def find_rollout(slug: str) -> Rollout | None:
    return Rollout.objects.select_related("owner", "created_by").filter(slug=slug).first()


def phases_of(rollout: Rollout) -> list[Phase]:
    """Phases in order, each with its gate, the gate's newest evaluation and its live signatures."""
    return list(
        rollout.phases.select_related("gate", "gate__latest").prefetch_related(
            Prefetch("gate__signoffs", queryset=SignOff.objects.filter(voided_at=None).select_related("person"), to_attr="live_signoffs")
        )
    )


def find_gate(rollout: Rollout, number: int) -> Gate | None:
    gate = Gate.objects.select_related("phase", "latest").filter(rollout=rollout, number=number).first()
    if gate is not None:
        gate.rollout = rollout
    return gate


def log_of(rollout: Rollout) -> QuerySet[ReleaseLogEntry]:
    return ReleaseLogEntry.objects.filter(rollout=rollout).select_related("gate").order_by("-sequence")


def open_rollback(rollout: Rollout) -> Rollback | None:
    return rollout.rollbacks.filter(finished_at=None).select_related("from_phase", "to_phase", "by").first()


def owners(tenant: Tenant) -> QuerySet[User]:
    """Who may own a rollout: any member."""
    return User.objects.filter(memberships__tenant=tenant, is_active=True).order_by("name", "pk")


def drill_subjects() -> list[Subject]:
    """The phases that are current, by the RTO of their rollback plan; where it promises none, by the programme's for an organisation."""
    current = Phase.objects.filter(status=Phase.Status.CURRENT, rollout__status=Rollout.Status.RUNNING).select_related("rollout")
    return [_drill_subject(phase) for phase in current.order_by("rollout", "position")]


def _drill_subject(phase: Phase) -> Subject:
    minutes = phase.rollout.frozen_plan.phases[phase.position].rollback.rto_minutes
    rto = timedelta(minutes=minutes) if minutes else Effect.GOALS[Effect.Scope.TENANT]
    assert phase.entered_at is not None  # a current phase was entered
    title = f"{phase.rollout.name}, {phase.title}"
    return Subject(Drill.Kind.PHASE, f"{phase.rollout.slug}/{phase.key}", title[:140], rto, phase.entered_at)


# The schedule


def rollouts_to_begin(today: date) -> list[int]:
    return list(Rollout.objects.filter(status=Rollout.Status.PLANNED, starts_on__lte=today).values_list("pk", flat=True))


# A gate


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
    if Permission.SIGN_GATES not in permissions_of(membership.roles) or not gate.is_decidable:
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


# What waits for a person


@dataclass(frozen=True)
class Waiting:
    """An open gate and what it asks of this person."""

    gate: Gate
    sign_role: str = ""
    """The role to sign for; empty when the gate is not ready or the person has nothing to sign."""
    attest: int = 0
    waivers: int = 0

    @property
    def is_mine(self) -> bool:
        return bool(self.sign_role or self.attest or self.waivers)

    @property
    def asks(self) -> str:
        """`Sign for Product, attest 3 criteria`"""
        parts = []
        if self.sign_role:
            parts.append(f"sign for {signing.label(self.sign_role)}")
        if self.attest:
            parts.append(f"attest {self.attest} criteri{'on' if self.attest == 1 else 'a'}")
        if self.waivers:
            parts.append(f"decide {self.waivers} waiver{'' if self.waivers == 1 else 's'}")
        text = ", ".join(parts)
        return text[:1].upper() + text[1:]


def open_gates(membership: Membership | None) -> list[Waiting]:
    """Every gate of a phase that is current, by planned date, with what it asks of this person. Three queries."""
    gates = list(
        Gate.objects.filter(rollout__status=Rollout.Status.RUNNING, status__in=[Gate.Status.OPEN, Gate.Status.REJECTED])
        .select_related("rollout", "rollout__owner", "phase", "latest")
        .defer("rollout__plan")
        .order_by("planned_on", "pk")
        .prefetch_related(
            Prefetch("signoffs", queryset=SignOff.objects.filter(voided_at=None).select_related("person"), to_attr="live_signoffs")
        )
    )
    may = membership is not None and Permission.SIGN_GATES in permissions_of(membership.roles)
    if membership is None or not may:
        return [Waiting(gate) for gate in gates]
    held = {str(role) for role in signing.held_by(membership.roles)}
    waivers = (
        dict(
            Waiver.objects.filter(decided_at=None, criterion__gate__in=gates, criterion__role__in=held)
            .exclude(requested_by_id=membership.user_id)
            .order_by()
            .values_list("criterion__gate")
            .annotate(n=Count("pk"))
        )
        if gates
        else {}
    )
    return [_waiting(gate, membership, held, waivers.get(gate.pk, 0)) for gate in gates]


def _waiting(gate: Gate, membership: Membership, held: set[str], waivers: int) -> Waiting:
    live: list[SignOff] = gate.live_signoffs  # type: ignore[attr-defined]  # filled by the prefetch of open_gates
    records = gate.latest.records if gate.latest else []
    attest = sum(1 for record in records if record["kind"] == "attestation" and record["verdict"] == "no_data" and record["role"] in held)
    role = ""
    if (
        gate.status == Gate.Status.OPEN
        and gate.latest is not None
        and gate.latest.is_ready
        and not gate.rollout.is_paused
        and not any(signoff.person_id == membership.user_id for signoff in live)
    ):
        taken = {signoff.role for signoff in live}
        role = next((candidate for candidate in gate.roles if candidate in held and candidate not in taken), "")
    return Waiting(gate, role, attest, waivers)


def waiting_for(membership: Membership) -> list[Waiting]:
    return [waiting for waiting in open_gates(membership) if waiting.is_mine]


def due_count(membership: Membership) -> int:
    """The badge in the sidebar."""
    return len(waiting_for(membership))


# The board


@dataclass(frozen=True)
class LaneCell:
    """One rollout in one lane."""

    lane: str
    state: str
    """`past`, `now`, `next`; without a phase of the plan `skipped`, `next` or `none`."""
    phase: Phase | None = None
    gate_glyph: str = ""
    """The verdict of the gate at the lane's left border; empty where there is none."""
    day: int = 0
    share: int = 0
    """How much of the planned time has passed, 0 to 100."""
    when: str = ""


@dataclass(frozen=True)
class Exposed:
    """Whom a rollout's flags reach: the largest share of any of them, since one flag is enough to be exposed."""

    share: float
    """Percent."""
    short: str
    """`8%`"""
    text: str
    """`ai.search.rerank-1: 8% in eu`, a line for each flag."""


@dataclass(frozen=True)
class BoardRow:
    rollout: Rollout
    current: Phase | None
    cells: list[LaneCell]
    gate: Gate | None
    verdicts: list[str]
    blocker: str
    blocker_verdict: str
    asks: str
    is_late: bool
    exposure: Exposed | None = None
    """None: no flag belongs to the rollout, so nothing here knows who is exposed."""


def board(found: Sequence[Rollout], *, membership: Membership | None, now: datetime) -> list[BoardRow]:
    """The rollouts in their lanes. Queries do not grow with the number of rollouts."""
    phases: dict[int, list[Phase]] = {rollout.pk: [] for rollout in found}
    queryset = (
        Phase.objects.filter(rollout__in=[rollout.pk for rollout in found]).select_related("gate", "gate__latest").order_by("position")
    )
    for phase in queryset:
        phases[phase.rollout_id].append(phase)
    flags: dict[int, list[Flag]] = {}
    for flag in Flag.objects.filter(rollout__in=phases, archived_at=None, current__isnull=False).select_related("current").order_by("key"):
        flags.setdefault(flag.rollout_id or 0, []).append(flag)
    asks = {waiting.gate.pk: waiting for waiting in (open_gates(membership) if found else [])}
    return [_row(rollout, phases[rollout.pk], flags.get(rollout.pk, []), asks, now) for rollout in found]


def _exposed(flags: list[Flag]) -> Exposed | None:
    if not flags:
        return None
    share = max(flag.exposure.percentage if flag.exposure.on else 0 for flag in flags)
    text = "; ".join(f"{flag.key}: {exposure.sentence(flag.exposure)}" for flag in flags)
    return Exposed(100 * share / BUCKETS, percent_text(share), text)


def _row(rollout: Rollout, phases: list[Phase], flags: list[Flag], asks: dict[int, Waiting], now: datetime) -> BoardRow:
    current = next((phase for phase in phases if phase.status == Phase.Status.CURRENT), None)
    gate = current.gate if current else None
    records = wording.worst_first(gate.latest.records) if gate and gate.latest else []
    blocking = next(
        (record for record in records if record["severity"] != "observe" and rules.Verdict(record["verdict"]) not in rules.OPENS), None
    )
    if blocking is not None:
        blocker, tone = wording.blocker(blocking), blocking["verdict"]
    elif gate is not None and gate.latest is not None:
        blocker, tone = "Ready to be signed", "pass"
    elif gate is not None:
        blocker, tone = "Not evaluated yet", ""
    else:
        blocker, tone = (
            {"planned": f"Begins on {rollout.starts_on:%b} {rollout.starts_on.day}", "finished": "Finished", "stopped": "Stopped"}.get(
                rollout.status, ""
            ),
            "",
        )
    waiting = asks.get(gate.pk) if gate else None
    return BoardRow(
        rollout=rollout,
        current=current,
        cells=_cells(phases, now),
        gate=gate,
        verdicts=[record["verdict"] for record in records],
        blocker=blocker,
        blocker_verdict=tone,
        asks=waiting.asks if waiting else "",
        is_late=bool(current and current.is_late(now)),
        exposure=_exposed(flags),
    )


def _cells(phases: list[Phase], now: datetime) -> list[LaneCell]:
    """Lanes are five for all plans; where several phases share a lane, the current one stands for it, else the last begun."""
    cells = []
    before: Phase | None = None
    for lane in plans.Lane:
        mine = [phase for phase in phases if phase.lane == lane.value]
        glyph = _gate_glyph(before) if before is not None else ""
        before = None
        if not mine:
            cells.append(LaneCell(lane.value, _gap(lane, phases), gate_glyph=glyph))
            continue
        begun = [phase for phase in mine if phase.status in (Phase.Status.CURRENT, Phase.Status.DONE)]
        phase = next((phase for phase in mine if phase.status == Phase.Status.CURRENT), begun[-1] if begun else mine[0])
        before = mine[-1] if phase.status != Phase.Status.CURRENT else phase
        if phase.status == Phase.Status.CURRENT:
            day, planned = phase.day(now), max(phase.planned_days, 1)
            cells.append(LaneCell(lane.value, "now", phase, glyph, day=day, share=min(100, round(100 * day / planned))))
        elif phase.status == Phase.Status.DONE:
            cells.append(LaneCell(lane.value, "past", phase, glyph, when=_span(phase)))
        else:
            cells.append(LaneCell(lane.value, "next", phase, glyph))
    return cells


def _gap(lane: plans.Lane, phases: list[Phase]) -> str:
    """How a lane without a phase looks: crossed already, still to be crossed, or before or after the plan."""
    order = list(plans.Lane)
    ranks = [order.index(plans.Lane(phase.lane)) for phase in phases]
    here = order.index(lane)
    if not any(rank < here for rank in ranks) or not any(rank > here for rank in ranks):
        return "none"
    begun = (Phase.Status.CURRENT, Phase.Status.DONE)
    return "skipped" if any(phase.status in begun for phase, rank in zip(phases, ranks, strict=True) if rank > here) else "next"


def _gate_glyph(phase: Phase) -> str:
    gate = phase.gate
    if gate.status == Gate.Status.PASSED:
        return "waived" if gate.latest and gate.latest.verdict == "waived" else "pass"
    if gate.status == Gate.Status.REJECTED:
        return "fail"
    return gate.latest.verdict if gate.is_decidable and gate.latest else "waiting"


def _span(phase: Phase) -> str:
    """`Sep 1 – 28`"""
    if not phase.entered_at or not phase.left_at:
        return ""
    start, end = phase.entered_at, phase.left_at
    if start.date() == end.date():
        return f"{start:%b} {start.day}"
    return (
        f"{start:%b} {start.day} – {end.day}"
        if start.month == end.month and end - start < timedelta(days=31)
        else f"{start:%b} {start.day} – {end:%b} {end.day}"
    )
