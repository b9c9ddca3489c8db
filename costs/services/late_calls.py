"""Calls that came after an earlier comparison had read our side: told by when they were attributed, not by when they were made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal, localcontext
from typing import Any

from django.db import connection

from costs import bridge, focus, pricing
from costs.models import Revision
from costs.periods import midnight, whole_month
from costs.services import prices
from costs.services.reconciliation_inputs import Inputs, Key


@dataclass(frozen=True)
class Late:
    """Of one provider and month, since the comparison before."""

    calls: int = 0
    sides: dict[Key, tuple[int, Decimal]] = field(default_factory=dict)
    """Tokens, and what they cost by the book now, in the currency of the comparison."""


_WHERE = """e.provider = %(provider)s AND e.kind <> 'tool' AND e.started_at >= %(start)s AND e.started_at < %(end)s
    AND (e.started_at AT TIME ZONE 'UTC')::date = ANY(%(days)s) AND e.attributed_at > %(since)s AND e.attributed_at <= %(until)s"""
_COUNTED = pricing.USUAL_CLASSES[0]
"""Each call has one row of this class, of tokens or not: by it calls are counted while they are read for their tokens."""


_SUMS = ", ".join(f"sum(e.{column})::bigint AS {column}" for column in pricing.WHOLE_TOKENS.values())


def _sides() -> str:
    # Made when it is needed: that module loads this one. Calls without `units` are added up first, by the prices that they have: taking each apart
    # into its classes takes several times as long as reading it.
    return f"""
SELECT c.model, v.token_class, c.day, coalesce(sum(c.calls) FILTER (WHERE v.token_class = '{_COUNTED}'), 0)::bigint,
    coalesce(sum(v.tokens), 0)::bigint, coalesce(sum(v.tokens * p.price * 0.000001) FILTER (WHERE c.pricing = 'priced'), 0)
FROM (
    SELECT e.model, (e.started_at AT TIME ZONE 'UTC')::date AS day, e.pricing, e.price_ids, e.units, count(*) AS calls, {_SUMS}
    FROM event e WHERE {_WHERE}
    GROUP BY 1, 2, 3, 4, 5, CASE WHEN e.units IS NOT NULL THEN e.event_id END
) c CROSS JOIN LATERAL {pricing.by_class(pricing.tokens_and_price_id)} v(token_class, tokens, price_id)
LEFT JOIN {prices.KNOWN_PRICES} p ON p.id = v.price_id
WHERE v.tokens > 0 OR v.token_class = '{_COUNTED}' GROUP BY 1, 2, 3
"""  # noqa: S608  # names and expressions of our own modules


def since(before: Revision | None, inputs: Inputs) -> Late | None:
    """None where nothing was compared before, or the comparison did not keep how far it had read.

    Only days are read whose lines have more tokens than they had: tokens of calls never change, so on others nothing came.
    """
    if before is None or before.telemetry_through is None:
        return None
    known = {(line.model, line.token_class, line.day): line.telemetry_tokens for line in before.lines.all()}
    days = _days_of(inputs, [key for key, side in inputs.ours.items() if side.tokens > known.get(key, 0)])
    if not days:
        return Late()
    parameters: dict[str, Any] = {
        "provider": inputs.provider,
        "start": midnight(min(days)),
        "end": midnight(max(days) + timedelta(days=1)),
        "days": sorted(days),
        "since": before.telemetry_through,
        "until": inputs.telemetry_through,
    }
    calls = 0
    sides: dict[Key, tuple[int, Decimal]] = {}
    with connection.cursor() as cursor, localcontext(focus.EXACT):
        cursor.execute(_sides(), parameters)
        for model, token_class, day, counted, tokens, cost in cursor.fetchall():
            calls += counted
            key = inputs.grain.of_ours(model, token_class, day)
            amount = bridge.converted(cost, inputs.key_rates[key]) if key in inputs.key_rates else cost
            had, was = sides.get(key, (0, Decimal()))
            sides[key] = had + tokens, was + amount
    return Late(calls, sides)


def _days_of(inputs: Inputs, keys: list[Key]) -> set[date]:
    """Those of the keys; a monthly one has all of its month."""
    if any(day is None for _, _, day in keys):
        return set(whole_month(inputs.month).days)
    return {day for _, _, day in keys if day is not None}
