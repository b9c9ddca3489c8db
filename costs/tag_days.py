"""SQL that keeps `tag_day`: in the same statement as the change of events, or at least in the same transaction."""

from __future__ import annotations

from gateway.contract.tags import STEP

_FOUND = """LATERAL (
        SELECT split_part(word, '=', 1) AS tag, split_part(word, '=', 2) AS found FROM unnest(string_to_array({step} ->> 3, ' ')) word
        UNION ALL
        SELECT '', CASE WHEN {step} ->> 3 ~ '=(missing|not_allowed)( |$)' THEN 'missing' ELSE 'ok' END
    ) w"""
_IS_KNOWN = "w.found IN ('ok', 'missing', 'not_allowed')"
_COUNTS = "calls, refused, denied, cost, unpriced_calls"

ADD = f"""
    INSERT INTO tag_day AS t (day, tag, project, key_id, agent, found, {_COUNTS})
    SELECT (f.started_at AT TIME ZONE 'UTC')::date, w.tag, f.project, f.key_id, f.agent, w.found, count(*),
        count(*) FILTER (WHERE f.status = 'refused'), count(*) FILTER (WHERE f.error_code = 'tag_required' AND w.found <> 'ok'),
        coalesce(sum(f.cost), 0), count(*) FILTER (WHERE f.pricing = 'unpriced')
    FROM {{steps}} f CROSS JOIN {_FOUND.format(step="f.step")}
    WHERE f.name = '{STEP}' AND {_IS_KNOWN}
    GROUP BY 1, 2, 3, 4, 5, 6
    ON CONFLICT ON CONSTRAINT tag_day_once DO UPDATE SET {", ".join(f"{name} = t.{name} + excluded.{name}" for name in _COUNTS.split(", "))}
"""  # noqa: S608  # names of this module only
"""Adds what the CTE `steps` says, a row for each step of a call with the columns of its event."""

VALUE = f"""
    UPDATE tag_day t SET cost = t.cost + n.cost, unpriced_calls = t.unpriced_calls - n.calls
    FROM (
        SELECT (f.started_at AT TIME ZONE 'UTC')::date AS day, w.tag, f.project, f.key_id, f.agent, w.found, sum({{money}}) AS cost,
            {{unpriced}} * count(*) AS calls
        FROM {{calls}} f CROSS JOIN LATERAL jsonb_array_elements(f.steps) s(step) CROSS JOIN {_FOUND.format(step="s.step")}
        WHERE s.step ->> 0 = '{STEP}' AND {_IS_KNOWN}
        GROUP BY 1, 2, 3, 4, 5, 6
    ) n
    WHERE (t.tag, t.day, t.project, t.key_id, t.agent, t.found) = (n.tag, n.day, n.project, n.key_id, n.agent, n.found)
"""  # noqa: S608  # names of this module only
"""Gives calls in the CTE `calls` `money` more; `unpriced` is 1 when they had no price before, else 0."""
