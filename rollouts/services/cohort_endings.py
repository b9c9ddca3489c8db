"""How memberships of a cohort end: announced, or by the organisation's own wish. Works in the public schema."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from governance.models import Severity, Tenant, User
from governance.roles import Permission
from governance.services import audit
from rollouts import cohort_rules as rules
from rollouts import cohort_selectors as selectors
from rollouts import exposure as exposures
from rollouts.errors import CohortStateError, EvidenceMissingError
from rollouts.models import Cohort, CohortMember
from rollouts.services import cohort_members, flag_changes, tenant_overrides

State = CohortMember.State


@transaction.atomic
def wind_down(
    *, cohort: Cohort, tenants: Iterable[Tenant] | None, reason: str, actor: User, at: datetime | None = None
) -> list[CohortMember]:
    """Announce the end to some members, or to all and close the cohort (`tenants` None): active ones keep it for 14 more days.

    Who is only asked or enrolled leaves at once: nothing of theirs changes. Raises CohortStateError, EvidenceMissingError.
    """
    cohort, at = cohort_members.lock(cohort), at or timezone.now()
    if not reason.strip():
        raise EvidenceMissingError("Say why: the organisations read it.", field="reason")
    found = cohort.members.select_related("tenant", "cohort").filter(state__in=CohortMember.TAKES_A_PLACE).order_by("pk")
    if tenants is not None:
        found = found.filter(tenant__in=list(tenants))
    leaving = list(found.select_for_update(of=("self",)))
    if tenants is not None and not leaving:
        raise CohortStateError("Nobody of them is asked, enrolled or active.")
    if tenants is None:
        cohort_members.check_open(cohort)
        cohort.closed_at = at
        cohort.save(update_fields=["closed_at"])
        audit.record("cohort.closed", actor=actor, target=cohort, at=at, reason=reason.strip())
    for member in leaving:
        member.reason = reason.strip()[:300]
        _announce(member, actor=actor, at=at) if member.state == State.ACTIVE else _left(member, actor=actor, at=at)
    return leaving


def _announce(member: CohortMember, *, actor: User, at: datetime) -> None:
    member.state, member.winding_down_at, member.leaves_at = State.WINDING_DOWN, at, at + rules.NOTICE
    member.save(update_fields=["state", "winding_down_at", "leaves_at", "reason"])
    cohort_members.record("cohort.wind_down", member, actor=actor, reason=member.reason, leaves_at=member.leaves_at.isoformat())
    text = f"{member.reason} It works until {member.leaves_at:%Y-%m-%d %H:%M} UTC; data and configuration stay."
    cohort_members.tell(
        member,
        "cohort.wind_down",
        Severity.WARNING,
        f"Ends on {member.leaves_at:%Y-%m-%d}: {member.cohort.name}",
        text,
        Permission.VIEW,
        at,
    )


@transaction.atomic
def leave(*, member: CohortMember, actor: User, reason: str = "", at: datetime | None = None) -> CohortMember:
    """The organisation leaves by itself: at once at the gateway. Raises CohortStateError."""
    member, at = cohort_members.lock_member(member), at or timezone.now()
    if member.state not in CohortMember.IN_IT:
        raise CohortStateError("The organisation is not in this cohort.")
    member.reason = reason.strip()[:300]
    return _left(member, actor=actor, at=at)


def end_due(*, at: datetime | None = None) -> int:
    """Let go whose notice is over, and take back invitations that nobody answered; how many."""
    at = at or timezone.now()
    due = [
        *CohortMember.objects.filter(state=State.WINDING_DOWN, leaves_at__lte=at).order_by("pk"),
        *CohortMember.objects.filter(state=State.INVITED, answer_by__lte=at).order_by("pk"),
    ]
    for found in due:
        with transaction.atomic():
            member = cohort_members.lock_member(found)
            if member.state == State.WINDING_DOWN and member.leaves_at is not None and member.leaves_at <= at:
                _left(member, actor=None, at=at)
            elif member.state == State.INVITED:
                member.state, member.reason = State.DECLINED, "Nobody answered in time."
                member.save(update_fields=["state", "reason"])
                cohort_members.record("cohort.declined", member, actor=None, reason=member.reason)
    return len(due)


def _left(member: CohortMember, *, actor: User | None, at: datetime) -> CohortMember:
    """Out, and out of the exposure where it stands in it: nobody needs to approve what only lowers and was announced or wished."""
    flag = selectors.flag_of(member.cohort)
    slug, name = member.tenant.slug, member.cohort.slug
    is_in = slug in rules.members(name, flag.exposure.cohorts)
    if is_in:
        lines = rules.with_members(name, sorted(rules.members(name, flag.exposure.cohorts) - {slug}), flag.exposure.cohorts)
        # Without any line everybody would be exposed.
        lower = exposures.changed(flag.exposure, cohorts=lines) if lines else exposures.changed(flag.exposure, on=False, cohorts=())
        why = f"{member.tenant} leaves {member.cohort.name}. {member.reason}".strip()[:500]
        flag_changes.lower_as_announced(flag=flag, exposure=lower, reason=why, actor=actor, at=at)
    tenant_overrides.release(flag=flag, tenant=member.tenant, reason=f"It leaves {member.cohort.name}.", actor=actor, at=at)
    member.state, member.left_at = State.LEFT, at
    member.save(update_fields=["state", "left_at", "reason"])
    cohort_members.record("cohort.left", member, actor=actor, reason=member.reason)
    cohort_members.tell(member, "cohort.left", Severity.INFO, f"Left: {member.cohort.name}", member.reason, Permission.VIEW, at)
    if is_in:
        cohort_members.time_effect(member, f"Left: {member.cohort.name}", actor=actor, at=at)
    return member
