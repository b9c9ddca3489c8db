"""Whole processes for tests: the sandbox upstream and a plane, on free ports, against a database of their own.

Snapshots are written with `gateway.contract`, which is the plane's whole view of the portal.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2
import msgspec
import openai
import psycopg
import pytest

from gateway.contract import keys, names
from gateway.contract import snapshot as contract
from tests import bootstrap
from tests.clock import allowed

PEPPER = bootstrap.SECRETS["KEY_PEPPER"].encode()
T = TypeVar("T")
GRANTED = contract.Consent(feature_class="assistants", granted=True, reason="")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], T], timeout_s: float = 10.0, what: str = "the condition") -> T:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + allowed(timeout_s)
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.03)


@dataclass
class Server:
    """A server process of ours in its own process group. As a context manager it is killed at the end."""

    command: list[str]
    port: int
    environment: dict[str, str]
    health: str
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, env=self.environment, cwd=bootstrap.ROOT, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, 20, f"{self.command[-1]} answering")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-2000:]
        try:
            return httpx2.get(self.url + self.health, timeout=1, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=20)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9 of the whole group: nothing is flushed, nothing is said."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=10)
            self._process = None


@dataclass
class SandboxUpstream(Server):
    data_dir: Path = field(default_factory=Path)

    def base_url(self, *conditions: str) -> str:
        """What a provider is registered with; conditions such as `faults/cut` or `latency/100` go before the version."""
        return "/".join([self.url, *conditions, "v1"])

    @property
    def mcp_url(self) -> str:
        return f"{self.url}/mcp"

    def journal(self) -> list[dict[str, Any]]:
        """What was served, in order."""
        path = self.data_dir / "journal.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def make_sandbox(home: Path, key: str = "") -> SandboxUpstream:
    port = free_port()
    command = [sys.executable, "-m", "gateway.sandbox", "--port", str(port), "--data-dir", str(home), "--key", key]
    return SandboxUpstream(command, port, dict(os.environ), "/journal", home / "log", data_dir=home)


@pytest.fixture(scope="session")
def sandbox_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxUpstream]:
    """The sandbox, open to everybody."""
    server = make_sandbox(tmp_path_factory.mktemp("sandbox"))
    server.start()
    yield server
    server.kill()


@dataclass
class Plane(Server):
    """A running plane and the tables it shares with the portal."""

    database_url: str = ""
    data_dir: Path = field(default_factory=Path)

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def publish(self, snapshot: contract.TenantSnapshot) -> contract.TenantSnapshot:
        """Store the snapshot under the tenant's next version and notify, as `gateway.publish` does."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(f"select version from {names.SNAPSHOT_TABLE} where tenant = %s", [snapshot.tenant]).fetchone()
            snapshot = msgspec.structs.replace(snapshot, version=(row[0] if row else 0) + 1)
            body = contract.encode(snapshot)
            connection.execute(
                f"insert into {names.SNAPSHOT_TABLE} (tenant, version, checksum, body, published_at) values (%s, %s, %s, %s, now())"
                " on conflict (tenant) do update set version = excluded.version, checksum = excluded.checksum, body = excluded.body",
                [snapshot.tenant, snapshot.version, contract.checksum(body), body],
            )
            connection.execute("select pg_notify(%s, %s)", [names.SNAPSHOT_CHANNEL, f"{snapshot.tenant}:{snapshot.version}"])
        return snapshot

    def events(self, tenant: str) -> list[dict[str, Any]]:
        """The tenant's events that have arrived in the inbox."""
        with psycopg.connect(self.database_url, row_factory=psycopg.rows.dict_row) as connection:
            query = f"select * from {names.INBOX_TABLE} where tenant = %s order by started_at"
            return connection.execute(query, [tenant]).fetchall()

    def wait_for_events(self, tenant: str, count: int, timeout_s: float = 10) -> list[dict[str, Any]]:
        return wait_until(lambda: (found := self.events(tenant)) and len(found) >= count and found, timeout_s, f"{count} events") or []


def make_plane(home: Path, database_url: str, **environment: str) -> Plane:
    port = free_port()
    granian = Path(sys.executable).with_name("granian")
    command = [str(granian), "--interface", "asgi", "--port", str(port), "--no-ws", "gateway.plane.asgi:app"]
    return Plane(
        command,
        port,
        {**os.environ, "DATABASE_URL": database_url, "DATA_DIR": str(home), "OUTBOUND_ALLOW": "127.0.0.1", **environment},
        "/readyz",
        home / "log",
        database_url=database_url,
        data_dir=home,
    )


@contextmanager
def cloned_database() -> Iterator[str]:
    name = f"plane_{uuid.uuid4().hex[:12]}"
    url = bootstrap.clone(name)
    try:
        yield url
    finally:
        bootstrap.drop(name)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A plane of this worker, with a database of its own. Tests keep apart by tenant, and leave it running."""
    with cloned_database() as url:
        server = make_plane(tmp_path_factory.mktemp("plane"), url)
        server.start()
        try:
            yield server
        finally:
            server.kill()


_clients: list[openai.OpenAI] = []


def openai_client(plane: Plane, key: str, **options: Any) -> openai.OpenAI:
    client = openai.OpenAI(base_url=plane.base_url, api_key=key, max_retries=0, **options)
    _clients.append(client)
    return client


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    yield
    while _clients:
        _clients.pop().close()


@dataclass
class Org:
    """A tenant with one project and one key, made for one test."""

    plane: Plane
    snapshot: contract.TenantSnapshot
    key: str

    @property
    def id(self) -> str:
        return self.snapshot.tenant

    @property
    def key_id(self) -> str:
        return keys.parse(self.key).id

    def client(self, **options: Any) -> openai.OpenAI:
        """The real SDK with this organisation's key; closed when the test is over."""
        return openai_client(self.plane, self.key, **options)

    def change(self, **fields: Any) -> None:
        """Publish the snapshot with other fields."""
        self.snapshot = self.plane.publish(msgspec.structs.replace(self.snapshot, **fields))

    def change_now(self, **fields: Any) -> None:
        """The same, and wait until the plane serves it; for an organisation that has called before."""
        self.change(**fields)
        query = f"select coalesce(max(version), 0) from {names.TAKEN_TABLE} where tenant = %s"  # none until the plane's first report
        with psycopg.connect(self.plane.database_url, autocommit=True) as connection:
            wait_until(lambda: (connection.execute(query, [self.id]).fetchone() or (0,))[0] >= self.snapshot.version, what="the change")

    def change_key(self, **fields: Any) -> None:
        key = msgspec.structs.replace(self.snapshot.keys[self.key_id], **fields)
        self.change(keys={key.id: key})

    def post(self, path: str = "/v1/chat/completions", **options: Any) -> httpx2.Response:
        """A bare request with the key, for what no SDK would send."""
        headers = {"authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return httpx2.post(self.plane.url + path, headers=headers, trust_env=False, **{"timeout": 30, **options})

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """Likewise, for what is only read."""
        with_key = {"authorization": f"Bearer {self.key}", **(headers or {})}
        return httpx2.get(self.plane.url + path, headers=with_key, timeout=30, trust_env=False)


def deployment(base_url: str, **fields: Any) -> contract.Deployment:
    given = {
        "id": "one",
        "provider": "sandbox",
        "dialect": "openai",
        "base_url": base_url,
        "sealed_secret": "",
        "upstream_model": "sandbox-large",
    }
    return contract.Deployment(**{**given, **fields})


def chat_model(*deployments: contract.Deployment, slug: str = "chat", **fields: Any) -> contract.Model:
    given: dict[str, Any] = {"capabilities": ("chat",), "feature_class": "assistants", "input_price": 1_000_000, "output_price": 4_000_000}
    return contract.Model(slug=slug, deployments=deployments, **{**given, **fields})


@pytest.fixture
def org(plane: Plane, sandbox_upstream: SandboxUpstream) -> Org:
    """A published tenant: models `chat` and `embed` on the sandbox, one key, no limits."""
    return make_org(plane, sandbox_upstream)


def make_org(plane: Plane, upstream: SandboxUpstream, **fields: Any) -> Org:
    tenant, key_id = keys.new_id(), keys.new_id()
    text = keys.generate("ghk", tenant, key_id)
    key = contract.Key(id=key_id, digest=keys.digest(text, PEPPER), name="test key", project="demo", owner="alice", models=None, tools=None)
    here = deployment(upstream.base_url())
    given: dict[str, Any] = {
        "consents": {"assistants": GRANTED},
        "projects": {"demo": contract.Project(slug="demo", name="Demo")},
        "keys": {key_id: key},
        "models": {"chat": chat_model(here), "embed": chat_model(here, slug="embed", capabilities=("embeddings",))},
    }
    snapshot = contract.TenantSnapshot(tenant=tenant, slug=tenant, schema=tenant, version=1, **{**given, **fields})
    return Org(plane, plane.publish(snapshot), text)


SAY_HELLO: list[Any] = [{"role": "user", "content": "How does a bill become an explanation?"}]
