"""From the inbox to events and rollups, exactly once.

One statement moves a batch: rows leave the inbox, are priced, become events, and only those that are new change the
rollups. A worker that dies, a second worker, a replay or a late event changes no total.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.db import connection, transaction
from django.db.models import Max

from catalog.models import Project
from costs import prompt_days, sketch, tag_days, usage_days
from costs.models import ArchivedMonth, TokenClass
from gateway.contract.events import CACHED_UNITS, COUNTED_UNITS, INBOX_COLUMNS, INPUT_UNITS, OUTPUT_UNITS, WRITE_UNITS, CallEvent
from governance.models import Tenant

BATCH_SIZE = 10_000
QUARANTINE_AFTER = timedelta(minutes=10)
"""A tenant that is still being created may be in the inbox before its row can be seen; longer than that it is unknown."""
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""Calls before this (or a day ahead of now) come from a broken clock and would make a partition each."""
MOST_TOKENS = 10**12
"""More in one call is a defect of the sender."""

TOKEN_CLASSES = tuple(TokenClass.values)
"""In the order of `Event.price_ids`."""
USUAL_CLASSES = TOKEN_CLASSES[:4]
"""Every call may use them, and each has a column. The others stand in `units`, which few calls have: their SQL is guarded by that."""
UNIT_CLASSES = TOKEN_CLASSES[4:]


def _count(name: str) -> str:
    return f"coalesce((units ->> '{name}')::bigint, 0)"


def _counts(names: Iterable[str]) -> str:
    return " + ".join(_count(name) for name in names)


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
    ELSE {_counts(INPUT_UNITS)} <= greatest(coalesce(input_tokens, 0) - ({_CACHED}), 0)
        AND {_counts(CACHED_UNITS)} <= coalesce(cached_input_tokens, 0)
        AND {_counts(WRITE_UNITS)} <= coalesce(cache_write_tokens, 0) AND {_counts(OUTPUT_UNITS)} <= coalesce(output_tokens, 0) END"""
_POSSIBLE = f"{_POSSIBLE_TIME} AND {_POSSIBLE_COUNT} AND {_POSSIBLE_UNITS}"

_USUAL_JOINS = "\n".join(
    f"""    LEFT JOIN price_entry price_{token_class} ON price_{token_class}.provider = c.provider AND price_{token_class}.model = c.model
        AND price_{token_class}.token_class = '{token_class}' AND price_{token_class}.service_tier = c.service_tier
        AND price_{token_class}.region = '' AND price_{token_class}.context_over = 0 AND price_{token_class}.valid_from <= c.started_at
        AND (price_{token_class}.valid_to IS NULL OR price_{token_class}.valid_to > c.started_at)"""
    for token_class in USUAL_CLASSES
)
"""One entry per class at most, because entries of a series never overlap."""
_BEST = "(array_agg(p.{0} ORDER BY p.region DESC, p.context_over DESC) FILTER (WHERE p.token_class = '{1}'))[1] AS {1}_{2}"
_BEST_OF_CLASSES = ", ".join(
    _BEST.format(column, token_class, name) for token_class in TOKEN_CLASSES for column, name in (("price", "price"), ("id", "price_id"))
)
INPUT_TOKENS = "coalesce(c.uncached_input_tokens, 0) + coalesce(c.cached_input_tokens, 0) + coalesce(c.cache_write_tokens, 0)"


def price_joins(source: str) -> str:
    """What a call `c` of `source` is priced by. A choice is needed for models with prices by region or band, and for calls with `units`."""
    return f"""{_USUAL_JOINS}
    LEFT JOIN (
        SELECT c.event_id, {_BEST_OF_CLASSES}
        FROM {source} JOIN price_entry p ON p.provider = c.provider AND p.model = c.model AND p.service_tier = c.service_tier
            AND p.valid_from <= c.started_at AND (p.valid_to IS NULL OR p.valid_to > c.started_at)
            AND (p.region = '' OR p.region = c.region) AND (p.context_over = 0 OR p.context_over < {INPUT_TOKENS})
        WHERE c.units IS NOT NULL OR (c.provider, c.model) IN (SELECT provider, model FROM price_entry WHERE region <> '' OR context_over > 0)
        GROUP BY c.event_id
    ) special ON special.event_id = c.event_id"""  # noqa: S608  # names of this module only


PRICED_COLUMNS = f"""
    coalesce(special.input_price, price_input.price) AS input_price,
    -- Cached input and cache writes without a price of their own are charged as input: that is what the gateway reserves.
    coalesce(special.cached_input_price, price_cached_input.price, special.input_price, price_input.price) AS cached_input_price,
    coalesce(special.cache_write_price, price_cache_write.price, special.input_price, price_input.price) AS cache_write_price,
    coalesce(special.output_price, price_output.price) AS output_price,
    coalesce(special.input_price_id, price_input.id) AS input_price_id,
    coalesce(special.cached_input_price_id, price_cached_input.id, special.input_price_id, price_input.id) AS cached_input_price_id,
    coalesce(special.cache_write_price_id, price_cache_write.id, special.input_price_id, price_input.id) AS cache_write_price_id,
    coalesce(special.output_price_id, price_output.id) AS output_price_id,
    -- Sound and images cost many times what text does, and a call of a tool is no token: without a price of its own it is not priced.
    {", ".join(f"special.{name}_{what} AS {name}_{what}" for name in UNIT_CLASSES for what in ("price", "price_id"))}"""

CLASS_TOKENS = {
    "input": f"(uncached_input_tokens - {_counts(INPUT_UNITS).replace(' + ', ' - ')})",
    "cached_input": f"(cached_input_tokens - {_counts(CACHED_UNITS).replace(' + ', ' - ')})",
    "cache_write": f"(cache_write_tokens - {_counts(WRITE_UNITS)})",
    "output": f"(output_tokens - {_counts(OUTPUT_UNITS).replace(' + ', ' - ')})",
    **{name: f"(units ->> '{name}')::bigint" for name in UNIT_CLASSES},
}
"""Disjoint: tokens of the first four and of the units sum to what the provider counts."""
assert set(UNIT_CLASSES) == {*INPUT_UNITS, *CACHED_UNITS, *WRITE_UNITS, *OUTPUT_UNITS, *COUNTED_UNITS}


def _are_priced(names: Iterable[str]) -> str:
    return " AND ".join(f"(coalesce({CLASS_TOKENS[name]}, 0) = 0 OR {name}_price IS NOT NULL)" for name in names)


# A unit that a newer gateway knows and this code does not is one without a price.
IS_PRICED = f"""{_are_priced(USUAL_CLASSES)} AND (units IS NULL OR ({_are_priced(UNIT_CLASSES)}
    AND units - ARRAY[{", ".join(f"'{name}'" for name in UNIT_CLASSES)}] = jsonb_build_object()))"""
# Multiplying by 0.000001 is exact in numeric; dividing by a million would round.
CLASS_COST = {name: f"coalesce({tokens}, 0) * coalesce({name}_price, 0) * 0.000001" for name, tokens in CLASS_TOKENS.items()}
COST = f"""{" + ".join(CLASS_COST[name] for name in USUAL_CLASSES)}
    + CASE WHEN units IS NULL THEN 0 ELSE {" + ".join(CLASS_COST[name] for name in UNIT_CLASSES)} END"""


def _price_ids(names: Iterable[str]) -> str:
    return f"ARRAY[{', '.join(f'CASE WHEN coalesce({CLASS_TOKENS[name]}, 0) > 0 THEN {name}_price_id END' for name in names)}]::bigint[]"


PRICE_IDS = f"{_price_ids(USUAL_CLASSES)} || CASE WHEN units IS NULL THEN ARRAY[]::bigint[] ELSE {_price_ids(UNIT_CLASSES)} END"


def by_class(row: Callable[[str], str]) -> str:
    """A lateral subquery with `row` (a list of expressions) for each class that a call may have used."""
    usual, units = (", ".join(f"({row(name)})" for name in names) for names in (USUAL_CLASSES, UNIT_CLASSES))
    return f"(VALUES {usual} UNION ALL SELECT * FROM (VALUES {units}) of_units WHERE units IS NOT NULL)"  # noqa: S608  # expressions of our own


def tokens_and_cost(name: str) -> str:
    return f"'{name}', {CLASS_TOKENS[name]}, {CLASS_COST[name]}"


SERVICE_TIER = """CASE WHEN lower(coalesce(b.service_tier, '')) IN ('', 'default', 'auto', 'standard', 'standard_only', 'on_demand') THEN 'standard'
            ELSE left(lower(b.service_tier), 16) END"""
"""What providers call the tier that nobody asked for is `standard`."""

_DISTRIBUTIONS = ("durations", "ttfts", "error_codes")
_MERGED = """(SELECT coalesce(jsonb_object_agg(name, n), '{{}}') FROM (
            SELECT name, sum(number::bigint)::bigint AS n FROM (
                SELECT * FROM jsonb_each_text(c.{0}) UNION ALL SELECT * FROM jsonb_each_text(excluded.{0})
            ) both_of(name, number) GROUP BY name
        ) added)"""
"""Two distributions of `CallHour` added up."""
_MERGE_DISTRIBUTIONS = ", ".join(f"{column} = {_MERGED.format(column)}" for column in _DISTRIBUTIONS)

# Of an interval of years a float is still exact to the microsecond, and ten times faster than numeric.
_ATTRIBUTION_US = """CASE WHEN steps -> 0 ->> 0 = 'otlp' THEN (date_part('epoch', attributed_at - received_at) * 1000000)::bigint
        ELSE (date_part('epoch', attributed_at - started_at) * 1000000)::bigint - duration_us END"""


def _of_class(source: str, token_class: str, tokens: str, cost: str) -> str:
    return f"""SELECT day, provider, model, {token_class}, count(*), sum({tokens}),
        coalesce(sum({tokens}) FILTER (WHERE pricing = 'unpriced'), 0), coalesce(sum({cost}) FILTER (WHERE pricing = 'priced'), 0)
    FROM {source} WHERE {tokens} > 0 AND provider <> '' AND kind <> 'tool' GROUP BY 1, 2, 3, 4"""  # noqa: S608  # expressions of this module


_OF_UNITS = f"""(SELECT f.day, f.provider, f.model, f.kind, f.pricing, v.*
        FROM fresh f CROSS JOIN LATERAL (VALUES {", ".join(f"({tokens_and_cost(name)})" for name in UNIT_CLASSES)}) v(token_class, tokens, cost)
        WHERE f.units IS NOT NULL) of_units"""  # noqa: S608  # expressions of this module
_ROWS_OF_CLASSES = " UNION ALL ".join(
    (
        *(_of_class("fresh", f"'{name}'", CLASS_TOKENS[name], CLASS_COST[name]) for name in USUAL_CLASSES),
        _of_class(_OF_UNITS, "token_class", "tokens", "cost"),
    )
)
"""A pass for each class that most calls use: a lateral row for each class of each call takes several times as long."""


def _sketched(measure: str, bucket: str, only: str, of: str = "'', ''") -> str:
    grouped = f"hour, {of}, {bucket}" if of == "model, provider" else f"hour, {bucket}"
    return f"SELECT hour, '{measure}', {of}, {bucket}, count(*) FROM fresh WHERE {only} GROUP BY {grouped}"  # noqa: S608  # of this module


_SKETCHED = " UNION ALL ".join(
    (
        _sketched("duration", "duration_bucket", "duration_bucket IS NOT NULL", "model, provider"),
        _sketched("ttft", "ttft_bucket", "ttft_bucket IS NOT NULL", "model, provider"),
        _sketched("overhead", sketch.BUCKET_SQL.format(us="overhead_us"), "outcome <> 'refused' AND overhead_us IS NOT NULL"),
        # What others report counts from its arrival: how long their exporter kept it is not ours.
        _sketched("attribution", sketch.BUCKET_SQL.format(us=_ATTRIBUTION_US), "true"),
    )
)
"""A pass for each measure, for the same reason."""

_CALLED = "hour, model, project, agent, provider, deployment, key_id, status"

_MOVE = f"""
WITH batch AS (
    DELETE FROM public.inbox WHERE id = ANY(%(ids)s) RETURNING *
), refused AS (
    INSERT INTO public.inbox_rejected ({_INBOX}, received_at, reason)
    SELECT {_INBOX}, received_at, CASE WHEN started_at < %(kept_from)s AND started_at >= %(earliest)s THEN 'archived_month'
        WHEN {_POSSIBLE_TIME} THEN 'impossible_count' ELSE 'impossible_time' END
    FROM batch WHERE NOT ({_POSSIBLE})
    RETURNING 1
), valid AS (
    SELECT b.event_id, b.kind, b.started_at, b.received_at, clock_timestamp() AS attributed_at,
        b.duration_us, b.overhead_us, b.ttft_us, left(b.request_id, 200) AS request_id,
        coalesce(b.project, '') AS project, coalesce(p.cost_centre, '') AS cost_centre, coalesce(b.key_id, '') AS key_id,
        left(coalesce(b.agent, ''), 120) AS agent, left(coalesce(b.model, ''), 200) AS model, coalesce(b.provider, '') AS provider,
        coalesce(b.deployment, '') AS deployment, coalesce(b.upstream_model, '') AS upstream_model, coalesce(b.region, '') AS region,
        b.status, b.http_status, coalesce(b.error_code, '') AS error_code, b.stream,
        -- The provider counts cached tokens inside its input; the classes here are disjoint.
        CASE WHEN b.input_tokens IS NOT NULL  -- greatest() would turn unknown into zero
            THEN greatest(b.input_tokens - coalesce(b.cached_input_tokens, 0) - coalesce(b.cache_write_tokens, 0), 0) END AS uncached_input_tokens,
        b.cached_input_tokens, b.cache_write_tokens, b.output_tokens, b.reasoning_tokens, b.units, b.usage_source, b.snapshot_version, b.tags, b.steps,
        {SERVICE_TIER} AS service_tier,
        (b.input_tokens IS NULL AND b.output_tokens IS NULL) AS usage_unknown
    FROM batch b LEFT JOIN {Project._meta.db_table} p ON p.slug = b.project
    WHERE b.id IN (SELECT min(id) FROM batch WHERE {_POSSIBLE} GROUP BY event_id)  -- sorting whole rows is slower
), with_prices AS (
    SELECT c.*, {PRICED_COLUMNS}
    FROM valid c
{price_joins("valid c")}
), judged AS (
    SELECT *, CASE
        WHEN kind = 'tool' THEN 'unmetered'
        WHEN status = 'refused' OR usage_source = 'cache' OR (status IN ('upstream_error', 'error') AND usage_source = 'none') THEN 'free'
        WHEN usage_unknown OR NOT ({IS_PRICED}) THEN 'unpriced'
        ELSE 'priced' END AS pricing
    FROM with_prices
), priced AS (
    SELECT *,
        CASE WHEN pricing = 'priced' THEN {COST} WHEN pricing = 'free' THEN 0 END AS cost,
        CASE WHEN pricing = 'priced' THEN {PRICE_IDS} ELSE '{{}}' END AS price_ids
    FROM judged
), inserted AS (
    INSERT INTO event (
        event_id, kind, started_at, received_at, attributed_at, duration_us, overhead_us, ttft_us, request_id, project, cost_centre, key_id, agent, model,
        provider, deployment, upstream_model, region, status, http_status, error_code, stream, uncached_input_tokens, cached_input_tokens,
        cache_write_tokens, output_tokens, reasoning_tokens, units, usage_source, service_tier, snapshot_version, tags, steps, pricing, cost, price_ids
    )
    SELECT event_id, kind, started_at, received_at, attributed_at, duration_us, overhead_us, ttft_us, request_id, project, cost_centre, key_id, agent, model,
        provider, deployment, upstream_model, region, status, http_status, error_code, stream, uncached_input_tokens, cached_input_tokens,
        cache_write_tokens, output_tokens, reasoning_tokens, units, usage_source, service_tier, snapshot_version, tags, steps, pricing, cost, price_ids
    FROM priced
    ON CONFLICT (event_id, started_at) DO NOTHING
    RETURNING event_id
), fresh AS (
    SELECT priced.*, date_trunc('hour', started_at, 'UTC') AS hour, (started_at AT TIME ZONE 'UTC')::date AS day,
        CASE status WHEN 'ok' THEN 'ok' WHEN 'refused' THEN 'refused' ELSE 'error' END AS outcome,
        CASE WHEN status = 'ok' THEN {sketch.BUCKET_SQL.format(us="duration_us")} END AS duration_bucket,
        CASE WHEN status = 'ok' AND ttft_us IS NOT NULL THEN {sketch.BUCKET_SQL.format(us="ttft_us")} END AS ttft_bucket
    FROM priced JOIN inserted USING (event_id)
), by_hour AS (
    SELECT hour, project, cost_centre, agent, model, provider, key_id, kind, outcome, count(*) AS calls,
        coalesce(sum(uncached_input_tokens), 0) AS uncached_input_tokens, coalesce(sum(cached_input_tokens), 0) AS cached_input_tokens,
        coalesce(sum(cache_write_tokens), 0) AS cache_write_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
        coalesce(sum(cost), 0) AS cost, count(*) FILTER (WHERE pricing = 'unpriced') AS unpriced_calls,
        count(*) FILTER (WHERE {usage_days.IS_UNTAGGED}) AS untagged_calls, count(*) FILTER (WHERE usage_source = 'estimated') AS estimated_calls,
        sum(duration_us) AS duration_us, max(started_at) AS last_event_at
    FROM fresh GROUP BY hour, project, cost_centre, agent, model, provider, key_id, kind, outcome
), rolled AS (
    INSERT INTO usage_hour AS r (
        hour, project, cost_centre, agent, model, provider, key_id, kind, outcome, calls, uncached_input_tokens, cached_input_tokens, cache_write_tokens,
        output_tokens, cost, unpriced_calls, untagged_calls, estimated_calls, duration_us, last_event_at
    )
    SELECT * FROM by_hour
    ON CONFLICT ON CONSTRAINT usage_hour_once DO UPDATE SET
        calls = r.calls + excluded.calls, uncached_input_tokens = r.uncached_input_tokens + excluded.uncached_input_tokens,
        cached_input_tokens = r.cached_input_tokens + excluded.cached_input_tokens, cache_write_tokens = r.cache_write_tokens + excluded.cache_write_tokens,
        output_tokens = r.output_tokens + excluded.output_tokens, cost = r.cost + excluded.cost, unpriced_calls = r.unpriced_calls + excluded.unpriced_calls,
        untagged_calls = r.untagged_calls + excluded.untagged_calls, estimated_calls = r.estimated_calls + excluded.estimated_calls,
        duration_us = r.duration_us + excluded.duration_us, last_event_at = greatest(r.last_event_at, excluded.last_event_at)
), by_day AS (
    {usage_days.ADD.format(hours="by_hour")}
), by_tag AS (
    {tag_days.ADD.format(calls="fresh")}
), by_prompt AS (
    {prompt_days.ADD.format(calls="fresh")}
), by_class AS (
    INSERT INTO token_day AS d (day, provider, model, token_class, calls, tokens, unpriced_tokens, cost)
    {_ROWS_OF_CLASSES}
    ON CONFLICT ON CONSTRAINT token_day_once DO UPDATE SET
        calls = d.calls + excluded.calls, tokens = d.tokens + excluded.tokens, unpriced_tokens = d.unpriced_tokens + excluded.unpriced_tokens,
        cost = d.cost + excluded.cost
), sketched AS (
    INSERT INTO latency_hour AS l (hour, measure, model, provider, bucket, count)
    {_SKETCHED}
    ON CONFLICT ON CONSTRAINT latency_hour_once DO UPDATE SET count = l.count + excluded.count
), counted AS (
    SELECT {_CALLED}, CASE WHEN outcome = 'ok' THEN 'durations' ELSE 'error_codes' END AS column_name, name, count(*) AS n,
        count(*) FILTER (WHERE cache IN ('hit', 'semantic')) AS hits, count(*) FILTER (WHERE cache = 'miss') AS misses
    FROM (
        SELECT *, CASE WHEN outcome = 'ok' THEN duration_bucket::text ELSE left(error_code, 60) END AS name,
            jsonb_path_query_first(steps, 'strict $[*] ? (@[0] starts with "cache:")') ->> 1 AS cache  -- lax would look into the steps
        FROM fresh WHERE kind <> 'tool' AND model <> ''
    ) f
    GROUP BY {_CALLED}, outcome, name
    UNION ALL
    SELECT {_CALLED}, 'ttfts', ttft_bucket::text, count(*), 0, 0
    FROM fresh WHERE kind <> 'tool' AND model <> '' AND ttft_bucket IS NOT NULL
    GROUP BY {_CALLED}, ttft_bucket
), called AS (
    INSERT INTO call_hour AS c (
        hour, model, project, agent, provider, deployment, key_id, status, calls, cache_hits, cache_misses, durations, ttfts, error_codes
    )
    SELECT hour, model, project, agent, provider, deployment, key_id, status, sum(n) FILTER (WHERE column_name <> 'ttfts'), sum(hits), sum(misses),
        {", ".join(f"coalesce(jsonb_object_agg(name, n) FILTER (WHERE column_name = '{column}' AND name <> ''), '{{}}')" for column in _DISTRIBUTIONS)}
    FROM counted GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    ON CONFLICT ON CONSTRAINT call_hour_once DO UPDATE SET calls = c.calls + excluded.calls, cache_hits = c.cache_hits + excluded.cache_hits,
        cache_misses = c.cache_misses + excluded.cache_misses, {_MERGE_DISTRIBUTIONS}
), noted AS (
    INSERT INTO verdict_hour AS n (hour, step, verdict, found, calls, hits)
    SELECT f.hour, left(k.step, 160), left(k.verdict, 40), w.found, count(*), coalesce(sum(w.hits), 0)
    FROM fresh f
    CROSS JOIN LATERAL (SELECT step, step ->> 0 AS name FROM jsonb_array_elements(f.steps) step OFFSET 0) s
    -- A failover says `<deployment>:<why> → <deployment>`: it is counted by model and why.
    CROSS JOIN LATERAL (SELECT
        CASE WHEN s.name = 'failover' THEN 'failover:' || f.model ELSE s.name END AS step,
        CASE WHEN s.name = 'failover' THEN coalesce(substring(s.step ->> 3 from '^[^:]*:(.+) → '), 'unknown') ELSE s.step ->> 1 END AS verdict
    ) k
    CROSS JOIN LATERAL (
        SELECT CASE WHEN s.name = 'policy' AND (s.step ->> 3 = 'covered' OR s.step ->> 1 <> 'pass') THEN 'covered' ELSE '' END AS found,
            0::bigint AS hits
        UNION ALL
        SELECT split_part(word, '=', 1), split_part(word, '=', 2)::bigint FROM unnest(string_to_array(s.step ->> 3, ' ')) word
        WHERE s.name ~ '^(guardrail|cache|route):' AND word ~ '^[a-z_]{{1,24}}=[0-9]{{1,9}}$'
    ) w
    WHERE s.name ~ '^((policy|failover)$|(policy|guardrail|cache|route):)'
    GROUP BY 1, 2, 3, 4
    ON CONFLICT ON CONSTRAINT verdict_hour_once DO UPDATE SET calls = n.calls + excluded.calls, hits = n.hits + excluded.hits
)
SELECT (SELECT count(*) FROM batch), (SELECT count(*) FROM inserted), (SELECT count(*) FROM refused)
"""  # noqa: S608  # names and expressions of this module only


def ingest(*, tenant: Tenant, batch_size: int = BATCH_SIZE, most_batches: int = 200) -> Ingested:
    """Attribute what waits for `tenant`, whose schema must be entered, batch by batch, each in its own transaction.

    Returns at once when another worker is at it.
    """
    done = Ingested()
    for _ in range(most_batches):
        moved = _move_batch(tenant, batch_size)
        done += moved
        if moved.taken < batch_size:
            break
    return done


@transaction.atomic
def _move_batch(tenant: Tenant, size: int) -> Ingested:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(current_schema()))", [LOCK_SPACE])
        if not cursor.fetchone()[0]:
            return Ingested()
        # Behind the lock: a month leaves under the same one. Whether a late call of it is new could not be told any more.
        limits = {"earliest": EARLIEST, "kept_from": kept_from() or EARLIEST}
        cursor.execute(
            f"""
            SELECT array_agg(id), array_agg(DISTINCT date_trunc('month', started_at, 'UTC')) FILTER (WHERE {_POSSIBLE_TIME})
            FROM (SELECT id, started_at FROM public.inbox WHERE tenant = %(tenant)s ORDER BY id LIMIT %(size)s) waiting
            """,  # noqa: S608  # names and expressions of this module only
            {"tenant": tenant.public_id, "size": size, **limits},
        )
        ids, months = cursor.fetchone()
        if not ids:
            return Ingested()
        for month in months or []:
            ensure_partition(month)
        # The planner cannot know how many rows come out of a CTE that changes data; guessing few, it compares all with all.
        cursor.execute("SET LOCAL enable_nestloop = off")
        # A batch is some ten megabytes, and every CTE over it would be written to disk and read again for each rollup.
        cursor.execute("SET LOCAL work_mem = '64MB'")
        cursor.execute(_MOVE, {"ids": ids, **limits})
        taken, new, rejected = cursor.fetchone()
        cursor.execute("SET LOCAL enable_nestloop TO DEFAULT")
        cursor.execute("SET LOCAL work_mem TO DEFAULT")
    return Ingested(taken, new, taken - new - rejected, rejected)


def deliver(events: Iterable[CallEvent]) -> int:
    """Copy calls into the inbox, column by column as the plane's shipper does. Returns how many."""
    count = 0
    with connection.cursor() as cursor, cursor.copy(f"COPY public.inbox ({_INBOX}) FROM STDIN") as copy:
        for event in events:
            values = {name: getattr(event, name) for name in INBOX_COLUMNS}
            values["started_at"] = datetime.fromtimestamp(event.started_at, UTC)
            values["tags"], values["steps"] = msgspec.json.encode(event.tags).decode(), msgspec.json.encode(event.steps).decode()
            values["units"] = None if event.units is None else msgspec.json.encode(event.units).decode()
            copy.write_row([values[name] for name in INBOX_COLUMNS])
            count += 1
    return count


LOCK_SPACE = 0x6A7E
"""First half of the advisory lock that everything takes that changes events and rollups of a schema."""


def lock_events() -> None:
    """Wait until nobody else changes this schema's events, and keep them off until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", [LOCK_SPACE])


def ensure_partition(month: datetime) -> None:
    """Make the partition that holds the UTC month of `month`, unless it exists."""
    start = month.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = (start + timedelta(days=32)).replace(day=1)
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
    return None if last is None else datetime(last.year + last.month // 12, last.month % 12 + 1, 1, tzinfo=UTC)


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
