"""What the plane adds to a call: against a bare pass-through, on the same server, side by side in one run.

The plane works in full: key, consent, a policy, a guardrail that replaces personal data, two limits on lease, telemetry spooled and
copied into PostgreSQL. Rounds alternate, so that whatever else the machine does hits both; figures are medians over rounds, the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psycopg
from cryptography.fernet import Fernet

from benchmarks._gateway import load, static
from gateway.contract import keys, names
from gateway.contract import snapshot as contract

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = 16
ROUNDS = 5
ROUND_S = 3
WARM_UP_S = 1
TENANT, KEY_ID = "bench", "bench001"


def measure() -> dict[str, float]:
    """requests/s and latencies of both, and what the plane adds."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch, database(Path(scratch)) as database_url:
        home = Path(scratch)
        pepper = secrets.token_urlsafe(32)
        key = keys.generate("ghk", TENANT, KEY_ID)
        with upstream(home) as address:
            seed(database_url, key, pepper.encode(), address)
            environment = {
                "BENCH_UPSTREAM": address, "DATABASE_URL": database_url, "DATA_DIR": scratch, "KEY_PEPPER": pepper,
                "SEALING_KEYS": Fernet.generate_key().decode(), "OUTBOUND_ALLOW": "127.0.0.1",
            }  # fmt: skip
            with (
                granian("benchmarks._gateway.bare:app", environment, home) as bare,
                granian("gateway.plane.asgi:app", environment, home) as plane,
            ):
                figures = _compare(f"{bare}/v1/chat/completions", f"{plane}/v1/chat/completions", {"authorization": f"Bearer {key}"})
        with psycopg.connect(database_url) as connection:
            row = connection.execute(f"select count(*) from {names.INBOX_TABLE} where tenant = %s", [TENANT]).fetchone()
        assert row is not None
        if row[0] < figures["requests_per_s"]:
            raise RuntimeError("the plane has recorded too few events: it was not measured in full")
    return figures


def _compare(bare: str, plane: str, headers: dict[str, str]) -> dict[str, float]:
    for url in (bare, plane):
        load.run(url, headers, connections=CONNECTIONS, seconds=WARM_UP_S)
    rounds, cpu_ratio = _rounds(bare, plane, headers, ROUNDS, load.BODY)
    streams, stream_cpu_ratio = _rounds(bare, plane, headers, 3, load.STREAM_BODY)
    single = [
        (load.run(bare, headers, connections=1, seconds=WARM_UP_S), load.run(plane, headers, connections=1, seconds=WARM_UP_S))
        for _ in range(3)
    ]
    return {
        "passthrough_ratio": _ratio(rounds),
        "cpu_ratio": cpu_ratio,
        "requests_per_s": round(statistics.median(with_.requests_per_s for _, with_ in rounds)),
        "passthrough_requests_per_s": round(statistics.median(without.requests_per_s for without, _ in rounds)),
        # What one call waits longer, without a queue in front of the process.
        "added_p50_ms": round(statistics.median(with_.p50_ms - without.p50_ms for without, with_ in single), 3),
        "added_p99_ms": round(statistics.median(with_.p99_ms - without.p99_ms for without, with_ in single), 3),
        "passthrough_ratio_256": _ratio(_rounds(bare, plane, headers, 3, load.BODY, connections=256)[0]),
        "stream_ratio": _ratio(streams),
        "stream_cpu_ratio": stream_cpu_ratio,
    }


Rounds = list[tuple[load.Figures, load.Figures]]
"""Of the bare pass-through and of the plane, in turn."""


def _rounds(bare: str, plane: str, headers: dict[str, str], count: int, body: str, connections: int = CONNECTIONS) -> tuple[Rounds, float]:
    """Also the median of the rounds' ratios of processor time per request, the bare one's over the plane's."""
    rounds, cpu = [], []
    owners = [owner_of(url) for url in (bare, plane)]
    for _ in range(count):
        before = [_cpu_s(owner) for owner in owners]
        without, with_ = (load.run(url, headers, connections=connections, seconds=ROUND_S, body=body) for url in (bare, plane))
        rounds.append((without, with_))
        of_bare, of_plane = (_cpu_s(owner) - so_far for owner, so_far in zip(owners, before, strict=True))
        cpu.append(of_bare / without.requests_per_s / (of_plane / with_.requests_per_s))
    return rounds, round(statistics.median(cpu), 3)


def _ratio(rounds: Rounds) -> float:
    return round(statistics.median(with_.requests_per_s / without.requests_per_s for without, with_ in rounds), 3)


def owner_of(url: str) -> int:
    """The server that was started with the port of this address. RuntimeError when there is none."""
    port = str(urlsplit(url).port).encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"--port" in words and port in words and int(_stat(process.name)[1]) == os.getpid():
                return int(process.name)
    raise RuntimeError(f"nothing was started for {url}")


def _cpu_s(pid: int) -> float:
    """Processor time so far of a server and of the processes that serve for it, in steps of mostly 10 ms."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = sum(int(tick) for process in (str(pid), *children) for tick in _stat(process)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: str) -> list[str]:
    """What Linux says of a process, from its state on (proc_pid_stat(5), field 3)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextlib.contextmanager
def database(home: Path) -> Iterator[str]:
    """An embedded server with the tables that a plane knows, made from the portal's models."""
    from governance.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(home / "postgres")
    url = server.start()
    try:
        script = (
            "import django; django.setup()\n"
            "from django.apps import apps; from django.db import connection\n"
            "with connection.schema_editor() as editor:\n"
            "    for app, name in (('gateway', 'Snapshot'), ('gateway', 'Counter'), ('gateway', 'Slot'), ('gateway', 'CircuitChange'), ('gateway', 'Plane'), ('gateway', 'Taken'), ('costs', 'Inbox')):\n"
            "        editor.create_model(apps.get_model(app, name))\n"
        )
        settings = {
            "DJANGO_SETTINGS_MODULE": "governance.settings", "DATABASE_URL": url, "DATABASE_POOL": "0", "DATA_DIR": str(home),
            "SECRET_KEY": secrets.token_urlsafe(48), "KEY_PEPPER": secrets.token_urlsafe(48), "SEALING_KEYS": Fernet.generate_key().decode(),
        }  # fmt: skip
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={**os.environ, **settings}, check=True)
        yield url
    finally:
        server.stop()


def seed(database_url: str, key: str, pepper: bytes, upstream: str) -> None:
    deployment = contract.Deployment(
        id="static", provider="static", dialect="openai", base_url=f"{upstream}/v1", sealed_secret="", upstream_model="upstream-model"
    )
    model = contract.Model(
        slug="chat",
        capabilities=("chat",),
        feature_class="assistants",
        deployments=(deployment,),
        input_price=1_000_000,
        output_price=4_000_000,
    )
    streams = msgspec.structs.replace(
        model, slug="stream", deployments=(msgspec.structs.replace(deployment, id="stream", base_url=f"{upstream}/stream/v1"),)
    )
    limits = (
        contract.Limit(
            id="key:requests", scope="key", scope_name=KEY_ID, resource="requests", window="minute", amount=100_000_000, fail_open=True
        ),
        contract.Limit(id="key:money", scope="key", scope_name=KEY_ID, resource="money", window="month", amount=10**6 * contract.PICO_USD),
    )
    snapshot = contract.TenantSnapshot(
        tenant=TENANT, slug=TENANT, schema=TENANT, version=1,
        consents={"assistants": contract.Consent(feature_class="assistants", granted=True, reason="")},
        projects={"bench": contract.Project(slug="bench", name="Bench")},
        keys={KEY_ID: contract.Key(
            id=KEY_ID, digest=keys.digest(key, pepper), name="bench", project="bench", owner="bench", models=None, tools=None, limits=limits,
        )},
        models={"chat": model, "stream": streams},
        policies=(contract.Policy(name="bench.region", version=1, when="true", require='egress.region != "nowhere"', enforce=True),),
        guardrails=(contract.Guardrail(name="no-pii", kind="pii", enforce=True, action="redact"),),
    )  # fmt: skip
    body = contract.encode(snapshot)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            f"insert into {names.SNAPSHOT_TABLE} (tenant, version, checksum, body, published_at) values (%s, 1, %s, %s, now())",
            [TENANT, contract.checksum(body), body],
        )


@contextlib.contextmanager
def upstream(home: Path) -> Iterator[str]:
    """A server that always gives the same answer: nginx if there is one."""
    port = free_port()
    nginx = shutil.which("nginx")
    if nginx is None:
        with granian("benchmarks._gateway.static:app", {}, home, interface="asginl") as url:
            yield url
        return
    config = home / "nginx.conf"
    config.write_text(
        f"worker_processes 1; daemon off; pid {home}/nginx.pid; error_log {home}/nginx.log; events {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; client_max_body_size 0; keepalive_requests 100000000; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; "
        f"fastcgi_temp_path {home}/fastcgi; uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 '{static.ANSWER.decode()}'; }}\n"
        f"location /stream/ {{ default_type text/event-stream; return 200 '{static.STREAM.decode()}'; }} }} }}\n"
    )
    with process([nginx, "-c", str(config)], {}, f"http://127.0.0.1:{port}", home) as url:
        yield url


@contextlib.contextmanager
def granian(app: str, environment: dict[str, str], home: Path, interface: str = "asgi") -> Iterator[str]:
    port = free_port()
    granian = str(Path(sys.executable).with_name("granian"))
    command = [granian, "--interface", interface, "--port", str(port), "--no-ws", app]
    with process(command, environment, f"http://127.0.0.1:{port}", home) as url:
        yield url


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str], url: str, home: Path, start_s: float = 20) -> Iterator[str]:
    with (home / "log").open("ab") as log:
        running = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + start_s
        while not _answers(url):
            if running.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start:\n{(home / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield url
    finally:
        running.send_signal(signal.SIGINT if "granian" in command[0] else signal.SIGTERM)
        try:
            running.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(f"{url}/healthz", data=b"{}"), timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
