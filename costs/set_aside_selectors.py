"""Calls that came and were not counted: which, why, and what to do about it.

Only those of an organisation: rows of an unknown tenant belong to nobody, and are the operator's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min, QuerySet

from costs.models import RejectedInbox
from governance.models import Tenant

ORDER = ("-received_at", "-id")
MOST_COUNTED = 10_000
"""A sender whose clock is wrong may send millions: beyond this their number says nothing more, and would be counted for each page."""


@dataclass(frozen=True)
class Reason:
    name: str
    meaning: str
    action: str


REASONS = {
    "impossible_time": Reason(
        "Impossible time",
        "By its own account it began before 2020, or more than a day after it came.",
        "Set the clock of the machine that sent it. What an exporter sends again with the right time is counted.",
    ),
    "impossible_count": Reason(
        "Impossible count",
        "A count is below zero or above 10¹², or a part of the tokens is more than the whole.",
        "Have whoever sends it count right. What an exporter sends again with right counts is counted.",
    ),
    "archived_month": Reason(
        "Month that left the database",
        "It began in a month whose single calls left the database. Whether it was counted before cannot be told any more.",
        "Compare that month with the provider's bill. Keep more months when calls come this late.",
    ),
}


@dataclass(frozen=True)
class Summary:
    calls: int
    is_more: bool
    """There are older rows: the figures are of the newest, about MOST_COUNTED of them."""
    since: datetime
    """When the first of them came."""
    reasons: list[tuple[str, int]]
    """Name and calls, most first."""


def set_aside(tenant: Tenant, since: datetime | None = None) -> QuerySet[RejectedInbox]:
    """What came for the organisation since a moment, or all that is kept."""
    rows = RejectedInbox.objects.filter(tenant=tenant.public_id, reason__in=REASONS)
    return rows if since is None else rows.filter(received_at__gte=since)


def summary(tenant: Tenant, since: datetime | None = None) -> Summary | None:
    """None when nothing was set aside. One that came twice is one call.

    What came since a period began holds all that its figures can lack, because a call comes after it was made.
    """
    newest = set_aside(tenant, since).order_by(*ORDER).values("pk")[: MOST_COUNTED + 1]
    found = list(
        RejectedInbox.objects.filter(pk__in=newest)
        .values("reason")
        .annotate(calls=Count("event_id", distinct=True), rows=Count("pk"), first=Min("received_at"))
        .order_by("-calls", "reason")
    )
    if not found:
        return None
    return Summary(
        calls=min(sum(row["calls"] for row in found), MOST_COUNTED),
        is_more=sum(row["rows"] for row in found) > MOST_COUNTED,
        since=min(row["first"] for row in found),
        reasons=[(REASONS[row["reason"]].name, row["calls"]) for row in found],
    )
