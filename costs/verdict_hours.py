"""SQL that keeps `verdict_hour`: in the same statement as the change of events."""

from __future__ import annotations

NAMES = ("policy", "failover", "guardrail:", "cache:", "route:")
"""How the names of steps begin that may be counted."""

ADD = """
    INSERT INTO verdict_hour AS n (hour, step, verdict, found, calls, hits)
    SELECT s.hour, left(k.step, 160), left(k.verdict, 40), w.found, count(*), coalesce(sum(w.hits), 0)
    FROM {steps} s
    -- A failover says `<deployment>:<why> → <deployment>`: it is counted by model, why and the deployment that was left.
    CROSS JOIN LATERAL (SELECT
        CASE WHEN s.name = 'failover' THEN 'failover:' || s.model ELSE s.name END AS step,
        CASE WHEN s.name = 'failover' THEN coalesce(substring(s.step ->> 3 from '^[^:]*:(.+) → '), 'unknown') ELSE s.step ->> 1 END AS verdict
    ) k
    CROSS JOIN LATERAL (
        SELECT CASE
                WHEN s.name = 'policy' AND (s.step ->> 3 = 'covered' OR s.step ->> 1 <> 'pass') THEN 'covered'
                WHEN s.name = 'failover' THEN coalesce(substring(s.step ->> 3 from '^([0-9]{{1,19}}):.+ → '), '')
                ELSE '' END AS found,
            0::bigint AS hits
        UNION ALL
        SELECT split_part(word, '=', 1), split_part(word, '=', 2)::bigint FROM unnest(string_to_array(s.step ->> 3, ' ')) word
        WHERE s.name ~ '^(guardrail|cache|route):' AND word ~ '^[a-z_]{{1,24}}=[0-9]{{1,9}}$'
    ) w
    WHERE s.name ~ '^((policy|failover)$|(policy|guardrail|cache|route):)'
    GROUP BY 1, 2, 3, 4
    ON CONFLICT ON CONSTRAINT verdict_hour_once DO UPDATE SET calls = n.calls + excluded.calls, hits = n.hits + excluded.hits
"""
"""Adds what the CTE `steps` says, a row for each step of a call."""
