"""Which gates are open, and what they ask of a person."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Prefetch, QuerySet

from governance.access import Permission
from governance.models import Membership
from rollouts import signing
from rollouts.models import Gate, Rollout, SignOff, Waiver


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


def opened() -> QuerySet[Gate]:
    """Gates of phases that are current."""
    return Gate.objects.filter(rollout__status=Rollout.Status.RUNNING, status__in=[Gate.Status.OPEN, Gate.Status.REJECTED])


def open_gates(membership: Membership | None) -> list[Waiting]:
    """Every gate of a phase that is current, by planned date, with what it asks of this person. Three queries."""
    gates = opened().select_related("rollout", "rollout__owner", "phase", "latest").defer("rollout__plan").order_by("planned_on", "pk")
    return _asked_of(membership, gates, SignOff.objects.select_related("person"))


def _asked_of(membership: Membership | None, opened: QuerySet[Gate], signoffs: QuerySet[SignOff]) -> list[Waiting]:
    gates = list(opened.prefetch_related(Prefetch("signoffs", queryset=signoffs.filter(voided_at=None), to_attr="live_signoffs")))
    if membership is None or not _may_sign(membership):
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


def _may_sign(membership: Membership) -> bool:
    return membership.can(Permission.SIGN_GATES)


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
    """The badge in the sidebar: how many `waiting_for` gives, reading only what it is decided by."""
    if not _may_sign(membership):
        return 0
    fields = ("status", "roles", "rollout__paused_at", "latest__is_ready", "latest__evidence")
    gates = opened().select_related("rollout", "latest").only(*fields).order_by()
    return sum(waiting.is_mine for waiting in _asked_of(membership, gates, SignOff.objects.only("gate", "role", "person").order_by()))
