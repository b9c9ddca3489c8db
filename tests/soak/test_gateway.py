"""Minutes of mixed load on three planes with one database, while things break. `make soak`; SOAK_S says how long.

The oracle is the upstream's own journal: what it served must be recorded exactly once, with its tokens and for its price, also what
a plane was at when it was killed; no limit holds anything for it afterwards, and the month's money is what was spent of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from django.apps import apps
from django.db import connection

from gateway.contract import names
from gateway.contract import snapshot as contract
from governance.embedded import EmbeddedPostgres
from tests.gateway.conftest import SAY_HELLO, Org, Plane, SandboxUpstream, chat_model, deployment, make_org, make_plane, make_sandbox

pytestmark = [pytest.mark.soak, pytest.mark.process]
SOAK_S = float(os.environ.get("SOAK_S", "600"))
CALLERS = 24
PER_MINUTE = 300
"""Of the limited key, over all planes."""
GROWTH_MB = 24.0
"""What the memory of a plane may differ by between the second quarter and the last: arenas of the allocator, not calls."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may stop, with the tables that a plane knows."""
    server = EmbeddedPostgres(tmp_path / "postgres", settings={"fsync": "off"})
    url = server.start()
    gateway = ("Snapshot", "Counter", "Slot", "CircuitChange", "Plane", "Taken")
    tables = (*(("gateway", name) for name in gateway), ("costs", "Inbox"))
    with connection.schema_editor(collect_sql=True) as editor:
        for app, name in tables:
            editor.create_model(apps.get_model(app, name))
    with psycopg.connect(url) as target:
        for statement in editor.collected_sql:
            target.execute(statement)
    server.port = int(url.rpartition(":")[2].partition("/")[0])  # the same address after a restart
    yield server
    server.stop()


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[SandboxUpstream]:
    home = tmp_path / "sandbox"
    home.mkdir()
    with make_sandbox(home) as server:
        yield server


@pytest.fixture
def planes(tmp_path: Path, database: EmbeddedPostgres) -> Iterator[list[Plane]]:
    started = []
    for number in range(3):
        home = tmp_path / f"plane{number}"
        home.mkdir()
        plane = make_plane(home, database.url)
        plane.start()
        started.append(plane)
    yield started
    for plane in started:
        plane.kill()


@dataclass(frozen=True)
class Price:
    """Pico-dollars per token."""

    input: int
    output: int

    def of(self, input_tokens: int, output_tokens: int | None) -> int:
        return input_tokens * self.input + (output_tokens or 0) * self.output


@dataclass(frozen=True)
class Asked:
    model: str
    reserved: int
    """Pico-dollars that a limit on money holds for the call: what the request can cost at most."""


@dataclass
class Told:
    """What callers saw, by request id."""

    outcomes: Counter[str] = field(default_factory=Counter)
    by_minute: Counter[int] = field(default_factory=Counter)
    """Answered calls of the limited key."""
    asked: dict[str, Asked] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    """The connection to the plane broke: it was killed, or its address was not there."""


MIX = {"chat": 60, "slow": 20, "embed": 10, "failing": 2, "cut": 3, "garbled": 2, "hanging": 1}
PRICES = {slug: Price(1_000_003 + 10 * place, 4_000_037 + 10 * place) for place, slug in enumerate(MIX)}
"""Each model its own, so that money under the wrong name is another sum. Embeddings have no output."""
MOST_OUTPUT = 4096
"""Tokens that are reserved, since the requests name no maximum."""
MOST_USD = 1_000_000


def models(upstream: SandboxUpstream) -> dict[str, contract.Model]:
    def at(slug: str, *conditions: str, **fields: Any) -> contract.Model:
        price = {"input_price": PRICES[slug].input, "output_price": PRICES[slug].output, "max_output_tokens": MOST_OUTPUT}
        return chat_model(deployment(upstream.base_url(*conditions), id=slug, timeout_s=2.0), slug=slug, **price, **fields)

    return {
        "chat": at("chat"),
        "slow": at("slow", "latency/150"),
        "failing": at("failing", "faults/500"),
        "cut": at("cut", "faults/cut"),
        "garbled": at("garbled", "faults/bad_json"),
        "hanging": at("hanging", "faults/hang"),
        "embed": at("embed", capabilities=("embeddings",)),
    }


async def one_caller(planes: list[Plane], orgs: list[Org], number: int, until: float, told: Told) -> None:
    chance, count = random.Random(number), 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client:
        while time.monotonic() < until:
            count += 1
            org, request_id = orgs[number % 2], f"soak-{number}-{count}"
            model = chance.choices(list(MIX), list(MIX.values()))[0]
            stream = model != "embed" and chance.random() < 0.5
            leaves = stream and chance.random() < 0.2
            body = {"model": model, "input": "Rice."} if model == "embed" else {"model": model, "messages": SAY_HELLO, "stream": stream}
            raw = json.dumps(body).encode()
            told.asked[request_id] = Asked(model, PRICES[model].of(-(-len(raw) // 4), 0 if model == "embed" else MOST_OUTPUT))
            url = f"{chance.choice(planes).url}/v1/{'embeddings' if model == 'embed' else 'chat/completions'}"
            try:
                minute = int(time.time() // 60)
                headers = {"authorization": f"Bearer {org.key}", "x-request-id": request_id, "content-type": "application/json"}
                async with client.post(url, data=raw, headers=headers) as answer:
                    told.outcomes[f"{model} {answer.status}"] += 1
                    if answer.status == 200 and org is orgs[1]:
                        told.by_minute[minute] += 1
                    if leaves:
                        await answer.content.readany()
                        continue  # closing the connection in the middle of the stream
                    await answer.read()
                    if answer.status in (429, 503):
                        await asyncio.sleep(0.05)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                # Also an answer that the upstream cut, which is recorded; so only ids without a record are looked for here.
                told.broken.add(request_id)
                told.outcomes[f"{model} broken"] += 1
                await asyncio.sleep(0.05)


async def breaking(database: EmbeddedPostgres, planes: list[Plane], told: Told) -> None:
    """One thing after the other, each mended again."""
    step = SOAK_S / 5
    await asyncio.sleep(step)
    await asyncio.to_thread(database.stop)
    await asyncio.sleep(min(5, step / 3))
    database.start()  # it ends with the thread that starts it, so it must be this one
    await asyncio.sleep(step)
    async with await psycopg.AsyncConnection.connect(database.url) as slow:  # nobody can write an event for a while
        await slow.execute(f"lock table {names.INBOX_TABLE} in access exclusive mode")
        await asyncio.sleep(min(3, step / 3))
    await asyncio.sleep(step)
    await asyncio.to_thread(planes[2].kill)
    await asyncio.sleep(1)
    await asyncio.to_thread(planes[2].start)


async def watching(planes: list[Plane], memory: dict[int, list[float]], until: float) -> None:
    while time.monotonic() < until:
        for number, plane in enumerate(planes[:2]):
            memory.setdefault(number, []).append(resident_mb(plane))
        await asyncio.sleep(max(0.2, SOAK_S / 300))


def reserved(event: dict[str, Any]) -> bool:
    """Whether the call got past its limits."""
    return any(name == "reserve" and verdict == "pass" for name, verdict, *_ in event["steps"])


def cost(event: dict[str, Any]) -> int | None:
    """Pico-dollars of a record by its own model and tokens; None when they are not known."""
    output_tokens = 0 if event["kind"] == "embeddings" else event["output_tokens"]
    known = event["input_tokens"] is not None and output_tokens is not None
    return PRICES[event["model"]].of(event["input_tokens"], output_tokens) if known else None


def taken(event: dict[str, Any], asked: Asked, *, was_served: bool) -> int:
    """Pico-dollars that the call took of a limit on money, by its record.

    What it cost as far as that is known, estimates included; all that was reserved for it when the upstream worked on it and did not say, or said
    too late: missing is not zero. Nothing when it got no further than the limits, or when its plane was killed: then the hold went back.
    """
    if not reserved(event) or event["error_code"] == "process_lost":
        return 0
    known = cost(event)
    if known is not None:
        return known
    return asked.reserved if was_served or event["error_code"] == "upstream_timeout" else 0


def resident_mb(plane: Plane) -> float:
    """Of the server and its worker."""
    assert plane._process is not None
    pids = [str(plane._process.pid)]
    children = Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split()
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in [*pids, *children])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def run(database: EmbeddedPostgres, planes: list[Plane], orgs: list[Org]) -> tuple[Told, dict[int, list[float]]]:
    memory: dict[int, list[float]] = {}
    told, until = Told(), time.monotonic() + SOAK_S
    await asyncio.gather(
        *(one_caller(planes, orgs, number, until, told) for number in range(CALLERS)),
        breaking(database, planes, told),
        watching(planes, memory, until),
    )
    return told, memory


def may_lack_usage(event: dict[str, Any]) -> bool:
    """Whether nobody could have read what the upstream charged: the answer broke off, made no sense, came too late or had no reader left."""
    is_broken = event["model"] in ("cut", "garbled")
    return is_broken or event["error_code"] in ("process_lost", "upstream_timeout") or event["status"] == "client_gone"


def compare_money(events: list[dict[str, Any]], journal: list[dict[str, Any]], told: Told) -> None:
    """What the upstream charged against what was recorded, to the pico-dollar, wherever the upstream could say what it was."""
    charged: Counter[str] = Counter()
    for line in journal:
        if line["status"] == 200:
            charged[line["request_id"]] += PRICES[told.asked[line["request_id"]].model].of(line["input_tokens"], line["output_tokens"])
    recorded: Counter[str] = Counter()
    unsaid: Counter[tuple[str, ...]] = Counter()
    for event in {event["event_id"]: event for event in events}.values():
        request_id = event["request_id"]
        if event["usage_source"] == "provider":
            recorded[request_id] += cost(event) or 0
        elif charged.pop(request_id, None) is not None:
            assert may_lack_usage(event), event
            unsaid[(event["model"], event["status"], event["error_code"] or "", event["usage_source"])] += 1
    print(f"{charged.total()} pico-dollars charged, {recorded.total()} recorded, {charged.total() - recorded.total()} apart")
    print("charged, and not told by the upstream:", dict(unsaid))
    assert recorded == charged


@pytest.mark.django_db
def test_nothing_is_lost_doubled_or_kept_while_things_break(
    database: EmbeddedPostgres, planes: list[Plane], upstream: SandboxUpstream, tmp_path: Path
) -> None:
    free = make_org(planes[0], upstream, models=models(upstream))
    limited = make_org(planes[0], upstream, models=models(upstream))
    limited.change_key(limits=(
        contract.Limit(
            id="soak:minute", scope="key", scope_name=limited.key_id, resource="requests", window="minute", amount=PER_MINUTE, fail_open=False
        ),
        contract.Limit(id="soak:month", scope="key", scope_name=limited.key_id, resource="requests", window="month", amount=10**9, fail_open=False),
        contract.Limit(
            id="soak:money", scope="key", scope_name=limited.key_id, resource="money", window="month",
            amount=MOST_USD * contract.PICO_USD, fail_open=False,
        ),
    ))  # fmt: skip

    told, memory = asyncio.run(run(database, planes, [free, limited]))

    for plane in planes:
        plane.stop()  # ships what is spooled and gives leases back
    events = [event for org in (free, limited) for event in planes[0].events(org.id)]
    by_request = Counter(event["request_id"] for event in {event["event_id"]: event for event in events}.values())
    served = {line["request_id"]: line for line in upstream.journal() if line["status"] == 200}
    lost = {request_id for request_id in served if not by_request[request_id]}
    print(dict(sorted(told.outcomes.items())))
    print(f"{len(served)} served, {len(events)} events, {len(lost)} without a record, {len(told.broken)} broken connections")

    assert len(served) > 10 * SOAK_S  # it was load
    assert lost == set()  # also of the plane that was killed: what it was at is recorded by its successor
    assert {request_id: n for request_id, n in by_request.items() if n > 1} == {}
    counted = {event["request_id"]: event for event in events if event["usage_source"] == "provider"}
    wrong = [
        request_id
        for request_id, event in counted.items()
        if (event["input_tokens"], event["output_tokens"] or 0) != (served[request_id]["input_tokens"], served[request_id]["output_tokens"])
    ]
    assert wrong == []
    compare_money(events, upstream.journal(), told)
    # A call that begins in one minute may be answered in the next, and minutes here and at the database differ by the clock's reading.
    assert max(told.by_minute.values(), default=0) <= PER_MINUTE + CALLERS
    for number, seen in memory.items():
        quarter = len(seen) // 4
        early, late = statistics.median(seen[quarter : 2 * quarter]), statistics.median(seen[-quarter:])
        print(f"plane {number}: {early:.0f} MB in the second quarter, {late:.0f} MB in the last")
        assert late - early < GROWTH_MB
    with psycopg.connect(database.url) as connected:
        at_rest = connected.execute(f"select sum(slots) from {names.SLOT_TABLE} where expires_at > now()").fetchone()
        granted: dict[str, int] = dict(
            connected.execute(f"select limit_id, granted::bigint from {names.COUNTER_TABLE} where limit_id like 'soak:mon%'").fetchall()
        )
    assert at_rest == (None,)
    # A call that the killed plane was at gave its hold back. What was on its way to the counter when the database stopped counts as spent.
    limits_took = {
        event["event_id"] for event in events if event["tenant"] == limited.id and reserved(event) and event["error_code"] != "process_lost"
    }
    print(f"{len(limits_took)} calls counted by a limit, {granted['soak:month']} granted")
    assert len(limits_took) <= granted["soak:month"] <= len(limits_took) * 1.01
    money = sum(
        taken(event, told.asked[event["request_id"]], was_served=event["request_id"] in served)
        for event in {event["event_id"]: event for event in events if event["tenant"] == limited.id}.values()
    )
    print(f"{money} pico-dollars taken of the month by its calls, {granted['soak:money']} granted, {granted['soak:money'] - money} apart")
    assert money <= granted["soak:money"] <= money * 1.01
    shutil.rmtree(tmp_path / "sandbox", ignore_errors=True)
