"""What the catalog offers to gates: counts of the present state. They are exact, so they carry no interval."""

from __future__ import annotations

from catalog.models import Model, Tool, VirtualKey
from governance import metrics
from governance.metrics import Metric, Reading, Window


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
