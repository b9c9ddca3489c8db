"""SQL that keeps `usage_day` the sum of `usage_hour`, for whoever changes the latter: in the same statement, or at least the same transaction."""

from __future__ import annotations

OUTCOME = "CASE status WHEN 'ok' THEN 'ok' WHEN 'refused' THEN 'refused' ELSE 'error' END"
"""Of an event, as an hour has it."""
IS_UNTAGGED = "project = '' OR key_id = '' OR model = '' OR agent = ''"

COUNTS = "calls, refused, errors, tokens, cost, unpriced_calls, untagged_calls, untagged_cost, estimated_calls"
FIGURES = """sum(c.calls) AS calls,
        coalesce(sum(c.calls) FILTER (WHERE c.outcome = 'refused'), 0) AS refused, coalesce(sum(c.calls) FILTER (WHERE c.outcome = 'error'), 0) AS errors,
        sum(c.uncached_input_tokens + c.cached_input_tokens + c.cache_write_tokens + c.output_tokens) AS tokens, sum(c.cost) AS cost,
        sum(c.unpriced_calls) AS unpriced_calls, coalesce(sum(c.untagged_calls) FILTER (WHERE c.outcome <> 'refused'), 0) AS untagged_calls,
        coalesce(sum(c.cost) FILTER (WHERE c.untagged_calls > 0), 0) AS untagged_cost, sum(c.estimated_calls) AS estimated_calls"""
"""The same, of rows `c` shaped like `usage_hour`."""
DIMENSIONS = ("all", "hour", "project", "cost_centre", "agent", "model", "provider", "key")
"""What hours know; `costs.attribute_days` keeps the others."""
_DIMENSIONS = """(VALUES ('all', ''), ('hour', to_char({at} AT TIME ZONE 'UTC', 'HH24')), ('project', c.project), ('cost_centre', c.cost_centre),
        ('agent', c.agent), ('model', c.model), ('provider', c.provider), ('key', c.key_id)) d(dimension, ref)"""

_SUMS = f"""
    INSERT INTO usage_day AS u (day, dimension, value, {COUNTS})
    SELECT (c.hour AT TIME ZONE 'UTC')::date, d.dimension, d.ref, {FIGURES}
    FROM {{hours}} c CROSS JOIN LATERAL {_DIMENSIONS.format(at="c.hour")}
    WHERE {{only}}
    GROUP BY 1, 2, 3
"""  # noqa: S608  # names of this module only

ADD = f"""
    {_SUMS.format(hours="{hours}", only="true")}
    ON CONFLICT ON CONSTRAINT usage_day_once DO UPDATE SET {", ".join(f"{name} = u.{name} + excluded.{name}" for name in COUNTS.split(", "))}
"""
"""Adds rows shaped like `usage_hour`, of the table or CTE `hours`."""

VALUE = f"""
    UPDATE usage_day u SET cost = u.cost + n.cost, unpriced_calls = u.unpriced_calls - n.calls, untagged_cost = u.untagged_cost + n.untagged_cost
    FROM (
        SELECT (c.started_at AT TIME ZONE 'UTC')::date AS day, d.dimension, d.ref, sum({{money}}) AS cost, {{unpriced}} * count(*) AS calls,
            coalesce(sum({{money}}) FILTER (WHERE {IS_UNTAGGED}), 0) AS untagged_cost
        FROM {{calls}} c CROSS JOIN LATERAL {_DIMENSIONS.format(at="c.started_at")}
        GROUP BY 1, 2, 3
    ) n
    WHERE (u.dimension, u.day, u.value) = (n.dimension, n.day, n.ref)
"""  # noqa: S608  # names of this module only
"""Gives calls in the CTE `calls` `money` more; `unpriced` is 1 when they had no price before, else 0."""

_WITHIN = "c.hour >= %(first)s::timestamp AT TIME ZONE 'UTC' AND c.hour < (%(last)s::date + 1)::timestamp AT TIME ZONE 'UTC'"
COUNT_AGAIN = (
    "DELETE FROM usage_day WHERE day >= %(first)s AND day <= %(last)s AND dimension = ANY(%(dimensions)s)",
    _SUMS.format(hours="usage_hour", only=_WITHIN),
)
"""Two statements that make the days from `first` to `last` anew, of `DIMENSIONS`."""
