"""A static upstream for machines without nginx."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]

ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"upstream-model","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"Rinse the rice, add twice the water, simmer until it is gone."}}],'
    b'"usage":{"prompt_tokens":31,"completion_tokens":16,"total_tokens":47}}'
)


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": ANSWER})
