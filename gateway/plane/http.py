"""The little of HTTP that the plane needs on top of ASGI."""

from __future__ import annotations

import mmap
import re
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any

import orjson

from gateway.contract.names import OVERHEAD_HEADER, REQUEST_ID_HEADER
from gateway.plane import big_json
from gateway.plane.errors import Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = dict[bytes, bytes]
HeaderList = list[tuple[bytes, bytes]]

MAX_REQUEST_BYTES = 32 * 1024 * 1024

JSON = (b"content-type", b"application/json")
_REQUEST_ID = REQUEST_ID_HEADER.encode()
_OVERHEAD = OVERHEAD_HEADER.encode()
_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")


class ClientGoneError(Exception):
    """The caller hung up before the request was complete: nobody is left to answer."""


def own_request_id(headers: Headers) -> str | None:
    """The request id that the caller chose, when it is sane."""
    given = headers.get(_REQUEST_ID)
    return given.decode() if given is not None and _SANE_REQUEST_ID.fullmatch(given) else None


def standard_headers(request_id: str, overhead_us: float) -> HeaderList:
    """What every response carries."""
    return [(_REQUEST_ID, request_id.encode()), (_OVERHEAD, b"%.3f" % (overhead_us / 1000))]


def anthropic_headers(request_id: str) -> HeaderList:
    """What every response in the Anthropic protocol carries besides: its own clients look there."""
    return [(b"request-id", request_id.encode())]


async def read_body(receive: Receive, headers: Headers, limit: int = MAX_REQUEST_BYTES) -> bytes:
    """The whole request body; Refusal as soon as it is known to exceed `limit` bytes."""
    length = _declared(headers)
    if length is not None and length > limit:
        raise too_large(limit)
    return b"".join(await _read_parts(receive, limit, length))


def _declared(headers: Headers) -> int | None:
    declared = headers.get(b"content-length", b"")
    return int(declared) if declared.isdigit() else None


async def _read_parts(receive: Receive, limit: int, length: int | None) -> list[bytes]:
    """The whole body as it comes, of `length` bytes where that is known. Refusal as soon as it is known to exceed `limit` bytes."""
    parts: list[bytes] = []
    size, more = 0, True
    # To be told that nothing more follows costs as much as to be given the body: each time the server's other thread is woken.
    while more and (size != length or not parts):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
        more = message.get("more_body", False)
    return parts


def too_large(limit: int) -> Refusal:
    return Refusal("request_too_large", f"The request body is larger than {limit // 2**20} MiB.")


def parse_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; Refusal when it is anything else."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal("invalid_json", f"The request body is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise Refusal("invalid_json", "The request body must be a JSON object.")
    return data


async def read_object(receive: Receive, headers: Headers) -> tuple[dict[str, Any], int]:
    """The request body, which must be a JSON object, and its length in bytes. Refusal.

    A long one is put together and read a piece at a time, so that others have their turn meanwhile.
    """
    length = _declared(headers)
    body: bytes | mmap.mmap
    if length is None:
        parts = await _read_parts(receive, MAX_REQUEST_BYTES, None)
        is_long = sum(map(len, parts)) > big_json.LARGE_BYTES
        body = await big_json.in_turns(_joined(parts)) if is_long and len(parts) > 1 else b"".join(parts)
    elif length > MAX_REQUEST_BYTES:
        raise too_large(MAX_REQUEST_BYTES)
    elif length > big_json.LARGE_BYTES:
        body = await _read_long(receive, length)
    else:
        body = b"".join(await _read_parts(receive, MAX_REQUEST_BYTES, length))
    if len(body) <= big_json.LARGE_BYTES:
        return parse_object(bytes(body)), len(body)
    try:
        return await big_json.in_turns(big_json.read_object(body)), len(body)
    except big_json.BigJsonError as error:
        raise Refusal("invalid_json", f"The request body is not a valid JSON object: {error}.") from error


async def _read_long(receive: Receive, length: int) -> bytes | mmap.mmap:
    """The whole body of known length. Each part goes to its place at once: joining 10 MB takes 10 ms, most of them to get the memory."""
    body, size, more = mmap.mmap(-1, length), 0, True
    while more:
        message = await receive()
        chunk = message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        if size + len(chunk) > length:
            raise too_large(length)
        body[size : size + len(chunk)] = chunk
        size, more = size + len(chunk), message.get("more_body", False)
    return body if size == length else body[:size]


def _joined(parts: list[bytes]) -> Generator[None, None, mmap.mmap]:
    """The body of unknown length, which has come whole."""
    body, size = mmap.mmap(-1, sum(map(len, parts))), 0
    for part in parts:
        body[size : size + len(part)] = part
        size += len(part)
        yield
    return body


async def send_whole(send: Send, status: int, headers: HeaderList, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def is_known_etag(given: bytes, etag: bytes) -> bool:
    """Whether `If-None-Match` names what would be answered."""
    return any(tag.strip().removeprefix(b"W/") in (etag, b"*") for tag in given.split(b",")) if given else False


async def send_refusal(
    send: Send, refusal: Refusal, request_id: str, overhead_us: float, extra: HeaderList | None = None, *, in_anthropic: bool = False
) -> None:
    """A refusal as the whole answer, in the OpenAI shape unless told otherwise."""
    headers = [JSON, *standard_headers(request_id, overhead_us), *(extra or ())]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
    body = refusal.anthropic_body(request_id) if in_anthropic else refusal.body(request_id)
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send_whole(send, refusal.status, headers, orjson.dumps(body))
