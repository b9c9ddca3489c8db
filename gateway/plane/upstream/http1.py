"""HTTP/1.1 responses as their bytes come in (RFC 9112): the head, and the body without its framing and coding. Pure.

Only what an answer to our own POST can be: no upgrade, no trailers kept, and no coding but those that servers send unasked.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from typing import Literal

MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE_BYTES = 4096
MAX_EXPANDED_BYTES = 16 * 1024 * 1024
"""Of what one piece from the network may become when it is decompressed."""
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: .*)?")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""As zlib names the formats; `deflate` is the zlib format (RFC 9110, 8.4.1.2)."""
_REMEMBERED = 1024
_REMEMBERED_CHARACTERS = 128
"""Of a line at most: an upstream may send 64 KiB that never come again, and they would fill the memory."""
_Part = Literal["head", "length", "chunks", "until close", "ended"]


class ProtocolError(Exception):
    """What came is no HTTP/1.1 response, or not a whole one."""


def _header(line: str) -> tuple[str, str]:
    """The lower-case name and the value. ProtocolError."""
    name, colon, value = line.partition(":")
    if not colon or not name or name.strip() != name:
        raise ProtocolError("a header line is malformed")
    return name.lower(), value.strip(" \t")


_short_header = lru_cache(_REMEMBERED)(_header)
"""The same, remembered: a server says most of its lines again in each response."""


class Response:
    """One response. Feed it what comes; it gives back the body's bytes in it."""

    __slots__ = ("_chunk_ends", "_decoder", "_held", "_is_last_chunk", "_left", "_part", "has_head", "headers", "keeps", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        """By lower-case name; what is said more than once is joined by commas."""
        self.has_head = False
        self.keeps = False
        """Another request may follow on the connection when this response has ended."""
        self._part: _Part = "head"
        self._held = b""
        """What came and is not understood yet."""
        self._left = 0
        """Bytes of the body, or of the chunk."""
        self._chunk_ends = self._is_last_chunk = False
        self._decoder: zlib._Decompress | None = None

    @property
    def is_ended(self) -> bool:
        return self._part == "ended"

    def feed(self, data: bytes) -> bytes:
        """Bytes of the body. ProtocolError."""
        while self._part == "head":
            data = self._held + data if self._held else data
            end = data.find(b"\r\n\r\n")
            if (end if end >= 0 else len(data)) > MAX_HEAD_BYTES:
                raise ProtocolError("the head is too long")
            if end < 0:
                self._held = data
                return b""
            self._held = b""
            self._read_head(data[:end].decode("latin-1"))
            data = data[end + 4 :]
        body = data
        if self._part == "length":
            body = data[: self._left]
            self._left -= len(body)
            if not self._left:
                self._end(len(data) > len(body))
        elif self._part == "chunks":
            body = self._unchunked(data)
        elif self._part == "ended":
            self.keeps = self.keeps and not data
            return b""
        return body if self._decoder is None else self._decoded(body)

    def feed_eof(self) -> None:
        """The connection was closed. ProtocolError when that is not where the response ends."""
        if self._part == "until close":
            self._end(False)
            self._decoded(b"")
        elif self._part != "ended":
            raise ProtocolError("the connection was closed in the middle")

    def _end(self, has_more: bool) -> None:
        self._part = "ended"
        self.keeps = self.keeps and not has_more

    def _read_head(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        if "\0" in head or not head.count("\r") == head.count("\n") == len(lines):  # others may end a line there (RFC 9110, 5.5)
            raise ProtocolError("a line of the head holds a line end or NUL")
        said = _STATUS_LINE.fullmatch(first)
        if said is None:
            raise ProtocolError("the first line is not a status line")
        status = int(said[2])
        if status < 200:
            if status == 101:
                raise ProtocolError("the protocol was switched unasked")
            return  # an interim response; the next one is about the request
        headers = self.headers
        for line in lines:
            name, value = _short_header(line) if len(line) <= _REMEMBERED_CHARACTERS else _header(line)
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.status, self.has_head = status, True
        self.keeps = said[1] == "1" and "close" not in headers.get("connection", "").lower()
        self._frame()

    def _frame(self) -> None:
        """Where the body ends (RFC 9112, 6.3), and how it is coded."""
        headers = self.headers
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if self.status in (204, 304):
            self._end(False)
            return
        if coding is not None:
            if coding.lower() != "chunked":
                raise ProtocolError("the transfer coding is not known")
            self._part = "chunks"
            self.keeps = self.keeps and length is None  # saying both is how responses are smuggled
        elif length is not None:
            only, *others = {each.strip() for each in length.split(",")} if "," in length else (length,)
            if others or not (only.isascii() and only.isdigit() and len(only) < 16):
                raise ProtocolError("the length is not a number")
            self._part, self._left = "length", int(only)
            if not self._left:
                self._end(False)
                return
        else:
            self._part, self.keeps = "until close", False
        content = headers.get("content-encoding", "identity").lower()
        if content in _WINDOW_BITS:
            self._decoder = zlib.decompressobj(_WINDOW_BITS[content])
        elif content != "identity":
            raise ProtocolError("the content coding is not one that was asked for")

    def _unchunked(self, data: bytes) -> bytes:
        data = self._held + data if self._held else data
        at, parts = 0, []
        while True:
            if self._left:
                piece = data[at : at + self._left]
                parts.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._chunk_ends = not self._left
                if self._left:
                    break
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > MAX_CHUNK_LINE_BYTES:
                    raise ProtocolError("a line between chunks is too long")
                break
            line, at = data[at:end], end + 2
            if self._chunk_ends:
                if line:
                    raise ProtocolError("a chunk is longer than it says")
                self._chunk_ends = False
            elif self._is_last_chunk:  # trailers, up to an empty line
                if not line:
                    self._end(at < len(data))
                    break
            else:
                size = line.partition(b";")[0].strip(b" \t")
                if _SIZE.fullmatch(size) is None:
                    raise ProtocolError("a chunk's size is not a number")
                self._left = int(size, 16)
                self._is_last_chunk = not self._left
        self._held = data[at:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _decoded(self, data: bytes) -> bytes:
        """Decompressed as far as it goes. ProtocolError when it cannot be, or becomes far too much."""
        decoder = self._decoder
        if decoder is None:
            return data
        try:
            plain = decoder.decompress(data, MAX_EXPANDED_BYTES)
        except zlib.error as error:
            raise ProtocolError("the compressed body is damaged") from error
        if decoder.unconsumed_tail:
            raise ProtocolError("the compressed body expands to far too much")
        if decoder.unused_data or (self.is_ended and not decoder.eof):
            raise ProtocolError("the compressed body does not end where it should")
        return plain
