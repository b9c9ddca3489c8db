"""The exchange with an upstream that serves a model: walk the deployments, send, and have the first answer passed on.

Nothing here knows a protocol; what depends on one is asked of the pair, see `dialects`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import orjson

from gateway.contract.credentials import CredentialError
from gateway.contract.events import Step
from gateway.contract.outbound import OutboundError
from gateway.contract.sealing import UnsealError
from gateway.contract.snapshot import Deployment, Resource
from gateway.plane import big_json
from gateway.plane.call import SURFACES, Call
from gateway.plane.errors import Refusal
from gateway.plane.health import Change, Circuit
from gateway.plane.http import ClientGoneError
from gateway.plane.served import Target
from gateway.plane.upstream import quota
from gateway.plane.upstream.answers import OF_UPSTREAM, forward, name_deployment
from gateway.plane.upstream.dialects import Pair
from gateway.plane.upstream.failures import ForeignRefusal, failure, pass_on
from gateway.plane.upstream.pairs import PAIRS
from gateway.plane.upstream.wire import Answer, ConnectTimeoutError, UnreachedError, WireError, header_lines

_FAULTS = frozenset({401, 402, 403, 407, 408, 424, 425, 429})
"""Besides those from 500 on. 424 is how Bedrock says that the model failed."""
_ELSEWHERE = frozenset({404})
"""Another deployment may know what this one does not; but callers can cause it too, so it is held against nobody."""
_AT_QUOTA = "quota"
SILENT_SHARE = 0.5
"""Of a deployment's time to answer: one that is silent for longer is held to be failing, even if nobody waited to the end."""


@dataclass(frozen=True)
class _Failed:
    """Why one deployment did not answer."""

    reason: Refusal | ForeignRefusal
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
        if failed.reason.code in OF_UPSTREAM:
            call.status = "upstream_error"
            name_deployment(call, failed.reason)
        raise failed.reason
    await pass_on(call, failed.reason)
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
    except asyncio.CancelledError:
        if isinstance(call.cut, ClientGoneError):
            _judge_given_up(call, deployment, circuit, time.monotonic() - now, is_probe=is_probe)
        raise
    if response.status >= 400:
        _note(call, circuit.ended(time.monotonic(), is_error=_is_fault(response.status), is_probe=is_probe), f"HTTP {response.status}")
        reason = await failure(call, pair, response, target)
        return _Failed(reason, str(response.status), is_last=not (_is_fault(response.status) or response.status in _ELSEWHERE))
    call.may_have_spent = True
    call.upstream_model = deployment.upstream_model
    try:
        await forward(call, pair, response)
    except Refusal as refusal:
        name_deployment(call, refusal)
        raise
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


def _judge_given_up(call: Call, deployment: Deployment, circuit: Circuit, waited_s: float, *, is_probe: bool) -> None:
    """What it says of a deployment that it had not begun to answer when its caller had left. Those who leave soon say nothing of it."""
    if waited_s > deployment.timeout_s * SILENT_SHARE:
        _note(call, circuit.ended(time.monotonic(), is_error=True, is_probe=is_probe), "no answer")
    elif is_probe:
        circuit.let_go()


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
        call.waits_since_ns = began
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
        call.waits_since_ns = 0
        if call.watcher is not None:
            call.watcher.cancel()
            call.watcher = None
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
