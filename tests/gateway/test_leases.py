"""Limits on lease never let more through than they allow, whoever holds slices of them."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.snapshot import Limit
from gateway.plane.counters import PostgresCounters
from gateway.plane.database import Link
from gateway.plane.errors import DatabaseAwayError
from gateway.plane.leases import (
    RECORD_BYTES,
    Counter,
    Grant,
    LeaseUnavailableError,
    Ledger,
    LimitExceededError,
    LimitThrottledError,
    slice_size,
)
from gateway.plane.records import Records, left_in, read
from gateway.plane.windows import Span
from tests.gateway.conftest import cloned_database

UTC = ZoneInfo("UTC")
NOON = 1_790_000_040.0


class CountersInMemory:
    """The edge: what PostgreSQL does, with awaits in between, and switchable off."""

    def __init__(self) -> None:
        self.granted: dict[Counter, int] = {}
        self.away = False
        self.asked = 0

    async def grant(self, counter: Counter, *, amount: int, need: int, want: int, debt: int) -> Grant:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise DatabaseAwayError("away", certain=True)
        booked = self.granted.get(counter, 0) + debt
        size = slice_size(amount - booked, need, want)
        self.granted[counter] = booked + size
        await asyncio.sleep(0)
        return Grant(size, booked + size)

    async def adjust(self, counter: Counter, delta: int) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise DatabaseAwayError("away", certain=True)
        self.granted[counter] = max(0, self.granted.get(counter, 0) + delta)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def limit(amount: int, resource: Any = "requests", window: Any = "minute", **fields: Any) -> Limit:
    return Limit(id=f"key:x:{resource}:{window}", scope="key", scope_name="x", resource=resource, window=window, amount=amount, **fields)


async def test_limit_admits_exactly_its_amount() -> None:
    ledger = Ledger(CountersInMemory(), Clock())
    rule = limit(10)

    for _ in range(10):
        await ledger.reserve("acme", UTC, [(rule, 1)])
    with pytest.raises(LimitExceededError) as refused:
        await ledger.reserve("acme", UTC, [(rule, 1)])

    assert refused.value.limit is rule
    assert refused.value.resets_at == NOON - NOON % 60 + 60


async def test_next_window_starts_afresh() -> None:
    clock = Clock()
    ledger = Ledger(CountersInMemory(), clock)
    rule = limit(1)
    await ledger.reserve("acme", UTC, [(rule, 1)])

    clock.now += 60
    await ledger.reserve("acme", UTC, [(rule, 1)])

    with pytest.raises(LimitExceededError):
        await ledger.reserve("acme", UTC, [(rule, 1)])


async def test_refused_call_takes_nothing_from_the_other_limits() -> None:
    store = CountersInMemory()
    ledger = Ledger(store, Clock())
    wide, narrow = limit(3), limit(5, "money", "month")

    for _ in range(6):
        with pytest.raises(LimitExceededError):
            await ledger.reserve("acme", UTC, [(wide, 1), (narrow, 6)])
    for _ in range(3):
        await ledger.reserve("acme", UTC, [(wide, 1), (narrow, 1)])


async def test_settling_returns_what_was_not_used() -> None:
    ledger = Ledger(CountersInMemory(), Clock())
    budget = limit(100, "money", "month")

    for _ in range(41):  # the last of them finds 60 left, the next would find 59
        reservation = await ledger.reserve("acme", UTC, [(budget, 60)])
        ledger.settle(reservation, {"money": 1})

    with pytest.raises(LimitExceededError):
        await ledger.reserve("acme", UTC, [(budget, 60)])


async def test_unknown_usage_keeps_the_worst_case() -> None:
    ledger = Ledger(CountersInMemory(), Clock())
    budget = limit(100, "money", "month")

    ledger.settle(await ledger.reserve("acme", UTC, [(budget, 60)]), {"money": None})

    with pytest.raises(LimitExceededError):
        await ledger.reserve("acme", UTC, [(budget, 60)])


async def test_use_beyond_the_reservation_becomes_a_debt_of_the_counter() -> None:
    store, clock = CountersInMemory(), Clock()
    ledger = Ledger(store, clock)
    budget = limit(100, "money", "month")

    over = ledger.settle(await ledger.reserve("acme", UTC, [(budget, 10)]), {"money": 130})
    await ledger.sweep()

    assert over == 120
    assert list(store.granted.values()) == [130]
    with pytest.raises(LimitExceededError):
        await ledger.reserve("acme", UTC, [(budget, 1)])


async def test_idle_slices_go_back_and_others_get_them() -> None:
    store, clock = CountersInMemory(), Clock()
    first, second = Ledger(store, clock), Ledger(store, clock)
    rule = limit(16, window="month")
    await first.reserve("acme", UTC, [(rule, 1)])
    assert list(store.granted.values()) == [2]

    clock.now += 10
    await first.sweep()

    assert list(store.granted.values()) == [1]
    for _ in range(15):
        await second.reserve("acme", UTC, [(rule, 1)])


async def test_stopping_gives_everything_unspent_back() -> None:
    store = CountersInMemory()
    ledger = Ledger(store, Clock())
    for _ in range(20):
        await ledger.reserve("acme", UTC, [(limit(10_000), 1)])

    await ledger.close()

    assert list(store.granted.values()) == [20]


async def test_without_the_database_a_plane_lives_on_its_lease_and_then_closes() -> None:
    store = CountersInMemory()
    ledger = Ledger(store, Clock())
    rule = limit(1000, window="month")
    await ledger.reserve("acme", UTC, [(rule, 1)])
    store.away = True

    for _ in range(3):  # the first slice covers four calls
        await ledger.reserve("acme", UTC, [(rule, 1)])

    with pytest.raises(LeaseUnavailableError):
        await ledger.reserve("acme", UTC, [(rule, 1)])


async def test_limit_that_fails_open_admits_and_books_the_debt_later() -> None:
    store, clock = CountersInMemory(), Clock()
    ledger = Ledger(store, clock)
    rule = limit(5, window="month", fail_open=True)
    store.away = True

    reservations = [await ledger.reserve("acme", UTC, [(rule, 1)]) for _ in range(8)]
    store.away = False
    await ledger.sweep()

    assert all(reservation.opened == [rule.id] for reservation in reservations)
    assert list(store.granted.values()) == [8]
    with pytest.raises(LimitExceededError):
        await ledger.reserve("acme", UTC, [(rule, 1)])


async def test_most_calls_ask_nobody() -> None:
    store = CountersInMemory()
    ledger = Ledger(store, Clock())

    for _ in range(5000):
        await ledger.reserve("acme", UTC, [(limit(1_000_000), 1)])
        await asyncio.sleep(0)

    assert store.asked < 30


async def test_raised_limit_counts_at_once() -> None:
    ledger = Ledger(CountersInMemory(), Clock())
    await ledger.reserve("acme", UTC, [(limit(1), 1)])
    with pytest.raises(LimitExceededError):
        await ledger.reserve("acme", UTC, [(limit(1), 1)])

    await ledger.reserve("acme", UTC, [(limit(2), 1)])


@settings(max_examples=60, deadline=None)
@given(
    amount=st.integers(1, 300),
    planes=st.integers(1, 5),
    needs=st.lists(st.integers(1, 20), min_size=1, max_size=120),
    seed=st.integers(0, 2**16),
)
def test_what_is_admitted_never_exceeds_the_limit(amount: int, planes: int, needs: list[int], seed: int) -> None:
    """Parallel callers on several planes, with settlements below the reservation, sweeps, and outages in between."""
    chance = random.Random(seed)

    async def scenario() -> tuple[int, int]:
        store, clock = CountersInMemory(), Clock()
        ledgers = [Ledger(store, clock) for _ in range(planes)]
        budget = limit(amount, "money", "month")
        spent = 0

        async def call(need: int) -> None:
            nonlocal spent
            ledger = chance.choice(ledgers)
            try:
                reservation = await ledger.reserve("acme", UTC, [(budget, need)])
            except (LimitExceededError, LeaseUnavailableError):
                return
            await asyncio.sleep(0)
            used = chance.randint(0, need)
            spent += used
            ledger.settle(reservation, {"money": used})

        async def weather() -> None:
            for _ in range(len(needs)):
                await asyncio.sleep(0)
                store.away = chance.random() < 0.1
                clock.now += chance.choice([0, 0.3, 6])
                if not store.away:
                    await chance.choice(ledgers).sweep()
            store.away = False

        await asyncio.gather(weather(), *(call(need) for need in needs))
        for ledger in ledgers:
            await ledger.close()
        return spent, sum(store.granted.values())

    spent, counted = asyncio.run(scenario())

    assert spent <= amount
    assert counted >= spent  # what went missing is counted as spent, never the other way round


async def killed(ledger: Ledger, folder: Path) -> list[bytes]:
    """What a process that is gone without a word left in its records; what it asked of the counter has been answered."""
    await asyncio.gather(*ledger._tasks)
    ledger.records = None
    left = []
    for path in left_in(folder, "leases"):
        left += read(path, RECORD_BYTES)
        path.unlink()
    return left


def recorded_ledger(store: CountersInMemory, clock: Clock, folder: Path) -> Ledger:
    ledger = Ledger(store, clock)
    ledger.records = Records(folder, "leases", RECORD_BYTES)
    return ledger


async def test_what_a_killed_plane_held_goes_back_and_what_was_spent_does_not(tmp_path: Path) -> None:
    store, clock = CountersInMemory(), Clock()
    budget, ended = limit(1000, "money", "month"), limit(100)
    first = recorded_ledger(store, clock, tmp_path)
    for used in (30, 50, None):
        first.settle(await first.reserve("acme", UTC, [(budget, 60), (ended, 1)]), {"money": used})
    await first.reserve("acme", UTC, [(budget, 60)])  # under way when the process dies
    clock.now += 60  # the window of `ended` is over

    left = await killed(first, tmp_path)
    second = recorded_ledger(store, clock, tmp_path)
    second.take_over(left)
    await second.sweep()

    assert {counter.limit_id: granted for counter, granted in store.granted.items()}[budget.id] == 30 + 50 + 60
    left = await killed(second, tmp_path)
    third = Ledger(store, clock)
    third.take_over(left)
    await third.sweep()
    assert max(store.granted.values()) == 140  # nothing goes back twice


@settings(max_examples=40, deadline=None)
@given(
    amount=st.integers(1, 300),
    needs=st.lists(st.integers(1, 20), min_size=1, max_size=60),
    seed=st.integers(0, 2**16),
)
def test_counter_says_what_was_settled_whenever_planes_are_killed(amount: int, needs: list[int], seed: int) -> None:
    chance = random.Random(seed)

    async def scenario(folder: Path) -> tuple[int, int]:
        store, clock = CountersInMemory(), Clock()
        ledger = recorded_ledger(store, clock, folder)
        budget = limit(amount, "money", "month")
        settled = 0

        for need in needs:
            if chance.random() < 0.2:
                left = await killed(ledger, folder)
                ledger = recorded_ledger(store, clock, folder)
                ledger.take_over(left)
            try:
                reservation = await ledger.reserve("acme", UTC, [(budget, need)])
            except LimitExceededError:
                clock.now += 1
                await ledger.sweep()
                continue
            if chance.random() < 0.1:  # its process dies before it ends
                left = await killed(ledger, folder)
                ledger = recorded_ledger(store, clock, folder)
                ledger.take_over(left)
                continue
            used = chance.randint(0, need + 5)
            settled += used
            ledger.settle(reservation, {"money": used})
        await ledger.sweep()
        await ledger.close()
        return settled, sum(store.granted.values())

    with tempfile.TemporaryDirectory() as folder:
        settled, granted = asyncio.run(scenario(Path(folder)))

    assert granted == settled  # no hold is left of any process, and nothing that was spent is forgotten
    assert settled <= amount + max(needs) + 5


@settings(max_examples=200)
@given(left=st.integers(-50, 10_000), need=st.integers(1, 200), want=st.integers(1, 5000))
def test_slices_fit_and_shrink(left: int, need: int, want: int) -> None:
    size = slice_size(left, need, max(need, want))

    assert size <= max(0, left)
    assert size == 0 or size >= need
    assert size <= max(need, left // 8)


# The real store


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with cloned_database() as url:
        yield url


@pytest.fixture
async def counters(database: str) -> AsyncIterator[PostgresCounters]:
    link = Link(database, "test")
    yield PostgresCounters(link)
    await link.close()


async def test_postgres_grants_by_the_same_rule(counters: PostgresCounters) -> None:
    chance = random.Random(1)
    memory = CountersInMemory()
    counter = Counter("acme", "rule", Span(NOON, NOON + 60))

    for _ in range(60):
        asked = {"amount": 10**14, "need": chance.randint(1, 10**12), "want": chance.randint(1, 10**13), "debt": chance.choice([0, 0, 7])}
        assert await counters.grant(counter, **asked) == await memory.grant(counter, **asked)
        delta = -chance.randint(0, 10**12)
        await counters.adjust(counter, delta)
        await memory.adjust(counter, delta)


async def test_planes_on_one_database_admit_the_limit_and_no_more(database: str) -> None:
    links = [Link(database, f"plane-{number}") for number in range(5)]
    ledgers = [Ledger(PostgresCounters(link)) for link in links]
    rule = limit(500, window="month")
    admitted = 0

    async def callers(ledger: Ledger) -> None:
        nonlocal admitted
        for _ in range(60):
            try:
                await ledger.reserve("crowd", UTC, [(rule, 1)])
                admitted += 1
            except LimitExceededError:
                await asyncio.sleep(0.01)

    await asyncio.gather(*(callers(ledger) for ledger in ledgers[:4] for _ in range(5)))
    together = admitted
    for ledger in ledgers[:4]:
        await ledger.close()
    await asyncio.gather(*(callers(ledgers[4]) for _ in range(5)))
    for link in links:
        await link.close()

    assert 300 < together <= 500
    assert admitted == 500  # what the four gave back was there for the fifth


# Budgets that slow down


def slowing(amount: int, start: float = 0.5) -> Limit:
    return Limit(
        id="budget:1",
        scope="tenant",
        scope_name="acme",
        resource="money",
        window="month",
        amount=amount,
        budget="House",
        throttle_from=start,
    )


async def test_budget_admits_everything_until_it_slows_down() -> None:
    ledger = Ledger(CountersInMemory(), Clock(), chance=lambda: 0.999)
    rule = slowing(100)

    for _ in range(51):  # the last of them finds half of it spent
        await ledger.reserve("acme", UTC, [(rule, 1)])
    with pytest.raises(LimitThrottledError) as refused:
        await ledger.reserve("acme", UTC, [(rule, 1)])

    assert refused.value.share == pytest.approx(0.51)
    assert refused.value.admitted == pytest.approx(0.98)
    await ledger.close()


async def test_slowed_down_call_takes_nothing() -> None:
    store, clock = CountersInMemory(), Clock()
    ledger = Ledger(store, clock, chance=lambda: 1.0)
    rule, other = slowing(100), limit(10, "requests")
    for _ in range(6):
        await ledger.reserve("acme", UTC, [(other, 1), (rule, 10)])

    for _ in range(20):
        with pytest.raises(LimitThrottledError):
            await ledger.reserve("acme", UTC, [(other, 1), (rule, 10)])
    await ledger.close()

    assert sorted(store.granted.values()) == [6, 60]


async def test_as_many_calls_pass_as_the_curve_says() -> None:
    chance = random.Random(5)
    ledger = Ledger(CountersInMemory(), Clock(), chance=chance.random)
    rule = slowing(1_000_000, start=0.2)
    await ledger.reserve("acme", UTC, [(rule, 600_000)])  # half of the way from 0.2 to 1

    passed = 0
    for _ in range(2000):
        try:
            ledger.settle(await ledger.reserve("acme", UTC, [(rule, 1)]), {"money": 0})
            passed += 1
        except LimitThrottledError:
            pass

    assert passed == pytest.approx(1000, abs=80)


async def test_slices_that_went_back_do_not_slow_anybody_down() -> None:
    clock = Clock()
    ledger = Ledger(CountersInMemory(), clock, chance=lambda: 1.0)
    rule = slowing(100)
    await ledger.reserve("acme", UTC, [(rule, 1)])
    ledger.settle(await ledger.reserve("acme", UTC, [(rule, 60)]), {"money": 2})
    clock.now += 10
    await ledger.sweep()

    for _ in range(47):
        await ledger.reserve("acme", UTC, [(rule, 1)])


async def test_parallel_callers_of_several_planes_never_spend_more_than_a_slowing_budget() -> None:
    chance = random.Random(3)
    store, clock = CountersInMemory(), Clock()
    ledgers = [Ledger(store, clock, chance=chance.random) for _ in range(4)]
    spent = 0

    async def call(ledger: Ledger) -> None:
        nonlocal spent
        try:
            reservation = await ledger.reserve("acme", UTC, [(slowing(500), 3)])
        except (LimitThrottledError, LimitExceededError):
            return
        await asyncio.sleep(0)
        used = chance.randint(1, 3)
        spent += used
        ledger.settle(reservation, {"money": used})

    for _ in range(8):
        await asyncio.gather(*(call(chance.choice(ledgers)) for _ in range(150)))
        clock.now += 6
        for ledger in ledgers:
            await ledger.sweep()
    for ledger in ledgers:
        await ledger.close()

    assert 400 < spent <= 500
    assert sum(store.granted.values()) == spent
