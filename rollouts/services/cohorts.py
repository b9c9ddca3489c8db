"""Leading organisations into a preview: making a cohort, screening, invitation and answer. Works in the public schema, and exposes nobody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from governance.models import Severity, Tenant, User
from governance.roles import Permission
from governance.services import audit
from rollouts import cohort_rules as rules
from rollouts import cohort_selectors as selectors
from rollouts.cohort_rules import CriterionError, Figure
from rollouts.errors import CohortFullError, CohortInvalidError, CohortStateError, EvidenceMissingError, SlugTakenError
from rollouts.models import Cohort, CohortMember, Flag
from rollouts.services import cohort_members, flags

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
    at: datetime | None = None,
) -> Cohort:
    """Make a cohort on one of the operator's flags; a key that is not used yet makes a flag (off and on), which begins off.

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
                slug=slug, name=name.strip(), purpose=purpose.strip(), flag=flag, criteria="\n".join(str(one) for one in parsed),
                places=places, over_recruitment=over_recruitment, owner=actor, created_at=at,
            )  # fmt: skip
            audit.record(
                "cohort.created", actor=actor, target=cohort, at=at, flag=flag.key, criteria=cohort.criteria, places=places,
                recruits=cohort.recruits,
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


@transaction.atomic
def ask_for_screening(*, cohort: Cohort, actor: User, at: datetime | None = None) -> Cohort:
    """Have every organisation judged anew; the worker does it, one task for each. Raises CohortStateError when closed."""
    cohort, at = cohort_members.lock(cohort), at or timezone.now()
    cohort_members.check_open(cohort)
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


@transaction.atomic
def invite(*, cohort: Cohort, actor: User, at: datetime | None = None) -> list[CohortMember]:
    """Ask the candidates who meet the criteria, those with most calls first, until as many are asked or in as are recruited.

    Raises CohortStateError (closed, or nobody meets the criteria), CohortFullError.
    """
    cohort, at = cohort_members.lock(cohort), at or timezone.now()
    cohort_members.check_open(cohort)
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
    cohort, at = cohort_members.lock(cohort), at or timezone.now()
    cohort_members.check_open(cohort)
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
    cohort_members.record("cohort.invited", member, actor=actor, verdict=member.verdict, override=member.override_reason)
    cohort_members.tell(
        member, "cohort.invited", Severity.INFO, f"Invited: {cohort.name}",
        f"{cohort.purpose} Accept or decline by {member.answer_by:%Y-%m-%d}.".strip(), Permission.MANAGE_ROLLOUTS, at,
    )  # fmt: skip
    return member


@transaction.atomic
def answer(*, member: CohortMember, accept: bool, actor: User, reason: str = "", at: datetime | None = None) -> CohortMember:
    """The organisation's own word. Accepting enrols it; nothing changes at the gateway before the operators activate it.

    Raises CohortStateError (not asked, or the time is over), CohortFullError.
    """
    member, at = cohort_members.lock_member(member), at or timezone.now()
    if member.state != State.INVITED or (member.answer_by is not None and member.answer_by < at):
        raise CohortStateError("There is no invitation that waits for an answer.")
    # Its invitation holds a place, unless places were taken by overrides since.
    others = member.cohort.members.filter(state__in=(State.ENROLLED, State.ACTIVE)).count()
    if accept and others >= member.cohort.recruits and not member.override_reason:
        raise CohortFullError(f"All {member.cohort.recruits} places were taken in the meantime.")
    member.state = State.ENROLLED if accept else State.DECLINED
    member.answered_at, member.answered_by, member.reason = at, actor, reason.strip()
    member.save()
    cohort_members.record("cohort.accepted" if accept else "cohort.declined", member, actor=actor, reason=member.reason)
    return member
