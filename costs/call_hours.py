"""SQL that keeps `call_hour`: in the same statement as the change of events."""

from __future__ import annotations

_CALLED = "hour, model, project, agent, provider, deployment, key_id, status"
_MERGED = """CASE WHEN excluded.{0} = '{{{{}}}}' THEN c.{0} ELSE (SELECT coalesce(jsonb_object_agg(name, n), '{{{{}}}}') FROM (
            SELECT name, sum(number::bigint)::bigint AS n FROM (
                SELECT * FROM jsonb_each_text(c.{0}) UNION ALL SELECT * FROM jsonb_each_text(excluded.{0})
            ) both_of(name, number) GROUP BY name
        ) added) END"""
"""Two distributions added up."""
_DISTRIBUTIONS = {"durations": "duration_bucket", "ttfts": "ttft_bucket", "error_codes": "error_code"}
_MERGE = ", ".join(f"{column} = {_MERGED.format(column)}" for column in _DISTRIBUTIONS)
_AS_OBJECT = "coalesce(jsonb_object_agg({0}, n) FILTER (WHERE {0} IS NOT NULL), '{{{{}}}}')"

ADD = f"""
    INSERT INTO call_hour AS c ({_CALLED}, calls, cache_hits, cache_misses, {", ".join(_DISTRIBUTIONS)})
    SELECT {_CALLED}, sum(calls), sum(hits), sum(misses), {", ".join(_AS_OBJECT.format(name) for name in _DISTRIBUTIONS.values())}
    FROM (
        SELECT {_CALLED}, duration_bucket, NULL::smallint AS ttft_bucket, CASE WHEN status <> 'ok' THEN nullif(left(error_code, 60), '') END AS error_code,
            count(*) AS n, count(*) AS calls, 0 AS hits, 0 AS misses
        FROM {{calls}} WHERE kind <> 'tool' AND model <> '' GROUP BY {_CALLED}, 9, 11
        UNION ALL
        SELECT {_CALLED}, NULL, ttft_bucket, NULL, count(*), 0, 0, 0
        FROM {{calls}} WHERE kind <> 'tool' AND model <> '' AND ttft_bucket IS NOT NULL GROUP BY {_CALLED}, ttft_bucket
        UNION ALL
        SELECT {_CALLED}, NULL, NULL, NULL, NULL, 0, count(*) FILTER (WHERE verdict IN ('hit', 'semantic')), count(*) FILTER (WHERE verdict = 'miss')
        FROM (
            SELECT DISTINCT ON (event_id, started_at) {_CALLED}, step ->> 1 AS verdict FROM {{steps}}
            WHERE name ^@ 'cache:' AND kind <> 'tool' AND model <> '' ORDER BY event_id, started_at, position
        ) said GROUP BY {_CALLED}
    ) counted
    GROUP BY {_CALLED}
    ON CONFLICT ON CONSTRAINT call_hour_once DO UPDATE SET calls = c.calls + excluded.calls, cache_hits = c.cache_hits + excluded.cache_hits,
        cache_misses = c.cache_misses + excluded.cache_misses, {_MERGE}
"""  # noqa: S608  # names of this module only
"""Adds the CTE `calls`, with buckets, and what the CTE `steps` says of their caches."""
