"""The sandbox as an ASGI application. `SANDBOX_DATA_DIR` and `SANDBOX_KEY` configure it, see `__main__`.

    POST /v1/chat/completions   POST /v1/embeddings   GET /v1/models   POST /mcp
    GET /journal    what was served, one JSON object per line

Latency and faults come by header (`x-sandbox-latency-ms`, `x-sandbox-fault`), by query (`?latency_ms=250&fault=429`), or by the
path of a base URL that a provider is registered with: `http://…/latency/250/v1`, `http://…/faults/cut/v1`. Faults:
500, 429, hang (no answer), cut (the connection breaks in the middle), bad_json, drip (slowly, piece by piece).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from gateway.plane.http import Receive, Scope, Send
from gateway.sandbox import talk
from gateway.sandbox.tools import server

MODELS = ("sandbox-large", "sandbox-small", "sandbox-embed")
FAULTS = frozenset({"500", "429", "hang", "cut", "bad_json", "drip"})
DEFAULT_DIMENSIONS = 256
HANG_S = 3600.0
DRIP_S = 0.2


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
        if self._key and not hmac.compare_digest(headers.get("authorization", ""), f"Bearer {self._key}"):
            await _send_error(send, 401, "Incorrect API key provided.", "invalid_api_key")
            return
        if path == "/mcp":
            await self._mcp(scope, receive, send)
            return
        if path in ("/v1/models", "/v1/models/"):
            listed = [{"id": name, "object": "model", "created": 1735689600, "owned_by": "sandbox"} for name in MODELS]
            await _send_json(send, 200, {"object": "list", "data": listed})
            return
        if path not in ("/v1/chat/completions", "/v1/embeddings"):
            await _send_error(send, 404, f"There is nothing at {path}.", "not_found")
            return
        if scope["method"] != "POST":
            await _send_error(send, 405, "Use POST.", "method_not_allowed")
            return
        try:
            request = json.loads(await _body(receive))
            if not isinstance(request, dict) or not isinstance(request.get("model"), str):
                raise ValueError("the request must name a model")
        except ValueError as error:
            await _send_error(send, 400, f"Invalid request: {error}", "invalid_request")
            return
        await asyncio.sleep(latency_ms / 1000)
        request_id = headers.get("x-request-id", uuid.uuid4().hex)
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        if fault in ("500", "429"):
            self._note(request_id, request["model"], int(fault), None, None)
            await _send_error(send, int(fault), f"The sandbox was asked to answer {fault}.", f"sandbox_{fault}", retry_after=1)
            return
        if path == "/v1/embeddings":
            await self._embed(request, request_id, send)
        else:
            await self._chat(request, request_id, fault, send)

    async def _embed(self, request: dict[str, Any], request_id: str, send: Send) -> None:
        given = request.get("input", "")
        texts = [given] if isinstance(given, str) else [str(text) for text in given]
        dimensions = min(4096, max(1, int(request.get("dimensions") or DEFAULT_DIMENSIONS)))
        tokens = sum(map(talk.count_tokens, texts))
        data = [{"object": "embedding", "index": index, "embedding": talk.vector(text, dimensions)} for index, text in enumerate(texts)]
        self._note(request_id, request["model"], 200, tokens, 0)
        await _send_json(send, 200, {
            "object": "list", "model": request["model"], "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        })  # fmt: skip

    async def _chat(self, request: dict[str, Any], request_id: str, fault: str, send: Send) -> None:
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages:
            await _send_error(send, 400, "The request must hold messages.", "invalid_request")
            return
        text = talk.answer(messages)
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        parts = talk.pieces(text)
        finish = "stop"
        if isinstance(limit, int):
            while len(parts) > 1 and talk.count_tokens("".join(parts)) > limit:
                parts, finish = parts[:-1], "length"
        text = "".join(parts)
        usage = {"prompt_tokens": talk.prompt_tokens(messages), "completion_tokens": talk.count_tokens(text)}
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        head = {"id": f"chatcmpl-{uuid.uuid4().hex[:24]}", "created": int(time.time()), "model": request["model"]}
        if request.get("stream"):
            options = request.get("stream_options")
            with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
            await self._stream(head, parts, finish, usage, with_usage, request_id, fault, send)
            return
        answer = {
            **head, "object": "chat.completion", "usage": usage,
            "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
        }  # fmt: skip
        body = json.dumps(answer).encode()
        if fault == "bad_json":
            body = body[: len(body) // 2]
        self._note(request_id, request["model"], 200, usage["prompt_tokens"], usage["completion_tokens"])
        if fault == "cut":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            raise ConnectionAbortedError("the sandbox was asked to break the connection")
        if fault == "drip":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
            for start in range(0, len(body), 64):
                await send({"type": "http.response.body", "body": body[start : start + 64], "more_body": True})
                await asyncio.sleep(DRIP_S)
            await send({"type": "http.response.body", "body": b""})
            return
        await _send(send, 200, body, "application/json")

    async def _stream(
        self, head: dict[str, Any], parts: list[str], finish: str, usage: dict[str, int], with_usage: bool,
        request_id: str, fault: str, send: Send,
    ) -> None:  # fmt: skip
        async def events() -> AsyncIterator[bytes]:
            chunk = {**head, "object": "chat.completion.chunk"}
            for index, part in enumerate(parts):
                if fault == "cut" and index == len(parts) // 2:
                    raise ConnectionAbortedError("the sandbox was asked to break the connection")
                delta = {"role": "assistant", "content": part} if index == 0 else {"content": part}
                yield _event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
                if fault == "drip":
                    await asyncio.sleep(DRIP_S)
            if fault == "bad_json":
                yield b'data: {"choices": [{"delta"\n\n'
            yield _event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
            if with_usage:
                yield _event({**chunk, "choices": [], "usage": usage})
            yield b"data: [DONE]\n\n"

        self._note(request_id, head["model"], 200, usage["prompt_tokens"], usage["completion_tokens"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        async for event in events():
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

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


async def _body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


async def _send(send: Send, status: int, body: bytes, content_type: str, *headers: tuple[bytes, bytes]) -> None:
    await send({
        "type": "http.response.start", "status": status,
        "headers": [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)), *headers],
    })  # fmt: skip
    await send({"type": "http.response.body", "body": body})


async def _send_json(send: Send, status: int, data: dict[str, Any], *headers: tuple[bytes, bytes]) -> None:
    await _send(send, status, json.dumps(data).encode(), "application/json", *headers)


async def _send_error(send: Send, status: int, message: str, code: str, retry_after: int | None = None) -> None:
    headers = [(b"retry-after", b"%d" % retry_after)] if retry_after is not None else []
    error = {"message": message, "type": "sandbox_error", "param": None, "code": code}
    await _send_json(send, status, {"error": error}, *headers)


def make() -> SandboxApp:
    return SandboxApp(Path(os.environ.get("SANDBOX_DATA_DIR") or ".data/sandbox"), os.environ.get("SANDBOX_KEY", ""))


app = make()
