"""Calls that came and were not counted: which, why, and what to do about it.

Only those of an organisation: rows of an unknown tenant belong to nobody, and are the operator's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import QuerySet

from costs.models import RejectedInbox
from governance.models import Tenant

ORDER = ("-received_at", "-id")
MOST_COUNTED = 10_000
"""A sender whose clock is wrong may send millions: beyond this their number says nothing more, and would be counted for each page."""

# The newest first, by the index, and only these are counted: as `id IN (…)` the planner reads the whole table, of all organisations.
_SUMMARY = """
SELECT reason, count(DISTINCT event_id) AS calls, count(*), min(received_at)
FROM (
    SELECT reason, event_id, received_at FROM public.inbox_rejected
    WHERE tenant = %(tenant)s AND reason = ANY(%(reasons)s) AND received_at >= coalesce(%(since)s::timestamptz, '-infinity')
    ORDER BY received_at DESC, id DESC LIMIT %(most)s
) newest
GROUP BY reason ORDER BY calls DESC, reason
"""


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


def set_aside(tenant: Tenant) -> QuerySet[RejectedInbox]:
    """All that is kept of what came for the organisation."""
    return RejectedInbox.objects.filter(tenant=tenant.public_id, reason__in=REASONS)


def summary(tenant: Tenant, since: datetime | None = None) -> Summary | None:
    """Of what came since a moment, or of all that is kept; None when nothing did. One that came twice is one call.

    What came since a period began holds all that its figures can lack, because a call comes after it was made.
    """
    asked = {"tenant": tenant.public_id, "reasons": list(REASONS), "since": since, "most": MOST_COUNTED + 1}
    with connection.cursor() as cursor:
        cursor.execute(_SUMMARY, asked)
        found = cursor.fetchall()
    if not found:
        return None
    return Summary(
        calls=min(sum(calls for _, calls, _, _ in found), MOST_COUNTED),
        is_more=sum(rows for _, _, rows, _ in found) > MOST_COUNTED,
        since=min(first for *_, first in found),
        reasons=[(REASONS[reason].name, calls) for reason, calls, _, _ in found],
    )
