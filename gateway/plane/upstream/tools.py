"""The exchange with a tool server behind the gateway: pooled MCP sessions, one per tenant and server."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, Implementation
from pydantic import ValidationError

from gateway.contract.outbound import AllowList, OutboundError
from gateway.contract.outbound_httpx import GuardedAsyncTransport
from gateway.contract.sealing import UnsealError
from gateway.plane.call import Call
from gateway.plane.errors import PlaneError, Refusal

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
IDLE_S = 300.0
_UNKNOWN_SESSION = frozenset((400, 404))
"""How servers say that they do not know a session, for example after a restart. The call was then not run."""
_CLOSED = "Connection closed"
"""The SDK's own message; servers use its code for other things too."""


class ToolServerError(PlaneError):
    """No session with a tool server could be opened."""


@dataclass(frozen=True)
class _Address:
    tenant: str
    namespace: str
    url: str
    sealed_secret: str


class _Session:
    """One open `mcp.Client`. A task of its own enters and leaves it, as the SDK's cancel scopes demand."""

    def __init__(self, url: str, secret: str, allow: AllowList) -> None:
        self._url = url
        self._secret = secret
        self._allow = allow
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self.last_used = time.monotonic()
        self.is_forgotten = False
        """The server rejected a request of this session before running it."""
        self.task = asyncio.create_task(self._run())

    async def client(self) -> Client:
        """The open client; ToolServerError when it could not be opened."""
        self.last_used = time.monotonic()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await asyncio.shield(self._ready)
        except TimeoutError as error:
            raise ToolServerError("it did not answer in time") from error

    @property
    def is_over(self) -> bool:
        return self.task.done()

    async def close(self) -> None:
        self._stop.set()
        await asyncio.wait([self.task], timeout=2.0)
        self.task.cancel()

    async def _run(self) -> None:
        headers = {"user-agent": "gatehouse"}
        if self._secret:
            headers["authorization"] = f"Bearer {self._secret}"
        try:
            async with (
                httpx2.AsyncClient(
                    transport=GuardedAsyncTransport(self._allow),
                    headers=headers,
                    timeout=httpx2.Timeout(10.0, read=None),  # the call's own timeout limits the reading
                    trust_env=False,
                    event_hooks={"response": [self._note_rejection]},
                ) as http,
                Client(
                    streamable_http_client(self._url, http_client=http),
                    client_info=Implementation(name="gatehouse", version="0.1"),
                    read_timeout_seconds=CONNECT_TIMEOUT_S,
                ) as client,
            ):
                self._ready.set_result(client)
                await self._stop.wait()
        except Exception as error:  # noqa: BLE001 - the outermost frame of this task: what happened is told to whoever waits
            cause = _first_cause(error)
            if self._ready.done():
                logger.warning("tool_session.broke", extra={"error": type(cause).__name__})
            else:
                self._ready.set_exception(ToolServerError(_reason(cause)))
                self._ready.exception()  # nobody may be waiting any more; that is no error

    async def _note_rejection(self, response: httpx2.Response) -> None:
        if response.status_code in _UNKNOWN_SESSION and "mcp-session-id" in response.request.headers:
            self.is_forgotten = True


class ToolSessions:
    """The sessions of this process."""

    def __init__(self, allow: AllowList) -> None:
        self._allow = allow
        self._sessions: dict[_Address, _Session] = {}

    @property
    def count(self) -> int:
        return len(self._sessions)

    async def call(self, address: _Address, secret: str, tool: str, call: Call, timeout_s: float) -> CallToolResult:
        """Run one tool; once more when the server had forgotten the session and so ran nothing."""
        for is_last in (False, True):
            session = self._sessions.get(address)
            if session is None or session.is_over:
                session = self._sessions[address] = _Session(address.url, secret, self._allow)
            try:
                client = await session.client()
                call.may_have_spent = True
                return await client.call_tool(tool, call.arguments, read_timeout_seconds=timeout_s)
            except ToolServerError:
                await self._drop(address, session)
                raise
            except MCPError as error:
                if session.is_forgotten:
                    await self._drop(address, session)
                    if not is_last:
                        continue
                if error.code == CONNECTION_CLOSED and error.message == _CLOSED:
                    await self._drop(address, session)
                    raise ToolServerError("the connection broke") from error
                raise
        raise AssertionError("unreachable")

    async def _drop(self, address: _Address, session: _Session) -> None:
        if self._sessions.get(address) is session:
            del self._sessions[address]
        await session.close()

    async def sweep(self) -> None:
        """Close sessions that are idle or over."""
        now = time.monotonic()
        for address, session in list(self._sessions.items()):
            if session.is_over or now - session.last_used > IDLE_S:
                await self._drop(address, session)

    async def close(self) -> None:
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.close() for session in sessions))


async def exchange(call: Call) -> str:
    """Run the tool on its server. Refusal when the server cannot be asked; MCPError when it answers with an error."""
    assert call.tool is not None
    assert call.served is not None
    server, tool = call.tool.server, call.tool.tool
    address = _Address(call.served.tenant, server.namespace, server.url, server.sealed_secret)
    began = time.perf_counter_ns()
    try:
        secret = call.served.server_secret(server)
        result = await call.plane.tools.call(address, secret, tool.name, call, server.timeout_s)
    except MCPError as error:
        call.status = "upstream_error"
        if error.code == REQUEST_TIMEOUT:
            raise Refusal(
                "upstream_timeout", f"The tool server {server.namespace} did not answer within {server.timeout_s:g} seconds."
            ) from error
        call.error_code = "upstream_error"
        raise
    except ToolServerError as error:
        call.status = "upstream_error"
        raise Refusal("upstream_error", f"The tool server {server.namespace} cannot be called: {error}.") from error
    except (UnsealError, OutboundError) as error:
        call.status = "upstream_error"
        raise Refusal("upstream_error", f"The tool server {server.namespace} cannot be called: {error}") from error
    except (httpx2.HTTPError, ValidationError, RuntimeError) as error:  # RuntimeError: the result breaks its output schema
        call.status = "upstream_error"
        raise Refusal("upstream_error", f"The tool server {server.namespace} gave no valid answer.") from error
    finally:
        call.upstream_ns += time.perf_counter_ns() - began
    call.upstream_model = tool.name
    call.result = result
    if result.is_error:
        call.status, call.error_code = "upstream_error", "tool_error"
        return "the tool reported an error"
    return ""


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: BaseException) -> str:
    if isinstance(error, OutboundError):
        return str(error).rstrip(".")
    if isinstance(error, MCPError):
        return f"it refused the connection ({error.message})"
    return "it could not be reached"
