"""Keeping rollups small: nobody asks for the hours of days long past."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from costs import attribute_days, usage_days
from costs.models import AttributeDay, Budget, RequiredTag, UsageDay
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
            cursor.execute(statement, {"first": first, "last": last, "dimensions": list(usage_days.DIMENSIONS)})


COUNTED_FROM = timedelta(days=400)
"""As far back as a period on a page of spend can begin."""
_LACKING = """
FROM usage_day whole CROSS JOIN unnest(%(attributes)s::text[]) a(attribute)
LEFT JOIN (
    SELECT dimension, day, sum(calls) AS calls FROM usage_day
    WHERE dimension = ANY(%(attributes)s) AND day BETWEEN %(first)s AND %(last)s GROUP BY 1, 2
) n ON n.dimension = a.attribute AND n.day = whole.day
WHERE whole.dimension = 'all' AND whole.day BETWEEN %(first)s AND %(last)s AND coalesce(n.calls, 0) <> whole.calls
"""
"""Days from the first to the last and attributes that lack some of their calls."""


def count_attributes(*, at: datetime) -> int:
    """Count deployments, regions and declared tags for days on which they lack calls: from before an upgrade, or before a tag was declared.

    Newest first, each day in a transaction of its own, from the calls; not for months that left the database. Returns how many days were
    counted. Doing it twice changes nothing.
    """
    since = max((at.astimezone(UTC) - COUNTED_FROM).date(), (ingest.kept_from() or ingest.EARLIEST).date())
    named: dict[str, Any] = {"attributes": _attributes(ingest.declared_tags()), "first": since, "last": date.max}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT whole.day {_LACKING} GROUP BY whole.day ORDER BY whole.day DESC", named)  # names of ours
        days = [row[0] for row in cursor.fetchall()]
    return sum(_count_attributes_of(day) for day in days)


def _attributes(tags: list[str]) -> list[str]:
    return [*attribute_days.COLUMNS, *(attribute_days.TAG + name for name in tags)]


@transaction.atomic
def _count_attributes_of(day: date) -> bool:
    """Those attributes of the day that lack calls now that nobody else counts; False when none does any more."""
    ingest.lock_events()
    if not _has_calls(day):
        return False
    named: dict[str, Any] = {"attributes": _attributes(ingest.declared_tags()), "first": day, "last": day}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT a.attribute {_LACKING} ORDER BY 1", named)  # names of ours
        lacking = [row[0] for row in cursor.fetchall()]
        if not lacking:
            return False
        _count_again(cursor, day, lacking)
    return True


_IS_COUNTED_TO_VALUES = f"""
SELECT NOT EXISTS (
    SELECT 1 FROM (
        SELECT left(tags ->> %(tag)s, {attribute_days.LONGEST}) AS value, count(*) AS calls FROM event
        WHERE started_at >= %(day)s::timestamp AT TIME ZONE 'UTC' AND started_at < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'
            AND left(tags ->> %(tag)s, {attribute_days.LONGEST}) = ANY(%(values)s)
        GROUP BY 1
    ) n LEFT JOIN usage_day u ON u.dimension = %(attribute)s AND u.day = %(day)s AND u.value = n.value
    WHERE coalesce(u.calls, 0) <> n.calls
)
"""  # noqa: S608  # names of ours
"""Whether these values of a tag have all of their calls of the day in rows of their own. A row alone does not say so: calls that came before
the budget may stand among others."""


def count_budget_tags(*, at: datetime) -> int:
    """Count declared tags anew on days on which values share a row and calls of a budget's value are there: they get rows of their own.

    Newest first, each day in a transaction of its own, from the calls; not for months that left the database. Budgets whose value was not
    counted yet say so, until all days are done: what was cut off is done again. Those that are off wait until they are no longer. While
    another run is at it, nothing is done. Returns how many days were counted. Doing it twice changes nothing.
    """
    waiting = Budget.objects.filter(scope=Budget.Scope.TAG, counted_at=None).exclude(state=Budget.State.OFF)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended('count_budget_tags:' || current_schema(), 0))")
        if cursor.fetchone() != (True,):
            return 0
        try:
            counted = 0
            while budgets := list(waiting.order_by("pk")):  # also those that were made meanwhile, or name another value by now
                counted += _count_tags_of(budgets, cursor)
                for budget in budgets:
                    waiting.filter(pk=budget.pk, ref=budget.ref).update(counted_at=at)
            return counted
        finally:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended('count_budget_tags:' || current_schema(), 0))")


def _count_tags_of(budgets: list[Budget], cursor: CursorWrapper) -> int:
    values_of: dict[str, list[str]] = defaultdict(list)
    for budget in budgets:
        name, _, value = budget.ref.partition("=")
        values_of[name].append(value)
    counted = 0
    for name, values in values_of.items():
        attribute = attribute_days.TAG + name
        shared = UsageDay.objects.filter(dimension=attribute, value=attribute_days.OTHER)
        for day in list(shared.order_by("-day").values_list("day", flat=True)):
            # Without the lock, which keeps off those who attribute calls: most days have nothing to count.
            cursor.execute(_IS_COUNTED_TO_VALUES, {"tag": name, "attribute": attribute, "day": day, "values": values})
            if cursor.fetchone() != (True,):
                counted += _count_tag_of(day, name)
    return counted


@transaction.atomic
def _count_tag_of(day: date, name: str) -> bool:
    """False when the calls of the day, or the declaration, are gone meanwhile."""
    ingest.lock_events()
    if not _has_calls(day) or name not in ingest.declared_tags():
        return False
    with connection.cursor() as cursor:
        _count_again(cursor, day, [attribute_days.TAG + name])
    return True


def _has_calls(day: date) -> bool:
    """Whether the day's month is still in the database. Behind the lock, under which months leave."""
    kept_from = ingest.kept_from()
    return kept_from is None or day >= kept_from.date()


def _count_again(cursor: CursorWrapper, day: date, attributes: list[str]) -> None:
    """Make the rows of these attributes anew from the calls of the day; behind the lock."""
    columns = [name for name in attribute_days.COLUMNS if name in attributes]
    tags = [name.removeprefix(attribute_days.TAG) for name in attributes if name.startswith(attribute_days.TAG)]
    named: dict[str, Any] = {"day": day, "attributes": attributes, **attribute_days.parameters(tags)}
    cursor.execute("DELETE FROM attribute_day WHERE day = %(day)s AND attribute = ANY(%(attributes)s)", named)
    cursor.execute("DELETE FROM usage_day WHERE day = %(day)s AND dimension = ANY(%(attributes)s)", named)
    cursor.execute(
        f"""WITH called AS NOT MATERIALIZED (
            SELECT *, date_trunc('day', started_at, 'UTC') AS hour FROM event
            WHERE started_at >= %(day)s::timestamp AT TIME ZONE 'UTC' AND started_at < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'
        ), {attribute_days.detail("called", tags)}, {attribute_days.add(tags, columns)} SELECT 1""",  # noqa: S608  # names of ours
        named,
    )


def forget_tags() -> int:
    """Drop the sums by the values of tags that are no longer declared, a day and tag at a time. Returns how many of these.

    Calls are attributed meanwhile: whoever began with the tag declared is awaited once, and nobody after writes a row of it. One that is declared
    again is left alone; what its days lack then, `count_attributes` counts. Doing it twice changes nothing.
    """
    with transaction.atomic():
        ingest.lock_events()
    counted = UsageDay.objects.filter(dimension__startswith=attribute_days.TAG).exclude(dimension__in=_attributes(ingest.declared_tags()))
    found = list(counted.order_by("dimension", "day").values_list("dimension", "day").distinct())
    for attribute, day in found:
        with transaction.atomic():
            if not RequiredTag.objects.filter(name=attribute.removeprefix(attribute_days.TAG)).exists():
                AttributeDay.objects.filter(attribute=attribute, day=day).delete()
                UsageDay.objects.filter(dimension=attribute, day=day).delete()
    return len(found)
