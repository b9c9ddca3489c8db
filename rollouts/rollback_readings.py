"""What rules judge: the calls of a flag, by variant and time, and registered metrics; and what came of a rollback, as the calls tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from costs import sketch
from governance import metrics
from rollouts import rollback_language as language
from rollouts.models import Flag, FlagChange, RollbackRule
from rollouts.rollback_evidence import sums_of
from rollouts.rollback_language import SLICE_S, Comparison
from rollouts.rollback_rules import Inputs, Reading, Series, Sums
from rollouts.rollback_selectors import treatments_of
from rollouts.services.evidence import read_metric

Key = tuple[int, str]
"""Flag and variant."""
BySize = Mapping[int, Mapping[Key, Series]]
"""By seconds of a bucket."""

_COLUMNS = "calls, failed, blocked, priced, cost, cost_squared"
COUNTED = f"""
    SELECT flag_id, variant, start, sum(calls)::int AS calls, sum(failed)::int AS failed, sum(blocked)::int AS blocked, sum(priced)::int AS priced,
        coalesce(sum(cost), 0)::float8 AS cost, coalesce(sum(cost_squared), 0)::float8 AS cost_squared,
        coalesce(jsonb_object_agg(bucket, ok) FILTER (WHERE bucket IS NOT NULL), '{{}}') AS latency
    FROM (
        SELECT w.flag_id, t.value AS variant, extract(epoch FROM date_bin(%(size)s * interval '1 second', e.started_at, 'epoch'))::bigint AS start,
            CASE WHEN e.status = 'ok' THEN {sketch.BUCKET_SQL.format(us="e.duration_us")} END AS bucket,
            count(*) FILTER (WHERE e.status <> 'refused') AS calls, count(*) FILTER (WHERE e.status NOT IN ('ok', 'refused')) AS failed,
            count(*) FILTER (WHERE e.status = 'refused' AND e.error_code = 'guardrail_blocked') AS blocked,
            count(*) FILTER (WHERE e.status <> 'refused' AND e.cost IS NOT NULL) AS priced,
            sum(e.cost) FILTER (WHERE e.status <> 'refused')::float8 AS cost,
            sum(e.cost::float8 ^ 2) FILTER (WHERE e.status <> 'refused') AS cost_squared, count(*) FILTER (WHERE e.status = 'ok') AS ok
        FROM event e
        CROSS JOIN LATERAL jsonb_each_text(e.tags) t
        JOIN unnest(%(flags)s::bigint[], %(tags)s::text[]) AS w(flag_id, tag) ON w.tag = t.key
        WHERE e.started_at >= %(since)s AND e.started_at < %(until)s AND e.tags <> '{{}}'::jsonb
        GROUP BY 1, 2, 3, 4
    ) one
    GROUP BY flag_id, variant, start
"""  # noqa: S608 - constants of ours
"""Sums by flag, variant and bucket of `size` seconds, in one pass over the calls that began within [since, until)."""


def counted_parameters(flags: Iterable[Flag], *, since: datetime, until: datetime, size: int) -> dict[str, Any]:
    found = {flag.pk: f"flag.{flag.key}" for flag in flags}
    return {"flags": list(found), "tags": list(found.values()), "since": since, "until": until, "size": size}


def _series(rows: Iterable[Sequence[Any]]) -> dict[Key, Series]:
    found: dict[Key, dict[int, Sums]] = {}
    for flag_id, variant, start, *numbers, latency in rows:
        # A plain cursor under Django gives jsonb as its text.
        found.setdefault((flag_id, variant), {})[start] = sums_of(numbers, json.loads(latency) if latency else None)
    return {key: Series(buckets) for key, buckets in found.items()}


def count_calls(flags: Iterable[Flag], *, since: datetime, until: datetime, size: int) -> dict[Key, Series]:
    """From the calls themselves, as they are now."""
    with connection.cursor() as cursor:
        cursor.execute(COUNTED, counted_parameters(flags, since=since, until=until, size=size))
        return _series(cursor.fetchall())


def kept_minutes(wanted: Mapping[int, tuple[datetime, bool]]) -> dict[Key, Series]:
    """The watcher's minutes by flag: since when, and whether durations are wanted too."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT m.flag_id, m.variant, extract(epoch FROM m.minute)::bigint, {_COLUMNS}, CASE WHEN w.latency THEN m.latency END
            FROM unnest(%(flags)s::bigint[], %(since)s::timestamptz[], %(latency)s::bool[]) AS w(flag_id, since, latency)
            JOIN rollouts_rollbackminute m ON m.flag_id = w.flag_id AND m.minute >= w.since
            """,  # noqa: S608 - constants of ours
            {
                "flags": list(wanted), "since": [since for since, _ in wanted.values()], "latency": [needed for _, needed in wanted.values()],
            },
        )  # fmt: skip
        return _series(cursor.fetchall())


def series_of(by_size: BySize, flag: Flag, variant: str) -> dict[int, Series]:
    return {size: found[flag.pk, variant] for size, found in by_size.items() if (flag.pk, variant) in found}


def inputs_of(rule: RollbackRule, parsed_rule: language.Rule, by_size: BySize, readings: Mapping[str, Reading]) -> dict[str, Inputs]:
    """By treatment. A rule that reads only metrics has one, unnamed."""
    flag = rule.flag
    variants = treatments_of(flag, flag.exposure) if parsed_rule.watches_calls else [""]
    baselines = {name: float(found["value"]) for name, found in rule.baselines.items()}

    control = series_of(by_size, flag, flag.control)
    return {variant: Inputs(series_of(by_size, flag, variant), control, baselines, readings) for variant in variants}


def read_metrics(comparisons: Iterable[Comparison], *, at: datetime) -> dict[str, Reading]:
    """Of registered metrics, each once. One that can't be read is unknown, with its traceback in the log."""
    found: dict[str, Reading] = {}
    for one in comparisons:
        if one.is_metric and one.name not in found:
            reading = read_metric(one.measure.key, metrics.Window(at - timedelta(seconds=one.window_s), at))
            found[one.name] = Reading(reading["value"], reading["sample"], metrics.get(one.measure.key).minimum_sample)
    return found


def slices_since(at: datetime, rule: language.Rule) -> datetime:
    """From when on a rule with short windows needs slices: its longest short window, and the steps that it may catch up with."""
    reach = max((one.window_s for one in rule.comparisons if one.bucket_s == SLICE_S), default=0)
    return at - timedelta(seconds=reach + rule.of * SLICE_S)


@dataclass(frozen=True)
class Effect:
    """From the decision to the calls, as the calls themselves tell."""

    first_at: datetime | None
    """Start of the first call that was decided by the new version; None until one came."""
    last_before_at: datetime | None
    """Start of the last call after the decision that a plane still decided by an older version."""
    decided_at: datetime

    @property
    def seconds(self) -> float | None:
        """Until no call was decided by an older version any more, at most; None while no call proves it."""
        if self.first_at is None:
            return None
        return (max(self.first_at, self.last_before_at or self.first_at) - self.decided_at).total_seconds()


def effect_of(flag: Flag, *, version: int, decided_at: datetime) -> Effect:
    """Measured on the calls of the fifteen minutes after a change: the flag's step in each says by which version it was decided."""
    with connection.cursor() as cursor:
        cursor.execute(
            r"""
            WITH decided AS (
                SELECT started_at, (regexp_match(step ->> 3, %(pattern)s))[1]::int AS version
                FROM event CROSS JOIN LATERAL (SELECT each AS step FROM jsonb_array_elements(steps) each WHERE each ->> 0 = 'flags' LIMIT 1) one
                WHERE started_at >= %(since)s AND started_at < %(until)s AND tags ? %(tag)s
            )
            SELECT min(started_at) FILTER (WHERE version >= %(version)s), max(started_at) FILTER (WHERE version < %(version)s) FROM decided
            """,
            {
                "pattern": rf"^{re.escape(flag.key)} (\d+): ", "since": decided_at, "until": decided_at + timedelta(minutes=15),
                "tag": f"flag.{flag.key}", "version": version,
            },
        )  # fmt: skip
        first, last = cursor.fetchone()
    return Effect(first, last, decided_at)


def effect_of_change(change: FlagChange) -> Effect:
    """Of a change that was applied."""
    assert change.version is not None
    return effect_of(change.flag, version=change.version.number, decided_at=change.version.at)
