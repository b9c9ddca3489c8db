"""Amazon's event stream framing, in which Bedrock wraps the events of a message.

A frame is: total length, length of headers, CRC of these eight bytes, headers, payload, CRC of everything before; numbers are big-endian.
Source: https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html#streaming-event-stream and
the Smithy specification `amazon-eventstream`. A chunk's payload is `{"bytes": <base64 of one event's JSON>}`.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from zlib import crc32

import orjson

from gateway.plane.errors import Refusal
from gateway.plane.sse import named_event
from gateway.plane.usage import Usage

if TYPE_CHECKING:
    from gateway.plane.upstream.dialects import Tap

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""The specification's own ceiling for a message."""
_PRELUDE = struct.Struct(">III")
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; 6 (bytes) and 7 (text) say their length themselves."""
_TEXT = 7


class FrameError(ValueError):
    """The bytes are no event stream, or were damaged on their way."""


class FrameReader:
    """Takes a stream apart into headers and payloads, however its bytes are cut."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def is_empty(self) -> bool:
        """Nothing of an unfinished frame is held."""
        return not self._held

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
        """The frames that are complete now. FrameError when a checksum is wrong or a length impossible."""
        self._held += data
        while len(self._held) >= _PRELUDE.size:
            total, headers_length, prelude_crc = _PRELUDE.unpack_from(self._held)
            if crc32(self._held[:8]) != prelude_crc:
                raise FrameError("the checksum of a prelude is wrong")
            if not _PRELUDE.size + headers_length + 4 <= total <= MAX_FRAME_BYTES:
                raise FrameError("a length is impossible")
            if len(self._held) < total:
                break
            frame = bytes(self._held[:total])
            del self._held[:total]  # a bytearray forgets its beginning without moving the rest
            if crc32(frame[:-4]) != int.from_bytes(frame[-4:]):
                raise FrameError("the checksum of a message is wrong")
            payload_at = _PRELUDE.size + headers_length
            yield _headers(frame[_PRELUDE.size : payload_at]), frame[payload_at:-4]


def _headers(data: bytes) -> dict[str, str]:
    """Those that are text, by name; all that events of Bedrock have are."""
    found, at = {}, 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            name, kind, at = data[at + 1 : name_end].decode(), data[name_end], name_end + 1
            if kind in (6, _TEXT):
                length = int.from_bytes(data[at : at + 2])
                if kind == _TEXT:
                    found[name] = data[at + 2 : at + 2 + length].decode()
                at += 2 + length
            else:
                at += _FIXED[kind]
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise FrameError("a header cannot be read") from error
    return found


class BedrockTap:
    """Around the tap of messages: unwraps frames into the events that Anthropic itself would have sent."""

    def __init__(self, inner: Tap, provider: str) -> None:
        self._inner = inner
        self._provider = provider
        self._frames = FrameReader()

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
        try:
            events = b"".join([_event(headers, payload) for headers, payload in self._frames.feed(data)])
        except (FrameError, ValueError, LookupError, TypeError, binascii.Error) as error:
            raise Refusal("upstream_error", f"The provider {self._provider} sent something that does not fit its protocol.") from error
        return self._inner.feed(events) if events else b""

    def flush(self) -> bytes:
        if not self._frames.is_empty:
            raise Refusal("upstream_error", f"The provider {self._provider} broke off its answer.")
        return self._inner.flush()


def _event(headers: dict[str, str], payload: bytes) -> bytes:
    """A chunk as the event that it holds; an exception as the error that it is."""
    kind = headers.get(":message-type")
    if kind in ("exception", "error"):
        name = headers.get(":exception-type") or headers.get(":error-code") or "error"
        said = orjson.loads(payload) if kind == "exception" and payload else {}
        message = (said.get("message") if isinstance(said, dict) else None) or headers.get(":error-message") or name
        return named_event({"type": "error", "error": {"type": _ERRORS.get(name, "api_error"), "message": message, "code": name}})
    if headers.get(":event-type") != "chunk":
        return b""  # a kind of event that is newer than this reader
    event: Any = orjson.loads(base64.b64decode(orjson.loads(payload)["bytes"], validate=True))
    # Bedrock adds its own figures to the last event; they are no part of the protocol, and clients take unknown fields.
    return named_event(event)


_ERRORS = {
    "throttlingException": "rate_limit_error",
    "serviceUnavailableException": "overloaded_error",
    "modelTimeoutException": "timeout_error",
    "validationException": "invalid_request_error",
}
