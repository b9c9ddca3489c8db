"""Portal and plane behind one port, and the sandbox's command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx2
import pytest

from tests.clock import allowed
from tests.gateway.conftest import SandboxUpstream, Server, free_port, make_plane

pytestmark = pytest.mark.process


def test_one_port_serves_portal_and_plane(tmp_path: Path, fresh_database: str) -> None:
    server = make_plane(tmp_path, fresh_database, ALLOWED_HOSTS="127.0.0.1")
    server.command[-1] = "gateway.web:app"

    with server, httpx2.Client(base_url=server.url, trust_env=False, timeout=allowed(20)) as client:
        plane = client.get("/v1/models")
        health = client.get("/healthz")
        page = client.get("/api/schema/")
        missing = client.get("/api/v1/nothing/")

    assert (plane.status_code, plane.json()["error"]["code"]) == (401, "malformed_key")
    assert health.json() == {"alive": True}
    assert page.status_code == 200
    assert "openapi" in page.text
    assert missing.status_code == 404
    assert missing.json()["code"] == "unknown_route"


def test_sandbox_command_serves_and_checks_its_key(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "manage.py", "sandbox_upstream", "--port", str(port), "--data-dir", str(tmp_path), "--key", "k"]

    with Server(command, port, dict(os.environ), "/journal", tmp_path / "log") as server:
        refused = httpx2.get(f"{server.url}/v1/models", trust_env=False)
        listed = httpx2.get(f"{server.url}/v1/models", headers={"authorization": "Bearer k"}, trust_env=False)

    assert refused.status_code == 401
    assert [model["id"] for model in listed.json()["data"]] == ["sandbox-large", "sandbox-small", "sandbox-embed"]


def test_sandbox_conditions_by_path_query_and_header(sandbox_upstream: SandboxUpstream) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}

    def ask(path: str, **headers: str) -> httpx2.Response:
        return httpx2.post(f"{sandbox_upstream.url}{path}", json=request, headers=headers, trust_env=False)

    first, second = ask("/v1/chat/completions"), ask("/v1/chat/completions")
    answers = [
        ask("/faults/500/v1/chat/completions"),
        ask("/v1/chat/completions?fault=429"),
        ask("/v1/chat/completions", **{"x-sandbox-fault": "500"}),
    ]
    slow = ask("/latency/120/faults/500/v1/chat/completions")

    assert first.json()["choices"] == second.json()["choices"]
    assert first.json()["usage"] == second.json()["usage"]
    assert [answer.status_code for answer in answers] == [500, 429, 500]
    assert slow.elapsed.total_seconds() > 0.12
    assert httpx2.get(f"{sandbox_upstream.url}/journal", trust_env=False).text.count("\n") == len(sandbox_upstream.journal())
