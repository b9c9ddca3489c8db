"""Limits held on lease: a plane takes a slice of a counter from PostgreSQL and spends it in memory.

A counter holds what was *granted* to planes in one window. A plane asks for a slice in one statement that grants nothing
beyond the limit, so whatever the planes do, the sum of all slices stays within it. Slices are at most a share of what is
left, so they shrink as the limit nears; unspent ones go back when they lie idle and when the plane stops. What a plane was granted and
has not spent stands in `records`, so that whoever takes its folder over gives it back when it was killed. Calls that were under way then
give back what they had reserved: what they may have spent is not known, and is no more than what was in flight.

What a call uses beyond its reservation (its real usage is known only afterwards) becomes a debt: it is taken from the
slice, which may fall below zero, and written to the counter without asking. That overshoot is bounded by what is in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import msgspec

from gateway.contract.snapshot import Limit, Resource
from gateway.plane.errors import DatabaseAwayError, PlaneError
from gateway.plane.records import Records, amount_and_name, with_amount
from gateway.plane.windows import Span, span_of

logger = logging.getLogger(__name__)

SHARE = 8
"""A slice is at most 1/SHARE of what is left, unless a single call needs more."""
WATCHED_S = 3600.0
"""After its window a slice is kept for so long, because calls that began in it may still settle."""
IDLE_S = 5.0
"""A slice that nobody used for so long goes back."""
EXHAUSTED_S = 0.2
"""After a refusal by the counter nobody asks again for so long; others may give slices back meanwhile."""
FIRST_SLICE = 4
"""The first slice of a window covers so many calls like the one that asks."""
BUSY_S = 1.0
"""A slice used up within this time is followed by one of double size."""
RECORD_BYTES = 512
"""Of a slice in `records`; a limit with a name too long for it is not recorded, and its slice is lost with the process."""


class LimitExceededError(PlaneError):
    """What is left of a limit in its window does not cover a call."""

    def __init__(self, limit: Limit, resets_at: float, remaining: int = 0) -> None:
        super().__init__(limit.id)
        self.limit = limit
        self.resets_at = resets_at
        self.remaining = remaining


class LimitThrottledError(PlaneError):
    """A limit that slows calls down as it fills has not admitted this one."""

    def __init__(self, limit: Limit, share: float, admitted: float, resets_at: float) -> None:
        super().__init__(limit.id)
        self.limit = limit
        self.share = share
        """Of the amount that is spent, 0 to 1."""
        self.admitted = admitted
        """Fraction of calls that are let through at that share, 0 to 1."""
        self.resets_at = resets_at


class LeaseUnavailableError(PlaneError):
    """The counter cannot be asked and the limit does not fail open."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.id)
        self.limit = limit


@dataclass(frozen=True)
class Counter:
    """Names one counter: a limit of a tenant in one window."""

    tenant: str
    limit_id: str
    span: Span


@dataclass(frozen=True)
class Grant:
    granted: int
    """What this plane may spend now."""
    total: int
    """What all planes together were granted in this window."""


class CounterStore(Protocol):
    """Where counters live. Both raise DatabaseAwayError."""

    async def grant(self, counter: Counter, *, amount: int, need: int, want: int, debt: int) -> Grant:
        """Book `debt` in any case, then grant as `slice_size` says."""

    async def adjust(self, counter: Counter, delta: int) -> None:
        """Give back (negative) or book (positive) an amount."""


def slice_size(left: int, need: int, want: int) -> int:
    """How much of what is left one plane gets: nothing if its need does not fit, else towards `want` within its share."""
    if left < need or left <= 0:
        return 0
    return max(need, min(want, left // SHARE))


@dataclass(slots=True, kw_only=True, eq=False)
class Holding:
    """What this plane was granted of one counter."""

    counter: Counter
    available: int = 0
    outstanding: int = 0
    """Available, and what calls under way have reserved of it: granted and not known to be spent."""
    place: int | None = None
    """Where `outstanding` stands in `Ledger.records`."""


@dataclass(slots=True, kw_only=True, eq=False)
class Slice(Holding):
    """What is spent from."""

    limit: Limit
    want: int = 0
    total: int = 0
    last_size: int = 0
    last_refill: float = 0.0
    last_used: float = 0.0
    exhausted_until: float = 0.0
    refused_need: int = 0
    refill: asyncio.Task[None] | None = None

    @property
    def remaining(self) -> int:
        """What is surely left for this caller: not granted to anyone, or granted to this plane. May be out of date."""
        return max(0, self.limit.amount - self.total) + max(0, self.available)

    def share(self, need: int) -> float:
        """Of the amount that is spent, apart from a call whose `need` was just taken.

        What other planes hold on lease counts as spent, so it is never too low, and too high by no more than their slices.
        """
        return (self.total - self.available - need) / self.limit.amount if self.limit.amount > 0 else 1.0


@dataclass(slots=True)
class Reservation:
    lines: list[tuple[Slice, int]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    """Limits that admitted this call only because they fail open."""


class Ledger:
    """All slices of one plane process."""

    def __init__(self, store: CounterStore, clock: Callable[[], float] = time.time, chance: Callable[[], float] = random.random) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        self._slices: dict[tuple[str, str], Slice] = {}
        self._closed: list[Holding] = []
        """Nothing is spent from them any more, but calls may still settle."""
        self.records: Records | None = None
        """Where holdings survive this process; None keeps them in memory only."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def reserve(self, tenant: str, zone: ZoneInfo, wants: Sequence[tuple[Limit, int]]) -> Reservation:
        """Take every amount or none.

        LimitExceededError, LimitThrottledError or LeaseUnavailableError names the first limit that says no.
        """
        reservation = Reservation()
        try:
            for limit, need in wants:
                held = self._slice(tenant, zone, limit)
                if held.available >= need:
                    held.available -= need
                    held.last_used = self._clock()
                    if held.available * 2 < held.last_size:
                        self._refill_ahead(held)
                elif not await self._draw(held, need):
                    reservation.opened.append(limit.id)
                reservation.lines.append((held, need))
                if limit.throttle_from is not None:
                    self._throttle(held, need, limit.throttle_from)
        except BaseException:
            for held, need in reservation.lines:
                held.available += need
            raise
        return reservation

    def _throttle(self, held: Slice, need: int, start: float) -> None:
        """LimitThrottledError for as many calls as the curve says. Judged after the need was taken: what was drawn is fresh."""
        share = held.share(need)
        if share > start:
            admitted = max(0.0, (1 - share) / (1 - start))
            if self._chance() >= admitted:
                raise LimitThrottledError(held.limit, share, admitted, held.counter.span.end)

    def settle(self, reservation: Reservation, used: Mapping[Resource, int | None]) -> int:
        """Replace what was reserved by what was used, where that is known; the sum of what went beyond the reservation.

        A resource that `used` does not name keeps its reservation; None keeps the worst case, since missing is not zero.
        """
        over = 0
        for held, reserved in reservation.lines:
            real = used.get(held.limit.resource, reserved)
            if real is None:
                real = reserved
            held.available += reserved - real
            self._change(held, -real)
            over += max(0, real - reserved)
        reservation.lines.clear()
        return over

    async def sweep(self) -> None:
        """Once a second: book debts, give idle slices back, forget ended windows."""
        now = self._clock()
        for key, held in list(self._slices.items()):
            if held.counter.span.end <= now:
                if self._slices.get(key) is held:  # a call may have opened the next window's meanwhile
                    del self._slices[key]
                    self._closed.append(held)
            elif held.available < 0 or (held.available > 0 and now - held.last_used > IDLE_S):
                await self._return(held)
        for holding in list(self._closed):
            # A call of an ended window may still settle; its slice is watched for another hour.
            ended_for = now - holding.counter.span.end
            if holding.available < 0 or (holding.available > 0 and ended_for < 0):
                await self._return(holding)
            if ended_for > 0:
                self._forget(holding)
            if ended_for > WATCHED_S:
                self._closed.remove(holding)

    async def close(self) -> None:
        """Give everything back; what the database could not be told is left to the next process."""
        for task in list(self._tasks):
            await asyncio.wait([task])
        holdings = [*self._slices.values(), *self._closed]
        for held in holdings:
            if held.available:
                await self._return(held)
        if self.records is not None:
            self.records.close(keep=any(held.place is not None and held.outstanding for held in holdings))
            self.records = None

    def take_over(self, left: Sequence[bytes]) -> None:
        """Give back at the next sweep what a process that is gone left in its records."""
        for record in left:
            amount, name = amount_and_name(record)
            holding = Holding(counter=msgspec.json.decode(name, type=Counter), available=amount)
            if amount and holding.counter.span.end > self._clock():
                self._change(holding, amount)
                self._closed.append(holding)

    def _change(self, holding: Holding, by: int) -> None:
        """`outstanding`, and its record."""
        holding.outstanding += by
        if self.records is None:
            return
        if holding.place is None:
            if holding.outstanding and self._clock() < holding.counter.span.end:
                # Without room on the disk it is not recorded: then it is lost with this process, and counts as spent.
                with contextlib.suppress(OSError):
                    holding.place = self.records.add(with_amount(holding.outstanding, msgspec.json.encode(holding.counter)))
        else:
            self.records.set_amount(holding.place, holding.outstanding)

    def _forget(self, holding: Holding) -> None:
        """Of a window that has ended nothing needs to go back."""
        if holding.place is not None:
            assert self.records is not None
            self.records.remove(holding.place)
            holding.place = None

    def _slice(self, tenant: str, zone: ZoneInfo, limit: Limit) -> Slice:
        held = self._slices.get((tenant, limit.id))
        now = self._clock()
        if held is not None and held.counter.span.start <= now < held.counter.span.end:
            if held.limit is not limit:
                if held.limit.amount != limit.amount:
                    held.exhausted_until = 0.0
                if held.limit.window != limit.window:
                    return self._open(tenant, zone, limit, now, previous=held)
                held.limit = limit
            return held
        return self._open(tenant, zone, limit, now, previous=held)

    def _open(self, tenant: str, zone: ZoneInfo, limit: Limit, now: float, previous: Slice | None) -> Slice:
        if previous is not None:
            self._closed.append(previous)
        held = Slice(counter=Counter(tenant, limit.id, span_of(limit.window, now, zone)), limit=limit, last_used=now)
        if previous is not None:
            held.want = previous.want
        self._slices[tenant, limit.id] = held
        return held

    async def _draw(self, held: Slice, need: int) -> bool:
        """Take `need` after asking the counter; False when it is admitted only because the limit fails open."""
        held.last_used = self._clock()
        while held.available < need:
            if held.exhausted_until > self._clock() and need - held.available >= held.refused_need:
                raise LimitExceededError(held.limit, held.counter.span.end, held.remaining)
            if held.refill is None:
                self._start_refill(held, need)
            task = held.refill
            assert task is not None
            try:
                await asyncio.shield(task)
            except DatabaseAwayError as error:
                if not held.limit.fail_open:
                    raise LeaseUnavailableError(held.limit) from error
                held.available -= need  # a debt, booked when the database is back
                return False
        held.available -= need
        return True

    def _refill_ahead(self, held: Slice) -> None:
        if held.refill is None and held.exhausted_until <= self._clock():
            self._start_refill(held, 1, ahead=True)

    def _start_refill(self, held: Slice, need: int, *, ahead: bool = False) -> None:
        now = self._clock()
        if held.want == 0:
            held.want = need * FIRST_SLICE
        elif now - held.last_refill < BUSY_S:
            held.want = min(held.want * 2, max(1, held.limit.amount))
        elif now - held.last_refill > 10 * BUSY_S:
            held.want = max(need, held.want // 2)
        held.last_refill = now
        held.refill = self._spawn(self._refill(held, need, ahead=ahead))

    async def _refill(self, held: Slice, need: int, *, ahead: bool) -> None:
        debt = max(0, -held.available)
        missing = need if ahead else need - max(0, held.available)
        held.available += debt
        try:
            grant = await self._store.grant(held.counter, amount=held.limit.amount, need=missing, want=max(held.want, missing), debt=debt)
        except DatabaseAwayError:
            held.available -= debt
            raise
        finally:
            held.refill = None
        held.available += grant.granted
        self._change(held, debt + grant.granted)
        held.total = grant.total
        held.last_size = grant.granted
        if grant.granted == 0:
            held.refused_need = missing
            held.exhausted_until = self._clock() + EXHAUSTED_S

    async def _return(self, held: Holding) -> None:
        amount, held.available = held.available, 0
        if amount > 0:
            self._change(held, -amount)  # first: killed in between, it is lost, and not given back twice
        try:
            await self._store.adjust(held.counter, -amount)
        except DatabaseAwayError as error:
            # A debt is tried again, even if it might then count twice. A slice whose return may have been done is
            # given up: it may only be spent again when it has surely not been returned.
            if amount < 0:
                held.available += amount
            elif error.certain:
                held.available += amount
                self._change(held, amount)
        else:
            if amount < 0:
                self._change(held, -amount)
            if isinstance(held, Slice):
                held.total -= amount

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), DatabaseAwayError):
            logger.error("lease.refill_failed", exc_info=task.exception())
