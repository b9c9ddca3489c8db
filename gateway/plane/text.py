"""The generated text in an answer, passed through `Call.on_text` on its way to the caller.

One place for every surface, and after any translation: what is judged here is what the caller would have read. Only calls with an
`on_text` come here at all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import orjson

from gateway.plane.errors import Refusal
from gateway.plane.sse import EventReader, data_event, named_event
from gateway.plane.upstream.dialects import Tap
from gateway.plane.usage import Usage

OnText = Callable[[Hashable, str], str]
"""Which of the texts of one answer a piece belongs to, and the piece; an empty piece ends the text."""


def whole(surface: str, body: bytes, on_text: OnText) -> bytes:
    """An answer that is one JSON document, with its texts passed through."""
    answer = orjson.loads(body)
    for number, (place, name) in enumerate(texts(surface, answer)):
        place.pop("logprobs", None)  # they spell the text out
        place[name] = on_text(number, place[name]) + on_text(number, "")
    return orjson.dumps(answer)


def rewritten(surface: str, events: bytes, on_text: OnText) -> bytes:
    """A whole stream of the caller's events, with its texts passed through."""
    rewriter = Rewriter(surface, on_text)
    return rewriter.feed(events) + rewriter.flush()


def texts(surface: str, answer: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where texts are: the object and the name of the field."""
    if surface == "chat":
        for choice in answer.get("choices") or ():
            choice.pop("logprobs", None)
        messages = [choice.get("message") or {} for choice in answer.get("choices") or ()]
        yield from ((message, name) for message in messages for name in ("content", "refusal") if isinstance(message.get(name), str))
    elif surface == "messages":
        yield from ((block, "text") for block in answer.get("content") or () if block.get("type") == "text")
    elif surface == "responses":
        for item in answer.get("output") or ():
            parts = item.get("content") or () if item.get("type") == "message" else ()
            yield from ((part, name) for part in parts for name in ("text", "refusal") if isinstance(part.get(name), str))


class Rewriter:
    """Takes the caller's events apart, passes their texts through and puts them together again."""

    def __init__(self, surface: str, on_text: OnText) -> None:
        self._reader = EventReader()
        self._rewrite = _REWRITES[surface](on_text)

    def feed(self, data: bytes) -> bytes:
        return b"".join([piece for payload in self._reader.feed(data) for piece in self._rewritten(payload)])

    def flush(self) -> bytes:
        rest = self._reader.flush()
        return b"".join(self._rewritten(rest)) if rest else b""

    def _rewritten(self, payload: bytes) -> Iterator[bytes]:
        if payload == b"[DONE]":
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


class _Chat:
    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text

    def __call__(self, event: dict[str, Any]) -> Iterator[bytes]:
        for choice in event.get("choices") or ():
            delta, number = choice.setdefault("delta", {}), choice.get("index", 0)
            for name in ("content", "refusal"):
                if isinstance(delta.get(name), str) and delta[name]:
                    delta[name] = self._on_text(number, delta[name])
            choice.pop("logprobs", None)  # they spell the text out
            if choice.get("finish_reason"):
                held = self._on_text(number, "")
                if held:
                    delta["content"] = (delta.get("content") or "") + held
        yield data_event(event)


class _Messages:
    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._texts: set[int] = set()
        """Indices of the open blocks that are text."""

    def __call__(self, event: dict[str, Any]) -> Iterator[bytes]:
        kind, index = event.get("type"), event.get("index", 0)
        if kind == "content_block_start" and event.get("content_block", {}).get("type") == "text":
            self._texts.add(index)
            block = event["content_block"]
            if block.get("text"):
                block["text"] = self._on_text(index, block["text"])
        elif kind == "content_block_delta" and event.get("delta", {}).get("type") == "text_delta":
            event["delta"]["text"] = self._on_text(index, event["delta"].get("text", ""))
        elif kind == "content_block_stop" and index in self._texts:
            self._texts.discard(index)
            held = self._on_text(index, "")
            if held:
                yield named_event({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": held}})
        yield named_event(event)


class _Responses:
    """The protocol says each text several times: in deltas, at the end of the part, of the item, and of the whole response."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._sent: dict[tuple[Any, Any], str] = {}
        """What was let through so far, by output and content index."""

    def __call__(self, event: dict[str, Any]) -> Iterator[bytes]:
        kind, place = event.get("type", ""), (event.get("output_index"), event.get("content_index"))
        event.pop("logprobs", None)  # they spell the text out
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            event["delta"] = self._on_text(place, event.get("delta", ""))
            self._sent[place] = self._sent.get(place, "") + event["delta"]
        elif kind in ("response.output_text.done", "response.refusal.done"):
            held = self._on_text(place, "")
            name = "refusal" if "refusal" in kind else "text"
            event.pop(name, None)  # the whole text as it was
            if held:
                self._sent[place] = self._sent.get(place, "") + held
                delta = {name: value for name, value in event.items() if name not in ("text", "refusal")}
                yield named_event({**delta, "type": kind.removesuffix("done") + "delta", "delta": held})
            event[name] = self._sent.get(place, "")
        elif kind == "response.content_part.done":
            self._replace(event.get("part", {}), place)
        elif kind == "response.output_item.done":
            self._replace_all(event.get("item", {}), event.get("output_index"))
        elif isinstance(event.get("response"), dict):
            for index, item in enumerate(event["response"].get("output") or ()):
                self._replace_all(item, index)
        yield named_event(event)

    def _replace_all(self, item: dict[str, Any], output_index: Any) -> None:
        if item.get("type") == "message":
            for index, part in enumerate(item.get("content") or ()):
                self._replace(part, (output_index, index))

    def _replace(self, part: dict[str, Any], place: tuple[Any, Any]) -> None:
        part.pop("logprobs", None)
        for name in ("text", "refusal"):
            if isinstance(part.get(name), str):
                part[name] = self._sent.get(place, "")


_REWRITES: dict[str, Callable[[OnText], Callable[[dict[str, Any]], Iterator[bytes]]]] = {
    "chat": _Chat,
    "messages": _Messages,
    "responses": _Responses,
}
