"""What the catalog offers to gates: counts of the present state. They are exact, so they carry no interval."""

from __future__ import annotations

from catalog.models import Model, Provider, Tool, ToolServer, VirtualKey
from catalog.models.provider import ROTATE_CREDENTIALS_AFTER
from governance import metrics
from governance.metrics import NO_DATA, Metric, Reading, Window
from governance.models import Membership
from governance.schema import current_schema


def models_served(window: Window) -> Reading:
    """Models that the gateway serves now; the window does not matter."""
    count = Model.objects.filter(status__in=Model.SERVED).count()
    return Reading(float(count), sample=count, statistics={"served": count, "registered": Model.objects.count()})


def virtual_keys_live(window: Window) -> Reading:
    """Keys for programs that were live at the end of the window."""
    keys = VirtualKey.objects.filter(purpose=VirtualKey.Purpose.STANDARD, created_at__lt=window.end)
    live = keys.filter(expires_at__gt=window.end).exclude(revoked_at__lte=window.end).count()
    return Reading(float(live), sample=live, statistics={"live": live, "made": keys.count()})


def tools_registered(window: Window) -> Reading:
    """Tools that the gateway offers now; suspended ones do not count."""
    active = Tool.objects.filter(status=Tool.Status.ACTIVE, server__is_enabled=True).count()
    return Reading(
        float(active), sample=active, statistics={"active": active, "suspended": Tool.objects.filter(status=Tool.Status.SUSPENDED).count()}
    )


def people_with_keys(window: Window) -> Reading:
    """Of the members, those who own a key for programs that was live at the end of the window. Everybody counts, so it is exact."""
    members = set(Membership.objects.filter(tenant__schema_name=current_schema(), user__is_active=True).values_list("user", flat=True))
    if not members:
        return NO_DATA
    keys = VirtualKey.objects.filter(purpose=VirtualKey.Purpose.STANDARD, created_at__lt=window.end, expires_at__gt=window.end)
    owners = members & set(keys.exclude(revoked_at__lte=window.end).values_list("owner", flat=True))
    return Reading(100 * len(owners) / len(members), len(members), statistics={"owners": len(owners), "members": len(members)})


def credentials_in_time(window: Window) -> Reading:
    """Of the providers that have a credential, those whose present one was not older than 90 days at the end of the window."""
    ages = [window.end - at for at in Provider.objects.filter(secret_set_at__lt=window.end).values_list("secret_set_at", flat=True) if at]
    if not ages:
        return NO_DATA
    fresh = sum(age <= ROTATE_CREDENTIALS_AFTER for age in ages)
    return Reading(100 * fresh / len(ages), len(ages), statistics={"fresh": fresh, "credentials": len(ages)})


def server_implementations(window: Window) -> Reading:
    """By the name that a tool server gave itself, without its version, at a discovery that went well."""
    told = (
        ToolServer.objects.filter(discovery_error="", discovered_at__isnull=False)
        .exclude(server_info="")
        .values_list("server_info", flat=True)
    )
    names = {info.rsplit(" ", 1)[0] for info in told}
    return Reading(float(len(names)), len(told), statistics={"implementations": len(names), "servers": len(told)}) if told else NO_DATA


def register_all() -> None:
    """Called once, from `catalog.apps`."""
    for metric in (
        Metric("catalog.models_served", "Models served", "count", "higher", 0, models_served, "Published and deprecated models, now."),
        Metric(
            "keys.virtual_keys_live",
            "Live virtual keys",
            "count",
            "higher",
            0,
            virtual_keys_live,
            "Keys for programs, neither revoked nor expired at the end of the window.",
        ),
        Metric(
            "keys.people_share",
            "People with a key",
            "%",
            "higher",
            1,
            people_with_keys,
            "Of the members, those who own a live key for programs.",
        ),
        Metric(
            "providers.credentials_in_time",
            "Credentials rotated in time",
            "%",
            "higher",
            1,
            credentials_in_time,
            "Of the providers with a credential, those whose present one is not older than 90 days.",
        ),
        Metric(
            "tools.server_implementations",
            "Kinds of tool servers",
            "count",
            "higher",
            1,
            server_implementations,
            "By the name that a server gives itself, of those whose discovery went well.",
        ),
        Metric(
            "tools.registered",
            "Tools offered",
            "count",
            "higher",
            0,
            tools_registered,
            "Active tools of servers that are switched on, now.",
        ),
    ):
        metrics.register(metric)
