"""Closed-loop load over kept-alive connections, by wrk where it is installed, else by a small loader of ours."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

BODY = (
    '{"model":"chat","messages":[{"role":"system","content":"You are a helpful assistant."},'
    '{"role":"user","content":"Tell me in a few sentences how rice is cooked."}],"temperature":0.2}'
)
STREAM_BODY = BODY.replace('"chat"', '"stream"').replace('"temperature":0.2', '"temperature":0.2,"stream":true')
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Figures:
    requests_per_s: float
    p50_ms: float
    p99_ms: float


def run(url: str, headers: dict[str, str], *, connections: int, seconds: float, body: str = BODY) -> Figures:
    """RuntimeError when any answer is not 200."""
    if shutil.which("wrk"):
        return _wrk(url, headers, connections, seconds, body)
    return asyncio.run(_own(url, headers, connections, seconds, body))


def _wrk(url: str, headers: dict[str, str], connections: int, seconds: float, body: str) -> Figures:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'\nwrk.body = [[{body}]]\n")
        for name, value in {"content-type": "application/json", **headers}.items():
            script.write(f"wrk.headers['{name}'] = '{value}'\n")
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency", "-s", script.name, url]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(f"{Path(url).name} answered with errors:\n{text}")

    def latency(percentile: str) -> float:
        match = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)", text)
        assert match, text
        return float(match[1]) * _UNITS_MS[match[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert rate, text
    return Figures(float(rate[1]), latency("50"), latency("99"))


async def _own(url: str, headers: dict[str, str], connections: int, seconds: float, body: str) -> Figures:
    taken: list[float] = []
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"content-type": "application/json", **headers}
    ) as client:
        end = time.perf_counter() + seconds

        async def connection() -> None:
            while (began := time.perf_counter()) < end:
                async with client.post(url, data=body) as response:
                    await response.read()
                    if response.status != 200:
                        raise RuntimeError(f"{url} answered {response.status}")
                taken.append(time.perf_counter() - began)

        await asyncio.gather(*(connection() for _ in range(connections)))
    taken.sort()
    return Figures(len(taken) / seconds, taken[len(taken) // 2] * 1000, taken[len(taken) * 99 // 100] * 1000)
