"""The way to upstreams that serve models: a POST over connections that are kept, and as little around it as it needs.

aiohttp finds the address (under the guard), connects and does TLS. What goes over the connection is ours: its client costs four times
as much of the processor as all the rest of an exchange, see docs/decisions/0015-own-http-on-the-hot-path.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, cast

import aiohttp
from yarl import URL

from gateway.contract.outbound import AllowList, OutboundError
from gateway.plane.big_json import Turn
from gateway.plane.client import DNS_CACHE_S, KEEPALIVE_S, GuardedResolver
from gateway.plane.upstream.http1 import ProtocolError, Response

CONNECT_TIMEOUT_S = 5.0
"""For each group of addresses of a name."""
OPEN_TIMEOUT_S = 10.0
"""For finding the addresses and connecting to one of them."""
MOST_UNREAD_BYTES = 256 * 1024
"""Of one answer: beyond that the upstream is not read on until its reader has caught up."""


class WireError(Exception):
    """The upstream cannot be reached, broke off, or does not speak HTTP. The message says which, and is fit for people."""


class UnreachedError(WireError):
    """The upstream could not be reached: it has certainly not seen the request."""


class ConnectTimeoutError(UnreachedError):
    """It could not be reached in time."""


def header_lines(headers: Mapping[str, str]) -> bytes:
    """The lines of a request's head. ValueError when a value would end its line: it could add lines of its own.

    Names are constants of ours, never a caller's or an organisation's.
    """
    for name, value in headers.items():
        if _LINE_END.search(value) is not None:
            raise ValueError(f"the header {name} holds a line end")
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode()


_LINE_END = re.compile(r"[\r\n\0]")


class _Address(NamedTuple):
    origin: str
    """Connections to one origin are alike."""
    start: bytes
    """The first lines of every request to the address."""


@lru_cache(maxsize=4096)
def _address(url: URL) -> _Address:
    host = (url.host_port_subcomponent or "").rstrip(".")  # as a name is written in certificates
    start = f"POST {url.raw_path_qs} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n"
    return _Address(str(url.origin()), start.encode("ascii"))


class Answer:
    """What an upstream answers: the head at once, the body as it comes. To be closed unless it was read to its end."""

    __slots__ = ("_chunks", "_connection", "_error", "_loop", "_unread", "_waiter", "response", "timeout_s")

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._loop = connection.loop
        self.response = Response()
        self.timeout_s = timeout_s
        """The longest that the upstream may be silent."""
        self._connection: Connection | None = connection
        self._chunks: list[bytes] = []
        self._unread = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name."""
        return self.response.headers

    @property
    def content_type(self) -> str:
        """Without parameters, in lower case; empty when there is none."""
        return self.response.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_over(self) -> bool:
        """All of it was read, and it is whole."""
        return self.has_come and not self._chunks

    @property
    def has_come(self) -> bool:
        """All of it is here, read or not, and it is whole."""
        return self.response.is_ended and self._error is None

    @property
    def is_silent(self) -> bool:
        """Who reads now has to wait: nothing has come that was not read, and more is to come."""
        return not (self._chunks or self.response.is_ended or self._error is not None)

    @property
    def is_held_up(self) -> bool:
        """Its reader is slower than the upstream."""
        return self._unread > MOST_UNREAD_BYTES

    async def begun(self) -> None:
        """Return when the head is there. WireError or TimeoutError."""
        while not self.response.has_head:
            if self._error is not None:
                raise self._error
            await self._news()

    async def read(self) -> bytes:
        """What has come of the body by now, at least something; empty at its end. WireError or TimeoutError when it breaks off."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.response.is_ended:
                return b""
            await self._news()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        was_held_up = self.is_held_up
        self._chunks, self._unread = [], 0
        if was_held_up and self._connection is not None:
            self._connection.read_on()
        return data

    def close(self) -> None:
        """Give the rest up, and the connection with it. Harmless after the end."""
        if self._connection is not None:
            self._connection.abort()
            self.fail(WireError("The answer was given up."))

    def take(self, data: bytes) -> None:
        """Bytes came. ProtocolError."""
        body = self.response.feed(data)
        if body:
            self._chunks.append(body)
            self._unread += len(body)
        self._wake()

    def ended(self) -> None:
        """Nothing more will come, as it should be; the connection is no longer its own."""
        self._connection = None
        self._wake()

    def fail(self, error: Exception) -> None:
        """Nothing more will come, and that is not as it should be."""
        self._error, self._connection = error, None
        self._wake()

    def _news(self) -> asyncio.Future[None]:
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Connection(asyncio.Protocol):
    """One connection, with at most one request under way."""

    __slots__ = (
        "_answer",
        "_heard_at",
        "_is_full",
        "_is_paused",
        "_is_sending",
        "_timer",
        "_writable",
        "idle_since",
        "loop",
        "pool",
        "transport",
    )

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        """None before and after."""
        self.pool: _Pool | None = None
        """Where it goes when it is free."""
        self.idle_since = 0.0
        self._answer: Answer | None = None
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._is_sending = self._is_full = False
        """A request is on its way in pieces; the transport holds as much as it should."""
        self._writable: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, timeout_s: float) -> Answer:
        """Send a request whose answer will come."""
        assert self.transport is not None
        self._answer = answer = Answer(self, timeout_s)
        self._heard_at = self.loop.time()
        # A timer is kept over many requests: it looks now and then whether the upstream has been silent for too long.
        if self._timer is None or self._timer.when() > self._heard_at + timeout_s:
            self._look_again(timeout_s)
        self.transport.write(request)
        return answer

    async def send_on(self, answer: Answer, pieces: list[bytes]) -> None:
        """Send the rest of the request, as fast as the upstream takes it, and let others have their turn meanwhile. TimeoutError when it takes nothing.

        Ends early when the upstream does, or has refused already: then the connection serves no other request.
        """
        self._is_sending = True
        last = len(pieces) - 1
        turn = Turn()
        for number, piece in enumerate(pieces):
            if self._answer is not answer or self.transport is None or answer.status >= 400:
                return
            self.transport.write(piece)
            self._is_sending = number < last
            if self._is_full:  # before others' turn: what they hear of the upstream then must find somebody who waits for it
                self._writable = self.loop.create_future()
                async with asyncio.timeout(answer.timeout_s):
                    await self._writable
                turn = Turn()  # others had theirs
            elif turn.is_over:
                await turn.pass_on()
            self._heard_at = self.loop.time()  # it takes what it is sent

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._go_on_sending()

    def _go_on_sending(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nobody has asked, so whatever it is, it must not be taken for an answer to the next request
            self.abort()
            return
        self._heard_at = self.loop.time()
        try:
            answer.take(data)
        except ProtocolError as error:
            self._break(WireError(f"It does not speak HTTP/1.1: {error}."))
            return
        if self._writable is not None and (answer.status >= 400 or answer.response.is_ended):
            self._go_on_sending()
        if answer.response.is_ended:
            self._finish(answer)
        elif answer.is_held_up and not self._is_paused and self.transport is not None:
            self._is_paused = True
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._go_on_sending()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answer, self._answer = self._answer, None
        if answer is not None:
            error = exc  # with one not even an answer that goes on until the connection is closed is whole
            if error is None:
                try:
                    answer.response.feed_eof()
                except ProtocolError as unfinished:
                    error = unfinished
            if error is None:
                answer.ended()
            else:
                answer.fail(WireError(f"It broke off: {error}."))
        if self.pool is not None:
            self.pool.forget(self)

    def read_on(self) -> None:
        if self._is_paused and self.transport is not None:
            self._is_paused = False
            self._heard_at = self.loop.time()  # it was not the upstream that was silent
            self.transport.resume_reading()

    def abort(self) -> None:
        """Close it at once; whoever waits for an answer gets none."""
        self._answer = None
        if self.transport is not None:
            self.transport.abort()

    def _finish(self, answer: Answer) -> None:
        """The answer is whole, which its reader may not have seen yet."""
        self._answer = None
        answer.ended()
        transport = self.transport
        if transport is None or self.pool is None:
            return
        if self._is_paused:
            self._is_paused = False
            transport.resume_reading()
        if self._is_sending:  # the rest would be taken for the next request
            transport.abort()
        elif answer.response.keeps and not transport.is_closing() and transport.get_write_buffer_size() == 0:
            self.pool.put(self)
        else:
            transport.close()

    def _break(self, error: Exception) -> None:
        answer = self._answer
        self.abort()
        if answer is not None:
            answer.fail(error)

    def _look_again(self, after_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(after_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if (answer := self._answer) is None:
            return
        left_s = answer.timeout_s if self._is_paused else self._heard_at + answer.timeout_s - self.loop.time()
        if left_s > 0:
            self._look_again(left_s)
        else:
            self._break(TimeoutError("The upstream was silent for too long."))


class _Pool:
    """Connections of one process that are free, by origin; the one that was used last goes first."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: dict[str, list[Connection]] = {}
        self._all: dict[Connection, str] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def add(self, connection: Connection, origin: str) -> None:
        """A new connection, in use."""
        connection.pool = self
        self._all[connection] = origin

    def get(self, origin: str) -> Connection | None:
        """One that is free, for its new user alone."""
        idle = self._idle.get(origin)
        oldest = self._loop.time() - KEEPALIVE_S
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                if connection.idle_since >= oldest:
                    return connection
                transport.close()
        return None

    def put(self, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        self._idle.setdefault(self._all[connection], []).append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(KEEPALIVE_S, self._sweep)

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        origin = self._all.pop(connection, None)
        idle = self._idle.get(origin) if origin is not None else None
        if idle and connection in idle:
            idle.remove(connection)

    def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._all):
            connection.abort()

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = self._loop.time() - KEEPALIVE_S
        kept = {origin: [each for each in idle if each.idle_since > oldest] for origin, idle in self._idle.items()}
        gone = [each for idle in self._idle.values() for each in idle if each.idle_since <= oldest and each.transport is not None]
        self._idle = {origin: idle for origin, idle in kept.items() if idle}
        for connection in gone:
            if connection.transport is not None:
                connection.transport.close()
        if self._idle:
            self._sweeper = self._loop.call_later(KEEPALIVE_S, self._sweep)


class _Opener(aiohttp.TCPConnector):
    """Of aiohttp's connector the part that opens connections: names, guard, both families of addresses, TLS and its certificates."""

    def __init__(self, allow: AllowList) -> None:
        super().__init__(resolver=GuardedResolver(allow), limit=0, ttl_dns_cache=DNS_CACHE_S)
        self._factory = Connection  # type: ignore[assignment]  # what it opens speaks our HTTP, not its own
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)

    async def open(self, origin: str) -> Connection:
        """UnreachedError, of which ConnectTimeoutError is one, or OutboundError."""
        request = aiohttp.ClientRequest("POST", URL(origin), loop=asyncio.get_running_loop())  # says where to, and is never sent
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                opened: object = await self._create_connection(request, [], self._timeout)
        except TimeoutError as error:
            raise ConnectTimeoutError("It could not be reached in time.") from error
        except OutboundError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachedError("It could not be reached.") from error
        assert isinstance(opened, Connection)
        return opened


class Wire:
    """All connections of one plane process to upstreams that serve models."""

    def __init__(self, allow: AllowList) -> None:
        self._opener = _Opener(allow)
        self._pool = _Pool()

    async def post(self, url: URL, head: bytes, body: bytes | list[bytes], *, timeout_s: float) -> Answer:
        """Send `body` under the lines of `head` (see `header_lines`); return when the answer's head is there. Pieces leave one at a time.

        The upstream may be silent for `timeout_s` at a time, then and while the body is read. Redirects are not followed, nothing is sent twice.
        UnreachedError, of which ConnectTimeoutError is one, or OutboundError when the address may not be called: then nothing was sent.
        TimeoutError or another WireError: what the upstream has done by then nobody knows.
        """
        origin, start = _address(url)
        connection = self._pool.get(origin)
        if connection is None:
            connection = await self._opener.open(origin)
            self._pool.add(connection, origin)
        whole, pieces = (body, None) if isinstance(body, bytes) else (b"", body)
        length = len(whole) if pieces is None else sum(map(len, pieces))
        # In one piece: two cost the kernel half as much again.
        answer = connection.send(b"%b%bcontent-length: %d\r\n\r\n%b" % (start, head, length, whole), timeout_s)
        try:
            if pieces is not None:
                await connection.send_on(answer, pieces)
            await answer.begun()
        except BaseException:
            answer.close()
            raise
        return answer

    async def close(self) -> None:
        self._pool.close()
        await self._opener.close()
