"""The plane as an ASGI application: `granian --interface asgi gateway.plane.asgi:app`."""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable
from contextlib import AsyncExitStack

import orjson

from gateway.plane import logs, settings
from gateway.plane.call import SURFACES, Surface, uuid7
from gateway.plane.errors import Refusal
from gateway.plane.http import (
    JSON,
    ClientGoneError,
    HeaderList,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    anthropic_headers,
    own_request_id,
    send_refusal,
    send_whole,
)
from gateway.plane.ingress import otlp
from gateway.plane.ingress import prompts as prompts_door
from gateway.plane.ingress.calls import serve_call
from gateway.plane.ingress.mcp import McpDoor
from gateway.plane.ingress.models import serve_models
from gateway.plane.ingress.ofrep import serve_flags
from gateway.plane.plane import Plane

logger = logging.getLogger(__name__)

PREFIXES = ("/v1/", "/mcp/", "/ofrep/")
PATHS = frozenset({"/v1", "/mcp", "/healthz", "/readyz", "/metrics"})


def is_ours(path: str) -> bool:
    """Whether a path belongs to the plane; `gateway.web` sends everything else to the portal."""
    return path.startswith(PREFIXES) or path in PATHS


class PlaneApp:
    """Routes requests of one plane process and runs its lifespan."""

    def __init__(self) -> None:
        self._plane: Plane | None = None
        self._mcp: McpDoor | None = None
        self._running = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def start(self) -> None:
        """Read the settings and start the plane; SettingsError says what is wrong."""
        logs.configure()
        self._plane = Plane(settings.read())
        self._mcp = McpDoor(self._plane)
        await self._plane.start()
        self._running.push_async_callback(self._plane.stop)
        await self._running.enter_async_context(self._mcp.run())

    async def stop(self) -> None:
        await self._running.aclose()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except settings.SettingsError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        # What stands now stands for ever. To look through it again and again for what may go would pause all calls for a tenth of a second.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000)  # what a call leaves dies without it; to look for more every few calls takes a hundredth of the processor
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        plane, mcp = self._plane, self._mcp
        started = False

        def noting_send(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        try:
            if plane is None or mcp is None or not plane.is_started:
                raise Refusal("store_unavailable", "The gateway is not running.", retry_after_s=1)
            await _route(plane, mcp, scope, headers, receive, noting_send)
        except ClientGoneError:
            return
        except Refusal as refusal:
            allow = _ALLOWED.get(scope["path"], b"GET")
            await _refuse(
                send, scope["path"], refusal, own_request_id(headers) or uuid7(), [(b"allow", allow)] if refusal.status == 405 else []
            )
        except Exception:
            request_id = own_request_id(headers) or uuid7()
            logger.exception("plane.call_failed", extra={"request_id": request_id, "path": scope["path"]})
            if not started:
                failure = Refusal("internal_error", "The gateway failed. The operator's log has the request id.")
                await _refuse(send, scope["path"], failure, request_id, [])


_SURFACES: dict[str, Surface] = {path: surface for surface, path in SURFACES.items()}
_ALLOWED = dict.fromkeys([*_SURFACES, otlp.PATH], b"POST")


async def _refuse(send: Send, path: str, refusal: Refusal, request_id: str, extra: HeaderList) -> None:
    """In the Anthropic shape to whoever asks for such a path of its protocol, found or not."""
    in_anthropic = path.startswith(SURFACES["messages"])
    if in_anthropic:
        extra = [*extra, *anthropic_headers(request_id)]
    await send_refusal(send, refusal, request_id, 0, extra, in_anthropic=in_anthropic)


async def _route(plane: Plane, mcp: McpDoor, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
    path, method = scope["path"], scope["method"]
    surface = _SURFACES.get(path)
    if surface is not None:
        _allow(method, "POST")
        await serve_call(plane, surface, headers, receive, send)
    elif path == otlp.PATH:
        _allow(method, "POST")
        await otlp.serve_traces(plane, headers, receive, send)
    elif path == "/v1/models" or path.startswith("/v1/models/"):
        _allow(method, "GET")
        await serve_models(plane, path[len("/v1/models/") :] or None, headers, receive, send)
    elif path == prompts_door.PATH or path.startswith(f"{prompts_door.PATH}/"):
        _allow(method, "GET")
        slug = path[len(prompts_door.PATH) + 1 :] or None
        await prompts_door.serve_prompts(plane, slug, scope["query_string"], headers, receive, send)
    elif path == "/mcp" or path.startswith("/mcp/"):
        await mcp.serve(scope, headers, receive, send)
    elif path.startswith("/ofrep/"):
        await serve_flags(plane, path, method, headers, receive, send)
    elif path == "/healthz":
        _allow(method, "GET")
        await send_whole(send, 200, [JSON], b'{"alive":true}')
    elif path == "/readyz":
        _allow(method, "GET")
        await _serve_readiness(plane, send)
    elif path == "/metrics":
        _allow(method, "GET")
        text = plane.metrics.text(plane.gauges).encode()
        await send_whole(send, 200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], text)
    else:
        raise Refusal("unknown_route", f"There is nothing at {method} {path[:200]}.")


async def _serve_readiness(plane: Plane, send: Send) -> None:
    """Ready means: may be sent calls. Without a database the plane is ready, since it serves from its snapshots."""
    state = {
        "ready": not plane.spool.is_full,
        "database": "away" if plane.snapshots.is_away else "ok",
        "spool": "full" if plane.spool.is_full else "ok",
        "spool_bytes": plane.spool.bytes_on_disk,
        "tenants": len(plane.snapshots.versions),
        "presidio": plane.presidio.state,
    }
    await send_whole(send, 200 if state["ready"] else 503, [JSON], orjson.dumps(state))


def _allow(method: str, expected: str) -> None:
    if method != expected:
        raise Refusal("method_not_allowed", f"Use {expected} here.")


app = PlaneApp()
