"""The HTTP client for what a plane process asks seldom, and the guard where it connects. Models are asked over `upstream.wire`."""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.contract.outbound import AllowList, check_address

KEEPALIVE_S = 15.0
"""Shorter than what upstreams keep idle connections for, so that a call seldom meets a connection that is being closed."""
DNS_CACHE_S = 10


class GuardedResolver(AbstractResolver):
    """Resolves a name once and gives the connector only addresses that may be called.

    Raises OutboundError, as `check_address` does. Literal addresses never come here: `check_url` has judged them before.
    """

    def __init__(self, allow: AllowList) -> None:
        self._allow = allow
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        results = await self._inner.resolve(host, port, family)
        for result in results:
            check_address(host, result["host"], self._allow)
        return results

    async def close(self) -> None:
        await self._inner.close()


def open_client(allow: AllowList) -> aiohttp.ClientSession:
    """Each request brings its own timeouts, see `served.Target`."""
    connector = aiohttp.TCPConnector(resolver=GuardedResolver(allow), limit=0, ttl_dns_cache=DNS_CACHE_S, keepalive_timeout=KEEPALIVE_S)
    return aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=120),
        raise_for_status=False,
    )
