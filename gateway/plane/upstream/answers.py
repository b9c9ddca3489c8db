"""An upstream's answer on its way to the caller: whole, or as a stream that is forwarded as it comes. Afterwards its usage is known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from gateway.plane import text
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.guarding import is_gathered, look_at_answer, look_at_stream
from gateway.plane.http import JSON, send_whole, standard_headers
from gateway.plane.sse import error_event
from gateway.plane.upstream.dialects import Pair, Tap
from gateway.plane.upstream.eventstream import BedrockTap
from gateway.plane.upstream.wire import Answer, WireError
from gateway.plane.usage import CHARACTERS_PER_TOKEN, Usage, id_in

DRAIN_S = 5.0
"""How long the rest of a stream is read after its caller has gone, to learn the usage."""
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
SLOW_S = 1.0
"""After a call of this length it is worth looking whether the caller is still there."""

OF_UPSTREAM = frozenset({"upstream_error", "upstream_timeout"})
"""Codes of refusals that are the upstream's fault."""
_FRAMED = "application/vnd.amazon.eventstream"
_STREAMS = frozenset(("text/event-stream", _FRAMED))
_STREAM_HEADERS = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


def forward(call: Call, pair: Pair, response: Answer) -> Awaitable[None]:
    """Pass an answer on in the shape in which it comes, and note its usage. Refusal when it is none, or broke off before the caller had any of it."""
    return (_stream if call.stream and response.content_type in _STREAMS else _whole)(call, pair, response)


async def _whole(call: Call, pair: Pair, response: Answer) -> None:
    """Pass on an answer that is one JSON document."""
    deployment = call.deployment
    assert deployment is not None
    began = time.perf_counter_ns()
    try:
        body = await read_up_to(response, MAX_RESPONSE_BYTES)
    except TimeoutError as error:
        stopped = Refusal("upstream_timeout", f"The provider {deployment.provider} stopped in the middle of its answer.")
        raise _unusable(call, stopped) from error
    except WireError as error:
        raise _unusable(call, Refusal("upstream_error", f"The provider {deployment.provider} broke off its answer.")) from error
    finally:
        call.upstream_ns += time.perf_counter_ns() - began
    if body is None:
        raise _unusable(call, _too_long(call))
    try:
        body, usage = pair.whole(call, body)
    except Refusal as refusal:  # it does not fit the provider's protocol
        raise _unusable(call, refusal) from refusal.__cause__
    except (msgspec.DecodeError, ValueError) as error:
        invalid = Refusal("upstream_error", f"The provider {deployment.provider} sent an answer that is not valid JSON.")
        raise _unusable(call, invalid) from error
    take_usage(call, usage, partial(len, body))
    if call.upstream_ns > SLOW_S * 1e9 and await _has_left(call):
        call.status, call.client_gone = "client_gone", True
        return
    if call.on_text is not None:
        body = await look_at_answer(call, text.whole(call.surface, body, call.on_text))
    call.client_started = True
    headers = [JSON, *standard_headers(call.request_id, call.overhead_us), *call.response_headers]
    call.ttft_us = (time.perf_counter_ns() - call.started_ns) // 1000
    call.keep(body)
    call.kept_headers = (JSON,)
    await send_whole(call.send, response.status, headers, body)


def _unusable(call: Call, refusal: Refusal) -> Refusal:
    """Why the caller gets nothing of an answer that had begun. It may be charged for: its input is estimated, what was generated is not known."""
    call.status = "upstream_error"
    call.usage, call.usage_source = Usage(prompt_tokens=call.input_estimate), "estimated"
    return refusal


async def read_up_to(response: Answer, limit: int) -> bytes | None:
    """The body, or None when it is longer than `limit` bytes."""
    body = await response.read()
    if response.is_over and len(body) <= limit:
        return body
    chunks, size = [body], len(body)
    while body and size <= limit:
        body = await response.read()
        chunks.append(body)
        size += len(body)
    return b"".join(chunks) if size <= limit else None


def name_deployment(call: Call, refusal: Refusal) -> None:
    """Say which deployment failed, in what the caller is told."""
    if refusal.code in OF_UPSTREAM and refusal.scope is None and call.deployment is not None:
        refusal.scope = f"deployment:{call.deployment.id}"


async def _has_left(call: Call) -> bool:
    """Whether the caller hung up. Asked before anything is sent, since afterwards ASGI says so of every caller."""
    try:
        async with asyncio.timeout(0.01):
            await until_gone(call)
    except TimeoutError:
        return False
    return True


async def until_gone(call: Call) -> None:
    """Until the caller hung up. Before that the server may say once more that the request is complete."""
    while (await call.receive())["type"] != "http.disconnect":
        pass


async def _stream(call: Call, pair: Pair, response: Answer) -> None:
    """Forward a stream as it comes; afterwards the usage is known as far as anything was said."""
    tap = pair.tap(call)
    if call.on_text is not None:
        tap = text.TextTap(call.surface, tap, call.on_text)
    if response.content_type == _FRAMED:
        assert call.deployment is not None
        tap = BedrockTap(tap, call.deployment.provider)
    call.upstream, call.kept_headers = response, _STREAM_HEADERS
    watch = _Watch(call, response, tap)
    failure: Refusal | None = None
    try:
        call.client_started = True
        headers = [*_STREAM_HEADERS, *standard_headers(call.request_id, call.overhead_us), *call.response_headers]
        if call.upstream_ns > SLOW_S * 1e9:  # who waited so long may have left by now
            watch.begin()
        # Servers do a fifth less for what they can send with its length, in one go.
        is_whole = response.has_come and call.cut is None
        if not is_whole:
            await call.send({"type": "http.response.start", "status": response.status, "headers": headers})
        gathered: list[bytes] | None = [] if is_gathered(call) else None
        failure, last = await _forward_pieces(call, response, tap, gathered, watch)
        tail = b""
        if failure is None:
            try:
                tail = tap.flush() if gathered is None else await look_at_stream(call, b"".join([*gathered, tap.flush()]))
            except Refusal as refusal:
                failure = refusal
        if failure is None:
            tail = last + tail
            call.keep(tail)
            call.ttft_us = call.ttft_us or ((time.perf_counter_ns() - call.started_ns) // 1000 if gathered else None)
        if not call.client_gone:
            watch.end()  # whoever hangs up from here on has the whole answer
            if failure is not None:
                name_deployment(call, failure)
                tail = last + error_event(call.surface, failure, call.request_id)
            if is_whole:
                await send_whole(call.send, response.status, headers, tail)
            else:
                await call.send({"type": "http.response.body", "body": tail})
    finally:
        watch.end()
        take_usage(call, tap.usage, lambda: tap.text_bytes)
    _judge(call, tap, failure)


def _judge(call: Call, tap: Tap, failure: Refusal | None) -> None:
    """What became of a stream."""
    if failure is not None and not call.client_gone:
        call.status = "upstream_error" if failure.code in OF_UPSTREAM else "refused"
        call.error_code = failure.code
    elif call.client_gone and not call.has_all:
        call.status = "client_gone"
    elif tap.is_failed:
        call.status, call.error_code = "upstream_error", "upstream_error"


async def _forward_pieces(
    call: Call, response: Answer, tap: Tap, gathered: list[bytes] | None, watch: _Watch
) -> tuple[Refusal | None, bytes]:
    """Forward until the upstream's end, or gather what would be sent.

    The reason when it ended too early, and what came with the end and is not sent yet: it leaves together with what is left in the tap.
    """
    size = 0
    while True:
        data = await _next(call, response, watch)
        if isinstance(data, Refusal):
            return data, b""
        if not data:
            return (call.cut if isinstance(call.cut, Refusal) else None), b""
        try:
            data = tap.feed(data)
        except Refusal as refusal:
            return refusal, b""
        if not call.beginning:
            call.beginning = data
        if gathered is not None:
            gathered.append(data)
            size += len(data)
            if size > MAX_RESPONSE_BYTES:
                return _too_long(call), b""
        elif data and not call.client_gone:
            if call.ttft_us is None:
                call.ttft_us = (time.perf_counter_ns() - call.started_ns) // 1000
            if response.is_over and call.cut is None:
                return None, data
            call.keep(data)
            await call.send({"type": "http.response.body", "body": data, "more_body": True})


async def _next(call: Call, response: Answer, watch: _Watch) -> bytes | Refusal:
    """What comes next of a stream, empty at its end; the reason when it breaks off."""
    deployment = call.deployment
    assert deployment is not None
    began = time.perf_counter_ns()
    if response.is_silent:
        watch.begin()
    try:
        return await response.read()
    except TimeoutError:
        return Refusal("upstream_timeout", f"The provider {deployment.provider} stopped in the middle of its answer.")
    except WireError:
        if isinstance(call.cut, Refusal):
            return call.cut
        return Refusal("upstream_error", f"The provider {deployment.provider} broke off its answer.")
    finally:
        call.upstream_ns += time.perf_counter_ns() - began


def _too_long(call: Call) -> Refusal:
    assert call.deployment is not None
    return Refusal("upstream_error", f"The provider {call.deployment.provider} sent more than {MAX_RESPONSE_BYTES // 2**20} MiB.")


class _Watch:
    """Looks whether the caller of a stream hangs up. It begins where there is something to wait for: an answer that is all there needs none."""

    __slots__ = ("_call", "_response", "_tap", "_task")

    def __init__(self, call: Call, response: Answer, tap: Tap) -> None:
        self._call, self._response, self._tap = call, response, tap
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(_watch_caller(self._call, self._response, self._tap))

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _watch_caller(call: Call, response: Answer, tap: Tap) -> None:
    """When the caller hangs up, give the upstream a little time to say the usage, then close it."""
    await until_gone(call)
    call.client_gone, call.has_all = True, tap.is_done and not is_gathered(call)
    await asyncio.sleep(DRAIN_S)
    response.close()


def take_usage(call: Call, usage: Usage | None, output_bytes: Callable[[], int]) -> None:
    """The provider's own figures; what it did not say is estimated, and the whole is marked so. Only then are the output's bytes counted."""
    has_output = call.kind != "embeddings"
    name = (usage.answer_id if usage else None) or id_in(call.beginning)  # a stream may end before its usage, or never tell one
    if usage is not None and usage.prompt_tokens is not None and (usage.completion_tokens is not None or not has_output):
        call.usage_source = "provider"
    else:
        estimate = -(-output_bytes() // CHARACTERS_PER_TOKEN) if has_output else None
        if usage is None or usage.prompt_tokens is None:
            usage = Usage(prompt_tokens=call.input_estimate, completion_tokens=estimate)
        else:
            usage = msgspec.structs.replace(usage, completion_tokens=estimate)
        call.usage_source = "estimated"
    usage.answer_id = name
    call.usage = usage
