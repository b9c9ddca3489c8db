"""What may be seen of the ground floor, and how it is counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar

from django.db.models import Count, Model, Q, QuerySet
from django.utils import timezone

from governance.consent import CLASSES
from governance.models import (
    AlertChannel,
    ApiToken,
    AuditEntry,
    Consent,
    ConsentChange,
    Delivery,
    FeatureClass,
    Membership,
    Notice,
    Severity,
    Tenant,
    User,
)
from governance.roles import permissions_of

Row = TypeVar("Row", bound=Model)


def memberships_of(user: User) -> QuerySet[Membership]:
    """The person's memberships with their tenants, by name."""
    return Membership.objects.filter(user=user).select_related("tenant").order_by("tenant__name")


def membership_in(user: User, tenant: Tenant) -> Membership | None:
    found = Membership.objects.filter(user=user, tenant=tenant).order_by().first()
    if found is not None:
        found.user, found.tenant = user, tenant  # whoever asks has them already: two joins less on every page
    return found


def members_of(tenant: Tenant) -> QuerySet[Membership]:
    return Membership.objects.filter(tenant=tenant).select_related("user").order_by("user__name", "pk")


def tenants_for_operator() -> QuerySet[Tenant]:
    """All tenants with the number of their members."""
    tenants: QuerySet[Tenant] = Tenant.objects.annotate(people=Count("memberships")).order_by("name", "pk")
    return tenants


def tokens_of(user: User, tenant: Tenant | None) -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(user=user, tenant=tenant, revoked_at=None).order_by("-created_at")


def audit_entries(
    *,
    event: str = "",
    actor: str = "",
    query: str = "",
    via: str = "",
    target: str = "",
    first: date | None = None,
    last: date | None = None,
) -> QuerySet[AuditEntry]:
    """The current schema's log, newest first. `event` is a beginning, `target` is type and id (`model:12`), days are UTC, both included."""
    entries = _between_days(AuditEntry.objects.order_by("-sequence"), "at", first, last)
    if event:
        entries = entries.filter(event__startswith=event)
    if actor:
        entries = entries.filter(actor_name__icontains=actor)
    if query:
        entries = entries.filter(target_name__icontains=query)
    if via:
        entries = entries.filter(via=via)
    if target:
        target_type, _, target_id = target.partition(":")
        entries = entries.filter(target_type=target_type, target_id=target_id)
    return entries


def _between_days(rows: QuerySet[Row], field: str, first: date | None, last: date | None) -> QuerySet[Row]:
    if first:
        rows = rows.filter(**{f"{field}__gte": datetime.combine(first, time.min, UTC)})
    if last:
        rows = rows.filter(**{f"{field}__lte": datetime.combine(last, time.max, UTC)})  # the last day that there is has none after it
    return rows


@dataclass(frozen=True)
class ConsentState:
    """What holds for one feature class, decided or by default."""

    feature_class: FeatureClass
    granted: bool
    is_default: bool
    purpose: str
    reason: str = ""
    actor_name: str = ""
    set_at: datetime | None = None


def consent_states() -> list[ConsentState]:
    """One state per feature class of the current tenant, in the order of the classes."""
    decided = {consent.feature_class: consent for consent in Consent.objects.select_related("actor")}
    states = []
    for feature_class, facts in CLASSES.items():
        consent = decided.get(feature_class)
        if consent is None:
            states.append(ConsentState(feature_class, facts.default_granted, True, facts.purpose))
        else:
            states.append(
                ConsentState(
                    feature_class,
                    consent.state == Consent.State.GRANTED,
                    False,
                    facts.purpose,
                    consent.reason,
                    str(consent.actor),
                    consent.set_at,
                )
            )
    return states


def consent_history(
    *, feature_class: str = "", state: str = "", query: str = "", first: date | None = None, last: date | None = None
) -> QuerySet[ConsentChange]:
    """Decisions, newest first, each with its way to the gateway. `query` looks in reasons and names; days are UTC, both included."""
    found = _between_days(ConsentChange.objects.select_related("actor", "effect").order_by("-set_at", "-id"), "set_at", first, last)
    if feature_class:
        found = found.filter(feature_class=feature_class)
    if state:
        found = found.filter(state=state)
    if query:
        found = found.filter(Q(reason__icontains=query) | Q(actor__name__icontains=query) | Q(actor__email__icontains=query))
    return found


@dataclass(frozen=True)
class ConsentEffects:
    """How fast the decisions of the last days held."""

    timed: int
    slowest_s: float | None
    """None: none was measured."""
    late: int
    """Beyond the promise, or given up."""

    @property
    def slowest_ms(self) -> float | None:
        """For the template filter `duration`."""
        return None if self.slowest_s is None else 1000 * self.slowest_s


EFFECT_DAYS = 90


def consent_effects(*, at: datetime) -> ConsentEffects:
    recent = ConsentChange.objects.filter(set_at__gte=at - timedelta(days=EFFECT_DAYS), effect__isnull=False).select_related("effect")
    timed = [change for change in recent if change.verdict in ("pass", "fail")]
    seconds = [change.effect.seconds for change in timed if change.effect and change.effect.seconds is not None]
    return ConsentEffects(len(timed), max(seconds, default=None), sum(change.verdict == "fail" for change in timed))


def alert_channels() -> QuerySet[AlertChannel]:
    return AlertChannel.objects.order_by("name")


def deliveries(*, status: str = "") -> QuerySet[Delivery]:
    """Newest first, with what was told and where."""
    found = Delivery.objects.select_related("notice", "channel").order_by("-created_at", "-pk")
    return found.filter(status=status) if status else found


def has_deliveries_due(at: datetime) -> bool:
    return Delivery.objects.filter(status=Delivery.Status.PENDING, next_at__lte=at).exists()


def attention_for(membership: Membership) -> list[Notice]:
    """The newest warnings of the last seven days that this person may read, critical ones first; at most five."""
    recent = notices_for(membership).filter(at__gte=timezone.now() - timedelta(days=7)).exclude(severity=Severity.INFO)
    return sorted(recent[:20], key=lambda notice: notice.severity != Severity.CRITICAL)[:5]


def notices_for(membership: Membership) -> QuerySet[Notice]:
    """What this person may read, newest first."""
    return Notice.objects.filter(permission__in=permissions_of(membership.roles)).order_by("-at", "-pk")
