"""The exchange with an upstream that speaks the OpenAI protocol: chat completions and embeddings."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp
import msgspec
import orjson

from gateway.contract.outbound import OutboundError
from gateway.contract.sealing import UnsealError
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import JSON, send_whole, standard_headers
from gateway.plane.served import Target
from gateway.plane.sse import SseTap, error_event
from gateway.plane.usage import CHARACTERS_PER_TOKEN, Usage, usage_of_body

DRAIN_S = 5.0
"""How long the rest of a stream is read after its caller has gone, to learn the usage."""
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 1024 * 1024
SLOW_S = 1.0
"""After a call of this length it is worth looking whether the caller is still there."""

_FORWARDED_HEADERS = ((b"openai-beta", "openai-beta"), (b"traceparent", "traceparent"), (b"tracestate", "tracestate"))
_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


@dataclass(frozen=True)
class _Answer:
    """An upstream's refusal in the OpenAI shape, fit to be passed on."""

    status: int
    body: bytes
    retry_after: bytes | None


async def exchange(call: Call) -> str:
    """Walk the deployments until one answers; pass its answer on. Refusal when none does."""
    served = call.served
    assert served is not None
    tried: list[str] = []
    failure: Refusal | _Answer | None = None
    for deployment in call.deployments:
        call.deployment = deployment
        try:
            target = served.target(deployment)
        except (OutboundError, UnsealError) as error:
            failure = Refusal("upstream_error", f"The deployment {deployment.id} cannot be called: {error}")
            tried.append(f"{deployment.id}:misconfigured")
            continue
        try:
            response = await _send(call, target)
        except Refusal as refusal:
            failure = refusal
            tried.append(f"{deployment.id}:{refusal.code}")
            if refusal.code == "upstream_timeout" and call.may_have_spent:
                break  # a second try could be charged twice, and has already taken the time of one
            continue
        if response.status < 400:
            tried.append(f"{deployment.id}:{response.status}")
            call.may_have_spent = True
            call.upstream_model = deployment.upstream_model
            try:
                if call.stream and response.content_type == "text/event-stream":
                    await _stream(call, response)
                else:
                    await _whole(call, response)
            finally:
                response.close()  # a response read to its end has given its connection back already
            return " ".join(tried)
        failure = await _failure(response, target)
        tried.append(f"{deployment.id}:{response.status}")
        if response.status < 500 and response.status != 429:
            break
    call.status = "upstream_error"
    if isinstance(failure, _Answer):
        call.error_code = "upstream_error"
        call.http_status = failure.status
        headers = [JSON, *standard_headers(call.request_id, call.overhead_us), *call.response_headers]
        if failure.retry_after is not None:
            headers.append((b"retry-after", failure.retry_after))
        await send_whole(call.send, failure.status, headers, failure.body)
        return " ".join(tried)
    assert failure is not None  # there is at least one deployment
    raise failure


async def _send(call: Call, target: Target) -> aiohttp.ClientResponse:
    """Send the request; the response's headers are there, its body is not. Refusal when the upstream cannot be reached."""
    body = {**call.body, "model": target.deployment.upstream_model}
    headers = {**target.headers, "x-request-id": call.request_id}
    for theirs, ours in _FORWARDED_HEADERS:
        if theirs in call.headers:
            headers[ours] = call.headers[theirs].decode("latin-1")
    url = target.embeddings_url if call.kind == "embeddings" else target.chat_url
    began = time.perf_counter_ns()
    try:
        response = await call.plane.client.post(
            url, data=orjson.dumps(body), headers=headers, timeout=target.timeout, allow_redirects=False
        )
    except aiohttp.ConnectionTimeoutError as error:
        raise Refusal("upstream_timeout", f"The provider {target.deployment.provider} could not be reached in time.") from error
    except TimeoutError as error:
        call.may_have_spent = True
        raise Refusal(
            "upstream_timeout",
            f"The provider {target.deployment.provider} did not answer within {target.deployment.timeout_s:g} seconds.",
        ) from error
    except OutboundError as error:
        raise Refusal("upstream_error", f"The deployment {target.deployment.id} cannot be called: {error}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Refusal("upstream_error", f"The provider {target.deployment.provider} could not be reached.") from error
    finally:
        call.upstream_ns += time.perf_counter_ns() - began
    if 300 <= response.status < 400:
        response.close()
        raise Refusal("upstream_error", f"The provider {target.deployment.provider} answered with a redirect, which is not followed.")
    return response


async def _failure(response: aiohttp.ClientResponse, target: Target) -> Refusal | _Answer:
    """An upstream's error status as what the caller may see."""
    provider = target.deployment.provider
    if response.status in (401, 403, 407):
        # About our credential, not the caller's; providers like to quote parts of it.
        response.close()
        return Refusal("upstream_error", f"The provider {provider} refused the gateway's credential (HTTP {response.status}).")
    try:
        body = await response.content.read(MAX_ERROR_BYTES)
        while not response.content.at_eof() and len(body) < MAX_ERROR_BYTES:
            body += await response.content.read(MAX_ERROR_BYTES)
    except (aiohttp.ClientError, OSError, TimeoutError):
        body = b""
    finally:
        response.close()
    if target.secret:
        body = body.replace(target.secret.encode(), b"[redacted]")
    try:
        shape = orjson.loads(body)
    except orjson.JSONDecodeError:
        shape = None
    if isinstance(shape, dict) and isinstance(shape.get("error"), dict):
        retry_after = response.headers.get("retry-after", "")
        return _Answer(response.status, body, retry_after.encode() if retry_after.isdigit() else None)
    if response.status == 429:
        return Refusal("upstream_error", f"The provider {provider} is overloaded (HTTP 429).", status=429, retry_after_s=1)
    return Refusal("upstream_error", f"The provider {provider} answered with HTTP {response.status}.")


async def _whole(call: Call, response: aiohttp.ClientResponse) -> None:
    """Pass on an answer that is one JSON document."""
    deployment = call.deployment
    assert deployment is not None
    began = time.perf_counter_ns()
    try:
        body = await _read_whole(response)
    except TimeoutError as error:
        call.status = "upstream_error"
        raise Refusal("upstream_timeout", f"The provider {deployment.provider} stopped in the middle of its answer.") from error
    except (aiohttp.ClientError, OSError) as error:
        call.status = "upstream_error"
        raise Refusal("upstream_error", f"The provider {deployment.provider} broke off its answer.") from error
    finally:
        call.upstream_ns += time.perf_counter_ns() - began
    if body is None:
        call.status = "upstream_error"
        raise Refusal("upstream_error", f"The provider {deployment.provider} sent more than {MAX_RESPONSE_BYTES // 2**20} MiB.")
    try:
        usage = usage_of_body(body)
    except msgspec.DecodeError as error:
        call.status = "upstream_error"
        raise Refusal("upstream_error", f"The provider {deployment.provider} sent an answer that is not valid JSON.") from error
    _take_usage(call, usage, len(body))
    if call.upstream_ns > SLOW_S * 1e9 and await _has_left(call):
        call.status, call.client_gone = "client_gone", True
        return
    call.client_started = True
    headers = [JSON, *standard_headers(call.request_id, call.overhead_us), *call.response_headers]
    call.ttft_us = (time.perf_counter_ns() - call.started_ns) // 1000
    await send_whole(call.send, response.status, headers, body)


async def _read_whole(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None when it is longer than MAX_RESPONSE_BYTES."""
    length = response.content_length
    if length is not None:
        return await response.read() if length <= MAX_RESPONSE_BYTES else None
    chunks, size = [], 0
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > MAX_RESPONSE_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


async def _has_left(call: Call) -> bool:
    """Whether the caller hung up. Asked before anything is sent, since afterwards ASGI says so of every caller."""
    waiting = asyncio.ensure_future(call.receive())
    done, _ = await asyncio.wait({waiting}, timeout=0.01)
    if not done:
        waiting.cancel()
        return False
    return bool(waiting.result()["type"] == "http.disconnect")


async def _stream(call: Call, response: aiohttp.ClientResponse) -> None:
    """Forward a stream as it comes; afterwards the usage is known as far as anything was said."""
    tap = SseTap(hide_usage=call.hide_usage)
    call.upstream = response
    call.plane.watch_stream(call)
    watcher = asyncio.create_task(_watch_caller(call, response))
    failure: Refusal | None = None
    try:
        call.client_started = True
        headers = [*_STREAM_HEADERS, *standard_headers(call.request_id, call.overhead_us), *call.response_headers]
        await call.send({"type": "http.response.start", "status": response.status, "headers": headers})
        failure = await _forward(call, response, tap)
        if not call.client_gone:
            tail = tap.flush() if failure is None else error_event(failure.body(call.request_id))
            await call.send({"type": "http.response.body", "body": tail})
    finally:
        watcher.cancel()
        call.plane.unwatch_stream(call)
        _take_usage(call, tap.usage, tap.text_bytes)
    if failure is not None and not call.client_gone:
        call.status = "refused" if failure is call.cut else "upstream_error"
        call.error_code = failure.code
    elif call.client_gone:
        call.status = "client_gone"


async def _forward(call: Call, response: aiohttp.ClientResponse, tap: SseTap) -> Refusal | None:
    """Forward until the upstream's end; the reason when it ended too early."""
    content = response.content
    deployment = call.deployment
    assert deployment is not None
    while True:
        began = time.perf_counter_ns()
        try:
            data = await content.readany()
        except TimeoutError:
            return Refusal("upstream_timeout", f"The provider {deployment.provider} stopped in the middle of its answer.")
        except (aiohttp.ClientError, OSError):
            if isinstance(call.cut, Refusal):
                return call.cut
            return Refusal("upstream_error", f"The provider {deployment.provider} broke off its answer.")
        finally:
            call.upstream_ns += time.perf_counter_ns() - began
        if not data:
            return call.cut if isinstance(call.cut, Refusal) else None
        data = tap.feed(data)
        if data and not call.client_gone:
            if call.ttft_us is None:
                call.ttft_us = (time.perf_counter_ns() - call.started_ns) // 1000
            await call.send({"type": "http.response.body", "body": data, "more_body": True})


async def _watch_caller(call: Call, response: aiohttp.ClientResponse) -> None:
    """When the caller hangs up, give the upstream a little time to say the usage, then close it."""
    while (await call.receive())["type"] != "http.disconnect":
        pass
    call.client_gone = True
    await asyncio.sleep(DRAIN_S)
    response.close()


def _take_usage(call: Call, usage: Usage | None, output_bytes: int) -> None:
    if usage is not None and usage.prompt_tokens is not None:
        call.usage, call.usage_source = usage, "provider"
        return
    output_tokens = None if call.kind == "embeddings" else -(-output_bytes // CHARACTERS_PER_TOKEN)
    call.usage = Usage(prompt_tokens=call.input_estimate, completion_tokens=output_tokens)
    call.usage_source = "estimated"
