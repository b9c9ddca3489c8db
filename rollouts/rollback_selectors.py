"""What may be seen of rollback rules and their incidents, which rules are watched, and whether anybody watches."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Count, Min, Q, QuerySet

from gateway.contract.flags import Exposure
from governance import metrics
from governance.access import Permission
from governance.models import Membership
from rollouts import rollback_language as language
from rollouts.models import Flag, FlagVersion, Incident, RollbackRule, RollbackWatch
from rollouts.rollback_language import Measure

STALE_AFTER = timedelta(seconds=60)
"""The watcher looks every ten seconds. After this without a look, rules guard nothing, and people are told."""


def rules_of(flag: Flag) -> QuerySet[RollbackRule]:
    """Not removed, oldest first."""
    return flag.rollback_rules.filter(removed_at=None).select_related("flag", "created_by", "armed_by").order_by("pk")


def all_rules(*, flag: str = "") -> QuerySet[RollbackRule]:
    found = RollbackRule.objects.filter(removed_at=None).select_related("flag", "created_by", "armed_by").order_by("pk")
    return found.filter(flag__key=flag) if flag else found


def find_rule(pk: int) -> RollbackRule | None:
    return all_rules().select_related("flag__current").filter(pk=pk).first()


def live_rules() -> QuerySet[RollbackRule]:
    """Those that the watcher judges when their flag is on."""
    live = Q(state__in=[RollbackRule.State.ARMED, RollbackRule.State.FROZEN], removed_at=None, flag__archived_at=None)
    return RollbackRule.objects.select_related("flag__current").filter(live).order_by("pk")


def watched_rules() -> list[RollbackRule]:
    return [rule for rule in live_rules() if treatments_of(rule.flag, rule.flag.exposure)]


def treatments_of(flag: Flag, exposure: Exposure) -> list[str]:
    """Variants other than the control that somebody may get now."""
    if not exposure.on:
        return []
    given = {one.variant for one in exposure.ranges if one.end > one.start} if exposure.percentage > 0 else set()
    given |= {override.variant for override in exposure.overrides}
    return sorted(given - {flag.control})


def incidents(*, tab: str = "") -> QuerySet[Incident]:
    """Newest first, by tab (`open`: not resolved, `resolved`; empty: all)."""
    found = Incident.objects.select_related("flag", "rule", "change__reviewed_by", "acknowledged_by", "resolved_by").order_by("-number")
    if tab == "open":
        return found.exclude(status=Incident.Status.RESOLVED)
    return found.filter(status=Incident.Status.RESOLVED) if tab == "resolved" else found


def incident_counts() -> dict[str, int]:
    counted = dict(Incident.objects.order_by().values_list("status").annotate(n=Count("pk")))
    resolved = counted.pop("resolved", 0)
    return {"open": sum(counted.values()), "resolved": resolved}


def find_incident(number: int) -> Incident | None:
    return incidents().select_related("change__version", "change__flag", "flag__current", "flag__rollout").filter(number=number).first()


def unresolved_incidents() -> QuerySet[Incident]:
    return Incident.objects.exclude(status=Incident.Status.RESOLVED)


def unacknowledged_incidents() -> QuerySet[Incident]:
    return Incident.objects.filter(status=Incident.Status.OPEN)


def open_incident() -> Incident | None:
    """The newest that is not resolved."""
    return unresolved_incidents().select_related("flag").order_by("-number").first()


def incidents_waiting_for(membership: Membership) -> int:
    """That nobody has acknowledged, for who could."""
    if not membership.can(Permission.MANAGE_ROLLOUTS):
        return 0
    return unacknowledged_incidents().count()


def watcher_away_since(*, at: datetime) -> datetime | None:
    """Since when nobody looks at rules that are armed; None while all is well or there are none."""
    armed_at = live_rules().aggregate(first=Min("armed_at"))["first"]
    if armed_at is None:
        return None
    watch = RollbackWatch.objects.order_by("-ticked_at").first()
    last: datetime = max(watch.ticked_at, armed_at) if watch else armed_at
    return last if at - last > STALE_AFTER else None


def registered_measures() -> dict[str, Measure]:
    return {metric.key: Measure(metric.key, metric.title, metric.unit, "quality") for metric in metrics.all_metrics()}


def parsed(text: str) -> language.Rule:
    """Raises RuleError."""
    return language.parse(text, registered_measures())


def exposed_again(flags: Iterable[Flag], *, since: datetime) -> dict[int, datetime]:
    """When somebody began to be exposed anew, by flag: only of flags that were off after `since`, and exposed somebody before."""
    lately = {flag.pk: flag for flag in flags if flag.current is not None and flag.current.at > since}
    versions: dict[int, list[FlagVersion]] = {}
    for version in FlagVersion.objects.filter(flag__in=lately).order_by("flag", "-number"):
        versions.setdefault(version.flag_id, []).append(version)
    found = {}
    for pk, newest_first in versions.items():
        began, was_off = None, False
        for version in newest_first:
            is_exposed = bool(treatments_of(lately[pk], version.exposed))
            if is_exposed and was_off and began is not None:
                found[pk] = began
                break
            if version.at <= since:
                break
            was_off = was_off or not is_exposed
            began = version.at if is_exposed else began
    return found
