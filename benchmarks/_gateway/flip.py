"""An upstream whose model `new` fails while a file exists. Everything else is answered at once."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks._gateway.static import ANSWER

Message = MutableMapping[str, Any]
FLIPPED = Path(os.environ.get("FLIP_FILE", "/nonexistent"))


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
    model = orjson.loads(body or b"{}").get("model")
    fails = model == "new" and FLIPPED.exists()
    await send({"type": "http.response.start", "status": 500 if fails else 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"error": {"message": "flipped"}}' if fails else ANSWER})
