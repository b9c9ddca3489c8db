"""How long after its response a call stands in the dashboard's figures, at 500 calls a second; kept under `costs.`.

Everything is real: a plane, its spool, the worker and beat, PostgreSQL. From outside: the nth call is in the figures when the rollup that pages read counts n calls.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import os
import statistics
import subprocess
import sys
import threading
import time

import aiohttp
import psycopg

from benchmarks import gateway
from benchmarks._product import ROOT, product_database, workers

AREA = "costs"
PER_S = 500
SECONDS = 30
WARM_UP_S = 5
GIVE_UP_S = 60


def measure() -> dict[str, float]:
    """P50 and P95 of the lag in seconds, and the rate that was really held."""
    with product_database() as (url, environment, home), gateway.upstream(home) as upstream:
        command = [sys.executable, "-m", "benchmarks._rollback", "prepare", upstream, "http://127.0.0.1:9/hook"]
        said = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True).stdout
        key = json.loads(said.splitlines()[-1])["key"]
        with gateway.granian("gateway.plane.asgi:app", environment, home) as plane, workers(environment, home):
            return asyncio.run(_measure(f"{plane}/v1/chat/completions", key, url))


async def _measure(url: str, key: str, database_url: str) -> dict[str, float]:
    answered: list[float] = []
    seen: list[tuple[int, float]] = []
    """(calls in the rollup, when that was seen)"""
    over = threading.Event()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers={"authorization": f"Bearer {key}"}) as client:

        async def call() -> None:
            async with client.post(url, json={"model": "chat-old", "messages": [{"role": "user", "content": "Hello"}]}) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(f"the plane answered {response.status}: {await response.text()}")
                answered.append(time.perf_counter())

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(asyncio.to_thread(_watch, database_url, seen, over))
            began = time.perf_counter()
            try:
                async with asyncio.TaskGroup() as calls:
                    for number in range(PER_S * (WARM_UP_S + SECONDS)):
                        await asyncio.sleep(max(0.0, began + number / PER_S - time.perf_counter()))
                        calls.create_task(call())
                took, deadline = time.perf_counter() - began, time.perf_counter() + GIVE_UP_S
                while not watching.done() and (not seen or seen[-1][0] < len(answered)):
                    if time.perf_counter() > deadline:
                        raise RuntimeError(f"only {seen[-1][0] if seen else 0} of {len(answered)} calls came into the figures")
                    await asyncio.sleep(0.05)
            finally:
                over.set()
    answered.sort()
    counts = [count for count, _ in seen]
    lags = sorted(
        seen[bisect.bisect_left(counts, number + 1)][1] - at for number, at in enumerate(answered) if at > began + WARM_UP_S
    )  # fmt: skip
    return {
        "dashboard_lag_p50_s": round(statistics.median(lags), 2),
        "dashboard_lag_p95_s": round(lags[int(len(lags) * 0.95)], 2),
        "dashboard_lag_calls_per_s": round(len(answered) / took),
    }


def _watch(database_url: str, seen: list[tuple[int, float]], over: threading.Event) -> None:
    """Note whenever the rollup grows."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("select set_config('search_path', schema_name, false) from public.governance_tenant")
        while not over.is_set():
            row = connection.execute("select coalesce(sum(calls), 0)::int from usage_hour where model = 'chat-old'").fetchone()
            assert row is not None
            if not seen or row[0] > seen[-1][0]:
                seen.append((row[0], time.perf_counter()))
            time.sleep(0.02)
