"""Texts of Anthropic's messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.plane.sse import named_event
from gateway.plane.text.said import Kind, OnText, Said, Text, objects, pass_object

_FIELDS: dict[Kind, str] = {"text": "text", "thinking": "thinking", "arguments": "input"}
_DELTAS: dict[Kind, tuple[str, str]] = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "arguments": ("input_json_delta", "partial_json"),
}


def _block_kind(block: dict[str, Any]) -> Kind | None:
    kind = block.get("type")
    if kind in ("text", "thinking"):
        return "text" if kind == "text" else "thinking"
    return "arguments" if isinstance(kind, str) and kind.endswith("tool_use") else None


def texts(answer: dict[str, Any]) -> Iterator[Text]:
    """What a whole answer says, in its order. Arguments are an object rather than a text."""
    for index, block in enumerate(objects(answer.get("content"))):
        if kind := _block_kind(block):
            said = Said("reasoning" if kind == "thinking" and not block.get("signature") else kind, (index,))
            yield from ((said, block, name) for name in (_FIELDS[kind],) if name in block)


@dataclass(slots=True)
class _Block:
    """One that has begun and not ended."""

    kind: Kind
    start: dict[str, Any] | None = None
    """The event that begins it, while nothing of it was sent."""
    heard: list[str] = field(default_factory=list)
    """Of a thought, to compare it with what was sent of it."""
    sent: list[str] = field(default_factory=list)
    is_ended: bool = False
    """Its text is: a signature follows."""
    is_dropped: bool = False

    @property
    def is_changed(self) -> bool:
        return "".join(self.heard) != "".join(self.sent)


class Messages:
    """A stream's events, passed through one by one."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._blocks: dict[int, _Block] = {}
        """The open ones, by the provider's index."""
        self._dropped = 0
        """Blocks that were left out: those behind them move up."""

    def __call__(self, event: dict[str, Any]) -> Iterator[bytes]:
        index = event.get("index", 0)
        if event.get("type") == "content_block_start":
            self._begin(index, event)
        block = self._blocks.get(index) if "index" in event else None
        if block is None:
            yield self._moved(event, index)
        elif event["type"] == "content_block_delta":
            yield from self._delta(index, block, event)
        elif event["type"] == "content_block_stop":
            del self._blocks[index]
            yield from self._end(index, block)
            if block.is_dropped:
                self._dropped += 1
            else:
                yield from self._started(block, index)
                yield self._moved(event, index)
        elif block.kind != "thinking":
            yield from self._started(block, index)

    def rest(self) -> Iterator[bytes]:
        """None: what is not at its end has broken off."""
        return iter(())

    def _begin(self, index: int, event: dict[str, Any]) -> None:
        begun = event.get("content_block") or {}
        kind = _block_kind(begun)
        if kind is None:
            return
        self._blocks[index] = block = _Block(kind, event)
        if kind == "arguments":
            if begun.get("input"):
                begun["input"] = pass_object(Said(kind, (index, "start")), begun["input"], self._on_text)
        elif begun.get(kind):
            begun[kind] = self._passed(index, block, begun[kind])

    def _delta(self, index: int, block: _Block, event: dict[str, Any]) -> Iterator[bytes]:
        kind, name = _DELTAS[block.kind]
        delta = event.get("delta") or {}
        if delta.get("type") == kind:
            delta[name] = self._passed(index, block, delta.get(name) or "")
            if block.kind == "thinking" and not delta[name]:
                return
        elif delta.get("type") == "signature_delta" and delta.get("signature"):
            yield from self._end(index, block, is_signed=True)
            if block.is_changed:
                return
        if not block.is_dropped:
            yield from self._started(block, index)
            yield self._moved(event, index)

    def _passed(self, index: int, block: _Block, piece: str) -> str:
        out = self._on_text(Said(block.kind, (index,)), piece) if piece else ""
        if block.kind == "thinking":
            block.heard.append(piece)
            block.sent.append(out)
        return out

    def _end(self, index: int, block: _Block, *, is_signed: bool = False) -> Iterator[bytes]:
        """The rest of its text. A signed thought that was changed is left out; if something of it was sent before, its signature is."""
        if block.is_ended:
            return
        block.is_ended = True
        held = self._on_text(Said(block.kind, (index,)), "")
        block.sent.append(held)
        block.is_dropped = is_signed and block.is_changed and block.start is not None
        if held and not block.is_dropped:
            kind, name = _DELTAS[block.kind]
            yield from self._started(block, index)
            yield self._moved({"type": "content_block_delta", "index": index, "delta": {"type": kind, name: held}}, index)

    def _started(self, block: _Block, index: int) -> Iterator[bytes]:
        start, block.start = block.start, None
        if start is not None:
            yield self._moved(start, index)

    def _moved(self, event: dict[str, Any], index: int) -> bytes:
        return named_event({**event, "index": index - self._dropped} if "index" in event and self._dropped else event)
