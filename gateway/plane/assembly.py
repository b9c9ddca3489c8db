"""A streamed answer put together again, as far as it came: what a person reads, and in what patterns can be found.

The shape is that of the surface's own answer that is not streamed, without what only machines need.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.plane.errors import Refusal
from gateway.plane.sse import EventReader


def assembled(surface: str, stream: bytes) -> dict[str, Any]:
    """The answer that the events of a stream make. Events that cannot be read are passed over."""
    return _ASSEMBLERS[surface](_events(stream))


def _events(stream: bytes) -> Iterator[dict[str, Any]]:
    reader = EventReader()
    try:
        payloads = [*reader.feed(stream), reader.flush()]
    except Refusal:  # one event is far too long
        return
    for payload in payloads:
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:  # `[DONE]`, or what was cut
            continue
        if isinstance(event, dict):
            yield event


def _chat(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        _note(answer, event, ("id", "model", "usage", "error"))
        for piece in event.get("choices") or ():
            choice = choices.setdefault(piece.get("index", 0), {"message": {}})
            if piece.get("finish_reason"):
                choice["finish_reason"] = piece["finish_reason"]
            _add(choice["message"], piece.get("delta") or {})
    return answer | {"choices": [choice for _, choice in sorted(choices.items())]}


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", {})
            for piece in value or ():
                call = calls.setdefault(str(piece.get("index", 0)), {})
                for part, text in (piece.get("function") or {}).items():
                    call[part] = call.get(part, "") + (text or "")
        elif isinstance(value, str) and name != "role":
            message[name] = message.get(name, "") + value
        elif value is not None:
            message[name] = value


def _messages(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for event in events:
        _note(answer, event, ("error",))
        if isinstance(event.get("message"), dict):
            _note(answer, event["message"], ("id", "model", "usage"))
        if event.get("type") == "message_delta":
            answer |= event.get("delta") or {}
        elif event.get("type") == "content_block_start":
            blocks[event.get("index", 0)] = dict(event.get("content_block") or {})
        elif event.get("type") == "content_block_delta":
            block, delta = blocks.setdefault(event.get("index", 0), {}), event.get("delta") or {}
            for name in ("text", "thinking", "partial_json"):
                if isinstance(delta.get(name), str):
                    block[name] = block.get(name, "") + delta[name]
    return answer | {"content": [block for _, block in sorted(blocks.items())]}


def _responses(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Its last event holds the whole answer. Without one, the pieces that came."""
    pieces: dict[str, str] = {}
    answer: dict[str, Any] = {}
    for event in events:
        _note(answer, event, ("error",))
        if event.get("type") in ("response.completed", "response.incomplete", "response.failed"):
            _note(answer, event.get("response") or {}, ("id", "model", "status", "output", "usage", "error"))
            return answer
        if isinstance(event.get("delta"), str):
            place = f"{event.get('output_index', 0)}.{event.get('content_index', 0)}"
            pieces[place] = pieces.get(place, "") + event["delta"]
    return answer | {"output": list(pieces.values())}


def _note(answer: dict[str, Any], event: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if event.get(name) is not None:
            answer[name] = event[name]


_ASSEMBLERS = {"chat": _chat, "messages": _messages, "responses": _responses}
