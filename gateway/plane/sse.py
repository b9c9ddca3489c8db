"""Reading along a stream of server-sent events without taking it apart.

Bytes are forwarded in whole events as they arrive. Only an event that holds a `usage` object is decoded, and it is left out
when the caller did not ask for it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from gateway.plane.errors import Refusal
from gateway.plane.usage import TEXT_IN_CHAT, Usage, text_bytes

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_ERROR = b'data: {"error"'
"""How an upstream says in its stream that it failed."""
_DONE = b"\ndata: [DONE]\n\n"
"""How a stream mostly ends."""
_EVENT_END = re.compile(rb"\r?\n\r?\n")
_BLANKS = (b"\n\n", b"\n\r\n")
MAX_HELD_BYTES = 1024 * 1024
"""An event longer than this is forwarded in pieces, unread."""
MOST_UNCOUNTED_BYTES = 32 * 1024
"""Counting text costs more than all else that is done to a stream, and is for nothing when the upstream tells the usage: it waits until so much has come."""


def has_line(data: bytes, beginning: bytes) -> bool:
    """Whether a line of whole events begins so. In the middle of one it is text: that has no line ends of its own inside JSON."""
    return data.startswith(beginning) or b"\n" + beginning in data  # the line end in front makes it three times as fast to find


class EventTap(ABC):
    """Feed it the upstream's bytes; it gives back the bytes for the client, in whole events, and remembers the usage."""

    usage: Usage | None
    pattern = TEXT_IN_CHAT
    """Where generated text stands."""

    def __init__(self) -> None:
        self._held = b""
        self._uncounted: list[bytes] = []
        self._uncounted_bytes = self._counted = 0
        self.usage = None
        self.is_failed = False
        """The upstream said in its stream that it failed."""
        self.is_done = False
        """It said the last event of its protocol."""

    @property
    def text_bytes(self) -> int:
        """Bytes of generated text so far; for an estimate when the provider reports nothing."""
        self._counted += sum([text_bytes(data, self.pattern) for data in self._uncounted])
        self._uncounted, self._uncounted_bytes = [], 0
        return self._counted

    def feed(self, data: bytes) -> bytes:
        """What may be forwarded now: everything up to the end of the last whole event."""
        if self._held:
            data = self._held + data
        if data.endswith((b"\n\n", b"\r\n\r\n")):
            end = len(data)
        else:
            end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\r\n\r\n") + 4)
            if end < 4:
                end = 0
        if end == 0 and len(data) <= MAX_HELD_BYTES:
            self._held = data
            return b""
        if end == 0:
            end = len(data)
        self._held = data[end:]
        return self._pass(data[:end])

    def flush(self) -> bytes:
        """What is left when the upstream has ended."""
        data, self._held = self._held, b""
        return self._pass(data) if data else b""

    def _pass(self, data: bytes) -> bytes:
        self._uncounted.append(data)
        self._uncounted_bytes += len(data)
        if self._uncounted_bytes > MOST_UNCOUNTED_BYTES:
            self._counted = self.text_bytes
        return self._read(data)

    @abstractmethod
    def _read(self, data: bytes) -> bytes:
        """Look at whole events that are about to be forwarded; what to forward of them."""


def _with_usage(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the events begin and end that hold a usage, in their order. Others are not taken apart: there is one in hundreds, mostly the last.

    So it is sought from the end, which takes a tenth of the time.
    """
    spans: list[tuple[int, int]] = []
    before = len(data)
    while (at := data.rfind(b'"usage"', 0, before)) >= 0:
        before = at
        if _USAGE.match(data, at):
            before = _begin_of_event(data, at)
            end = _EVENT_END.search(data, at)
            spans.append((before, end.end() if end else len(data)))
    return reversed(spans)


def _begin_of_event(data: bytes, at: int) -> int:
    # Further back only where there is none: a stream mostly has one kind of line ends, and would be looked through for the other.
    reach = 1024
    while True:
        low = max(0, at - reach)
        begins = [found + len(blank) for blank in _BLANKS if (found := data.rfind(blank, low, at)) >= 0]
        if begins or not low:
            return max(begins, default=0)
        reach *= 8


class UsageTap(EventTap):
    """Forwards everything. Only an event that holds a usage is decoded."""

    def _read(self, data: bytes) -> bytes:
        for start, end in _with_usage(data):
            self._take_usage(payload_of(data[start:end]))
        return data

    @abstractmethod
    def _take_usage(self, payload: bytes) -> None:
        """Keep the usage that an event holds."""


class _Choice(msgspec.Struct):
    delta: dict[str, Any] | None = None
    finish_reason: str | None = None

    @property
    def says_something(self) -> bool:
        return self.finish_reason is not None or any(self.delta.values() if self.delta else ())


class _Chunk(msgspec.Struct):
    id: Any = None
    usage: Usage | None = None
    service_tier: str | None = None
    choices: list[_Choice] = []
    """Some servers tell the usage beside an empty choice."""


_decoder = msgspec.json.Decoder(_Chunk)


class SseTap(EventTap):
    """Of chat completions: an event that says nothing but the usage is left out when the caller did not ask for it."""

    def __init__(self, hide_usage: bool) -> None:
        super().__init__()
        self._hide_usage = hide_usage

    def _read(self, data: bytes) -> bytes:
        if has_line(data, _ERROR):
            self.is_failed = True
        if data.endswith(_DONE) or has_line(data, b"data: [DONE]"):
            self.is_done = True
        kept, last = [], 0
        for start, end in _with_usage(data):
            if not self._keep(data[start:end]):
                kept.append(data[last:start])
                last = end
        return b"".join([*kept, data[last:]]) if last else data

    def _keep(self, event: bytes) -> bool:
        """Take the usage from an event; false when the event held nothing else and the caller did not ask for it."""
        try:
            chunk = _decoder.decode(payload_of(event))
        except msgspec.DecodeError:
            return True  # the caller sees what the provider sent, however odd
        if chunk.usage is not None:
            self.usage = chunk.usage.of_answer(chunk.id, chunk.service_tier)
        return not self._hide_usage or any(choice.says_something for choice in chunk.choices)


def data_event(data: Any) -> bytes:
    """One event without a name, as chat completions are streamed."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def named_event(data: dict[str, Any]) -> bytes:
    """One event named by its own `type`, as messages and responses are streamed."""
    return b"event: " + str(data["type"]).encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def error_event(surface: str, refusal: Refusal, request_id: str) -> bytes:
    """An error in the middle of a stream, as the clients of the surface understand it."""
    if surface == "messages":
        return named_event(refusal.anthropic_body(request_id))
    if surface == "responses":
        error = refusal.body(request_id)["error"]
        # The reference has the fields in the event itself, the service and its SDK have them in `error`.
        return named_event({**error, "type": "error", "error": error})
    return data_event(refusal.body(request_id))


class EventReader:
    """Takes a stream apart, however its bytes are cut."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The data of each event that is complete now; events without data are passed over. Refusal when one is far too long."""
        self._held += data
        start = 0
        while match := _EVENT_END.search(self._held, start):
            payload = payload_of(self._held[start : match.end()])
            start = match.end()
            if payload:
                yield payload
        self._held = self._held[start:]
        if len(self._held) > MAX_HELD_BYTES:
            raise Refusal("upstream_error", f"The provider sent an event of more than {MAX_HELD_BYTES // 2**20} MiB.")

    def flush(self) -> bytes:
        """The data of an event that was not ended by an empty line, or nothing."""
        held, self._held = self._held, b""
        return payload_of(held)


def payload_of(event: bytes) -> bytes:
    """The joined data lines of one event."""
    return b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
