"""SQL that keeps `token_day`: in the same statement as the change of events, or at least in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from costs.pricing import CLASS_TOKENS, TOKEN_CLASSES, UNIT_CLASSES, WHOLE_TOKENS

_COUNTS = "calls, tokens, unpriced_tokens, cost"


def _sums(tokens_of: Mapping[str, str]) -> str:
    return ", ".join(
        f"count(*) FILTER (WHERE {tokens} > 0) AS {name}_calls, sum({tokens}) FILTER (WHERE {tokens} > 0) AS {name}_tokens"
        for name, tokens in tokens_of.items()
    )


def _nothing(names: Iterable[str]) -> str:
    return ", ".join(f"0 AS {name}_calls, NULL::numeric AS {name}_tokens" for name in names)


_BY = "(started_at AT TIME ZONE 'UTC')::date AS day, provider, model, pricing, price_ids"
_CLASSES = ", ".join(f"('{name}', a.{name}_calls, a.{name}_tokens, a.price_ids[{n}])" for n, name in enumerate(TOKEN_CLASSES, 1))

# Calls that were charged by the same prices are multiplied once: what that gives is exact, as numeric is.
ADD = f"""
    INSERT INTO token_day AS d (day, provider, model, token_class, {_COUNTS})
    SELECT a.day, a.provider, a.model, v.token_class, sum(v.calls), sum(v.tokens),
        coalesce(sum(v.tokens) FILTER (WHERE a.pricing = 'unpriced'), 0),
        coalesce(sum(v.tokens * p.price * 0.000001) FILTER (WHERE a.pricing = 'priced'), 0)
    FROM (
        -- Nearly all calls, and those whose units stand apart, which take five times as long to add up.
        SELECT {_BY}, {_sums(WHOLE_TOKENS)}, {_nothing(UNIT_CLASSES)}
        FROM {{calls}} WHERE units IS NULL AND provider <> '' AND kind <> 'tool' GROUP BY 1, 2, 3, 4, 5
        UNION ALL
        SELECT {_BY}, {_sums(CLASS_TOKENS)}
        FROM {{calls}} WHERE units IS NOT NULL AND provider <> '' AND kind <> 'tool' GROUP BY 1, 2, 3, 4, 5
    ) a
    CROSS JOIN LATERAL (VALUES {_CLASSES}) v(token_class, calls, tokens, price_id)
    LEFT JOIN price_entry p ON p.id = v.price_id
    WHERE v.calls > 0
    GROUP BY 1, 2, 3, 4
    ON CONFLICT ON CONSTRAINT token_day_once DO UPDATE SET {", ".join(f"{name} = d.{name} + excluded.{name}" for name in _COUNTS.split(", "))}
"""  # noqa: S608  # names of this module only
"""Adds calls shaped like events, of the CTE `calls`, whose prices are in the book."""
