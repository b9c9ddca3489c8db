"""The bare pass-through: the same server, client and JSON library as the plane, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import orjson

Message = MutableMapping[str, Any]
UPSTREAM = os.environ.get("BENCH_UPSTREAM", "")
STREAMS = os.environ.get("BENCH_STREAMS", f"{UPSTREAM}/stream")


class App:
    def __init__(self) -> None:
        self.client: aiohttp.ClientSession

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self.client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.client.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        request = orjson.loads(body)
        request["model"] = "upstream-model"
        headers = {"content-type": "application/json"}
        if request.get("stream"):
            async with self.client.post(f"{STREAMS}/v1/chat/completions", data=orjson.dumps(request), headers=headers) as response:
                await send({"type": "http.response.start", "status": response.status, "headers": [(b"content-type", b"text/event-stream")]})
                while data := await response.content.readany():
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            return
        async with self.client.post(f"{UPSTREAM}/v1/chat/completions", data=orjson.dumps(request), headers=headers) as response:
            answer = await response.read()
            await send({"type": "http.response.start", "status": response.status, "headers": [(b"content-type", b"application/json")]})
            await send({"type": "http.response.body", "body": answer})


app = App()
