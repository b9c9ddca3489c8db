"""SQL that keeps `prompt_day`: in the same statement as the change of events, or at least in the same transaction."""

from __future__ import annotations

from gateway.contract.names import CAUSE_TAG, PROMPT_TAG, SHADOW_OF_TAG

# The gateway alone sets these tags. What is no reference to a version, such as `greeting@3`, is not counted, nor are shadows of a call and
# the gateway's own calls for it: they carry its tags, but nobody asked for the version.
_NAMED = f"f.tags ? '{PROMPT_TAG}' AND f.tags ->> '{PROMPT_TAG}' ~ '^[^@]+@[0-9]{{{{1,9}}}}$' AND NOT f.tags ?| ARRAY['{CAUSE_TAG}', '{SHADOW_OF_TAG}']"
_KEYS = f"""(f.started_at AT TIME ZONE 'UTC')::date AS day, split_part(f.tags ->> '{PROMPT_TAG}', '@', 1) AS prompt,
        split_part(f.tags ->> '{PROMPT_TAG}', '@', 2)::int AS version, f.model"""
_COUNTS = "calls, errors, refused, input_tokens, output_tokens, cost, unpriced_calls"

ADD = f"""
    INSERT INTO prompt_day AS d (day, prompt, version, model, {_COUNTS})
    SELECT {_KEYS}, count(*), count(*) FILTER (WHERE f.status NOT IN ('ok', 'refused')), count(*) FILTER (WHERE f.status = 'refused'),
        coalesce(sum(coalesce(f.uncached_input_tokens, 0) + coalesce(f.cached_input_tokens, 0) + coalesce(f.cache_write_tokens, 0)), 0),
        coalesce(sum(f.output_tokens), 0), coalesce(sum(f.cost), 0), count(*) FILTER (WHERE f.pricing = 'unpriced')
    FROM {{calls}} f
    WHERE {_NAMED}
    GROUP BY 1, 2, 3, 4
    ON CONFLICT ON CONSTRAINT prompt_day_once DO UPDATE SET {", ".join(f"{name} = d.{name} + excluded.{name}" for name in _COUNTS.split(", "))}
"""  # noqa: S608  # names of this module only
"""Adds calls shaped like events, of the CTE `calls`."""

VALUE = f"""
    UPDATE prompt_day d SET cost = d.cost + n.cost, unpriced_calls = d.unpriced_calls - n.calls
    FROM (
        SELECT {_KEYS}, sum({{money}}) AS cost, {{unpriced}} * count(*) AS calls
        FROM {{calls}} f
        WHERE {_NAMED}
        GROUP BY 1, 2, 3, 4
    ) n
    WHERE (d.prompt, d.version, d.day, d.model) = (n.prompt, n.version, n.day, n.model)
"""  # noqa: S608  # names of this module only
"""Gives calls in the CTE `calls` `money` more; `unpriced` is 1 when they had no price before, else 0."""
