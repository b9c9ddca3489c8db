"""An upstream that streams in step: `/every/<milliseconds>/<count>/v1/chat/completions` sends so many chunks, each with the time when it left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"%d "}}]}\n\n'


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    while (await receive()).get("more_body"):
        pass
    _, _, pause_ms, count, *_ = [*str(scope["path"]).split("/"), "", "", ""]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    if pause_ms.isdigit() and count.isdigit():
        for _ in range(int(count)):
            await asyncio.sleep(int(pause_ms) / 1000)
            await send({"type": "http.response.body", "body": CHUNK % time.monotonic_ns(), "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
