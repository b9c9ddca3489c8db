"""The MCP surface: `/mcp` with every tool server of the tenant, `/mcp/<namespace>` with one.

The official SDK speaks the protocol, in both of its eras and without sessions; this file gives it the tools of whoever
asks and leads `tools/call` down the pipeline. At `/mcp` tools are named `<namespace>__<tool>`, at `/mcp/<namespace>` by their own
names; both forms are understood at both.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import orjson
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import MAX_REQUEST_BYTES, Headers, Message, Receive, Scope, Send, send_refusal, standard_headers
from gateway.plane.ingress.calls import MAX_NAME_CHARACTERS
from gateway.plane.pipeline import WHO, take, walk
from gateway.plane.plane import Plane
from gateway.plane.served import PublishedTool
from gateway.plane.upstream import tools

REFUSED = -32010
"""JSON-RPC code of a refusal by the gateway; `data.code` says which."""
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class _Visit:
    """One HTTP request to the MCP surface, whose sender is known."""

    plane: Plane
    headers: Headers
    receive: Receive
    send: Send
    caller: Call
    namespace: str | None

    def tools(self) -> list[PublishedTool]:
        """What the caller's key may use."""
        served, key = self.caller.served, self.caller.key
        assert served is not None
        assert key is not None
        return [
            published
            for published in served.tools.values()
            if (self.namespace is None or published.server.namespace == self.namespace)
            and (key.tools is None or published.server.namespace in key.tools)
        ]

    def published_name(self, name: str) -> str:
        prefix = f"{self.namespace}__"
        return name if self.namespace is None or name.startswith(prefix) else prefix + name


_visit: ContextVar[_Visit] = ContextVar("visit")


class McpDoor:
    """The MCP server of a plane process. `run` must be entered before it serves."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._manager = StreamableHTTPSessionManager(
            Server(
                "gatehouse",
                version="0.1",
                instructions="Tools of your organisation, governed by Gatehouse.",
                on_list_tools=_list_tools,
                on_call_tool=_call_tool,
                get_tool_input_schema=_input_schema,
            ),
            json_response=True,
            stateless=True,
            max_request_body_size=MAX_REQUEST_BYTES,
        )

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with self._manager.run():
            yield

    async def serve(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """One request to /mcp or /mcp/<namespace>."""
        call = Call(self._plane, "tool", headers, receive, send)
        namespace = scope["path"].removeprefix("/mcp").strip("/") or None
        try:
            if scope["method"] != "POST":
                # No sessions and no messages of our own: there is nothing to GET or DELETE.
                raise Refusal("method_not_allowed", "Use POST for /mcp.")
            await take((WHO,), call)
            assert call.served is not None
            if namespace is not None and (not _NAMESPACE.fullmatch(namespace) or namespace not in call.served.snapshot.tool_servers):
                raise Refusal("unknown_route", "There is no tool server of that name.")
        except Refusal as refusal:
            if call.key is None:
                self._plane.metrics.count_stranger(refusal.code)
            extra = [(b"allow", b"POST")] if refusal.status == 405 else None
            await send_refusal(send, refusal, call.request_id, call.overhead_us, extra)
            return
        visit = _Visit(self._plane, headers, receive, send, call, namespace)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *standard_headers(call.request_id, call.overhead_us)]
            await send(message)

        token = _visit.set(visit)
        try:
            await self._manager.handle_request({**scope, "gatehouse.visit": visit}, receive, send_with_headers)
        finally:
            _visit.reset(token)


def _visit_of(context: ServerRequestContext[Any]) -> _Visit:
    visit: _Visit = context.request.scope["gatehouse.visit"]  # type: ignore[union-attr]  # always an HTTP request here
    return visit


async def _list_tools(context: ServerRequestContext[Any], _: PaginatedRequestParams | None) -> ListToolsResult:
    visit = _visit_of(context)
    return ListToolsResult(tools=[_shown(published, visit.namespace) for published in visit.tools()])


def _shown(published: PublishedTool, namespace: str | None) -> Tool:
    tool = published.tool
    definition: dict[str, Any] = {
        "name": published.name if namespace is None else tool.name,
        "title": tool.title or None,
        "description": tool.description,
        "inputSchema": orjson.loads(tool.input_schema),
    }
    if tool.output_schema is not None:
        definition["outputSchema"] = orjson.loads(tool.output_schema)
    if tool.annotations is not None:
        definition["annotations"] = orjson.loads(tool.annotations)
    return Tool.model_validate(definition)


def _input_schema(name: str) -> Mapping[str, Any] | None:
    """For the SDK's check of `Mcp-Param-*` headers."""
    visit = _visit.get()
    served = visit.caller.served
    assert served is not None
    published = served.tools.get(visit.published_name(name))
    if published is None:
        return None
    schema: Mapping[str, Any] = orjson.loads(published.tool.input_schema)
    return schema


async def _call_tool(context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
    visit = _visit_of(context)
    call = Call(visit.plane, "tool", visit.headers, visit.receive, visit.send)
    call.request_id = visit.caller.request_id
    call.exchange = tools.exchange

    async def prepare(call: Call) -> None:
        assert call.served is not None
        if len(params.name) > MAX_NAME_CHARACTERS or not params.name.isprintable():
            raise Refusal("tool_not_found", "There is no tool of that name.", param="name")
        call.name = visit.published_name(params.name)
        call.tool = call.served.tools.get(call.name)
        call.arguments = params.arguments or {}

    try:
        await walk(call, prepare)
    except Refusal as refusal:
        error = refusal.body(call.request_id)["error"]
        if refusal.code == "invalid_arguments":
            # A model can mend its arguments only if it is told as the tool's own result.
            return CallToolResult(content=[TextContent(text=refusal.message)], is_error=True)
        raise MCPError(INVALID_PARAMS if refusal.code == "tool_not_found" else REFUSED, refusal.message, error) from refusal
    assert isinstance(call.result, CallToolResult)
    return call.result
