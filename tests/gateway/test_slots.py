"""Never more calls at once than a limit says, on any number of planes, whoever dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import psycopg
import pytest

from gateway.contract.names import SLOT_TABLE
from gateway.contract.snapshot import Limit
from gateway.plane.database import Link
from gateway.plane.errors import DatabaseAwayError
from gateway.plane.leases import LeaseUnavailableError, LimitExceededError
from gateway.plane.slots import IDLE_S, Name, PostgresSlots, Slots
from tests.gateway.conftest import SAY_HELLO, Org, SandboxUpstream, chat_model, cloned_database, deployment


class SlotsInMemory:
    """The edge: what PostgreSQL does for one plane of several, with awaits in between, and switchable off."""

    def __init__(self, shared: dict[str, dict[Name, int]], plane: str) -> None:
        self.shared = shared
        self.plane = plane
        self.away = False

    async def book(self, name: Name, *, amount: int, booked: int) -> int:
        await asyncio.sleep(0)
        if self.away:
            raise DatabaseAwayError("away", certain=True)
        others = sum(said.get(name, 0) for plane, said in self.shared.items() if plane != self.plane)
        if amount - others - booked > 0:
            booked += max(1, (amount - others - booked) // 8)
            self.shared.setdefault(self.plane, {})[name] = booked
        await asyncio.sleep(0)
        return booked

    async def say(self, booked: Mapping[Name, int]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise DatabaseAwayError("away", certain=True)
        self.shared.setdefault(self.plane, {}).update(booked)


def limit(amount: int, **fields: Any) -> Limit:
    return Limit(id="key:x:concurrent", scope="key", scope_name="x", resource="concurrent", window="minute", amount=amount, **fields)


async def test_slot_that_comes_back_is_taken_again() -> None:
    slots, rule = Slots(SlotsInMemory({}, "one")), limit(2)
    first, _ = await slots.take("acme", rule), await slots.take("acme", rule)

    with pytest.raises(LimitExceededError):
        await slots.take("acme", rule)
    slots.give_back(first)

    assert (await slots.take("acme", rule)).busy == 2


async def test_idle_slots_are_given_up_to_other_planes() -> None:
    shared: dict[str, dict[Name, int]] = {}
    now = [0.0]
    here, there = (Slots(SlotsInMemory(shared, name), lambda: now[0]) for name in ("here", "there"))
    here.give_back(await here.take("acme", limit(1)))
    with pytest.raises(LimitExceededError):
        await there.take("acme", limit(1))

    now[0] += IDLE_S + 0.1
    await here.sweep()

    assert (await there.take("acme", limit(1))).busy == 1


async def test_lowered_limit_holds_at_once_and_running_calls_run_on() -> None:
    slots = Slots(SlotsInMemory({}, "one"))
    running = [await slots.take("acme", limit(3)) for _ in range(3)]

    with pytest.raises(LimitExceededError):
        await slots.take("acme", limit(1))
    for held in running:
        slots.give_back(held)

    assert (await slots.take("acme", limit(1))).busy == 1


async def test_without_the_database_what_is_booked_is_used_then_each_limit_fails_as_it_says() -> None:
    store = SlotsInMemory({}, "one")
    slots = Slots(store)
    slots.give_back(await slots.take("acme", limit(2)))
    store.away = True

    await slots.take("acme", limit(2))
    with pytest.raises(LeaseUnavailableError):
        await slots.take("acme", limit(2))
    assert (await slots.take("acme", limit(2, fail_open=True))).busy == 2


@pytest.mark.parametrize("seed", range(5))
async def test_calls_of_all_planes_together_never_pass_the_limit(seed: int) -> None:
    chance, shared = random.Random(seed), dict[str, dict[Name, int]]()  # a test's dice
    planes = [Slots(SlotsInMemory(shared, str(number))) for number in range(3)]
    running = most = served = 0

    async def call(slots: Slots) -> None:
        nonlocal running, most, served
        try:
            held = await slots.take("acme", limit(7))
        except LimitExceededError:
            return
        running += 1
        most, served = max(most, running), served + 1
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        running -= 1
        slots.give_back(held)
        if chance.random() < 0.2:
            await slots.sweep()

    await asyncio.gather(*(call(chance.choice(planes)) for _ in range(400)))

    assert most <= 7
    assert served >= 7


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with cloned_database() as url:
        yield url


@pytest.fixture
async def links(database: str) -> AsyncIterator[list[Link]]:
    opened = [Link(database, f"slots {number}") for number in range(3)]
    yield opened
    for link in opened:
        await link.close()


async def test_postgres_books_no_slot_twice(links: list[Link]) -> None:
    planes = [Slots(PostgresSlots(link)) for link in links]

    async def take(slots: Slots) -> bool:
        try:
            await slots.take("race", limit(5))
        except LimitExceededError:
            return False
        return True

    taken = await asyncio.gather(*(take(planes[number % 3]) for number in range(30)))

    assert sum(taken) <= 5
    assert sum(taken) >= 3  # planes may hold a slot ahead


async def test_slots_of_a_plane_that_died_are_free_again(links: list[Link], database: str) -> None:
    dead, living = Slots(PostgresSlots(links[0])), Slots(PostgresSlots(links[1]))
    await dead.take("death", limit(1))
    with pytest.raises(LimitExceededError):
        await living.take("death", limit(1))

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"update {SLOT_TABLE} set expires_at = now() where tenant = 'death'")
    await asyncio.sleep(0.11)  # the pause after a refusal

    assert (await living.take("death", limit(1))).busy == 1


async def test_plane_says_every_second_what_it_has_and_gives_up_at_its_end(links: list[Link], database: str) -> None:
    slots = Slots(PostgresSlots(links[0]))
    await slots.take("said", limit(40))

    def booked() -> list[tuple[int, bool]]:
        with psycopg.connect(database) as connection:
            return connection.execute(
                f"select slots, expires_at > now() + interval '10 s' from {SLOT_TABLE} where tenant = 'said'"
            ).fetchall()

    assert booked() == [(5, True)]
    await slots.sweep()
    assert booked() == [(5, True)]
    await slots.close()
    assert booked()[0][0] == 0


def test_call_that_runs_holds_its_slot(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    at_once = Limit(id="key:x:concurrent", scope="key", scope_name=org.key_id, resource="concurrent", window="minute", amount=1)
    org.change(usage_limits=(at_once,), models={"chat": chat_model(deployment(sandbox_upstream.base_url("latency/700")))})
    client = org.client()

    def ask() -> str:
        try:
            return client.chat.completions.create(model="chat", messages=SAY_HELLO).choices[0].message.content or ""
        except openai.RateLimitError as refused:
            return f"{refused.code} {refused.response.headers['retry-after']} {refused}"

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda _: ask(), range(2)))

    assert sum(said.startswith("rate_limit_exceeded 1 ") and "1 call at once" in said for said in together) == 1
    assert "1 call at once" not in ask()


def test_token_limits_are_told_and_held(org: Org) -> None:
    tokens = Limit(id="tenant:t:input:minute", scope="tenant", scope_name=org.id, resource="input_tokens", window="hour", amount=60)
    org.change(usage_limits=(tokens,))
    client = org.client()

    def spend_all() -> None:
        for _ in range(20):
            client.chat.completions.create(model="chat", messages=SAY_HELLO)

    told = client.chat.completions.with_raw_response.create(model="chat", messages=SAY_HELLO).headers
    with pytest.raises(openai.RateLimitError) as refused:
        spend_all()

    assert told["x-ratelimit-limit-tokens"] == "60"
    assert "input tokens per hour" in str(refused.value)
