"""The metric of the portal itself, the same for every organisation; registered when the app is loaded."""

from __future__ import annotations

from django.db.models import Count, Min, Q
from django.utils import timezone

from governance.metrics import NO_DATA, Metric, Reading, Window, register
from governance.models import PortalMinute
from governance.services.uptime import KEPT, MINUTE, minute_of


def portal_uptime(window: Window) -> Reading:
    """Of the whole minutes that ended in the window, from the first one ever asked about. A census, so it has no interval.

    A minute without a row counts as down: whoever would have asked was away, and silence is no proof.
    """
    now = timezone.now()
    first = PortalMinute.objects.aggregate(first=Min("minute"))["first"]
    if first is None:
        return NO_DATA
    start = max(minute_of(window.start), first, minute_of(now - KEPT))
    end = minute_of(min(window.end, now))
    minutes = max(0, (end - start) // MINUTE)
    if not minutes:
        return NO_DATA
    asked = PortalMinute.objects.filter(minute__gte=start, minute__lt=end).aggregate(
        up=Count("pk", filter=Q(failure="")), failed=Count("pk", filter=~Q(failure=""))
    )
    statistics = {**asked, "unknown": minutes - asked["up"] - asked["failed"], "all": minutes}
    return Reading(100 * asked["up"] / minutes, minutes, statistics=statistics)


register(
    Metric(
        "portal.uptime", "Dashboard uptime", "%", "higher", 1440, portal_uptime,
        "Of the minutes, those in which the portal served its sign-in page whole and in time; a minute that nobody asked in counts as down.",
        scope="programme",
    )
)  # fmt: skip
