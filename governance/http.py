"""HTTP clients of the portal for URLs that a person typed: guarded against SSRF, bounded in time and size.

Which addresses may be called is `gateway/contract/outbound.py`, opened by the setting `OUTBOUND_ALLOW`. Redirects are not
followed, proxies of the environment are not used, and an answer larger than the cap is cut off with an error. Compressed answers
are refused, because the cap counts what is read from the wire.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping

import httpx2
from django.conf import settings

from gateway.contract.credentials import Token, WithToken, read_token
from gateway.contract.outbound import AllowList
from gateway.contract.outbound_httpx import GuardedAsyncTransport, GuardedTransport

TIMEOUT_S = 10.0
MAX_RESPONSE_BYTES = 4 * 1024 * 1024


class ResponseRefusedError(httpx2.ReadError):
    """The answer is larger than the cap, or compressed although we asked for plain bytes."""


class _CappedStream(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, limit: int) -> None:
        self._inner, self._limit = inner, limit

    def __iter__(self) -> Iterator[bytes]:
        read = 0
        for chunk in self._inner:
            read += len(chunk)
            if read > self._limit:
                raise ResponseRefusedError(f"the answer is larger than {self._limit:,} bytes")
            yield chunk

    def close(self) -> None:
        self._inner.close()


class _CappedAsyncStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, limit: int) -> None:
        self._inner, self._limit = inner, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._inner:
            read += len(chunk)
            if read > self._limit:
                raise ResponseRefusedError(f"the answer is larger than {self._limit:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _refuse_compressed(response: httpx2.Response) -> None:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise ResponseRefusedError(f"the answer is compressed ({encoding}) although plain bytes were asked for")


class _CappedTransport(GuardedTransport):
    def __init__(self, allow: AllowList, limit: int, until: float | None) -> None:
        super().__init__(allow, until=until)
        self._limit = limit

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _CappedStream(response.stream, self._limit)
        return response


class _CappedAsyncTransport(GuardedAsyncTransport):
    def __init__(self, allow: AllowList, limit: int) -> None:
        super().__init__(allow)
        self._limit = limit

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _CappedAsyncStream(response.stream, self._limit)
        return response


async def _refuse_compressed_async(response: httpx2.Response) -> None:
    _refuse_compressed(response)


def allow_list() -> AllowList:
    """The operator's allow-list as it is set now."""
    return AllowList.parse(settings.OUTBOUND_ALLOW)


def guarded_client(
    *,
    timeout_s: float = TIMEOUT_S,
    total_s: float | None = None,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_RESPONSE_BYTES,
    is_raw: bool = False,
) -> httpx2.Client:
    """A client for URLs that people typed. Calls raise `OutboundError` for what may not be called, `httpx2.HTTPError` for the rest.

    `timeout_s` is for each read, write and connection; `total_s` for all that this client does, from now on. `is_raw` takes answers that are
    marked as compressed, too: for callers that read them by `iter_raw()` only, so that nothing is unpacked beyond the cap.
    """
    return httpx2.Client(
        transport=_CappedTransport(allow_list(), max_bytes, None if total_s is None else time.monotonic() + total_s),
        timeout=timeout_s,
        follow_redirects=False,
        trust_env=False,
        headers={"Accept-Encoding": "identity", **(headers or {})},
        event_hooks={} if is_raw else {"response": [_refuse_compressed]},
    )


def fetch_token(credential: WithToken, *, timeout_s: float = TIMEOUT_S) -> Token:
    """A fresh access token for a credential. OutboundError, CredentialError (the service's no) or `httpx2.HTTPError`, as of any client here."""
    with guarded_client(timeout_s=timeout_s) as client:
        response = client.post(
            credential.token_endpoint,
            content=credential.token_form(time.time()),
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
    return read_token(response.status_code, response.content)


def guarded_async_client(
    *, timeout_s: float = TIMEOUT_S, headers: Mapping[str, str] | None = None, max_bytes: int = MAX_RESPONSE_BYTES
) -> httpx2.AsyncClient:
    """The same for asynchronous callers, such as the MCP client."""
    return httpx2.AsyncClient(
        transport=_CappedAsyncTransport(allow_list(), max_bytes),
        timeout=timeout_s,
        follow_redirects=False,
        trust_env=False,
        headers={"Accept-Encoding": "identity", **(headers or {})},
        event_hooks={"response": [_refuse_compressed_async]},
    )
