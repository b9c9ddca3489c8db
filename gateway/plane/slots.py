"""Limits on how many calls run at once: slots, held on lease like the rest, but without a window.

A plane books slots in PostgreSQL and hands them to its calls from memory. What it has booked it says again every second, as a
whole number and not as a change, so that nothing adds up wrongly; idle slots are given up in the same breath. A plane that is killed
says nothing more, and its slots are free again after LEASE_S. So the calls of all planes together never pass the limit, but for
a plane that cannot reach the database for longer than that while its calls run on.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.contract.names import SLOT_TABLE
from gateway.contract.snapshot import Limit
from gateway.plane.database import Link
from gateway.plane.errors import DatabaseAwayError
from gateway.plane.leases import SHARE, LeaseUnavailableError, LimitExceededError

LEASE_S = 15.0
IDLE_S = 0.5
"""A slot that nobody used for so long is given up: with few slots others wait for it."""
EXHAUSTED_S = 0.1
"""After a refusal nobody asks the database again for so long."""

Name = tuple[str, str]
"""Public id of the tenant, and id of the limit."""


class SlotStore(Protocol):
    """Where slots are booked. Both raise DatabaseAwayError."""

    async def book(self, name: Name, *, amount: int, booked: int) -> int:
        """Book at least one slot more than `booked`; what this plane then has, `booked` when none is free."""

    async def say(self, booked: Mapping[Name, int]) -> None:
        """What this plane has, for another LEASE_S; 0 gives everything up."""


@dataclass(slots=True, eq=False)
class Held:
    """What this plane has of one limit."""

    name: Name
    limit: Limit
    booked: int = 0
    busy: int = 0
    last_used: float = 0.0
    exhausted_until: float = 0.0


class Slots:
    """All slots of one plane process."""

    def __init__(self, store: SlotStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._held: dict[Name, Held] = {}
        self._one_at_a_time = asyncio.Lock()
        """What is said to the database and what is believed here change together."""

    async def take(self, tenant: str, limit: Limit) -> Held:
        """A slot, to be given back. LimitExceededError, or LeaseUnavailableError when the limit does not fail open."""
        held = self._of(tenant, limit)
        if held.busy >= min(held.booked, limit.amount):
            held = await self._book(tenant, limit)
        held.busy += 1
        held.last_used = self._clock()
        return held

    def _of(self, tenant: str, limit: Limit) -> Held:
        held = self._held.get((tenant, limit.id))
        if held is None:
            held = self._held[tenant, limit.id] = Held((tenant, limit.id), limit)
        held.limit = limit
        return held

    def give_back(self, held: Held) -> None:
        held.busy -= 1
        held.last_used = self._clock()

    async def _book(self, tenant: str, limit: Limit) -> Held:
        """Return when a slot is free in memory, or when the limit fails open."""
        async with self._one_at_a_time:
            held = self._of(tenant, limit)
            if held.busy < min(held.booked, held.limit.amount):  # another call booked while this one waited
                return held
            now = self._clock()
            if held.exhausted_until > now or held.busy >= held.limit.amount:
                raise LimitExceededError(held.limit, now + 1)
            try:
                booked = await self._store.book(held.name, amount=held.limit.amount, booked=held.booked)
            except DatabaseAwayError as error:
                if held.limit.fail_open:
                    return held
                raise LeaseUnavailableError(held.limit) from error
            held.booked = booked
            if held.busy >= booked:
                held.exhausted_until = self._clock() + EXHAUSTED_S
                raise LimitExceededError(held.limit, now + 1)
            return held

    async def sweep(self) -> None:
        """Once a second: say what is held, give up what lies idle. DatabaseAwayError when it cannot be said."""
        if not self._held:
            return
        async with self._one_at_a_time:
            now = self._clock()
            said = {}
            for held in self._held.values():
                is_idle = now - held.last_used > IDLE_S
                said[held.name] = held.busy if is_idle else max(held.busy, held.booked)
            await self._store.say(said)
            for name, booked in said.items():
                held = self._held[name]
                held.booked = booked
                if not booked and not held.busy:
                    del self._held[name]

    async def close(self) -> None:
        """Give everything up. DatabaseAwayError when it cannot be said."""
        async with self._one_at_a_time:
            if self._held:
                await self._store.say(dict.fromkeys(self._held, 0))


class PostgresSlots:
    """The slot store of a running plane: a row for each limit and plane."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._plane = uuid.uuid4().hex

    async def book(self, name: Name, *, amount: int, booked: int) -> int:
        tenant, limit_id = name
        given = {"tenant": tenant, "limit_id": limit_id, "plane": self._plane, "lease": LEASE_S}
        async with self._link.use() as connection, connection.transaction():
            # Two planes must not count the same free slot; a lock and then a new snapshot, hence two statements.
            await connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"slots {tenant} {limit_id}"])
            cursor = await connection.execute(_OTHERS, given)
            row = await cursor.fetchone()
            assert row is not None
            free = amount - int(row[0]) - booked
            if free <= 0:
                return booked
            booked += max(1, free // SHARE)
            await connection.execute(_BOOK, {**given, "slots": booked})
        return booked

    async def say(self, booked: Mapping[Name, int]) -> None:
        async with self._link.use() as connection:
            await connection.execute(
                _SAY,
                {
                    "plane": self._plane,
                    "lease": LEASE_S,
                    "tenants": [tenant for tenant, _ in booked],
                    "limits": [limit_id for _, limit_id in booked],
                    "slots": list(booked.values()),
                },
            )

    async def forget_ended(self) -> None:
        """Delete what planes that are gone had booked. DatabaseAwayError."""
        async with self._link.use() as connection:
            await connection.execute(_FORGET)


_OTHERS = f"""
select coalesce(sum(slots), 0) from {SLOT_TABLE}
where tenant = %(tenant)s and limit_id = %(limit_id)s and plane <> %(plane)s and expires_at > clock_timestamp()
"""  # noqa: S608 - our own constants
_BOOK = f"""
insert into {SLOT_TABLE} (tenant, limit_id, plane, slots, expires_at)
values (%(tenant)s, %(limit_id)s, %(plane)s, %(slots)s, clock_timestamp() + make_interval(secs => %(lease)s))
on conflict (tenant, limit_id, plane) do update set slots = excluded.slots, expires_at = excluded.expires_at
"""  # noqa: S608
_SAY = f"""
insert into {SLOT_TABLE} (tenant, limit_id, plane, slots, expires_at)
select t, l, %(plane)s, s, clock_timestamp() + make_interval(secs => %(lease)s)
from unnest(%(tenants)s::text[], %(limits)s::text[], %(slots)s::int[]) as said(t, l, s)
on conflict (tenant, limit_id, plane) do update set slots = excluded.slots, expires_at = excluded.expires_at
"""  # noqa: S608
_FORGET = f"delete from {SLOT_TABLE} where expires_at < now() - interval '1 hour'"  # noqa: S608
