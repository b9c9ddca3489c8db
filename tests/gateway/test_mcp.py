"""The MCP surface of a real plane, called by the official client, in front of servers of both eras of the protocol."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from gateway.contract import snapshot as contract
from tests import bootstrap
from tests.clock import allowed
from tests.gateway.conftest import GRANTED, Org, Plane, SandboxUpstream, free_port, make_org, wait_until

pytestmark = pytest.mark.process

MODES = ["auto", "legacy"]
CONVERT = contract.Tool(
    name="convert_units", title="Convert units", description="Converts.",
    input_schema='{"type":"object","properties":{"value":{"type":"number"},"source":{"type":"string"},"target":{"type":"string"}},"required":["value","source","target"]}',
    annotations='{"readOnlyHint":true}',
)  # fmt: skip
HIDDEN = contract.Tool(name="hidden", title="", description="", input_schema="{}", enabled=False)


def tool_server(url: str, *tools: contract.Tool, namespace: str = "box", **fields: Any) -> contract.ToolServer:
    given = {"sealed_secret": "", "feature_class": "assistants", "timeout_s": 5.0}
    return contract.ToolServer(namespace=namespace, url=url, tools=tools, **{**given, **fields})


@pytest.fixture
def tooled(plane: Plane, sandbox_upstream: SandboxUpstream) -> Org:
    return make_org(plane, sandbox_upstream, tool_servers={"box": tool_server(sandbox_upstream.mcp_url, CONVERT, HIDDEN)})


@asynccontextmanager
async def mcp_client(org: Org, path: str = "/mcp", mode: str = "auto", key: str | None = None) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {key or org.key}"}, trust_env=False, timeout=20) as http,
        Client(streamable_http_client(org.plane.url + path, http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", MODES)
async def test_tools_are_listed_and_called(tooled: Org, mode: str) -> None:
    async with mcp_client(tooled, mode=mode) as client:
        listed = (await client.list_tools()).tools
        result = await client.call_tool("box__convert_units", {"value": 2, "source": "km", "target": "m"})

    assert [tool.name for tool in listed] == ["box__convert_units"]
    assert listed[0].annotations is not None
    assert listed[0].annotations.read_only_hint
    assert result.structured_content == {"result": 2000.0}
    [event] = tooled.plane.wait_for_events(tooled.id, 1)
    assert (event["kind"], event["status"], event["model"], event["provider"]) == ("tool", "ok", "box__convert_units", "box")
    assert (event["input_tokens"], event["usage_source"]) == (None, "none")


@pytest.mark.parametrize("name", ["convert_units", "box__convert_units"])
async def test_server_of_its_own_path_shows_plain_names(tooled: Org, name: str) -> None:
    async with mcp_client(tooled, "/mcp/box") as client:
        listed = (await client.list_tools()).tools
        result = await client.call_tool(name, {"value": 1, "source": "ft", "target": "m"})

    assert [tool.name for tool in listed] == ["convert_units"]
    assert result.structured_content == {"result": 0.3048}
    [event] = tooled.plane.wait_for_events(tooled.id, 1)
    assert event["model"] == "box__convert_units"


@pytest.mark.parametrize("mode", MODES)
async def test_arguments_that_do_not_fit_never_leave_the_gateway(tooled: Org, mode: str) -> None:
    async with mcp_client(tooled, mode=mode) as client:
        result = await client.call_tool("box__convert_units", {"value": "two"})

    assert result.is_error
    assert "is a required property" in str(result.content) or "is not of type" in str(result.content)
    [event] = tooled.plane.wait_for_events(tooled.id, 1)
    assert (event["status"], event["error_code"]) == ("refused", "invalid_arguments")


async def test_error_of_the_tool_is_its_result(tooled: Org) -> None:
    async with mcp_client(tooled) as client:
        result = await client.call_tool("box__convert_units", {"value": 2, "source": "km", "target": "kg"})

    assert result.is_error
    [event] = tooled.plane.wait_for_events(tooled.id, 1)
    assert (event["status"], event["error_code"]) == ("upstream_error", "tool_error")


async def _refusal(org: Org, mode: str, tool: str = "box__convert_units") -> dict[str, Any]:
    async with mcp_client(org, mode=mode) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool(tool, {"value": 1, "source": "m", "target": "m"})
    data = refused.value.error.data
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("mode", MODES)
async def test_refusals_name_their_code(tooled: Org, mode: str) -> None:
    limit = contract.Limit(id="k:hour", scope="key", scope_name=tooled.key_id, resource="requests", window="hour", amount=1)
    unknown = await _refusal(tooled, mode, "box__nothing")
    hidden = await _refusal(tooled, mode, "box__hidden")

    tooled.change_key(tools=("other",))
    wait_until(lambda: _listed(tooled) == [], 5)
    forbidden = await _refusal(tooled, mode)
    tooled.change_key(tools=None, limits=(limit,))
    wait_until(lambda: _listed(tooled) == ["box__convert_units"], 5)
    async with mcp_client(tooled, mode=mode) as client:
        await client.call_tool("box__convert_units", {"value": 1, "source": "m", "target": "m"})
    limited = await _refusal(tooled, mode)
    tooled.change(consents={"assistants": msgspec.structs.replace(GRANTED, granted=False, reason="Switched off by Ann.")})
    withdrawn = await _until_refused_as("consent_withdrawn", tooled, mode)

    assert [each["code"] for each in (unknown, hidden, forbidden, limited)] == [
        "tool_not_found",
        "tool_not_found",
        "tool_not_allowed",
        "rate_limit_exceeded",
    ]
    assert "resets_at" in limited
    assert withdrawn["message"] == "Switched off by Ann."


async def _until_refused_as(code: str, org: Org, mode: str) -> dict[str, Any]:
    for _ in range(200):
        refusal = await _refusal(org, mode)
        if refusal["code"] == code:
            return refusal
    raise AssertionError(f"never refused as {code}")


def _listed(org: Org) -> list[str]:
    answer = org.post(
        "/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers={"accept": "application/json, text/event-stream"}
    )
    return [tool["name"] for tool in answer.json()["result"]["tools"]]


def test_without_a_key_there_is_no_mcp(plane: Plane, tooled: Org) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

    nobody = httpx2.post(f"{plane.url}/mcp", json=call, trust_env=False)
    elsewhere = tooled.post("/mcp/nothing", json=call)
    listening = httpx2.get(f"{plane.url}/mcp", headers={"authorization": f"Bearer {tooled.key}"}, trust_env=False)

    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    assert elsewhere.status_code == 404
    assert (listening.status_code, listening.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("mode", MODES)
async def test_server_that_is_away_or_private(plane: Plane, sandbox_upstream: SandboxUpstream, mode: str) -> None:
    ping = contract.Tool(name="ping", title="", description="", input_schema="{}")
    org = make_org(plane, sandbox_upstream, tool_servers={
        "away": tool_server("http://127.0.0.1:1/mcp", ping, namespace="away"),
        "inner": tool_server(f"http://localhost:{sandbox_upstream.port}/mcp", ping, namespace="inner"),
        "metadata": tool_server("http://169.254.169.254/mcp", ping, namespace="metadata"),
    })  # fmt: skip

    refusals = [await _refusal(org, mode, name) for name in ("away__ping", "inner__ping", "metadata__ping")]

    assert {refusal["code"] for refusal in refusals} == {"upstream_error"}
    assert "could not be reached" in refusals[0]["message"]
    assert "must use https" in refusals[1]["message"]
    assert "private address" in refusals[2]["message"]
    assert {event["status"] for event in plane.wait_for_events(org.id, 3)} == {"upstream_error"}


EVERYTHING = bootstrap.ROOT / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"


@dataclass
class Everything:
    """The reference server of the protocol's makers, in the older era; written by nobody here."""

    port: int
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(EVERYTHING), "streamableHttp"],
            env={**os.environ, "PORT": str(self.port)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, 15, "server-everything")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return httpx2.get(self.url, timeout=1, trust_env=False).status_code > 0
        except httpx2.HTTPError:
            return False


@pytest.fixture(scope="module")
def everything() -> Iterator[Everything]:
    if shutil.which("node") is None:
        pytest.skip("there is no node on this machine")
    server = Everything(free_port())
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("mode", MODES)
async def test_server_that_nobody_here_wrote(plane: Plane, sandbox_upstream: SandboxUpstream, everything: Everything, mode: str) -> None:
    async with Client(everything.url) as direct:
        discovered = [
            contract.Tool(
                name=tool.name, title=tool.title or "", description=tool.description or "", input_schema=msgspec.json.encode(tool.input_schema).decode(),
                output_schema=msgspec.json.encode(tool.output_schema).decode() if tool.output_schema else None,
            )
            for tool in (await direct.list_tools()).tools
        ]  # fmt: skip
    org = make_org(plane, sandbox_upstream, tool_servers={"every": tool_server(everything.url, *discovered, namespace="every")})

    async with mcp_client(org, mode=mode) as client:
        listed = (await client.list_tools()).tools
        echoed = await client.call_tool("every__echo", {"message": "hello there"})
        summed = await client.call_tool("every__get-sum", {"a": 2, "b": 40})
        structured = await client.call_tool("every__get-structured-content", {"location": "New York"})

    assert len(listed) == len(discovered) > 5
    assert "hello there" in str(echoed.content)
    assert "42" in str(summed.content)
    assert structured.structured_content
    assert [event["status"] for event in plane.wait_for_events(org.id, 3)] == ["ok"] * 3


async def test_withdrawn_consent_ends_a_tool_that_runs(plane: Plane, sandbox_upstream: SandboxUpstream, everything: Everything) -> None:
    long = contract.Tool(name="trigger-long-running-operation", title="", description="", input_schema='{"type":"object"}')
    org = make_org(plane, sandbox_upstream, tool_servers={"every": tool_server(everything.url, long, namespace="every", timeout_s=60.0)})
    withdrawn = contract.Consent(feature_class="assistants", granted=False, reason="A leak.")

    async with mcp_client(org) as client:
        await client.list_tools()
        asyncio.get_running_loop().call_later(0.3, lambda: org.change(consents={"assistants": withdrawn}))
        began = time.monotonic()
        with pytest.raises(MCPError, match=r"A leak\."):
            await client.call_tool("every__trigger-long-running-operation", {"duration": 30, "steps": 2})

    assert time.monotonic() - began < allowed(5)
    [event] = plane.wait_for_events(org.id, 1)
    assert (event["status"], event["error_code"], event["steps"][-2][0]) == ("refused", "consent_withdrawn", "call_upstream")


async def test_restarted_server_is_called_again(plane: Plane, sandbox_upstream: SandboxUpstream, everything: Everything) -> None:
    echo = contract.Tool(name="echo", title="", description="", input_schema='{"type":"object"}')
    org = make_org(plane, sandbox_upstream, tool_servers={"every": tool_server(everything.url, echo, namespace="every")})

    async with mcp_client(org) as client:
        await client.call_tool("every__echo", {"message": "one"})
        everything.stop()
        everything.start()  # it knows no sessions now
        forgotten = await client.call_tool("every__echo", {"message": "two"})
        everything.stop()
        with pytest.raises(MCPError) as away:
            await client.call_tool("every__echo", {"message": "three"})
        everything.start()
        back = await client.call_tool("every__echo", {"message": "four"})

    assert "two" in str(forgotten.content)
    assert isinstance(away.value.error.data, dict)
    assert away.value.error.data["code"] == "upstream_error"
    assert "four" in str(back.content)
