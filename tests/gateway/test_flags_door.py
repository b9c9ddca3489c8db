"""The OFREP door without a server around it: a plane whose database is away, and a key that asks too often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.contract import keys
from gateway.contract import snapshot as contract
from gateway.contract.flags import BUCKETS, Exposure, Flag, Range
from gateway.plane import settings
from gateway.plane.ingress import ofrep
from gateway.plane.plane import Plane
from tests import bootstrap
from tests.gateway.conftest import GRANTED, PEPPER

KEY = keys.generate("ghk", "tenant01", "key00001")
FLAG = Flag(
    key="ai.search.switch", version=1, kind="boolean", variants={"off": False, "on": True}, control="off", feature_class="assistants",
    sticky="user", rollout_salt="r", variant_salt="v", exposure=Exposure(on=True, percentage=BUCKETS, ranges=(Range("on", 0, BUCKETS),)),
)  # fmt: skip


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    """Its database can't be reached; on its disk is the tenant's last snapshot."""
    key = contract.Key(id="key00001", digest=keys.digest(KEY, PEPPER), name="test", project="demo", owner="alice", models=None, tools=None)
    snapshot = contract.TenantSnapshot(
        tenant="tenant01", slug="acme", schema="acme", version=7, consents={"assistants": GRANTED}, keys={"key00001": key},
        projects={"demo": contract.Project(slug="demo", name="Demo")}, flags={FLAG.key: FLAG},
    )  # fmt: skip
    folder = tmp_path / "plane" / "snapshots"
    folder.mkdir(parents=True)
    (folder / "tenant01.snapshot").write_bytes(contract.encode(snapshot))
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "DATA_DIR": str(tmp_path)}
    return Plane(settings.read({**bootstrap.SECRETS, **away}))


async def evaluate(plane: Plane) -> tuple[int, dict[bytes, bytes], Any]:
    """Status, headers and body of one evaluation."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"context": {"targetingKey": "ana"}}'}

    async def send(message: Any) -> None:
        sent.append(message)

    await ofrep.serve_flags(plane, f"{ofrep.ROOT}/{FLAG.key}", "POST", {b"x-api-key": KEY.encode()}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), orjson.loads(sent[1]["body"])


async def test_flags_are_evaluated_while_the_database_is_away(plane: Plane) -> None:
    status, headers, body = await evaluate(plane)

    assert (status, body["value"], body["metadata"]["configVersion"]) == (200, True, 7)
    assert b"x-request-id" in headers


async def test_who_asks_too_often_is_told_the_seconds_to_wait(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ofrep, "pace", ofrep.Pace(1, 10.0, clock=lambda: 100.0))

    (first, _, _), (second, headers, body) = await evaluate(plane), await evaluate(plane)

    assert (first, second, body["error"]["code"]) == (200, 429, "rate_limit_exceeded")
    assert headers[b"retry-after"] == b"10"
