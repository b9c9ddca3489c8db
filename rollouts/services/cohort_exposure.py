"""Exposing the members of a cohort, stage by stage. Works in the public schema.

Exposure changes on one road only: a change of the operator's flag, which another operator approves unless it surely lowers. `_settle` then
brings the members to where the flag has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from gateway.contract.flags import BUCKETS, Exposure
from governance.models import Severity, User
from governance.roles import Permission
from rollouts import cohort_rules as rules
from rollouts import cohort_selectors as selectors
from rollouts import exposure as exposures
from rollouts.errors import ChangeStaleError, CohortStateError, StageTooEarlyError
from rollouts.models import Cohort, CohortMember, Flag, FlagChange
from rollouts.services import cohort_members, escalations, flag_changes, tenant_overrides

State = CohortMember.State


def propose_activation(*, cohort: Cohort, reason: str, actor: User, at: datetime | None = None) -> FlagChange:
    """Ask for the exposure of everybody who is enrolled. In force once another operator approves it.

    Raises CohortStateError (closed, nobody waits, or everybody is exposed already), and what proposing a change raises.
    """
    cohort_members.check_open(cohort)
    escalations.check_not_paused()
    flag = selectors.flag_of(cohort)
    # Whoever winds down keeps it until the day that was announced.
    slugs = {member.tenant.slug for member in selectors.members_of(cohort).filter(state__in=CohortMember.IN_IT)}
    present = flag.exposure
    if present.on and not present.cohorts:
        raise CohortStateError("Everybody is exposed already: the flag has no cohorts.")
    inside = rules.members(cohort.slug, present.cohorts) if present.on else frozenset()
    if not slugs - inside:
        raise CohortStateError("Nobody is enrolled and not active yet.")
    lines = rules.with_members(cohort.slug, sorted(slugs | inside), present.cohorts if present.on else ())
    return flag_changes.propose_change(flag=flag, exposure=_exposing(present, lines), reason=reason, actor=actor, at=at)


def open_stage(*, flag: Flag, stage: str, reason: str, actor: User, at: datetime | None = None) -> FlagChange:
    """Ask for the next audience: internal, dogfood, a tier of the ramp, or everybody. From the ramp on, the stage before must have held.

    Raises CohortStateError (unknown, open already, or opened by activating a cohort), StageTooEarlyError, and what proposing raises.
    """
    at, wanted = at or timezone.now(), rules.BY_KEY.get(stage)
    if wanted is None or wanted.attribute == "tenant":
        raise CohortStateError("That stage is not opened here: a canary opens when its cohort is activated.", field="stage")
    escalations.check_not_paused()
    flag = selectors.fresh_flag(flag)
    rungs = selectors.ladder(flag, at=at)
    place = rules.STAGES.index(wanted)
    if rungs[place].is_open:
        raise CohortStateError(f"{wanted.title} is open already.", field="stage")
    before = rungs[place - 1]
    if place >= rules.RAMP_FROM and not before.has_held:
        held = (
            f"holds since {before.since:%Y-%m-%d %H:%M} UTC, and must until {before.until:%Y-%m-%d %H:%M}"
            if before.since
            else "is not open"
        )
        raise StageTooEarlyError(f"{wanted.title} opens after {before.stage.title.lower()}, which {held}.", field="stage")
    lines = flag.exposure.cohorts if flag.exposure.on else ()
    return flag_changes.propose_change(
        flag=flag, exposure=_exposing(flag.exposure, rules.opened(wanted, lines)), reason=reason, actor=actor, at=at
    )


def _exposing(present: Exposure, lines: Iterable[Any]) -> Exposure:
    """All of whoever is in the lines, where nobody was exposed before; otherwise the share stays as it is."""
    share = present.percentage if present.on and present.percentage else BUCKETS
    return exposures.changed(present, on=True, cohorts=list(lines), percentage=share)


@transaction.atomic
def decide(*, change: FlagChange, approve: bool, actor: User, comment: str = "", at: datetime | None = None) -> FlagChange:
    """Approve or decline a change of an operator's flag, or take back one's own; then members stand where the flag has them.

    Raises ActivationsPausedError (a war room is open), ChangeStaleError (it would expose somebody who left), and what approving and
    declining raise.
    """
    at = at or timezone.now()
    if not approve:
        change = flag_changes.reject_change(change=change, actor=actor, comment=comment, at=at)
        tenant_overrides.settle(flag=change.flag, actor=actor, at=at)
        return change
    escalations.check_not_paused()
    tenant_overrides.check_current(change=change, at=at)
    cohort_members.lock_all_of(change.flag)
    _check_all_in(change)
    change = flag_changes.approve_change(change=change, actor=actor, comment=comment, at=at)
    _settle(change.flag, actor=actor, reason=change.reason, at=at)
    tenant_overrides.settle(flag=change.flag, actor=actor, at=at)
    return change


@transaction.atomic
def switch_off(*, flag: Flag, reason: str, actor: User, at: datetime | None = None) -> FlagChange:
    """Expose nobody any more, at once and alone; another operator reviews it. Members stay enrolled."""
    at = at or timezone.now()
    cohort_members.lock_all_of(flag)
    flag = selectors.fresh_flag(flag)
    change = flag_changes.lower_in_emergency(
        flag=flag, exposure=exposures.changed(flag.exposure, on=False), reason=reason, actor=actor, at=at
    )
    _settle(flag, actor=actor, reason=reason, at=at)
    tenant_overrides.settle(flag=flag, actor=actor, at=at)
    return change


def _check_all_in(change: FlagChange) -> None:
    """Whoever was enrolled at the proposal may have left since: that made no version of the flag, so the change is not overtaken by it."""
    present = selectors.fresh_flag(change.flag).exposure
    for cohort in Cohort.objects.filter(flag=change.flag):
        before = rules.members(cohort.slug, present.cohorts) if present.on else frozenset()
        added = rules.members(cohort.slug, change.exposed.cohorts) - before
        inside = cohort.members.filter(state__in=CohortMember.IN_IT, tenant__slug__in=added).values_list("tenant__slug", flat=True)
        gone = sorted(added - set(inside))
        if gone:
            raise ChangeStaleError(f"No longer in {cohort.name}: {', '.join(gone)}. Take the change back and propose it anew.")


def _settle(flag: Flag, *, actor: User | None, reason: str, at: datetime) -> None:
    flag = selectors.fresh_flag(flag)
    for member in CohortMember.objects.select_related("cohort", "tenant").filter(
        cohort__flag=flag, state__in=(State.ENROLLED, State.ACTIVE)
    ):
        lines = flag.exposure.cohorts  # none mean everybody
        exposed = flag.exposure.on and (not lines or member.tenant.slug in rules.members(member.cohort.slug, lines))
        if exposed and member.state == State.ENROLLED:
            member.state, member.activated_at = State.ACTIVE, member.activated_at or at
            event, severity, title = "cohort.activated", Severity.INFO, f"Active: {member.cohort.name}"
        elif not exposed and member.state == State.ACTIVE:
            member.state = State.ENROLLED
            event, severity, title = "cohort.suspended", Severity.WARNING, f"Taken back for now: {member.cohort.name}"
        else:
            continue
        member.reason = reason[:300]
        member.save(update_fields=["state", "activated_at", "reason"])
        cohort_members.record(event, member, actor=actor, reason=member.reason)
        cohort_members.tell(member, event, severity, title, reason, Permission.VIEW, at)
        cohort_members.time_effect(member, title, actor=actor, at=at)
