"""How soon a breach is rolled back, with everything real around it, and how long a look at a thousand rules takes; kept under `rollouts.`.

The rollback: a plane, the worker and beat as the product runs them, an upstream, a mail server and a receiver of webhooks. While calls of 200 users come
in, one treatment's upstream begins to fail; the clock runs from there until no call fails any more and both messages have arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import psycopg
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler

from benchmarks import gateway
from benchmarks._product import product_database, workers
from benchmarks._server import figures_of

AREA = "rollouts"
ROOT = gateway.ROOT
CONNECTIONS = 16
PAUSE_S = 0.08
"""Of each connection between two calls: about 170 calls a second together."""
USERS = 200
BEFORE_S = 40
"""Of good calls, so that the windows are full before the breach."""
GIVE_UP_S = 180
QUIET_S = 8
"""Without a failed call: then the control serves everybody."""


def measure() -> dict[str, float]:
    """Seconds of a rollback, of its parts, and of a tick over 1,000 rules."""
    with product_database() as (url, environment, home):
        figures = _rollback(url, environment, home)
    return figures | figures_of("benchmarks._rollback", "tick")


def _django(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks._rollback", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True).stdout


# From breach to rest


class _Arrivals(MailHandler):
    """When the first message about an incident came, by mail and by webhook."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, float] = {}

    def note(self, way: str, text: str) -> None:
        if "Incident 1" in text:
            self.at.setdefault(way, time.time())

    def handle_message(self, message: object) -> None:
        self.note("mail", str(message))


@contextlib.contextmanager
def _receivers() -> Iterator[tuple[_Arrivals, int, str]]:
    """The port of a mail server and the URL of a webhook."""
    arrivals = _Arrivals()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrivals.note("webhook", self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    mail = Controller(arrivals, hostname="127.0.0.1", port=gateway.free_port())
    hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    mail.start()
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    try:
        yield arrivals, mail.port, f"http://127.0.0.1:{hook.server_port}/hook"
    finally:
        hook.shutdown()
        hook.server_close()
        mail.stop()


def _rollback(url: str, environment: dict[str, str], home: Path) -> dict[str, float]:
    environment = {**environment, "FLIP_FILE": str(home / "flipped")}
    with _receivers() as (arrivals, mail_port, hook), gateway.granian("benchmarks._gateway.flip:app", environment, home) as upstream:
        environment = {**environment, "EMAIL_URL": f"smtp://127.0.0.1:{mail_port}"}
        key = json.loads(_django(environment, "prepare", upstream, hook).splitlines()[-1])["key"]
        with gateway.granian("gateway.plane.asgi:app", environment, home) as plane, workers(environment, home):
            breached, failed, served = asyncio.run(_load(f"{plane}/v1/chat/completions", key, Path(environment["FLIP_FILE"]), arrivals))
    return _figures(url, breached, failed, served, arrivals)


async def _load(url: str, key: str, flip: Path, arrivals: _Arrivals) -> tuple[float, list[float], int]:
    """Calls until all is over. Returns when the breach began, when calls failed, and how many were served after the last of them."""
    failed: list[float] = []
    served: list[float] = []
    breached, is_over = 0.0, False
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as client:

        async def connection(number: int) -> None:
            turn = number
            while not is_over:
                turn += CONNECTIONS
                body = {"model": "chat", "user": f"user-{turn % USERS}", "messages": [{"role": "user", "content": "Hello"}]}
                async with client.post(url, json=body) as response:
                    await response.read()
                    (served if response.status == 200 else failed).append(time.time())
                    if response.status != 200 and not breached:
                        raise RuntimeError(f"the plane answered {response.status} before the breach: {await response.text()}")
                await asyncio.sleep(PAUSE_S)

        calls = [asyncio.create_task(connection(number)) for number in range(CONNECTIONS)]
        await asyncio.sleep(BEFORE_S)
        for call in calls:
            if call.done():
                call.result()
        flip.touch()
        breached = time.time()
        while time.time() - breached < GIVE_UP_S:
            await asyncio.sleep(0.2)
            if failed and time.time() - failed[-1] > QUIET_S and len(arrivals.at) == 2:
                break
        is_over = True
        await asyncio.gather(*calls)
    return breached, failed, sum(at > max(failed, default=breached) for at in served)


def _figures(url: str, breached: float, failed: list[float], served: int, arrivals: _Arrivals) -> dict[str, float]:
    """RuntimeError when it was no rollback: nothing failed, nobody was told, or calls still fail."""
    if not failed or len(arrivals.at) != 2 or served < 100:
        raise RuntimeError(
            f"no rollback within {GIVE_UP_S} s: {len(failed)} calls failed, {served} served after, told by {sorted(arrivals.at)}"
        )
    with psycopg.connect(url) as connection:
        connection.execute("select set_config('search_path', schema_name, false) from public.governance_tenant")
        row = connection.execute(
            "select extract(epoch from opened_at)::float8, (select exposure ->> 'on' from rollouts_flagversion order by number desc limit 1) "
            "from rollouts_incident"
        ).fetchone()
    assert row is not None
    if row[1] != "false":
        raise RuntimeError("the flag is still on")
    told = max(arrivals.at.values())
    return {
        "rollback_s": round(max(*failed, told) - breached, 1),
        "rollback_decided_s": round(row[0] - breached, 1),
        "rollback_last_bad_call_s": round(max(failed) - breached, 1),
        "rollback_told_s": round(told - breached, 1),
    }
