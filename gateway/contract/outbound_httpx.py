"""The outbound rule for httpx2 clients: resolve once, check every address, connect to a checked one.

Used by the portal (`governance.http`) and by the plane's MCP sessions. TLS still verifies the name in the URL, since
only the address of the TCP connection is pinned.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable
from functools import cache
from typing import Any

import httpcore2
import httpx2

from gateway.contract.outbound import AllowList, OutboundError, check_address, check_url

_Option = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


def _checked(host: str, found: Iterable[tuple[Any, ...]], allow: AllowList) -> list[str]:
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        check_address(host, address, allow)
    return addresses


class GuardedAsyncBackend(httpcore2.AsyncNetworkBackend):
    """Network backend that connects only where the allow-list and the public internet permit."""

    def __init__(self, allow: AllowList) -> None:
        self._allow = allow
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_Option] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"{host} was not resolved in time") from error
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved") from error
        failure: httpcore2.ConnectError | httpcore2.ConnectTimeout | None = None
        for address in _checked(host, found, self._allow):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError(f"{host} has no address")

    async def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        raise OutboundError("Sockets of this machine may not be called.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _left_s(timeout: float | None, until: float, late: type[Exception]) -> float:
    left_s = until - time.monotonic()
    if left_s <= 0:  # which a socket would read as: never wait
        raise late("the time for the whole call is over")
    return left_s if timeout is None else min(timeout, left_s)


class _TimedStream(httpcore2.NetworkStream):
    """A connection that waits for nothing after `until` (monotonic clock). Timeouts alone are for one read each: who sends a byte now and
    then would never come to an end, be it in headers or body."""

    def __init__(self, inner: httpcore2.NetworkStream, until: float) -> None:
        self._inner, self._until = inner, until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left_s(timeout, self._until, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left_s(timeout, self._until, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left_s = _left_s(timeout, self._until, httpcore2.ConnectTimeout)
        return _TimedStream(self._inner.start_tls(ssl_context, server_hostname, left_s), self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class GuardedBackend(httpcore2.NetworkBackend):
    """The same for synchronous clients. `until`, on the monotonic clock, ends all that its connections wait for; names are resolved in the
    system's own time."""

    def __init__(self, allow: AllowList, until: float | None = None) -> None:
        self._allow, self._until = allow, until
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_Option] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved") from error
        failure: httpcore2.ConnectError | httpcore2.ConnectTimeout | None = None
        for address in _checked(host, found, self._allow):
            try:
                if self._until is None:
                    return self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
                left_s = _left_s(timeout, self._until, httpcore2.ConnectTimeout)
                return _TimedStream(self._inner.connect_tcp(address, port, left_s, local_address, socket_options), self._until)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError(f"{host} has no address")

    def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore2.NetworkStream:
        raise OutboundError("Sockets of this machine may not be called.")


@cache
def _certificates() -> ssl.SSLContext:
    """One for all clients: reading the authorities takes 80 ms."""
    return httpx2.create_ssl_context(trust_env=False)


class GuardedAsyncTransport(httpx2.AsyncHTTPTransport):
    """Transport of an `httpx2.AsyncClient`; OutboundError for what the rule forbids. Give the client `trust_env=False`."""

    def __init__(self, allow: AllowList, *, max_connections: int = 100) -> None:
        super().__init__(verify=_certificates(), trust_env=False)
        self._allow = allow
        # httpx2 offers no argument for the network backend; the pool is the seam that httpcore2 documents.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_certificates(),
            max_connections=max_connections,
            keepalive_expiry=15.0,
            network_backend=GuardedAsyncBackend(allow),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        check_url(str(request.url), self._allow)
        return await super().handle_async_request(request)


class GuardedTransport(httpx2.HTTPTransport):
    """Transport of an `httpx2.Client`; OutboundError for what the rule forbids. Give the client `trust_env=False`.

    Nothing is waited for after `until`, on the monotonic clock: an `httpx2.TimeoutException`.
    """

    def __init__(self, allow: AllowList, *, max_connections: int = 20, until: float | None = None) -> None:
        super().__init__(verify=_certificates(), trust_env=False)
        self._allow = allow
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_certificates(),
            max_connections=max_connections,
            keepalive_expiry=15.0,
            network_backend=GuardedBackend(allow, until),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        check_url(str(request.url), self._allow)
        return super().handle_request(request)
