"""Counters in PostgreSQL: each act is one statement on one row, so it is atomic without a transaction around it."""

from __future__ import annotations

from gateway.contract.names import COUNTER_TABLE
from gateway.plane.database import Link
from gateway.plane.leases import SHARE, Counter, Grant

# The same rule as `leases.slice_size`; a test compares them. `granted` is the counter before the grant and after the debt.
_SIZE = f"""(case when %(amount)s::numeric - {{granted}} < greatest(%(need)s::numeric, 1) then 0
    else greatest(%(need)s::numeric, least(%(want)s::numeric, div(%(amount)s::numeric - {{granted}}, {SHARE}))) end)"""
_FIRST = _SIZE.format(granted="%(debt)s::numeric")
_NEXT = _SIZE.format(granted="(c.granted + %(debt)s::numeric)")

_GRANT = f"""
insert into {COUNTER_TABLE} as c (tenant, limit_id, window_start, window_end, granted, last_grant)
values (%(tenant)s, %(limit_id)s, to_timestamp(%(start)s), to_timestamp(%(end)s), %(debt)s::numeric + {_FIRST}, {_FIRST})
on conflict (tenant, limit_id, window_start)
do update set granted = c.granted + %(debt)s::numeric + {_NEXT}, last_grant = {_NEXT}
returning last_grant, granted
"""  # noqa: S608 - our own constants

_ADJUST = f"""
insert into {COUNTER_TABLE} as c (tenant, limit_id, window_start, window_end, granted, last_grant)
values (%(tenant)s, %(limit_id)s, to_timestamp(%(start)s), to_timestamp(%(end)s), greatest(0, %(delta)s::numeric), 0)
on conflict (tenant, limit_id, window_start) do update set granted = greatest(0, c.granted + %(delta)s::numeric)
"""  # noqa: S608


_FORGET = f"delete from {COUNTER_TABLE} where window_end < now() - interval '1 day'"  # noqa: S608


class PostgresCounters:
    """The counter store of a running plane."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def grant(self, counter: Counter, *, amount: int, need: int, want: int, debt: int) -> Grant:
        async with self._link.use() as connection:
            cursor = await connection.execute(_GRANT, {**_names(counter), "amount": amount, "need": need, "want": want, "debt": debt})
            row = await cursor.fetchone()
        assert row is not None  # an upsert returns its row
        return Grant(int(row[0]), int(row[1]))

    async def adjust(self, counter: Counter, delta: int) -> None:
        async with self._link.use() as connection:
            await connection.execute(_ADJUST, {**_names(counter), "delta": delta})

    async def forget_ended(self) -> None:
        """Delete counters whose window ended a day ago: late settlements are over by then. DatabaseAwayError."""
        async with self._link.use() as connection:
            await connection.execute(_FORGET)


def _names(counter: Counter) -> dict[str, str | float]:
    return {
        "tenant": counter.tenant,
        "limit_id": counter.limit_id,
        "start": counter.span.start,
        "end": counter.span.end,
    }
