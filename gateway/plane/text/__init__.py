"""What a model wrote into an answer, passed through `Call.on_text` on its way to the caller: texts, reasoning, and the arguments of tool calls.

One place for every surface, and after any translation: what is judged here is what the caller would have read. Only calls with an
`on_text` come here at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from gateway.plane.errors import Refusal
from gateway.plane.sse import EventReader
from gateway.plane.text import chat, messages, responses
from gateway.plane.text.said import OnText, Text, pass_object
from gateway.plane.upstream.dialects import Tap
from gateway.plane.usage import Usage

_Rewrite = chat.Chat | messages.Messages | responses.Responses
_REWRITES: dict[str, Callable[[OnText], _Rewrite]] = {
    "chat": chat.Chat,
    "messages": messages.Messages,
    "responses": responses.Responses,
}
_TEXTS: dict[str, Callable[[dict[str, Any]], Iterator[Text]]] = {
    "chat": chat.texts,
    "messages": messages.texts,
    "responses": responses.texts,
}


def whole(surface: str, body: bytes, on_text: OnText) -> bytes:
    """An answer that is one JSON document, with its texts passed through."""
    answer = orjson.loads(body)
    for said, holder, name in list(texts(surface, answer)):
        holder.pop("logprobs", None)  # they spell the text out
        before = holder[name]
        if isinstance(before, str):
            holder[name] = on_text(said, before) + on_text(said, "")
        else:
            holder[name] = pass_object(said, before, on_text)
        if said.kind == "thinking" and holder[name] != before:
            answer["content"] = [block for block in answer["content"] if block is not holder]
    return orjson.dumps(answer)


def rewritten(surface: str, events: bytes, on_text: OnText) -> bytes:
    """A whole stream of the caller's events, with its texts passed through."""
    rewriter = Rewriter(surface, on_text)
    return rewriter.feed(events) + rewriter.flush()


def texts(surface: str, answer: dict[str, Any]) -> Iterator[Text]:
    """What a whole answer says, in its order. Arguments may be an object rather than a text."""
    of_surface = _TEXTS.get(surface)
    return of_surface(answer) if of_surface else iter(())


class Rewriter:
    """Takes the caller's events apart, passes their texts through and puts them together again."""

    def __init__(self, surface: str, on_text: OnText) -> None:
        self._reader = EventReader()
        self._rewrite = _REWRITES[surface](on_text)

    def feed(self, data: bytes) -> bytes:
        return b"".join([piece for payload in self._reader.feed(data) for piece in self._rewritten(payload)])

    def flush(self) -> bytes:
        rest = self._reader.flush()
        return b"".join([*(self._rewritten(rest) if rest else ()), *self._rewrite.rest()])

    def _rewritten(self, payload: bytes) -> Iterator[bytes]:
        if payload == b"[DONE]":
            yield from self._rewrite.rest()
            yield b"data: [DONE]\n\n"
            return
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            # Text that cannot be read cannot be judged, so it is not let through.
            raise Refusal("upstream_error", "The provider sent an event that is not valid JSON.") from error
        yield from self._rewrite(event)


class TextTap:
    """Around another tap: what it gives goes through a Rewriter."""

    def __init__(self, surface: str, inner: Tap, on_text: OnText) -> None:
        self._inner = inner
        self._rewriter = Rewriter(surface, on_text)

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def text_bytes(self) -> int:
        return self._inner.text_bytes

    @property
    def is_failed(self) -> bool:
        return self._inner.is_failed

    @property
    def is_done(self) -> bool:
        return self._inner.is_done

    def feed(self, data: bytes) -> bytes:
        return self._rewriter.feed(self._inner.feed(data))

    def flush(self) -> bytes:
        return self._rewriter.feed(self._inner.flush()) + self._rewriter.flush()
