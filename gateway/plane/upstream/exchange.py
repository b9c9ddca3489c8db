"""The exchange with an upstream that serves a model: walk the deployments, send, read or forward, note the usage.

Nothing here knows a protocol; what depends on one is asked of the pair, see `dialects`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial

import msgspec
import orjson

from gateway.contract.credentials import CredentialError
from gateway.contract.events import Step
from gateway.contract.outbound import OutboundError
from gateway.contract.sealing import UnsealError
from gateway.contract.snapshot import Deployment, Resource
from gateway.plane import big_json, text
from gateway.plane.call import SURFACES, Call
from gateway.plane.errors import Refusal
from gateway.plane.guarding import is_gathered, look_at_answer, look_at_stream
from gateway.plane.health import Change, Circuit
from gateway.plane.http import JSON, send_whole, standard_headers
from gateway.plane.served import Target
from gateway.plane.sse import error_event
from gateway.plane.upstream import quota
from gateway.plane.upstream.dialects import Pair, Tap
from gateway.plane.upstream.eventstream import BedrockTap
from gateway.plane.upstream.pairs import PAIRS
from gateway.plane.upstream.wire import Answer, ConnectTimeoutError, UnreachedError, WireError, header_lines
from gateway.plane.usage import CHARACTERS_PER_TOKEN, Usage

DRAIN_S = 5.0
"""How long the rest of a stream is read after its caller has gone, to learn the usage."""
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 1024 * 1024
SLOW_S = 1.0
"""After a call of this length it is worth looking whether the caller is still there."""

_FAULTS = frozenset({401, 402, 403, 407, 408, 424, 425, 429})
"""Besides those from 500 on. 424 is how Bedrock says that the model failed."""
_ELSEWHERE = frozenset({404})
"""Another deployment may know what this one does not; but callers can cause it too, so it is held against nobody."""
_BUSY = frozenset({429, 503, 529})
"""Whoever answers so is asked again by clients at once, unless they are told when."""
_AT_QUOTA = "quota"
_OF_UPSTREAM = frozenset({"upstream_error", "upstream_timeout"})
_FRAMED = "application/vnd.amazon.eventstream"
_STREAMS = frozenset(("text/event-stream", _FRAMED))
_STREAM_HEADERS = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


@dataclass(frozen=True)
class _Answer:
    """An upstream's refusal in the caller's shape, fit to be passed on."""

    status: int
    body: bytes
    retry_after_s: int | None


@dataclass(frozen=True)
class _Failed:
    """Why one deployment did not answer."""

    reason: Refusal | _Answer
    label: str
    """For the record of the call's step."""
    is_last: bool = False
    """Another deployment would not help, or must not be asked."""
    was_sent: bool = True
    """False: the deployment was not even asked, so what another one said weighs more."""


async def exchange(call: Call) -> str:
    """Walk the deployments until one answers; pass its answer on. Refusal when none does."""
    assert call.served is not None
    assert call.model is not None
    health = call.plane.health
    budget = health.budget(call.served.tenant, call.model.slug)
    budget.earn()
    tried: list[str] = []
    failed: _Failed | None = None
    for deployment, circuit in _in_order(call):
        was_sent = failed is not None and failed.was_sent
        if was_sent and not budget.spend():
            tried.append("no second try left")
            break
        if was_sent or (tried and tried[-1].endswith(f":{_AT_QUOTA}")):  # the latter costs no second try: nobody was asked
            call.steps.append(Step("failover", "pass", 0, f"{tried[-1]} → {deployment.id}"))
        outcome = await (_attempt_within_quota if deployment.limits else _attempt)(call, deployment, circuit)
        if outcome is None:
            answered = f"{deployment.id}:200"
            return " ".join([*tried, answered]) if tried else answered
        tried.append(f"{deployment.id}:{outcome.label}")
        if failed is None or outcome.was_sent:
            failed = outcome
        if outcome.is_last:
            break
    assert failed is not None  # there is at least one deployment
    if isinstance(failed.reason, Refusal):
        if failed.reason.code in _OF_UPSTREAM:
            call.status = "upstream_error"
            failed.reason.scope = failed.reason.scope or (f"deployment:{call.deployment.id}" if call.deployment else None)
        raise failed.reason
    await _pass_on(call, failed.reason)
    return " ".join(tried)


def _in_order(call: Call) -> list[tuple[Deployment, Circuit]]:
    """The deployments as routed, those that do badly last: an open circuit only matters where there is a choice, or none is left."""
    assert call.served is not None
    health, tenant = call.plane.health, call.served.tenant
    if call.surface == "count_tokens":
        # Permitted, limited and broken apart from messages, so it says nothing about them, nor they about it.
        return [(deployment, Circuit()) for deployment in call.deployments]
    pairs = [(deployment, health.circuit(tenant, deployment.id)) for deployment in call.deployments]
    if len(pairs) > 1:
        now = time.monotonic()
        pairs.sort(key=lambda pair: (not pair[1].is_ready(now), pair[1].is_dead))
    return pairs


async def _attempt_within_quota(call: Call, deployment: Deployment, circuit: Circuit) -> _Failed | None:
    """`_attempt` as long as enough is left of the deployment's limits; what it did not use is given back at once."""
    if not deployment.limits:
        return await _attempt(call, deployment, circuit)
    try:
        taken = await quota.take(call, deployment)
    except Refusal as refusal:
        return _Failed(refusal, _AT_QUOTA if refusal.code in quota.USED_UP else refusal.code, was_sent=False)
    spent_elsewhere, call.may_have_spent = call.may_have_spent, False
    used: dict[Resource, int | None] = {**taken.worst}  # unless it is known: missing is not zero, nor a share
    try:
        outcome = await _attempt(call, deployment, circuit)
        if outcome is None:
            used |= quota.used(call, deployment)
        elif not outcome.was_sent:
            used = dict.fromkeys(used, 0)
        elif not call.may_have_spent:  # one that took too long, or broke off, may have generated all of it
            used = {**dict.fromkeys(used, 0), "requests": 1}
        return outcome
    finally:
        call.may_have_spent |= spent_elsewhere
        quota.settle(call, taken, used)


async def _attempt(call: Call, deployment: Deployment, circuit: Circuit) -> _Failed | None:
    """Ask one deployment and pass its answer on; otherwise why there is none. Refusal when an answer broke off."""
    assert call.served is not None
    pair = PAIRS.get((call.surface, deployment.dialect))
    if pair is None:
        return _Failed(_not_translated(call, deployment), "not translated", was_sent=False)
    now = time.monotonic()
    if circuit.is_dead and not circuit.is_ready(now):
        return _Failed(_unavailable(deployment, circuit.wait_s(now)), "circuit open", was_sent=False)
    call.deployment, call.attempt_ns = deployment, time.perf_counter_ns()
    try:
        target = call.served.target(deployment)
    except (OutboundError, UnsealError, CredentialError) as error:
        return _Failed(Refusal("upstream_error", f"The deployment {deployment.id} cannot be called: {error}"), "misconfigured")
    try:
        body = await _body(call, target, pair)
    except Refusal as refusal:  # another deployment may speak the caller's own protocol
        return _Failed(refusal, refusal.code, was_sent=False)
    if isinstance(body, list):
        now = time.monotonic()
        if circuit.is_dead and not circuit.is_ready(now):  # others went on meanwhile; one of them may be the probe
            return _Failed(_unavailable(deployment, circuit.wait_s(now)), "circuit open", was_sent=False)
    is_probe, change = circuit.began(now, deployment.timeout_s)
    _note(call, change)
    try:
        response = await _send(call, target, pair, body)
    except Refusal as refusal:
        _note(call, circuit.ended(time.monotonic(), is_error=True, is_probe=is_probe), refusal.code)
        return _Failed(refusal, refusal.code)
    if response.status >= 400:
        _note(call, circuit.ended(time.monotonic(), is_error=_is_fault(response.status), is_probe=is_probe), f"HTTP {response.status}")
        reason = await _failure(call, pair, response, target)
        return _Failed(reason, str(response.status), is_last=not (_is_fault(response.status) or response.status in _ELSEWHERE))
    call.may_have_spent = True
    call.upstream_model = deployment.upstream_model
    try:
        if call.stream and response.content_type in _STREAMS:
            await _stream(call, pair, response)
        else:
            await _whole(call, pair, response)
    finally:
        response.close()  # a response read to its end has given its connection back already
        is_error = call.status == "upstream_error"
        _note(call, circuit.ended(time.monotonic(), is_error, is_probe=is_probe), call.error_code or "upstream_error")
    return None


async def _body(call: Call, target: Target, pair: Pair) -> bytes | list[bytes]:
    """The request for the upstream, a long one in pieces between which others had their turn. Refusal when it cannot be said to it."""
    fields = pair.body(call, target)
    if target.cloud is not None:
        fields = target.cloud.body(pair.path, fields, call.headers)
    try:
        if call.body_bytes <= big_json.LARGE_BYTES:
            return orjson.dumps(fields)
        return await big_json.in_turns(big_json.written(fields))
    except (orjson.JSONEncodeError, big_json.BigJsonError) as error:  # what was read may be nested deeper than what can be written
        raise Refusal("invalid_request", "The request is nested too deeply.") from error


def _is_fault(status: int) -> bool:
    """Whether an answer speaks against the deployment: it fails, is overloaded, or does not take our credential or account."""
    return status >= 500 or status in _FAULTS


def _unavailable(deployment: Deployment, wait_s: float) -> Refusal:
    return Refusal(
        "upstream_error",
        f"The provider {deployment.provider} fails most calls at the moment; it is asked again in {wait_s:.0f} s.",
        status=503,
        retry_after_s=max(1, round(wait_s)),
    )


def _note(call: Call, change: Change | None, reason: str = "") -> None:
    """A circuit changed: into the record of the call that noticed, and as an event of its own."""
    if change is not None:
        assert call.deployment is not None
        call.steps.append(Step("circuit", "pass", 0, f"{call.deployment.id} {change.state}, {change.errors} of {change.calls} failed"))
        call.plane.circuit_changed(call, change, reason)


async def _pass_on(call: Call, answer: _Answer) -> None:
    """An upstream's own refusal to the caller."""
    call.status, call.error_code, call.http_status, call.client_started = "upstream_error", "upstream_error", answer.status, True
    headers = [JSON, *standard_headers(call.request_id, call.overhead_us), *call.response_headers]
    if answer.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % answer.retry_after_s))
    await send_whole(call.send, answer.status, headers, answer.body)


def _not_translated(call: Call, deployment: Deployment) -> Refusal:
    return Refusal(
        "invalid_request",
        f"The model {call.name} is served by {deployment.provider}, which speaks the {deployment.dialect} protocol; "
        f"{SURFACES[call.surface]} is not translated to it.",
        param="model",
    )


async def _send(call: Call, target: Target, pair: Pair, body: bytes | list[bytes]) -> Answer:
    """Send the request, a long one in pieces; the response's headers are there, its body is not. Refusal when the upstream cannot be reached."""
    own = {ours: call.headers[theirs].decode("latin-1") for theirs, ours in pair.forwarded if theirs in call.headers}
    began = time.perf_counter_ns()
    try:
        if target.cloud is None:
            url = target.url(pair.path)
        else:
            url = target.cloud.url(pair.path, stream=call.stream)
            own |= await target.cloud.proof(call.plane.tokens, url, body)
        head = _head(target, own) if own else target.head
        head = b"%bx-request-id: %b\r\n" % (head, call.request_id.encode())
        response = await call.plane.wire.post(url, head, body, timeout_s=target.deployment.timeout_s)
    except asyncio.CancelledError:  # what the upstream has done by now nobody knows
        call.may_have_spent = True
        raise
    except ConnectTimeoutError as error:
        raise Refusal("upstream_timeout", f"The provider {target.deployment.provider} could not be reached in time.") from error
    except TimeoutError as error:
        call.may_have_spent = True
        raise Refusal(
            "upstream_timeout",
            f"The provider {target.deployment.provider} did not answer within {target.deployment.timeout_s:g} seconds.",
        ) from error
    except OutboundError as error:
        raise Refusal("upstream_error", f"The deployment {target.deployment.id} cannot be called: {error}") from error
    except UnreachedError as error:
        raise Refusal("upstream_error", f"The provider {target.deployment.provider} could not be reached.") from error
    except WireError as error:
        call.may_have_spent = True  # it had the request, and may have worked on it before it failed
        raise Refusal("upstream_error", f"The provider {target.deployment.provider} broke off before it answered.") from error
    finally:
        call.upstream_ns += time.perf_counter_ns() - began
    if 300 <= response.status < 400:
        response.close()
        raise Refusal("upstream_error", f"The provider {target.deployment.provider} answered with a redirect, which is not followed.")
    return response


def _head(target: Target, own: dict[str, str]) -> bytes:
    """The head's lines with those of one call. Refusal when what a caller or a token service gave cannot stand in one."""
    try:
        return header_lines(target.headers | own)
    except ValueError as error:
        raise Refusal("upstream_error", f"The deployment {target.deployment.id} cannot be called: {error}.") from error


async def _failure(call: Call, pair: Pair, response: Answer, target: Target) -> Refusal | _Answer:
    """An upstream's error status as what the caller may see."""
    provider = target.deployment.provider
    if response.status in (401, 403, 407):
        # About our credential, not the caller's; providers like to quote parts of it.
        response.close()
        if target.cloud is not None and response.status == 401:
            target.cloud.refused(call.plane.tokens)
        return Refusal("upstream_error", f"The provider {provider} refused the gateway's credential (HTTP {response.status}).")
    try:
        body = await _read_up_to(response, MAX_ERROR_BYTES) or b""
    except (WireError, TimeoutError):
        body = b""
    finally:
        response.close()
    for secret in target.secrets:
        body = body.replace(secret.encode(), b"[redacted]")
    try:
        shape = orjson.loads(body)
    except orjson.JSONDecodeError:
        shape = None
    if target.cloud is not None:
        shape = target.cloud.error(response.status, response.headers, shape)
    if isinstance(shape, dict) and isinstance(shape.get("error"), dict):
        # What no provider gives reliably, and every refusal must have: a stable code, who refused, and the call's id.
        status, shape = pair.error(response.status, shape)
        error = shape["error"]
        code = error.get("code")  # some servers repeat the status in it, as a number or in digits
        error["code"] = code if isinstance(code, str) and code and not code.isdigit() else "upstream_error"
        error |= {"request_id": call.request_id, "scope": f"deployment:{target.deployment.id}"}
        return _Answer(status, orjson.dumps(shape), _wait_s(response))
    if response.status == 429:
        return Refusal("upstream_error", f"The provider {provider} is overloaded (HTTP 429).", status=429, retry_after_s=_wait_s(response))
    return Refusal("upstream_error", f"The provider {provider} answered with HTTP {response.status}.")


def _wait_s(response: Answer) -> int | None:
    """Seconds that an upstream asks callers to wait, which it may say as a number or a date; at least 1 where it must be told.

    Source: RFC 9110, section 10.2.3.
    """
    said = response.headers.get("retry-after", "").strip()
    try:
        wait_s = math.ceil(float(said))
    except (ValueError, OverflowError):
        try:
            wait_s = math.ceil(parsedate_to_datetime(said).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            wait_s = 0
    return max(1, wait_s) if wait_s > 0 or response.status in _BUSY else None


async def _whole(call: Call, pair: Pair, response: Answer) -> None:
    """Pass on an answer that is one JSON document."""
    deployment = call.deployment
    assert deployment is not None
    began = time.perf_counter_ns()
    try:
        body = await _read_up_to(response, MAX_RESPONSE_BYTES)
    except TimeoutError as error:
        call.status = "upstream_error"
        raise Refusal("upstream_timeout", f"The provider {deployment.provider} stopped in the middle of its answer.") from error
    except WireError as error:
        call.status = "upstream_error"
        raise Refusal("upstream_error", f"The provider {deployment.provider} broke off its answer.") from error
    finally:
        call.upstream_ns += time.perf_counter_ns() - began
    if body is None:
        call.status = "upstream_error"
        raise _too_long(call)
    try:
        body, usage = pair.whole(call, body)
    except Refusal:  # it does not fit the provider's protocol
        call.status = "upstream_error"
        raise
    except (msgspec.DecodeError, ValueError) as error:
        call.status = "upstream_error"
        raise Refusal("upstream_error", f"The provider {deployment.provider} sent an answer that is not valid JSON.") from error
    _take_usage(call, usage, partial(len, body))
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


async def _read_up_to(response: Answer, limit: int) -> bytes | None:
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


async def _has_left(call: Call) -> bool:
    """Whether the caller hung up. Asked before anything is sent, since afterwards ASGI says so of every caller."""
    try:
        async with asyncio.timeout(0.01):
            await _until_gone(call)
    except TimeoutError:
        return False
    return True


async def _until_gone(call: Call) -> None:
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
        failure, last = await _forward(call, response, tap, gathered, watch)
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
                tail = last + error_event(call.surface, failure, call.request_id)
            if is_whole:
                await send_whole(call.send, response.status, headers, tail)
            else:
                await call.send({"type": "http.response.body", "body": tail})
    finally:
        watch.end()
        _take_usage(call, tap.usage, lambda: tap.text_bytes)
    _judge(call, tap, failure)


def _judge(call: Call, tap: Tap, failure: Refusal | None) -> None:
    """What became of a stream."""
    if failure is not None and not call.client_gone:
        call.status = "upstream_error" if failure.code in _OF_UPSTREAM else "refused"
        call.error_code = failure.code
    elif call.client_gone and not call.has_all:
        call.status = "client_gone"
    elif tap.is_failed:
        call.status, call.error_code = "upstream_error", "upstream_error"


async def _forward(call: Call, response: Answer, tap: Tap, gathered: list[bytes] | None, watch: _Watch) -> tuple[Refusal | None, bytes]:
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
    await _until_gone(call)
    call.client_gone, call.has_all = True, tap.is_done and not is_gathered(call)
    await asyncio.sleep(DRAIN_S)
    response.close()


def _take_usage(call: Call, usage: Usage | None, output_bytes: Callable[[], int]) -> None:
    """The provider's own figures; what it did not say is estimated, and the whole is marked so. Only then are the output's bytes counted."""
    has_output = call.kind != "embeddings"
    if usage is not None and usage.prompt_tokens is not None and (usage.completion_tokens is not None or not has_output):
        call.usage, call.usage_source = usage, "provider"
        return
    estimate = -(-output_bytes() // CHARACTERS_PER_TOKEN) if has_output else None
    if usage is None or usage.prompt_tokens is None:
        call.usage = Usage(prompt_tokens=call.input_estimate, completion_tokens=estimate)
    else:
        call.usage = msgspec.structs.replace(usage, completion_tokens=estimate)
    call.usage_source = "estimated"
