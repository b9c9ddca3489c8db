"""From the inbox to events and rollups, exactly once.

One statement moves a batch: rows leave the inbox, are priced, become events, and only those that are new change the
rollups. A worker that dies, a second worker, a replay or a late event changes no total.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.db import IntegrityError, connection, transaction
from django.db.models import Max
from django.utils import timezone

from catalog.models import Project
from costs import attribute_days, call_hours, latency_hours, pricing, prompt_days, sketch, tag_days, token_days, usage_days, verdict_hours
from costs.models import ArchivedMonth, RequiredTag
from costs.models.event import DATED_ID
from costs.periods import first_of_month, midnight
from costs.pricing import counts
from gateway.contract import copying
from gateway.contract import tags as contract_tags
from gateway.contract.events import CACHED_UNITS, INBOX_COLUMNS, INPUT_UNITS, OUTPUT_UNITS, WRITE_UNITS, CallEvent
from governance.models import Severity, Tenant
from governance.roles import Permission
from governance.services import alerts

BATCH_SIZE = 20_000
"""Most rollups change the same rows for twice as many calls; beyond this, batches of long rows no longer fit into `work_mem`."""
QUARANTINE_AFTER = timedelta(minutes=10)
"""A tenant that is still being created may be in the inbox before its row can be seen; longer than that it is unknown."""
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""Calls before this (or a day ahead of now) come from a broken clock and would make a partition each."""
HOLD = timedelta(seconds=7)
"""A span that was exported to us waits so long for the gateway's record of the same call: that takes a second, and of a stream whose caller left
five more.
"""
_ANSWERED_BEFORE = timedelta(days=31)
"""An answer from the cache was recorded when it was first given."""
_SKEW = timedelta(hours=1)
"""Between an exporter's clock and a gateway's."""
SET_ASIDE_PATH = "operate/costs/requests/set-aside/"
MOST_TOKENS = 10**12
"""More in one call is a defect of the sender."""


@dataclass(frozen=True)
class Ingested:
    """What became of the rows taken from the inbox: taken = new + duplicates + rejected."""

    taken: int = 0
    new: int = 0
    duplicates: int = 0
    rejected: int = 0

    def __add__(self, other: Ingested) -> Ingested:
        return Ingested(self.taken + other.taken, self.new + other.new, self.duplicates + other.duplicates, self.rejected + other.rejected)


_INBOX = ", ".join(INBOX_COLUMNS)
_POSSIBLE_TIME = "started_at >= greatest(%(earliest)s, %(kept_from)s) AND started_at < clock_timestamp() + interval '1 day'"
_POSSIBLE_COUNT = " AND ".join(
    f"coalesce({column}, 0) BETWEEN 0 AND {MOST_TOKENS}"
    for column in ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens", "duration_us")
)
_CACHED = "coalesce(cached_input_tokens, 0) + coalesce(cache_write_tokens, 0)"
# Cases keep their order, so nothing is cast that is not a number. Units inside a figure never exceed it: a token would be charged twice.
_POSSIBLE_UNITS = f"""CASE WHEN units IS NULL THEN true WHEN jsonb_typeof(units) <> 'object' THEN false
    WHEN jsonb_path_exists(units, '$.* ? (@.type() <> "number" || @ < 0 || @ > {MOST_TOKENS} || @.floor() <> @)') THEN false
    ELSE {counts(INPUT_UNITS)} <= greatest(coalesce(input_tokens, 0) - ({_CACHED}), 0)
        AND {counts(CACHED_UNITS)} <= coalesce(cached_input_tokens, 0)
        AND {counts(WRITE_UNITS)} <= coalesce(cache_write_tokens, 0) AND {counts(OUTPUT_UNITS)} <= coalesce(output_tokens, 0) END"""
_IS_POSSIBLE = f"{_POSSIBLE_TIME} AND {_POSSIBLE_COUNT} AND {_POSSIBLE_UNITS}"

# Of an interval of years a float is still exact to the microsecond, and ten times faster than numeric.
_ATTRIBUTION_US = """CASE WHEN steps -> 0 ->> 0 = 'otlp' THEN (date_part('epoch', attributed_at - received_at) * 1000000)::bigint
        ELSE (date_part('epoch', attributed_at - started_at) * 1000000)::bigint - duration_us END"""
_HOUR = "date_bin('1 hour', started_at, '2000-01-01 00:00:00+00')"  # a third of what date_trunc takes, which looks up the zone each time
_EVENT = """event_id, kind, started_at, received_at, attributed_at, duration_us, overhead_us, ttft_us, request_id, project, cost_centre, key_id, agent, model,
        provider, deployment, upstream_model, region, status, http_status, error_code, stream, uncached_input_tokens, cached_input_tokens,
        cache_write_tokens, output_tokens, reasoning_tokens, units, usage_source, service_tier, answer_id, snapshot_version, tags, steps, pricing, cost,
        price_ids"""
_STEPS = (*verdict_hours.NAMES, contract_tags.STEP)
_SUMMED = """calls, uncached_input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost, unpriced_calls, untagged_calls, estimated_calls,
        duration_us"""

# Filled by `_move`, as it has other words for other declared tags.
# Rows are wide and each CTE is a copy: `valid` is none, and `fresh` is narrow, with what nearly every rollup reads first.
# OFFSET 0 keeps an expression from being put in, and computed, at each place that names it.
_MOVE = f"""
WITH batch AS (
    DELETE FROM public.inbox WHERE tenant = %(tenant)s AND id BETWEEN %(first)s AND %(last)s AND id <@ %(ids)s::int8multirange
    RETURNING *, ({_IS_POSSIBLE}) AS is_possible
), refused AS (
    INSERT INTO public.inbox_rejected ({_INBOX}, received_at, reason)
    SELECT {_INBOX}, received_at, CASE WHEN started_at < %(kept_from)s AND started_at >= %(earliest)s THEN 'archived_month'
        WHEN {_POSSIBLE_TIME} THEN 'impossible_count' ELSE 'impossible_time' END
    FROM batch WHERE NOT is_possible
    RETURNING 1
), valid AS NOT MATERIALIZED (
    SELECT b.id, b.event_id, b.kind, b.started_at, b.received_at, b.duration_us, b.overhead_us, b.ttft_us, left(b.request_id, 200) AS request_id,
        coalesce(b.project, '') AS project, coalesce(p.cost_centre, '') AS cost_centre, coalesce(b.key_id, '') AS key_id,
        left(coalesce(b.agent, ''), 120) AS agent, left(coalesce(b.model, ''), 200) AS model, coalesce(b.provider, '') AS provider,
        coalesce(b.deployment, '') AS deployment, coalesce(b.upstream_model, '') AS upstream_model, coalesce(b.region, '') AS region,
        b.status, b.http_status, coalesce(b.error_code, '') AS error_code, b.stream,
        -- The provider counts cached tokens inside its input; the classes here are disjoint.
        CASE WHEN b.input_tokens IS NOT NULL  -- greatest() would turn unknown into zero
            THEN greatest(b.input_tokens - coalesce(b.cached_input_tokens, 0) - coalesce(b.cache_write_tokens, 0), 0) END AS uncached_input_tokens,
        b.cached_input_tokens, b.cache_write_tokens, b.output_tokens, b.reasoning_tokens, b.units, b.usage_source, b.answer_id, b.snapshot_version, b.tags,
        b.steps,
        {pricing.SERVICE_TIER} AS service_tier,
        (b.input_tokens IS NULL AND b.output_tokens IS NULL) AS usage_unknown
    FROM batch b LEFT JOIN {Project._meta.db_table} p ON p.slug = b.project
    WHERE b.is_possible
), with_prices AS (
    SELECT c.*, {pricing.PRICED_COLUMNS}
    FROM (SELECT * FROM valid OFFSET 0) c
{pricing.price_joins("valid c", "id")}
    OFFSET 0
), judged AS (
    SELECT *, CASE
        WHEN kind = 'tool' THEN 'unmetered'
        WHEN status = 'refused' OR usage_source = 'cache' OR (status IN ('upstream_error', 'error') AND usage_source = 'none') THEN 'free'
        WHEN usage_unknown OR NOT ({pricing.IS_PRICED}) THEN 'unpriced'
        ELSE 'priced' END AS pricing
    FROM with_prices
    OFFSET 0
), fresh AS (
    INSERT INTO event ({_EVENT})
    SELECT {_EVENT}
    FROM (
        SELECT *, clock_timestamp() AS attributed_at,
            CASE WHEN pricing = 'priced' THEN {pricing.COST} WHEN pricing = 'free' THEN 0 END AS cost,
            CASE WHEN pricing = 'priced' THEN {pricing.PRICE_IDS} ELSE '{{}}' END AS price_ids
        FROM judged
    ) priced
    ORDER BY started_at, id  -- indexes take rows in their order at half the price; of two records of one call the first that came counts
    <once>
    RETURNING event_id, started_at, {_HOUR} AS hour, duration_us,
        CASE WHEN status = 'ok' THEN {sketch.BUCKET_SQL.format(us="duration_us")} END AS duration_bucket,
        CASE WHEN status = 'ok' AND ttft_us IS NOT NULL THEN {sketch.BUCKET_SQL.format(us="ttft_us")} END AS ttft_bucket,
        CASE WHEN status <> 'refused' AND overhead_us IS NOT NULL THEN {sketch.BUCKET_SQL.format(us="overhead_us")} END AS overhead_bucket,
        -- What others report counts from its arrival: how long their exporter kept it is not ours.
        {sketch.BUCKET_SQL.format(us=_ATTRIBUTION_US)} AS attribution_bucket,
        uncached_input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
        model, provider, kind, project, agent, key_id, status, deployment, pricing, cost, cost_centre, price_ids, region, usage_source, error_code, units, tags, steps
), <detail>, by_hour AS (
    SELECT hour, project, cost_centre, agent, model, provider, key_id, kind, outcome,
        {", ".join(f"sum({name}) AS {name}" for name in _SUMMED.replace(",", "").split())}, max(last_event_at) AS last_event_at
    FROM by_detail GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
), rolled AS (
    INSERT INTO usage_hour AS r (hour, project, cost_centre, agent, model, provider, key_id, kind, outcome, {_SUMMED}, last_event_at)
    SELECT * FROM by_hour
    ON CONFLICT ON CONSTRAINT usage_hour_once DO UPDATE SET {", ".join(f"{name} = r.{name} + excluded.{name}" for name in _SUMMED.replace(",", "").split())},
        last_event_at = greatest(r.last_event_at, excluded.last_event_at)
), said AS (
    SELECT f.event_id, f.started_at, f.hour, f.model, f.kind, f.project, f.agent, f.provider, f.deployment, f.key_id, f.status, f.error_code, f.cost, f.pricing,
        s.position, s.name, s.step
    FROM fresh f CROSS JOIN LATERAL (
        SELECT step, position, step ->> 0 AS name FROM jsonb_array_elements(f.steps) WITH ORDINALITY each_of(step, position) OFFSET 0
    ) s WHERE s.name ^@ ANY(ARRAY[{", ".join(f"'{name}'" for name in _STEPS)}])
), by_day AS (
    {usage_days.ADD.format(hours="by_hour")}
), <attributes>, by_tag AS (
    {tag_days.ADD.format(steps="said")}
), by_prompt AS (
    {prompt_days.ADD.format(calls="fresh")}
), by_class AS (
    {token_days.ADD.format(calls="fresh")}
), sketched AS (
    {latency_hours.ADD.format(calls="fresh")}
), called AS (
    {call_hours.ADD.format(calls="fresh", steps="said")}
), noted AS (
    {verdict_hours.ADD.format(steps="said")}
)
SELECT (SELECT count(*) FROM fresh), (SELECT count(*) FROM refused)
"""  # noqa: S608  # names and expressions of this module only


_PASSING_OVER = "ON CONFLICT (started_at, event_id) DO NOTHING"
_IS_DATED = f"get_byte(uuid_send(event_id), 6) >> 4 = {DATED_ID}"
_IS_EXPORTED = f"NOT ({_IS_DATED}) AND steps -> 0 ->> 0 = 'otlp'"
# No exported call is taken before the gateway's own that came until then, however many of those wait.
_RECORDED_UNTIL = f"""least(clock_timestamp(),
        (SELECT received_at FROM public.inbox WHERE tenant = %(tenant)s AND NOT ({_IS_EXPORTED}) ORDER BY id LIMIT 1)) - make_interval(secs => %(hold)s)"""  # noqa: S608
_WAITING = f"""
SELECT min(id), max(id), range_agg(int8range(id, id, '[]'))::text, count(*),
    greatest(min(started_at), %(earliest)s), least(max(started_at), clock_timestamp()),
    array_agg(DISTINCT date_trunc('month', started_at, 'UTC')) FILTER (WHERE {_POSSIBLE_TIME}), bool_and({_IS_DATED})
FROM (
    SELECT id, event_id, started_at FROM public.inbox
    WHERE tenant = %(tenant)s AND CASE WHEN {_IS_EXPORTED} THEN %(exported)s AND received_at < {_RECORDED_UNTIL} ELSE NOT %(exported)s END
    ORDER BY id LIMIT %(size)s
) waiting
"""  # noqa: S608  # names and expressions of this module only
# Made when the first exported call comes: who exports none pays nothing for it, which would be a twelfth of what a call costs. It is of the id's
# hash, in order: an index of the kind `hash` grows slower with each equal id, as a server may give that draws its ids badly.
_INDEX_ANSWERS = "CREATE INDEX event_answer ON event (hashtextextended(answer_id, 0)) WHERE answer_id IS NOT NULL"
_DROP_KNOWN = """
DELETE FROM public.inbox b WHERE tenant = %(tenant)s AND id BETWEEN %(first)s AND %(last)s AND id <@ %(ids)s::int8multirange
    AND EXISTS (SELECT FROM event e WHERE hashtextextended(e.answer_id, 0) = hashtextextended(b.request_id, 0) AND e.answer_id = b.request_id
        AND e.started_at BETWEEN %(from)s AND %(to)s)
"""


def _move(tags: list[str], *, once: str) -> str:
    """The statement for these declared tags; its text follows their number only. `once` says what becomes of a call that is there already."""
    words = {"<detail>": attribute_days.detail("fresh", tags), "<attributes>": attribute_days.add(tags), "<once>": once}
    statement = _MOVE
    for word, text in words.items():
        statement = statement.replace(word, text)
    return statement


def declared_tags() -> list[str]:
    """Whose values are counted."""
    return list(RequiredTag.objects.order_by("name").values_list("name", flat=True))


def ingest(*, tenant: Tenant, batch_size: int = BATCH_SIZE, most_batches: int = 200, hold: timedelta = HOLD) -> Ingested:
    """Attribute what waits for `tenant`, whose schema must be entered, batch by batch, each in its own transaction.

    Then what was exported to the gateway and has waited for `hold`: calls that the gateway has recorded as well are known by then.
    Returns at once when another worker is at it.
    """
    done = Ingested()
    for exported in (False, True):
        for _ in range(most_batches):
            moved = _move_batch(tenant, batch_size, exported=exported, hold=hold)
            done += moved
            if moved.taken < batch_size:
                break
    return done


@transaction.atomic
def _move_batch(tenant: Tenant, size: int, *, exported: bool, hold: timedelta) -> Ingested:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(current_schema()))", [LOCK_SPACE])
        if not cursor.fetchone()[0]:
            return Ingested()
        # Behind the lock: a month leaves under the same one. Whether a late call of it is new could not be told any more.
        limits = {"earliest": EARLIEST, "kept_from": kept_from() or EARLIEST}
        cursor.execute(_WAITING, {"tenant": tenant.public_id, "size": size, "exported": exported, "hold": hold.total_seconds(), **limits})
        # Ranges, because ids follow each other; and not just from first to last: more may have come in between since.
        first, last, ids, waiting, earliest, latest, months, are_ours = cursor.fetchone()
        if not ids:
            return Ingested()
        which = {"tenant": tenant.public_id, "first": first, "last": last, "ids": ids}
        if exported:
            cursor.execute("SELECT to_regclass('event_answer') IS NULL")
            if cursor.fetchone()[0]:
                cursor.execute(_INDEX_ANSWERS)
            cursor.execute(_DROP_KNOWN, {**which, "from": earliest - _ANSWERED_BEFORE, "to": latest + _SKEW})
        for month in months or []:
            ensure_partition(month)
        # The planner cannot know how many rows come out of a CTE that changes data; guessing few, it compares all with all.
        cursor.execute("SET LOCAL enable_nestloop = off")
        # A batch is some ten megabytes, and every CTE over it would be written to disk and read again for each rollup.
        cursor.execute("SET LOCAL work_mem = '64MB'")
        tags = declared_tags()
        named = {**which, **limits, **attribute_days.parameters(tags)}
        # A call with an id of the gateway's own comes again only after a crash: to look out for it would cost each a tenth more.
        # Exporters of others try again as a matter of course.
        try:
            with transaction.atomic():
                cursor.execute(_move(tags, once="" if are_ours else _PASSING_OVER), named)
        except IntegrityError:
            cursor.execute(_move(tags, once=_PASSING_OVER), named)
        new, rejected = cursor.fetchone()
        cursor.execute("SET LOCAL enable_nestloop TO DEFAULT")
        cursor.execute("SET LOCAL work_mem TO DEFAULT")
    if rejected:
        _tell_set_aside(rejected)
    return Ingested(waiting, new, waiting - new - rejected, rejected)


def _tell_set_aside(calls: int) -> None:
    """Once a UTC day, by the first batch that has some."""
    alerts.notify(
        topic="calls.set_aside",
        severity=Severity.WARNING,
        title="Calls came that could not be counted",
        text="They were set aside and are in no figure. The page says which they are, why, and what to do. More of today are listed there without another notice.",
        path=SET_ASIDE_PATH,
        permission=Permission.VIEW_COSTS,
        key=f"calls-set-aside:{timezone.now().astimezone(UTC).date()}",
        data={"calls": calls},
    )


@transaction.atomic
def deliver(events: Iterable[CallEvent]) -> int:
    """Copy calls into the inbox by the same statements as the plane's shipper. Returns how many."""
    lines = [msgspec.json.encode(event) for event in events]
    ship(lines)
    return len(lines)


def ship(lines: Sequence[bytes]) -> None:
    """Spool lines, calls all of them, into the inbox; within a transaction."""
    rows, left = copying.rows(lines)
    with connection.cursor() as cursor:
        if rows:
            with cursor.copy(copying.COPY_ROWS) as copy:
                copy.write(rows)
        if left:
            cursor.execute(copying.STAGE)
            with cursor.copy(copying.COPY_LINES) as copy:
                copy.write(copying.staged(left))
            cursor.execute(copying.TAKE_APART)
            cursor.execute("TRUNCATE arriving")  # it would be there until the outermost transaction ends


LOCK_SPACE = 0x6A7E
"""First half of the advisory lock that everything takes that changes events and rollups of a schema."""


def lock_events() -> None:
    """Wait until nobody else changes this schema's events, and keep them off until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", [LOCK_SPACE])


def ensure_partition(month: datetime) -> None:
    """Make the partition that holds the UTC month of `month`, unless it exists."""
    day = month.astimezone(UTC).date()
    start, end = first_of_month(day), first_of_month(day, 1)
    name = f"event_{start:%Y_%m}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(quote_ident(current_schema()) || '.' || %s)", [name])
        if cursor.fetchone()[0] is None:
            # Bounds with their offset: the session's time zone must not move a partition.
            cursor.execute(
                f"CREATE TABLE {name} PARTITION OF event FOR VALUES FROM ('{start:%Y-%m-%d} 00:00:00+00') TO ('{end:%Y-%m-%d} 00:00:00+00')"
            )


def kept_from() -> datetime | None:
    """The first moment whose calls can be in the database; None while no month has left it."""
    last = ArchivedMonth.objects.aggregate(last=Max("month"))["last"]
    return None if last is None else midnight(first_of_month(last, 1))


def tenants_waiting() -> tuple[list[Tenant], list[str]]:
    """Tenants with rows in the inbox, and the tenant ids there that no tenant has. Costs one index probe per tenant found."""
    with connection.cursor() as cursor:
        cursor.execute("""
            WITH RECURSIVE found AS (
                (SELECT tenant FROM public.inbox ORDER BY tenant LIMIT 1)
                UNION ALL
                SELECT (SELECT i.tenant FROM public.inbox i WHERE i.tenant > f.tenant ORDER BY i.tenant LIMIT 1) FROM found f WHERE f.tenant IS NOT NULL
            )
            SELECT tenant FROM found WHERE tenant IS NOT NULL
        """)
        waiting = [row[0] for row in cursor.fetchall()]
    tenants = list(Tenant.objects.filter(public_id__in=waiting)) if waiting else []
    known = {tenant.public_id for tenant in tenants}
    return tenants, [public_id for public_id in waiting if public_id not in known]


def forget_tenant(tenant: Tenant) -> None:
    """Drop what waits in the inbox, or was set aside, for a tenant that is being deleted or is deleted already."""
    with connection.cursor() as cursor:
        for table in ("inbox", "inbox_rejected"):
            cursor.execute(f"DELETE FROM public.{table} WHERE tenant = %s", [tenant.public_id])  # noqa: S608  # two constants


@transaction.atomic
def quarantine(*, unknown: list[str], at: datetime) -> int:
    """Set aside what has waited long for a tenant that does not exist; of a deleted tenant nothing is kept. Returns how many rows."""
    for tenant in Tenant.every.filter(public_id__in=unknown).exclude(deleted_at=None):
        forget_tenant(tenant)
    parameters: dict[str, Any] = {"unknown": unknown, "before": at - QUARANTINE_AFTER}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH gone AS (
                DELETE FROM public.inbox WHERE id IN (
                    SELECT id FROM public.inbox WHERE tenant = ANY(%(unknown)s) AND received_at < %(before)s LIMIT 10000 FOR UPDATE SKIP LOCKED
                ) RETURNING *
            )
            INSERT INTO public.inbox_rejected ({_INBOX}, received_at, reason) SELECT {_INBOX}, received_at, 'unknown_tenant' FROM gone
            """,  # noqa: S608  # names and expressions of this module only
            parameters,
        )
        rows: int = cursor.rowcount
        return rows
