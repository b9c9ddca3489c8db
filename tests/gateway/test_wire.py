"""Connections to upstreams: kept, given up and never mixed up."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from yarl import URL

from gateway.contract.outbound import AllowList, OutboundError
from gateway.plane import big_json
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import Message
from gateway.plane.served import Target
from gateway.plane.upstream import wire as subject
from gateway.plane.upstream.answers import forward
from gateway.plane.upstream.exchange import _send
from gateway.plane.upstream.pairs import PAIRS
from gateway.plane.upstream.wire import Answer, ConnectTimeoutError, UnreachedError, Wire, WireError, header_lines
from tests.gateway.conftest import deployment

OPEN = AllowList.parse(["127.0.0.1", "localhost"])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Play = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]


class Upstream:
    """Does with each request what it is told; counts connections and keeps what it was sent."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.connections = 0
        self.requests: list[bytes] = []
        self.gone = asyncio.Event()
        self.url = URL()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self.play(writer, self.requests[-1])
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def upstream(play: Play) -> AsyncIterator[tuple[Upstream, Wire]]:
    told, wire = Upstream(play), Wire(OPEN)
    server = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat?x=%20y")
    try:
        yield told, wire
    finally:
        await wire.close()
        server.close()


async def read(answer: Answer) -> bytes:
    parts = []
    while data := await answer.read():
        parts.append(data)
    return b"".join(parts)


def says(*parts: bytes) -> Play:
    async def play(writer: asyncio.StreamWriter, request: bytes) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    return play


async def test_connection_is_used_again_and_requests_are_what_they_should_be() -> None:
    async with upstream(says(OK)) as (told, wire):
        for body in (b"{}", b'{"a":1}'):
            answer = await wire.post(told.url, header_lines({"x-key": "ä"}), body, timeout_s=5)
            assert (answer.status, await read(answer), answer.is_over) == (200, b"ok", True)
        both = await asyncio.gather(*(wire.post(told.url, b"", b"{}", timeout_s=5) for _ in range(2)))
        assert [await read(answer) for answer in both] == [b"ok", b"ok"]

    host = f"host: 127.0.0.1:{told.url.port}".encode()
    assert told.requests[1] == (
        b"POST /v1/chat?x=%20y HTTP/1.1\r\n" + host + b"\r\naccept: */*\r\nx-key: \xc3\xa4\r\ncontent-length: 7\r\n\r\n" + b'{"a":1}'
    )
    assert told.connections == 2


@pytest.mark.parametrize("last", [b"surplus", b"", None], ids=["more than was said", "closed", "unasked"])
async def test_connection_that_cannot_be_trusted_is_not_used_again(last: bytes | None) -> None:
    async def play(writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(OK + (last or b""))
        if last is None:
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write(OK)  # an answer to a question that nobody has asked
        if last == b"":
            writer.close()

    async with upstream(play) as (told, wire):
        assert await read(await wire.post(told.url, b"", b"first", timeout_s=5)) == b"ok"
        await asyncio.wait_for(told.gone.wait(), 5)
        assert await read(await wire.post(told.url, b"", b"second", timeout_s=5)) == b"ok"

    assert told.connections == 2


async def test_idle_connection_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "KEEPALIVE_S", 0.02)
    async with upstream(says(OK)) as (told, wire):
        await read(await wire.post(told.url, b"", b"{}", timeout_s=5))
        await asyncio.wait_for(told.gone.wait(), 5)

    assert told.connections == 1


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ((b"",), TimeoutError),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",), TimeoutError),
        ((b"SMTP\r\n\r\n",), WireError),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"zz\r\n"), WireError),
    ],
)
async def test_upstream_that_is_silent_or_speaks_nonsense_is_given_up(said: tuple[bytes, ...], error: type[Exception]) -> None:
    async with upstream(says(*said)) as (told, wire):
        with pytest.raises(error):
            await read(await wire.post(told.url, b"", b"{}", timeout_s=0.05))
        await asyncio.wait_for(told.gone.wait(), 5)


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (b"Content-Length: 9\r\n\r\nhalf", b"closed"),
        (b"\r\nhalf", b"reset"),  # closed without a reset, it would be whole
        (b"Content-Length: 30\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"half", mtime=0)[:-1], b"spoilt"),
    ],
    ids=["closed", "reset", "spoilt"],
)
async def test_answer_that_is_broken_off_gives_what_came_and_then_the_error(said: bytes, end: bytes) -> None:
    half = asyncio.Event()

    async def play(writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + said)
        await half.wait()
        if end == b"spoilt":
            writer.write(b"anything else")
        elif end == b"reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()

    async with upstream(play) as (told, wire):
        answer = await wire.post(told.url, b"", b"{}", timeout_s=5)
        half.set()
        while answer._error is None and not answer.response.is_ended:  # both before anybody reads
            await asyncio.sleep(0.001)
        assert await answer.read() == b"half"
        assert not answer.is_over
        with pytest.raises(WireError):
            await answer.read()


@pytest.mark.parametrize(("may_have_spent", "words"), [(True, "broke off before it answered"), (False, "could not be reached")])
async def test_only_what_never_reached_the_upstream_has_certainly_cost_nothing(may_have_spent: bool, words: str) -> None:
    async def play(writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.close()

    async with upstream(play) as (told, wire):
        address = told.url.origin() if may_have_spent else "http://127.0.0.1:9"
        target = Target(deployment(f"{address}/v1"), {}, {}, b"", ())
        call = Call(cast(Any, SimpleNamespace(wire=wire)), "chat", {}, cast(Any, None), cast(Any, None))
        with pytest.raises(Refusal, match=words):
            await _send(call, target, PAIRS["chat", "openai"], b"{}")

        assert call.may_have_spent == may_have_spent

        call.may_have_spent, call.headers = False, {b"traceparent": b"a\r\nx: y"}
        with pytest.raises(Refusal, match="cannot be called: the header traceparent holds a line end"):
            await _send(call, target, PAIRS["chat", "openai"], b"{}")
        assert not call.may_have_spent


async def test_closing_ends_a_read_that_waits_and_the_upstream_sees_it() -> None:
    async with upstream(says(b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=x\r\n\r\n")) as (told, wire):
        answer = await wire.post(told.url, b"", b"{}", timeout_s=5)
        assert answer.content_type == "text/event-stream"
        waiting = asyncio.create_task(answer.read())
        await asyncio.sleep(0)
        answer.close()
        with pytest.raises(WireError):
            await waiting
        await asyncio.wait_for(told.gone.wait(), 5)


async def test_cancelled_request_takes_its_connection_with_it() -> None:
    async with upstream(says()) as (told, wire):
        waiting = asyncio.create_task(wire.post(told.url, b"", b"{}", timeout_s=5))
        while not told.requests:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(told.gone.wait(), 5)


async def test_slow_reader_holds_the_upstream_up_and_not_the_memory() -> None:
    size = 8 * 2**20
    async with upstream(says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, bytes(size))) as (told, wire):
        answer = await wire.post(told.url, b"", b"{}", timeout_s=0.02)
        await asyncio.sleep(0.06)  # that it is not the upstream that is silent is known
        first = await answer.read()
        assert subject.MOST_UNREAD_BYTES < len(first) < 3 * subject.MOST_UNREAD_BYTES
        assert len(first) + len(await read(answer)) == size


async def test_long_request_leaves_in_pieces_between_which_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(big_json, "TURN_S", 0)
    pieces, turns = [bytes([number]) * 50_000 for number in range(60)], 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with upstream(says(OK)) as (told, wire):
        others, began = asyncio.create_task(take_turns()), time.monotonic()
        first = await wire.post(told.url, b"", pieces, timeout_s=5)
        took_s = time.monotonic() - began
        others.cancel()
        second = await wire.post(told.url, b"", b"{}", timeout_s=5)

        assert [await read(answer) for answer in (first, second)] == [b"ok", b"ok"]
    assert told.requests[0].partition(b"\r\n\r\n")[2] == b"".join(pieces)
    assert turns >= len(pieces)
    assert took_s >= 0.001 * len(pieces)  # a turn is long enough for threads that need the interpreter, too
    assert told.connections == 1


class _Full(asyncio.Transport):
    """A connection whose other end has taken nothing for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)


async def test_waiting_for_the_upstream_is_no_turn_of_ours() -> None:
    transport, connection = _Full(), subject.Connection()
    connection.connection_made(transport)
    answer = connection.send(b"head", 5)
    connection.pause_writing()
    sending = asyncio.create_task(connection.send_on(answer, [b"one", b"two"]))
    await asyncio.sleep(10 * big_json.TURN_S)
    assert transport.written == [b"head", b"one"]

    connection.resume_writing()
    for _ in range(3):  # less than it takes to give others their turn
        await asyncio.sleep(0)

    assert transport.written == [b"head", b"one", b"two"]
    await sending
    connection.connection_lost(None)


@pytest.mark.parametrize("said", [b"HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\nno", OK, b""])
async def test_upstream_that_does_not_take_a_long_request_ends_it(said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    writers: list[asyncio.StreamWriter] = []
    server, wire = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**10), Wire(OPEN)
    url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    pieces = [bytes(2**18)] * 64

    if said:
        answer = await wire.post(url, b"", pieces, timeout_s=5)
        assert (answer.response.is_ended, await read(answer)) == (True, said[-2:])
    else:
        with pytest.raises(TimeoutError):
            await wire.post(url, b"", pieces, timeout_s=0.05)
    assert wire._pool.get(str(url.origin())) is None

    for each in writers:
        each.close()
    server.close()
    await wire.close()


@pytest.mark.parametrize("parts", [1, 2])
async def test_stream_that_is_all_there_leaves_at_once_and_one_that_is_not_is_watched(parts: int) -> None:
    event, sent, looked = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n', [], 0
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(event + usage)
    go_on = asyncio.Event()

    async def play(writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(head + event + (usage if parts == 1 else b""))
        if parts == 2:
            await go_on.wait()
            writer.write(usage)

    async def send(message: Message) -> None:
        sent.append(message)
        go_on.set() if message.get("body") else None

    async def receive() -> Message:
        nonlocal looked
        looked += 1
        nobody_leaves: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await nobody_leaves

    async with upstream(play) as (told, wire):
        call = Call(cast(Any, None), "chat", {}, receive, send, stream=True, hide_usage=True, deployment=deployment(""), kept=[])
        await forward(call, PAIRS["chat", "openai"], await wire.post(told.url, b"", b"{}", timeout_s=5))

    assert [(message.get("body"), message.get("more_body", False)) for message in sent] == [
        (None, False),
        *([(event, True), (b"", False)] if parts == 2 else [(event, False)]),
    ]
    told_length = dict(sent[0]["headers"]).get(b"content-length")
    assert told_length == (b"%d" % len(event) if parts == 1 else None)
    assert (call.status, call.usage_source, looked, b"".join(call.kept or ())) == ("ok", "provider", parts - 1, event)
    assert call.ttft_us is not None


async def test_what_may_not_be_called_or_cannot_be_reached_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = Wire(AllowList.parse([]))
    with pytest.raises(OutboundError):  # by what the name stands for
        await guarded.post(URL("http://localhost:9/"), b"", b"{}", timeout_s=5)
    await guarded.close()

    async with upstream(says(OK)) as (told, wire):
        with pytest.raises(UnreachedError, match="could not be reached"):  # nobody listens there
            await wire.post(URL("http://127.0.0.1:9/"), b"", b"{}", timeout_s=5)
        with pytest.raises(UnreachedError, match="could not be reached"):  # it speaks no TLS
            await wire.post(told.url.with_scheme("https"), b"", b"{}", timeout_s=5)
        monkeypatch.setattr(subject, "OPEN_TIMEOUT_S", 0.0)
        with pytest.raises(ConnectTimeoutError):
            await wire.post(told.url, b"", b"{}", timeout_s=5)


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\0b"])
def test_header_cannot_add_lines(value: str) -> None:
    with pytest.raises(ValueError, match="holds a line end"):
        header_lines({"x": value})
