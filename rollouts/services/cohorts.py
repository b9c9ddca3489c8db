"""Leading organisations through a preview: screening, invitation, enrolment, activation and wind-down.

Everything here works in the public schema. Exposure changes on one road only: a change of the operator's flag, which another operator
approves unless it surely lowers. `_settle` then brings the members to where the flag has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django_tenants.utils import schema_context

from gateway.contract.flags import BUCKETS, Exposure
from governance import config
from governance.models import Effect, Severity, Tenant, User
from governance.roles import Permission
from governance.services import alerts, audit, effects
from rollouts import cohort_rules as rules
from rollouts import cohort_selectors as selectors
from rollouts import exposure as exposures
from rollouts import programme_rules
from rollouts.cohort_rules import CriterionError, Figure
from rollouts.cohort_selectors import Usage
from rollouts.errors import (
    ChangeStaleError,
    CohortFullError,
    CohortInvalidError,
    CohortStateError,
    EvidenceMissingError,
    SlugTakenError,
    StageTooEarlyError,
)
from rollouts.models import Cohort, CohortMember, Flag, FlagChange
from rollouts.programme_selectors import drill_name
from rollouts.services import escalations, flags, tenant_overrides

State = CohortMember.State
RESERVED_SLUGS = frozenset({"new", *rules.BY_KEY})
"""An address of ours, and the names that the stages have in an exposure."""


def create_cohort(
    *,
    slug: str,
    name: str,
    flag_key: str,
    feature_class: str,
    criteria: str,
    places: int,
    actor: User,
    over_recruitment: int = rules.DEFAULT_OVER_RECRUITMENT,
    purpose: str = "",
    subject: str = "",
    at: datetime | None = None,
) -> Cohort:
    """Make a cohort on one of the operator's flags; a key that is not used yet makes a flag (off and on), which begins off.
    `subject`: what its people's answers count for, beside the cohort itself.

    Raises CohortInvalidError, SlugTakenError, FlagKeyTakenError (a tenant has the key), ExposureInvalidError.
    """
    try:
        parsed = rules.parse(criteria)
    except CriterionError as error:
        raise CohortInvalidError(str(error), field="criteria") from error
    if slug in RESERVED_SLUGS:
        raise SlugTakenError(f"The address {slug} is reserved. Choose another.", field="slug")
    at = at or timezone.now()
    try:
        with transaction.atomic():
            flag = _flag(flag_key, feature_class, name=name, actor=actor, at=at)
            cohort = Cohort.objects.create(
                slug=slug, name=name.strip(), purpose=purpose.strip(), flag=flag, subject=subject, criteria="\n".join(str(one) for one in parsed),
                places=places, over_recruitment=over_recruitment, owner=actor, created_at=at,
            )  # fmt: skip
            audit.record(
                "cohort.created", actor=actor, target=cohort, at=at, flag=flag.key, criteria=cohort.criteria, places=places,
                recruits=cohort.recruits, subject=subject,
            )  # fmt: skip
    except IntegrityError as error:
        if Cohort.objects.filter(slug=slug).exists():
            raise SlugTakenError(f"A cohort with the address {slug} exists.", field="slug") from error
        raise
    return cohort


def _flag(key: str, feature_class: str, *, name: str, actor: User, at: datetime) -> Flag:
    flag = Flag.objects.filter(key=key).first()
    if flag is None:
        return flags.create_flag(
            key=key, title=name, kind=Flag.Kind.BOOLEAN, variants={"off": False, "on": True}, control="off", feature_class=feature_class,
            sticky="tenant", actor=actor, at=at,
        )  # fmt: skip
    if flag.is_archived:
        raise CohortInvalidError(f"{key} is archived.", field="flag")
    if flag.feature_class != feature_class:
        raise CohortInvalidError(f"{key} needs the consent {flag.feature_class}, not {feature_class}.", field="feature_class")
    return flag


# Screening


@transaction.atomic
def ask_for_screening(*, cohort: Cohort, actor: User, at: datetime | None = None) -> Cohort:
    """Have every organisation judged anew; the worker does it, one task for each. Raises CohortStateError when closed."""
    cohort, at = _lock(cohort), at or timezone.now()
    _check_open(cohort)
    cohort.screened_at = at
    cohort.save(update_fields=["screened_at"])
    audit.record("cohort.screened", actor=actor, target=cohort, at=at, criteria=cohort.criteria)
    transaction.on_commit(_screen_soon, robust=True)
    return cohort


def _screen_soon() -> None:
    from rollouts import tasks  # it calls this module

    tasks.dispatch_screening.delay()


@transaction.atomic
def screen(*, tenant: Tenant, figures: Mapping[str, Figure], consents: Mapping[str, str], at: datetime | None = None) -> int:
    """Judge an organisation by every open cohort, and keep the figures; how many cohorts it is a candidate for.

    `figures` without `consent`, which is `consents` by the class of the cohort's flag. Whoever was asked keeps the evidence of that time.
    """
    at, passed = at or timezone.now(), 0
    for cohort in Cohort.objects.select_related("flag").filter(closed_at=None).order_by("pk"):
        outcomes = rules.judge(cohort.rules, {**figures, "consent": consents.get(cohort.flag.feature_class)})
        verdict = rules.folded(outcomes)
        evidence = [{"criterion": one.criterion, "figure": one.figure, "verdict": one.verdict} for one in outcomes]
        weight = figures.get("calls_per_day")
        found = {"verdict": verdict, "evidence": evidence, "weight": weight if isinstance(weight, float) else 0.0, "screened_at": at}
        member, made = CohortMember.objects.get_or_create(cohort=cohort, tenant=tenant, defaults=found)
        if not made and member.state == State.CANDIDATE:
            CohortMember.objects.filter(pk=member.pk, state=State.CANDIDATE).update(**found)
        passed += verdict == "pass"
    return passed


# Invitation and answer


@transaction.atomic
def invite(*, cohort: Cohort, actor: User, at: datetime | None = None) -> list[CohortMember]:
    """Ask the candidates who meet the criteria, those with most calls first, until as many are asked or in as are recruited.

    Raises CohortStateError (closed, or nobody meets the criteria), CohortFullError.
    """
    cohort, at = _lock(cohort), at or timezone.now()
    _check_open(cohort)
    free = cohort.recruits - cohort.members.filter(state__in=CohortMember.TAKES_A_PLACE).count()
    if free <= 0:
        raise CohortFullError(f"All {cohort.recruits} who may be asked are asked or in.")
    chosen = list(selectors.candidates(cohort)[:free])
    if not chosen:
        raise CohortStateError("Nobody who was screened meets the criteria and is not asked yet. Screen again, or write other criteria.")
    return [_invite(member, actor=actor, at=at) for member in chosen]


@transaction.atomic
def invite_in_spite(*, cohort: Cohort, tenant: Tenant, reason: str, actor: User, at: datetime | None = None) -> CohortMember:
    """Ask one organisation whatever its screening says: an override into an earlier stage. It still answers for itself.

    Raises CohortStateError (closed, or asked before), EvidenceMissingError.
    """
    cohort, at = _lock(cohort), at or timezone.now()
    _check_open(cohort)
    if not reason.strip():
        raise EvidenceMissingError("Say why this organisation is asked in spite of the criteria.", field="reason")
    member = CohortMember.objects.select_for_update(of=("self",)).filter(cohort=cohort, tenant=tenant).first() or CohortMember(
        cohort=cohort, tenant=tenant, verdict=CohortMember.Verdict.NO_DATA, screened_at=at
    )
    if member.state not in (State.CANDIDATE, State.DECLINED, State.LEFT):
        raise CohortStateError(f"{tenant} is {member.get_state_display().lower()} already.")
    member.override_reason = reason.strip()
    return _invite(member, actor=actor, at=at)


def _invite(member: CohortMember, *, actor: User, at: datetime) -> CohortMember:
    cohort = member.cohort
    member.state, member.invited_at, member.answer_by, member.reason = State.INVITED, at, at + rules.NOTICE, ""
    member.answered_at = member.answered_by = member.left_at = member.leaves_at = member.winding_down_at = None
    # Of an earlier membership, whose times would be measured from the new one.
    member.activated_at, member.first_call_at, member.days_with_calls = None, None, []
    member.save()
    _record("cohort.invited", member, actor=actor, verdict=member.verdict, override=member.override_reason)
    _tell(
        member, "cohort.invited", Severity.INFO, f"Invited: {cohort.name}",
        f"{cohort.purpose} Accept or decline by {member.answer_by:%Y-%m-%d}.".strip(), Permission.MANAGE_ROLLOUTS, at,
    )  # fmt: skip
    return member


@transaction.atomic
def answer(*, member: CohortMember, accept: bool, actor: User, reason: str = "", at: datetime | None = None) -> CohortMember:
    """The organisation's own word. Accepting enrols it; nothing changes at the gateway before the operators activate it.

    Raises CohortStateError (not asked, or the time is over), CohortFullError.
    """
    member, at = _lock_member(member), at or timezone.now()
    if member.state != State.INVITED or (member.answer_by is not None and member.answer_by < at):
        raise CohortStateError("There is no invitation that waits for an answer.")
    # Its invitation holds a place, unless places were taken by overrides since.
    others = member.cohort.members.filter(state__in=(State.ENROLLED, State.ACTIVE)).count()
    if accept and others >= member.cohort.recruits and not member.override_reason:
        raise CohortFullError(f"All {member.cohort.recruits} places were taken in the meantime.")
    member.state = State.ENROLLED if accept else State.DECLINED
    member.answered_at, member.answered_by, member.reason = at, actor, reason.strip()
    member.save()
    _record("cohort.accepted" if accept else "cohort.declined", member, actor=actor, reason=member.reason)
    return member


# Exposure: the flag's road


def propose_activation(*, cohort: Cohort, reason: str, actor: User, at: datetime | None = None) -> FlagChange:
    """Ask for the exposure of everybody who is enrolled. In force once another operator approves it.

    Raises CohortStateError (closed, nobody waits, or everybody is exposed already), and what proposing a change raises.
    """
    _check_open(cohort)
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
    return flags.propose_change(flag=flag, exposure=_exposing(present, lines), reason=reason, actor=actor, at=at)


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
    return flags.propose_change(
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
        change = flags.reject_change(change=change, actor=actor, comment=comment, at=at)
        tenant_overrides.settle(flag=change.flag, actor=actor, at=at)
        return change
    escalations.check_not_paused()
    tenant_overrides.check_current(change=change, at=at)
    _lock_cohorts(change.flag)
    _check_all_in(change)
    change = flags.approve_change(change=change, actor=actor, comment=comment, at=at)
    _settle(change.flag, actor=actor, reason=change.reason, at=at)
    tenant_overrides.settle(flag=change.flag, actor=actor, at=at)
    return change


@transaction.atomic
def switch_off(*, flag: Flag, reason: str, actor: User, at: datetime | None = None) -> FlagChange:
    """Expose nobody any more, at once and alone; another operator reviews it. Members stay enrolled."""
    at = at or timezone.now()
    _lock_cohorts(flag)
    flag = selectors.fresh_flag(flag)
    change = flags.lower_in_emergency(flag=flag, exposure=exposures.changed(flag.exposure, on=False), reason=reason, actor=actor, at=at)
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
        _record(event, member, actor=actor, reason=member.reason)
        _tell(member, event, severity, title, reason, Permission.VIEW, at)
        _time(member, title, actor=actor, at=at)


# Wind-down


@transaction.atomic
def wind_down(
    *, cohort: Cohort, tenants: Iterable[Tenant] | None, reason: str, actor: User, at: datetime | None = None
) -> list[CohortMember]:
    """Announce the end to some members, or to all and close the cohort (`tenants` None): active ones keep it for 14 more days.

    Who is only asked or enrolled leaves at once: nothing of theirs changes. Raises CohortStateError, EvidenceMissingError.
    """
    cohort, at = _lock(cohort), at or timezone.now()
    if not reason.strip():
        raise EvidenceMissingError("Say why: the organisations read it.", field="reason")
    found = cohort.members.select_related("tenant", "cohort").filter(state__in=CohortMember.TAKES_A_PLACE).order_by("pk")
    if tenants is not None:
        found = found.filter(tenant__in=list(tenants))
    leaving = list(found.select_for_update(of=("self",)))
    if tenants is not None and not leaving:
        raise CohortStateError("Nobody of them is asked, enrolled or active.")
    if tenants is None:
        _check_open(cohort)
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
    _record("cohort.wind_down", member, actor=actor, reason=member.reason, leaves_at=member.leaves_at.isoformat())
    text = f"{member.reason} It works until {member.leaves_at:%Y-%m-%d %H:%M} UTC; data and configuration stay."
    _tell(
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
    member, at = _lock_member(member), at or timezone.now()
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
            member = _lock_member(found)
            if member.state == State.WINDING_DOWN and member.leaves_at is not None and member.leaves_at <= at:
                _left(member, actor=None, at=at)
            elif member.state == State.INVITED:
                member.state, member.reason = State.DECLINED, "Nobody answered in time."
                member.save(update_fields=["state", "reason"])
                _record("cohort.declined", member, actor=None, reason=member.reason)
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
        flags.lower_as_announced(flag=flag, exposure=lower, reason=why, actor=actor, at=at)
    tenant_overrides.release(flag=flag, tenant=member.tenant, reason=f"It leaves {member.cohort.name}.", actor=actor, at=at)
    member.state, member.left_at = State.LEFT, at
    member.save(update_fields=["state", "left_at", "reason"])
    _record("cohort.left", member, actor=actor, reason=member.reason)
    _tell(member, "cohort.left", Severity.INFO, f"Left: {member.cohort.name}", member.reason, Permission.VIEW, at)
    if is_in:
        _time(member, f"Left: {member.cohort.name}", actor=actor, at=at)
    return member


# Drills


@transaction.atomic
def run_drill(*, cohort: Cohort, actor: User | None, at: datetime | None = None) -> int:
    """Rehearse taking the phase back: a version that changes nothing goes the way of a switch-off to every process of the gateway, timed
    for each active organisation; how many. Raises CohortStateError when nobody is active.
    """
    at, active = at or timezone.now(), list(selectors.members_of(cohort).filter(state__in=(State.ACTIVE, State.WINDING_DOWN)))
    if not active:
        raise CohortStateError("Nobody is active: there is nothing to take back.")
    rto = programme_rules.rto_of(len(active))
    for member in active:
        with schema_context(member.tenant.schema_name):
            effects.run_drill(actor=actor, at=at, what=drill_name(cohort), rto=rto)
    audit.record("cohort.drilled", actor=actor, target=cohort, at=at, organisations=len(active))
    return len(active)


# Keeping the programme's figures


@transaction.atomic
def keep_usage(*, usage: Mapping[int, Usage]) -> int:
    """Keep when each membership's first governed call was and on which days there were calls, by its key; how many changed."""
    changed = 0
    for member in CohortMember.objects.select_for_update().filter(pk__in=usage).order_by("pk"):
        seen = usage[member.pk]
        first = member.first_call_at or seen.first_call_at  # what was seen once stays, also when events are long gone
        days = sorted({*member.days_with_calls, *seen.days})
        if first != member.first_call_at or days != member.days_with_calls:
            member.first_call_at, member.days_with_calls = first, days
            member.save(update_fields=["first_call_at", "days_with_calls"])
            changed += 1
    return changed


# Shared


def _lock(cohort: Cohort) -> Cohort:
    return Cohort.objects.select_for_update(of=("self",)).select_related("flag").get(pk=cohort.pk)


def _lock_cohorts(flag: Flag) -> None:
    """Before the flag, as everybody does who leaves: nobody comes or goes until the members stand where the flag has them."""
    list(Cohort.objects.select_for_update().filter(flag=flag).order_by("pk").values_list("pk"))


def _lock_member(member: CohortMember) -> CohortMember:
    """The cohort's row first, as everybody does who counts its places."""
    Cohort.objects.select_for_update().get(pk=member.cohort_id)
    return CohortMember.objects.select_for_update(of=("self",)).select_related("cohort", "tenant").get(pk=member.pk)


def _check_open(cohort: Cohort) -> None:
    if cohort.is_closed:
        raise CohortStateError(f"{cohort.name} is closed.")


def _record(event: str, member: CohortMember, *, actor: User | None, **details: Any) -> None:
    audit.record_in_both(event, tenant=member.tenant, actor=actor, cohort=member.cohort.slug, **details)


def _tell(member: CohortMember, topic: str, severity: str, title: str, text: str, permission: Permission, at: datetime) -> None:
    with schema_context(member.tenant.schema_name):
        alerts.notify(
            topic=topic, severity=severity, title=title, text=text, path="release/cohorts/", permission=permission,
            key=f"{topic}:{member.cohort.slug}:{at.isoformat()}", data={"cohort": member.cohort.slug}, at=at,
        )  # fmt: skip


def _time(member: CohortMember, what: str, *, actor: User | None, at: datetime) -> None:
    """Publish this organisation's snapshot with the commit, before the worker comes to the others, and time its way."""
    with schema_context(member.tenant.schema_name):
        config.changed()
        effects.watch(what, scope=Effect.Scope.TENANT, actor=actor, at=at)
