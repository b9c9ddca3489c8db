"""The least that an endpoint for flags could do: parse the request, write a constant answer. Same server and JSON library."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

Message = MutableMapping[str, Any]
ANSWER = {
    "key": "ai.bench.flag-0",
    "value": True,
    "variant": "on",
    "reason": "SPLIT",
    "metadata": {"rule": "percentage", "detail": "Bucket 12345 is within the first 50%.", "consent": True, "bucket": 12345},
}


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    orjson.loads(body or b"{}")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": orjson.dumps(ANSWER)})
