"""What a plane does under weight: many open streams, long prompts, an organisation with 100,000 keys. Beside the bare pass-through where that means something."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import orjson
import psycopg
from cryptography.fernet import Fernet

from benchmarks import gateway
from gateway.contract import keys, names
from gateway.contract import snapshot as contract

AREA = "gateway"
STREAMS = 1000
CHUNKS = 400
KEYS = 100_000
_STAMP = re.compile(rb'"content":"(\d+) "')


@dataclass(frozen=True)
class Places:
    plane: str
    bare: str
    database_url: str
    headers: dict[str, str]
    pepper: bytes
    snapshot: contract.TenantSnapshot
    """Of the organisation that all but `_swap` call for."""
    pid: int
    """Of the plane's server, whose child is the plane."""

    def chat(self, where: str) -> str:
        return f"{where}/v1/chat/completions"


def measure() -> dict[str, float]:
    with _running() as places:
        return asyncio.run(_measure(places))


async def _measure(places: Places) -> dict[str, float]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"content-type": "application/json", **places.headers}) as client:
        return {
            **await _chunks(client, places),
            **await _prompts(client, places),
            **await _streams(client, places),
            **await _swap(client, places),
        }


async def _chunks(client: aiohttp.ClientSession, places: Places) -> dict[str, float]:
    """How much later a chunk arrives than through the bare pass-through: medians of interleaved rounds."""

    async def delays_us(where: str) -> list[float]:
        seen = []
        async with client.post(places.chat(where), data=orjson.dumps({"model": "paced", "stream": True, "messages": []})) as answer:
            while data := await answer.content.readany():
                now = time.monotonic_ns()
                seen += [(now - int(stamp)) / 1000 for stamp in _STAMP.findall(data)]
        if len(seen) != CHUNKS:
            raise RuntimeError(f"{len(seen)} of {CHUNKS} chunks arrived")
        return seen

    rounds = [(await delays_us(places.bare), await delays_us(places.plane)) for _ in range(4)][1:]
    return {"chunk_added_us": round(statistics.median(statistics.median(plane) - statistics.median(bare) for bare, plane in rounds), 1)}


async def _prompts(client: aiohttp.ClientSession, places: Places) -> dict[str, float]:
    """A long prompt: what the plane adds, how much memory it takes, and how long small calls beside it wait."""
    figures = {}
    for size_mb in (1, 10):
        words = "Rinse the rice, add twice the water, simmer until it is gone. " * (size_mb * 2**20 // 62)
        body = orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": words}]})

        async def took_ms(where: str, body: bytes = body) -> float:
            began = time.perf_counter()
            async with client.post(places.chat(where), data=body) as answer:
                await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"a long prompt was answered with {answer.status}")
            return (time.perf_counter() - began) * 1000

        before = _resident_mb(places.pid)
        pairs = [(await took_ms(places.bare), await took_ms(places.plane)) for _ in range(5)][1:]
        figures[f"prompt_{size_mb}mb_added_ms"] = round(statistics.median(plane - bare for bare, plane in pairs), 1)
        figures[f"prompt_{size_mb}mb_ratio"] = round(statistics.median(plane / bare for bare, plane in pairs), 2)
        figures[f"prompt_{size_mb}mb_kept_mb"] = round(max(0.0, _resident_mb(places.pid) - before), 1)
        rounds = [(await _slowest_small_call_ms(places), await _slowest_small_call_ms(places, took_ms)) for _ in range(5)]
        figures[f"prompt_{size_mb}mb_others_max_ms"] = round(statistics.median(beside for _, beside in rounds), 1)
        figures[f"prompt_{size_mb}mb_others_added_ms"] = round(statistics.median(beside - alone for alone, beside in rounds), 1)
    return figures


async def _slowest_small_call_ms(places: Places, beside: Callable[[str], Awaitable[float]] | None = None) -> float:
    """The slowest of a row of small calls in two seconds, alone or while one long prompt follows another."""
    waiting = asyncio.create_task(_longest_wait_ms(places.chat(places.plane), 2.0, places.headers["authorization"]))
    while beside is not None and not waiting.done():
        await beside(places.plane)
    return await waiting


async def _streams(client: aiohttp.ClientSession, places: Places) -> dict[str, float]:
    """Memory of the plane's process while so many streams are open."""
    opened = 0
    everybody = asyncio.Event()

    async def one() -> None:
        nonlocal opened
        async with client.post(places.chat(places.plane), data=orjson.dumps({"model": "slow", "stream": True, "messages": []})) as answer:
            await answer.content.readany()
            opened += 1
            if opened == STREAMS:
                everybody.set()
            await answer.read()

    before = _resident_mb(places.pid)
    tasks = [asyncio.create_task(one()) for _ in range(STREAMS)]
    await asyncio.wait_for(everybody.wait(), 60)
    during = _resident_mb(places.pid)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"streams_1000_mb": round(during), "streams_1000_added_mb": round(during - before)}


async def _swap(client: aiohttp.ClientSession, places: Places) -> dict[str, float]:
    """Another 100,000 keys: until the first call of the organisation is answered, and how long the process pauses when its snapshot is swapped."""
    tenant, key_id = "crowded", "bench001"
    key = keys.generate("ghk", tenant, key_id)
    snapshot = _crowded(places, tenant, key_id, key)
    bodies = [contract.encode(msgspec.structs.replace(snapshot, version=version, enabled=version % 2 == 1)) for version in (1, 2, 3, 4)]
    await asyncio.to_thread(_publish, places, tenant, 1, bodies[0])
    headers, body = {"authorization": f"Bearer {key}"}, orjson.dumps({"model": "chat", "messages": []})

    async def status() -> int:
        async with client.post(places.chat(places.plane), data=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    began = time.perf_counter()
    if await status() != 200:
        raise RuntimeError("the crowded organisation was refused")
    load_s = time.perf_counter() - began
    quiet = await _longest_wait_ms(f"{places.plane}/healthz", 3.0)
    pauses, effects = [], []
    for version in (2, 3, 4):
        waiting = asyncio.create_task(_longest_wait_ms(f"{places.plane}/healthz", 4.0))
        await asyncio.sleep(1)
        await asyncio.to_thread(_publish, places, tenant, version, bodies[version - 1])
        began = time.perf_counter()
        while await status() != (200 if version % 2 == 1 else 403):
            await asyncio.sleep(0.005)
        effects.append(time.perf_counter() - began)
        pauses.append(await waiting)
    return {
        "snapshot_100k_load_s": round(load_s, 3),
        "snapshot_100k_effect_s": round(statistics.median(effects), 3),
        "snapshot_swap_pause_ms": round(max(0.0, statistics.median(pauses) - quiet), 1),
    }


async def _longest_wait_ms(url: str, seconds: float, *authorization: str) -> float:
    command = [sys.executable, "-m", "benchmarks._gateway.ping", url, str(seconds), *authorization]
    running = await asyncio.create_subprocess_exec(*command, cwd=gateway.ROOT, stdout=subprocess.PIPE)
    said, _ = await running.communicate()
    return float(said)


def _crowded(places: Places, tenant: str, key_id: str, key: str) -> contract.TenantSnapshot:
    base = places.snapshot
    limit = contract.Limit(id="x", scope="key", scope_name="x", resource="requests", window="minute", amount=600, fail_open=True)
    every = {
        name: contract.Key(
            id=name, digest=f"{number:064x}", name=f"Key {number}", project="bench", owner="someone@example.com", models=None, tools=None,
            limits=(msgspec.structs.replace(limit, id=f"key:{name}:requests", scope_name=name),),
        )
        for number, name in enumerate(f"k{number:07d}" for number in range(KEYS))
    }  # fmt: skip
    mine = msgspec.structs.replace(base.keys[gateway.KEY_ID], id=key_id, digest=keys.digest(key, places.pepper), limits=())
    return msgspec.structs.replace(base, tenant=tenant, slug=tenant, schema=tenant, keys={**every, key_id: mine})


def _publish(places: Places, tenant: str, version: int, body: bytes) -> None:
    with psycopg.connect(places.database_url) as connection:
        connection.execute(
            f"insert into {names.SNAPSHOT_TABLE} (tenant, version, checksum, body, published_at) values (%s, %s, %s, %b, now())"
            " on conflict (tenant) do update set version = excluded.version, checksum = excluded.checksum, body = excluded.body",
            [tenant, version, contract.checksum(body), body],
        )
        connection.execute("select pg_notify(%s, %s)", [names.SNAPSHOT_CHANNEL, f"{tenant}:{version}"])


def _resident_mb(pid: int) -> float:
    """Of the process that serves, not of the one that watches it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children or [str(pid)]]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def _running() -> Iterator[Places]:
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch, gateway.database(Path(scratch)) as database_url:
        home, pepper = Path(scratch), secrets.token_urlsafe(32)
        key = keys.generate("ghk", gateway.TENANT, gateway.KEY_ID)
        with gateway.upstream(home) as static, gateway.granian("benchmarks._gateway.drip:app", {}, home, interface="asginl") as drip:
            gateway.seed(database_url, key, pepper.encode(), static)
            snapshot = _with_streams(database_url, drip)
            environment = {
                "BENCH_UPSTREAM": static, "BENCH_STREAMS": f"{drip}/every/2/{CHUNKS}", "DATABASE_URL": database_url, "DATA_DIR": scratch,
                "KEY_PEPPER": pepper, "SEALING_KEYS": Fernet.generate_key().decode(), "OUTBOUND_ALLOW": "127.0.0.1",
            }  # fmt: skip
            with (
                gateway.granian("benchmarks._gateway.bare:app", environment, home) as bare,
                gateway.granian("gateway.plane.asgi:app", environment, home) as plane,
            ):
                places = Places(
                    plane, bare, database_url, {"authorization": f"Bearer {key}"}, pepper.encode(), snapshot, gateway.owner_of(plane)
                )
                yield places


def _with_streams(database_url: str, drip: str) -> contract.TenantSnapshot:
    """The organisation of `benchmarks.gateway` with two more models: one streams in step, one hardly at all."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(f"select body from {names.SNAPSHOT_TABLE} where tenant = %s", [gateway.TENANT]).fetchone()
        assert row is not None
        snapshot = contract.decode(bytes(row[0]))
        chat = snapshot.models["chat"]
        more = {}
        for slug, path in (("paced", f"every/2/{CHUNKS}"), ("slow", "every/1000/60")):
            deployment = msgspec.structs.replace(chat.deployments[0], id=slug, base_url=f"{drip}/{path}/v1")
            more[slug] = msgspec.structs.replace(chat, slug=slug, deployments=(deployment,))
        snapshot = msgspec.structs.replace(snapshot, models={**snapshot.models, **more})
        body = contract.encode(snapshot)
        connection.execute(
            f"update {names.SNAPSHOT_TABLE} set body = %s, checksum = %s where tenant = %s", [body, contract.checksum(body), gateway.TENANT]
        )
    return snapshot
