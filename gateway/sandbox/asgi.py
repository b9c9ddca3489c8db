"""The sandbox as an ASGI application. `SANDBOX_DATA_DIR` and `SANDBOX_KEY` configure it, see `__main__`.

    POST /v1/chat/completions   POST /v1/responses   POST /v1/messages[/count_tokens]   POST /v1/embeddings   GET /v1/models   POST /mcp
    GET /journal    what was served, one JSON object per line

Latency and faults come by header (`x-sandbox-latency-ms`, `x-sandbox-fault`), by query (`?latency_ms=250&fault=429`), or by the
path of a base URL that a provider is registered with: `http://…/latency/250/v1`, `http://…/faults/cut/v1`. Faults:
500, 429, 529, hang (no answer), cut (the connection breaks in the middle), bad_json, drip (slowly, piece by piece), huge (a whole answer of 100 MB),
linger (a stream that ends late after its last event).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from gateway.plane.http import Receive, Scope, Send
from gateway.sandbox.surfaces import SURFACES, Rendered
from gateway.sandbox.tools import server

MODELS = ("sandbox-large", "sandbox-small", "sandbox-embed")
FAULTS = frozenset({"500", "429", "529", "hang", "cut", "bad_json", "drip", "huge", "linger"})
ANTHROPIC_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
COUNT_TOKENS = "/v1/messages/count_tokens"
HANG_S = 3600.0
DRIP_S = 0.2
HUGE_MB = 100
LINGER_S = 1.0


class SandboxApp:
    """One sandbox process."""

    def __init__(self, data_dir: Path, key: str) -> None:
        self._path = data_dir / "journal.jsonl"
        self._key = key
        self._mcp = server.streamable_http_app(stateless_http=True, json_response=True, host="0.0.0.0")  # noqa: S104 - binds nothing; says which Host headers are taken
        self._running = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            await self._running.enter_async_context(self._mcp.router.lifespan_context(self._mcp))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._running.aclose()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        path, fault, latency_ms = _conditions(scope, headers)
        if path == "/journal":
            await _send(send, 200, self._path.read_bytes() if self._path.exists() else b"", "application/jsonl")
            return
        if self._key and not hmac.compare_digest(_credential(path, headers), self._key):
            await _send_error(send, 401, "Incorrect API key provided.", "invalid_api_key", path=path)
            return
        if path == "/mcp":
            await self._mcp(scope, receive, send)
            return
        if path in ("/v1/models", "/v1/models/"):
            listed = [{"id": name, "object": "model", "created": 1735689600, "owned_by": "sandbox"} for name in MODELS]
            await _send_json(send, 200, {"object": "list", "data": listed})
            return
        if path not in SURFACES and path != COUNT_TOKENS:
            await _send_error(send, 404, f"There is nothing at {path}.", "not_found")
            return
        if scope["method"] != "POST":
            await _send_error(send, 405, "Use POST.", "method_not_allowed")
            return
        try:
            request = json.loads(await _body(receive))
            if not isinstance(request, dict) or not isinstance(request.get("model"), str):
                raise ValueError("the request must name a model")
            rendered = SURFACES["/v1/messages"]({**request, "max_tokens": 1}) if path == COUNT_TOKENS else SURFACES[path](request)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            await _send_error(send, 400, f"Invalid request: {error}", "invalid_request", path=path)
            return
        await asyncio.sleep(latency_ms / 1000)
        await self._answer(path, request, rendered, headers, fault, send)

    async def _answer(
        self, path: str, request: dict[str, Any], rendered: Rendered, headers: dict[str, str], fault: str, send: Send
    ) -> None:
        request_id = headers.get("x-request-id", uuid.uuid4().hex)
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        if fault in ("500", "429", "529"):
            self._note(request_id, request["model"], int(fault), None, None)
            await _send_error(send, int(fault), f"The sandbox was asked to answer {fault}.", f"sandbox_{fault}", retry_after=1, path=path)
            return
        if path == COUNT_TOKENS:
            self._note(request_id, request["model"], 200, rendered.input_tokens, 0)
            await _send_json(send, 200, {"input_tokens": rendered.input_tokens})
            return
        self._note(request_id, request["model"], 200, rendered.input_tokens, rendered.output_tokens)
        if request.get("stream") and rendered.events:
            await _stream(rendered.events, fault, send)
        else:
            await _whole(rendered.whole, fault, send)

    def _note(self, request_id: str, model: str, status: int, input_tokens: int | None, output_tokens: int | None) -> None:
        line = {
            "at": time.time(), "request_id": request_id, "model": model, "status": status,
            "input_tokens": input_tokens, "output_tokens": output_tokens,
        }  # fmt: skip
        with open(self._path, "ab") as journal:
            journal.write(json.dumps(line).encode() + b"\n")


def _conditions(scope: Scope, headers: dict[str, str]) -> tuple[str, str, float]:
    """The path without its conditions, the fault (or "") and the latency in milliseconds."""
    query = {name: values[-1] for name, values in parse_qs(scope.get("query_string", b"").decode()).items()}
    fault = headers.get("x-sandbox-fault") or query.get("fault", "")
    latency = headers.get("x-sandbox-latency-ms") or query.get("latency_ms", "0")
    path: str = scope["path"]
    while path.startswith(("/faults/", "/latency/")):
        _, what, value, rest = [*path.split("/", 3), "", ""][:4]
        fault, latency = (value, latency) if what == "faults" else (fault, value)
        path = f"/{rest}"
    try:
        latency_ms = min(60_000.0, max(0.0, float(latency)))
    except ValueError:
        latency_ms = 0.0
    return path, fault if fault in FAULTS else "", latency_ms


def _credential(path: str, headers: dict[str, str]) -> str:
    """Each protocol has a header of its own for it."""
    if path.startswith("/v1/messages") or "anthropic-version" in headers:
        return headers.get("x-api-key", "")
    return headers.get("authorization", "").removeprefix("Bearer ")


async def _whole(answer: dict[str, Any], fault: str, send: Send) -> None:
    body = json.dumps(answer).encode()
    if fault == "bad_json":
        body = body[: len(body) // 2]
    if fault not in ("cut", "drip", "huge"):
        await _send(send, 200, body, "application/json")
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    if fault == "huge":
        for _ in range(HUGE_MB):
            await send({"type": "http.response.body", "body": b" " * 10**6, "more_body": True})
        await send({"type": "http.response.body", "body": body})
        return
    if fault == "cut":
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        raise ConnectionAbortedError("the sandbox was asked to break the connection")
    for start in range(0, len(body), 64):
        await send({"type": "http.response.body", "body": body[start : start + 64], "more_body": True})
        await asyncio.sleep(DRIP_S)
    await send({"type": "http.response.body", "body": b""})


async def _stream(events: list[bytes], fault: str, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for index, event in enumerate(events):
        if fault == "cut" and index == len(events) // 2:
            raise ConnectionAbortedError("the sandbox was asked to break the connection")
        body = b'data: {"choices": [{"delta"\n\n' + event if fault == "bad_json" and index == len(events) - 2 else event
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if fault == "drip":
            await asyncio.sleep(DRIP_S)
    if fault == "linger":
        await asyncio.sleep(LINGER_S)
    await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def _send(send: Send, status: int, body: bytes, content_type: str, *headers: tuple[bytes, bytes]) -> None:
    await send({
        "type": "http.response.start", "status": status,
        "headers": [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)), *headers],
    })  # fmt: skip
    await send({"type": "http.response.body", "body": body})


async def _send_json(send: Send, status: int, data: dict[str, Any], *headers: tuple[bytes, bytes]) -> None:
    await _send(send, status, json.dumps(data).encode(), "application/json", *headers)


async def _send_error(send: Send, status: int, message: str, code: str, retry_after: int | None = None, path: str = "") -> None:
    headers = [(b"retry-after", b"%d" % retry_after)] if retry_after is not None else []
    if path.startswith("/v1/messages"):
        error = {"type": ANTHROPIC_ERRORS.get(status, "api_error"), "message": message}
        await _send_json(send, status, {"type": "error", "error": error, "request_id": "req_sandbox"}, *headers)
        return
    error = {"message": message, "type": "sandbox_error", "param": None, "code": code}  # type: ignore[dict-item]  # null is a value there
    await _send_json(send, status, {"error": error}, *headers)


def make() -> SandboxApp:
    return SandboxApp(Path(os.environ.get("SANDBOX_DATA_DIR") or ".data/sandbox"), os.environ.get("SANDBOX_KEY", ""))


app = make()
