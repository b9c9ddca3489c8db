"""The official MCP client, used from synchronous services: discovering a server's tools, and running one through our gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
import mcp_types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from catalog.errors import OutboundRefusedError, UnreachableError
from gateway.contract.outbound import OutboundError
from governance.http import guarded_async_client

DISCOVERY_TIMEOUT_S = 20.0
RUN_TIMEOUT_S = 65.0
"""A little more than the plane gives a tool server, so that the plane's own words arrive."""
MAX_TOOLS = 500
_CLIENT = mcp_types.Implementation(name="gatehouse", version="1")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Discovery:
    """What a server told about itself and its tools."""

    protocol_version: str
    server_info: str
    tools: list[dict[str, Any]]
    """Definitions with the fields of `lifecycle.DEFINITION_FIELDS`."""


@dataclass(frozen=True)
class ToolRun:
    """One run of a tool through the gateway."""

    ok: bool
    duration_ms: float
    texts: list[str]
    """Text parts of the result, JSON made readable."""
    structured: str
    """Structured content as JSON text, empty when there is none."""
    other: list[str]
    """Kinds of parts that are not text, for example `image (image/png)`."""
    error: str = ""
    code: str = ""


def discover(url: str, secret: str) -> Discovery:
    """Connect, negotiate the protocol and list all tools.

    Raises OutboundRefusedError when the URL may not be called and UnreachableError, in words, for everything else.
    """

    async def ask(client: Client) -> Discovery:
        tools: list[dict[str, Any]] = []
        cursor: str | None = None
        if client.server_capabilities.tools is None:
            raise UnreachableError("The server answers MCP, but offers no tools.", field="url")
        while True:
            page = await client.list_tools(cursor=cursor)
            tools += [_definition(tool) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
            if len(tools) > MAX_TOOLS:
                raise UnreachableError(f"The server offers more than {MAX_TOOLS} tools.", field="url")
        info = client.server_info
        return Discovery(client.protocol_version, f"{info.name} {info.version}"[:160] if info else "", tools)

    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    try:
        return asyncio.run(
            _with_client(url, guarded_async_client(timeout_s=DISCOVERY_TIMEOUT_S, headers=headers), DISCOVERY_TIMEOUT_S, ask)
        )
    except* OutboundError as group:
        raise OutboundRefusedError(str(_first(group)), field="url") from group
    except* UnreachableError as group:
        raise _first(group) from None
    except* TimeoutError as group:
        raise UnreachableError(f"The server did not answer within {DISCOVERY_TIMEOUT_S:.0f} s.", field="url") from group
    except* httpx2.HTTPStatusError as group:
        error = _first(group)
        raise UnreachableError(_status_words(error), field="url") from group
    except* (httpx2.HTTPError, httpx2.InvalidURL) as group:
        raise UnreachableError(f"No MCP server answers there: {_words(_first(group))}.", field="url") from group
    except* MCPError as group:
        raise UnreachableError(f"The server does not speak MCP as it must: {_words(_first(group))}.", field="url") from group
    except* ValueError as group:  # pydantic's ValidationError: a malformed definition or answer
        raise UnreachableError("The server's answer does not follow the MCP specification.", field="url") from group


def run(gateway_url: str, token: str, tool: str, arguments: dict[str, Any]) -> ToolRun:
    """Call one tool through the gateway with a session token, so that it is governed like any other call.

    Refusals and failures are part of the result, not exceptions: they are what the person wants to see.
    """
    started = time.perf_counter()

    async def ask(client: Client) -> ToolRun:
        result = await client.call_tool(tool, arguments, read_timeout_seconds=RUN_TIMEOUT_S)
        return _as_run(result, 1000 * (time.perf_counter() - started))

    def failed(message: str, code: str = "") -> ToolRun:
        return ToolRun(False, 1000 * (time.perf_counter() - started), [], "", [], message, code)

    # The gateway is ours and may be on loopback; no person can type this URL.
    http = httpx2.AsyncClient(timeout=RUN_TIMEOUT_S, follow_redirects=False, trust_env=False, headers={"Authorization": f"Bearer {token}"})
    outcome: ToolRun | None = None
    try:
        return asyncio.run(_with_client(gateway_url, http, RUN_TIMEOUT_S, ask))
    except* MCPError as group:
        error = _first(group)
        data = error.data if isinstance(error.data, dict) else {}
        outcome = failed(error.message, str(data.get("code", "")))
    except* TimeoutError:
        outcome = failed(f"No answer within {RUN_TIMEOUT_S:.0f} s.")
    except* (httpx2.HTTPError, httpx2.InvalidURL) as group:
        outcome = failed(f"The gateway at {gateway_url} can't be reached: {_words(_first(group))}.")
    return outcome


async def _with_client(url: str, http: httpx2.AsyncClient, timeout_s: float, ask: Callable[[Client], Awaitable[Result]]) -> Result:
    async with (
        asyncio.timeout(timeout_s),
        http,
        Client(streamable_http_client(url, http_client=http), mode="auto", client_info=_CLIENT) as client,
    ):
        return await ask(client)


def _definition(tool: mcp_types.Tool) -> dict[str, Any]:
    plain = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "name": tool.name,
        "title": tool.title or (tool.annotations.title if tool.annotations else None) or "",
        "description": tool.description or "",
        "input_schema": plain.get("inputSchema", {}),
        "output_schema": plain.get("outputSchema"),
        "annotations": plain.get("annotations"),
    }


def _as_run(result: mcp_types.CallToolResult, duration_ms: float) -> ToolRun:
    texts, other = [], []
    for part in result.content:
        if isinstance(part, mcp_types.TextContent):
            texts.append(_pretty(part.text))
        else:
            other.append(f"{part.type} ({getattr(part, 'mime_type', None) or 'no type'})")
    structured = json.dumps(result.structured_content, indent=2, ensure_ascii=False) if result.structured_content is not None else ""
    error = (texts[0] if texts else "The tool reported an error without words.") if result.is_error else ""
    return ToolRun(not result.is_error, duration_ms, texts, structured, other, error, "tool_error" if result.is_error else "")


def _pretty(text: str) -> str:
    """JSON with indentation; any other text as it is."""
    if text[:1] not in "{[":
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _status_words(error: httpx2.HTTPStatusError) -> str:
    status = error.response.status_code
    if status in (401, 403):
        return f"The server refuses with {status}: it wants another token."
    if status == 404:
        return "Nothing answers MCP at this path (404). It often ends in /mcp."
    return f"The server answers with HTTP {status}."


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _first(group: BaseExceptionGroup[Any]) -> Any:
    return next(_leaves(group))


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")[:200]
