"""What may be seen of cohorts: by the operator over all organisations, and by an organisation of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Count, Min, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django_tenants.utils import get_public_schema_name, schema_context

from catalog import selectors as catalog_selectors
from costs.models import Anomaly, Event, UsageHour
from gateway.contract.flags import Decision, decide
from governance import selectors as governance_selectors
from governance.access import Permission
from governance.models import FeatureClass, Membership, Tenant
from rollouts import cohort_rules as rules
from rollouts import flag_selectors
from rollouts.cohort_rules import Figure, Stage
from rollouts.models import Cohort, CohortMember, Escalation, Flag, FlagChange, FlagVersion, Incident, TenantOverride

State = CohortMember.State
TAB_STATES: dict[str, tuple[str, ...]] = {
    "in": CohortMember.IN_IT,
    "asked": (State.INVITED,),
    "candidates": (State.CANDIDATE,),
    "out": (State.DECLINED, State.LEFT),
}
VERSIONS_SEEN = 500


# The operator's side: public schema


def cohorts(*, tab: str = "", query: str = "") -> QuerySet[Cohort]:
    """Newest first, with how many are where."""
    found = Cohort.objects.select_related("flag__current", "owner").annotate(
        candidates=Count("members", filter=Q(members__state=State.CANDIDATE, members__verdict="pass")),
        asked=Count("members", filter=Q(members__state=State.INVITED)),
        enrolled=Count("members", filter=Q(members__state=State.ENROLLED)),
        active=Count("members", filter=Q(members__state=State.ACTIVE)),
        winding_down=Count("members", filter=Q(members__state=State.WINDING_DOWN)),
    )
    if tab == "open":
        found = found.filter(closed_at=None)
    elif tab == "closed":
        found = found.filter(closed_at__isnull=False)
    if query:
        found = found.filter(Q(name__icontains=query) | Q(slug__icontains=query) | Q(flag__key__icontains=query))
    return found.order_by("-created_at", "-pk")


def cohort_counts() -> dict[str, int]:
    return Cohort.objects.aggregate(open=Count("pk", filter=Q(closed_at=None)), closed=Count("pk", filter=Q(closed_at__isnull=False)))


def open_cohorts() -> list[tuple[str, str]]:
    """Slug and name of those that are not closed, by name."""
    return list(Cohort.objects.filter(closed_at=None).order_by("name").values_list("slug", "name"))


def find_cohort(slug: str) -> Cohort | None:
    return cohorts().filter(slug=slug).first()


def members_of(cohort: Cohort) -> QuerySet[CohortMember]:
    """Of organisations that still exist."""
    return CohortMember.objects.select_related("tenant", "answered_by", "cohort").filter(cohort=cohort, tenant__deleted_at=None)


def listed_members(cohort: Cohort, tab: str) -> QuerySet[CohortMember]:
    """One tab of the table of members, those that meet the criteria and call most first."""
    return members_of(cohort).filter(state__in=TAB_STATES[tab]).order_by("-weight", "pk")


def member_counts(cohort: Cohort) -> dict[str, int]:
    return members_of(cohort).aggregate(**{tab: Count("pk", filter=Q(state__in=states)) for tab, states in TAB_STATES.items()})


def candidates(cohort: Cohort) -> QuerySet[CohortMember]:
    """Who meets the criteria and was not asked, those with most calls first. Suspended ones are not asked."""
    passing = members_of(cohort).filter(state=State.CANDIDATE, verdict="pass", tenant__suspended_at=None)
    return passing.order_by("-weight", "tenant__name", "pk")


def flag_of(cohort: Cohort) -> Flag:
    return Flag.objects.select_related("current").get(pk=cohort.flag_id)


def fresh_flag(flag: Flag) -> Flag:
    return Flag.objects.select_related("current").get(pk=flag.pk)


def changes_of(cohort: Cohort) -> QuerySet[FlagChange]:
    return flag_selectors.changes_of(cohort.flag)


def find_change(cohort: Cohort, number: int) -> FlagChange | None:
    return changes_of(cohort).filter(number=number).first()


def overrides_of(cohort: Cohort) -> QuerySet[TenantOverride]:
    """Of the cohort's flag, newest first: what one organisation has, or had, apart from the stages."""
    found = TenantOverride.objects.filter(flag=cohort.flag_id, tenant__deleted_at=None)
    return found.select_related("flag", "tenant", "requested_by", "change__decided_by", "ending").order_by("-requested_at", "-pk")


def find_override(cohort: Cohort, pk: int) -> TenantOverride | None:
    return overrides_of(cohort).filter(pk=pk).first()


def who_gets(cohort: Cohort, slug: str) -> tuple[Tenant, flag_selectors.Preview] | None:
    """What programs of an organisation get, by its own facts and consent, and under a change that waits; None when there is no such one."""
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        return None
    flag = flag_of(cohort)
    with schema_context(tenant.schema_name):
        agreed = flag_selectors.has_consent(flag.feature_class)
    return tenant, flag_selectors.preview(flag, flag_selectors.facts_of(tenant), consent=agreed, change=flag.waiting_change)


@dataclass(frozen=True)
class Rung:
    """A stage of the ramp as it is now."""

    stage: Stage
    is_open: bool
    since: datetime | None
    """Without a break; None when it is not open."""
    until: datetime | None
    """When it will have held."""
    has_held: bool


def ladder(flag: Flag, *, at: datetime) -> list[Rung]:
    """Every stage in its order; how long it is open comes from the versions of the exposure."""
    versions = list(flag.versions.order_by("-number")[:VERSIONS_SEEN])
    return [_rung(stage, flag, versions, at) for stage in rules.STAGES]


def _rung(stage: Stage, flag: Flag, versions: list[FlagVersion], at: datetime) -> Rung:
    since = None
    for version in versions:
        if not rules.is_open(stage, version.exposed.cohorts, on=version.exposed.on):
            break
        since = version.at
    until = since + stage.hold if since else None
    return Rung(stage, since is not None, since, until, until is not None and until <= at)


def cohorts_in_use() -> QuerySet[Cohort]:
    """With somebody who is exposed."""
    exposed = CohortMember.objects.filter(state__in=(State.ACTIVE, State.WINDING_DOWN), tenant__deleted_at=None)
    return Cohort.objects.filter(pk__in=exposed.values("cohort")).order_by("pk")


def escalations(*, tab: str = "") -> QuerySet[Escalation]:
    """Newest first; `open` and `closed`, empty for all."""
    found = Escalation.objects.select_related("tenant", "closed_by").order_by("-opened_at", "-pk")
    return found.filter(closed_at__isnull=tab == "open") if tab else found


def find_escalation(pk: int) -> Escalation | None:
    return escalations().prefetch_related("notes__by").filter(pk=pk).first()


def war_room() -> Escalation | None:
    """What activations are paused for."""
    return escalations(tab="open").filter(kind=Escalation.Kind.FALSE_THROTTLE).last()


def waiting_count() -> int:
    """Changes of the operator's flags that wait for another operator."""
    return Flag.objects.filter(flag_selectors.waits()).distinct().count()


# Live figures of the current organisation: its own schema


def figures_now(tenant: Tenant, *, at: datetime) -> dict[str, Figure]:
    """What criteria ask about, from the hourly rollup; None where nothing is known, as of an organisation without any call."""
    end = at.replace(hour=0, minute=0, second=0, microsecond=0)
    used = UsageHour.objects.filter(hour__gte=end - timedelta(days=rules.WINDOW_DAYS), hour__lt=end).exclude(
        outcome=UsageHour.Outcome.REFUSED
    )
    sums = used.aggregate(
        calls=Sum("calls"), cost=Sum("cost"), unpriced=Sum("unpriced_calls"), days=Count(TruncDate("hour"), distinct=True)
    )
    has_calls = sums["calls"] is not None
    return {
        "tier": str(tenant.tier),
        "kind": str(tenant.kind),
        "region": tenant.region or None,
        "age_days": float((at - tenant.created_at).days),
        "calls_per_day": sums["calls"] / rules.WINDOW_DAYS if has_calls else None,
        "active_days": float(sums["days"]) if has_calls else None,
        # A sum that misses the price of some calls is no figure to choose by.
        "spend_usd": float(sums["cost"]) if has_calls and not sums["unpriced"] else None,
        "models": float(catalog_selectors.served_models().count()),
        "open_incidents": float(Incident.objects.exclude(status=Incident.Status.RESOLVED).count()),
    }


def false_alerts_of_week(*, at: datetime) -> int:
    """Alerts made in the last seven days that somebody judged false."""
    return Anomaly.objects.filter(created_at__gt=at - timedelta(days=7), feedback=Anomaly.Feedback.FALSE).count()


def consents_now() -> dict[str, str]:
    """`granted` or `withdrawn` by feature class, defaults included."""
    return {str(state.feature_class): "granted" if state.granted else "withdrawn" for state in governance_selectors.consent_states()}


@dataclass(frozen=True)
class Usage:
    first_call_at: datetime | None
    days: list[date]
    """UTC days with calls that were answered."""


def usage_since_enrolment(tenant: Tenant) -> dict[int, Usage]:
    """By the key of each membership in which the organisation is; days of the last four weeks, which are looked at daily."""
    found = {}
    for member in CohortMember.objects.filter(tenant=tenant, state__in=CohortMember.IN_IT):
        if member.answered_at is None:
            continue
        answered = UsageHour.objects.filter(
            hour__gte=member.answered_at.replace(minute=0, second=0, microsecond=0), outcome=UsageHour.Outcome.OK
        )
        days = sorted(set(answered.values_list(TruncDate("hour"), flat=True).distinct()))
        first = member.first_call_at
        if first is None and days:  # one look at the events, only until it is found
            first = Event.objects.filter(started_at__gte=member.answered_at, status="ok").aggregate(first=Min("started_at"))["first"]
        found[member.pk] = Usage(first, [day for day in days if first is not None and day >= first.date()])
    return found


# An organisation about itself: its own schema


@dataclass(frozen=True)
class Standing:
    """One membership with what the operator gives and what the organisation allows, which are two things."""

    member: CohortMember
    flag: str
    feature_class: str
    is_entitled: bool
    """Would the flag expose the organisation if it consented?"""
    has_consent: bool
    decision: Decision
    """What programs of the organisation get now."""

    @property
    def may_answer(self) -> bool:
        return self.member.state == State.INVITED

    @property
    def may_leave(self) -> bool:
        return self.member.state in CohortMember.IN_IT

    @property
    def is_exposed(self) -> bool:
        return self.is_entitled and self.has_consent


def standings(tenant: Tenant, *, slug: str = "") -> list[Standing]:
    """Cohorts that the organisation was asked into, the newest first; being a candidate is not told."""
    found = CohortMember.objects.exclude(state=State.CANDIDATE).filter(tenant=tenant).order_by("-invited_at", "-pk")
    if slug:
        found = found.filter(cohort__slug=slug)
    consents, facts = consents_now(), flag_selectors.facts_of(tenant)
    with schema_context(get_public_schema_name()):
        members = list(found.select_related("cohort__flag__current", "answered_by"))
    return [_standing(member, consents, facts) for member in members]


def _standing(member: CohortMember, consents: dict[str, str], facts: dict[str, str]) -> Standing:
    flag = member.cohort.flag
    compiled, agreed = flag_selectors.compiled(flag), consents[flag.feature_class] == "granted"
    entitled = decide(compiled, facts, True)
    return Standing(
        member,
        flag.key,
        str(FeatureClass(flag.feature_class).label),
        entitled.variant != flag.control,
        agreed,
        decide(compiled, facts, agreed),
    )


def invited() -> QuerySet[CohortMember]:
    """Of every organisation."""
    return CohortMember.objects.filter(state=State.INVITED)


def winding_down() -> QuerySet[CohortMember]:
    """Of every organisation."""
    return CohortMember.objects.filter(state=State.WINDING_DOWN)


def invitations_for(membership: Membership) -> int:
    """How many wait for this person's answer."""
    if not membership.can(Permission.MANAGE_ROLLOUTS):
        return 0
    return invited().filter(tenant=membership.tenant).count()


def ending(tenant: Tenant) -> CohortMember | None:
    """The membership whose announced end comes first."""
    found = winding_down().select_related("cohort").filter(tenant=tenant)
    return found.order_by("leaves_at").first()


def tenants_named(slugs: Iterable[str]) -> list[Tenant]:
    return list(Tenant.objects.filter(slug__in=list(slugs)))
