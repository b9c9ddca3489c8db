"""Keeping rollups small: nobody asks for the hours of days long past."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from django.db import connection, transaction

from costs import usage_days
from costs.services import ingest

HOURS_KEPT = timedelta(days=2)
"""Spans by the hour are a day at most."""

_DAYS = "SELECT DISTINCT date_trunc('day', hour, 'UTC') FROM call_hour WHERE hour < %(before)s AND hour <> date_trunc('day', hour, 'UTC') ORDER BY 1"
_KEY = "model, project, agent, provider, deployment, key_id, status"
_COUNTS = ("calls", "cache_hits", "cache_misses")
_DISTRIBUTIONS = ("durations", "ttfts", "error_codes")
_COMPACT = f"""
WITH hours AS (
    DELETE FROM call_hour WHERE hour >= %(start)s AND hour < %(end)s RETURNING *
), counted AS (
    SELECT {_KEY}, p.part, p.name, sum(p.n)::bigint AS n
    FROM hours h CROSS JOIN LATERAL (
        {" UNION ALL ".join(f"SELECT '{column}', '', h.{column}" for column in _COUNTS)}
        {"".join(f" UNION ALL SELECT '{column}', d.name, d.number::bigint FROM jsonb_each_text(h.{column}) d(name, number)" for column in _DISTRIBUTIONS)}
    ) p(part, name, n)
    GROUP BY {_KEY}, p.part, p.name
)
INSERT INTO call_hour (hour, {_KEY}, {", ".join((*_COUNTS, *_DISTRIBUTIONS))})
SELECT %(start)s, {_KEY}, {", ".join(f"sum(n) FILTER (WHERE part = '{column}')" for column in _COUNTS)},
    {", ".join(f"coalesce(jsonb_object_agg(name, n) FILTER (WHERE part = '{column}'), '{{}}')" for column in _DISTRIBUTIONS)}
FROM counted GROUP BY {_KEY}
"""  # noqa: S608  # names of this module only


def compact_call_hours(*, at: datetime) -> int:
    """Make one row of a UTC day's hours in `CallHour`, for days that ended HOURS_KEPT before `at`. Returns how many days were changed.

    Each day is a transaction of its own. A late call opens its hour again, which is added the next time; doing it twice changes nothing.
    """
    before = (at.astimezone(UTC) - HOURS_KEPT).replace(hour=0, minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(_DAYS, {"before": before})
        days = [row[0] for row in cursor.fetchall()]
    for day in days:
        with transaction.atomic(), connection.cursor() as cursor:
            ingest.lock_events()
            # The planner takes each object for a hundred entries and would sort them on disk; they fit into memory, which is 13 times faster.
            cursor.execute("SET LOCAL work_mem = '64MB'")
            cursor.execute(_COMPACT, {"start": day, "end": day + timedelta(days=1)})
    return len(days)


@transaction.atomic
def count_days_again(first: date, last: date) -> None:
    """Make `UsageDay` anew from `UsageHour` for the UTC days from `first` to `last`, both included; doing it twice changes nothing."""
    ingest.lock_events()
    with connection.cursor() as cursor:
        for statement in usage_days.COUNT_AGAIN:
            cursor.execute(statement, {"first": first, "last": last})
