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

_PIECES = ("Rinse", " the", " rice", ",", " add", " twice", " the", " water", ",", " simmer", " until", " it", " is", " gone", ".")
_CHUNK = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"upstream-model","choices":[%s]%s}\n\n'
STREAM = b"".join(
    [
        *(_CHUNK % (b'{"index":0,"delta":{"content":"%s"},"finish_reason":null}' % piece.encode(), b"") for piece in _PIECES),
        _CHUNK % (b'{"index":0,"delta":{},"finish_reason":"stop"}', b""),
        _CHUNK % (b"", b',"usage":{"prompt_tokens":31,"completion_tokens":16,"total_tokens":47}'),
        b"data: [DONE]\n\n",
    ]
)


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    while (await receive()).get("more_body"):
        pass
    is_stream = str(scope["path"]).startswith("/stream/")
    kind = b"text/event-stream" if is_stream else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": STREAM if is_stream else ANSWER})
