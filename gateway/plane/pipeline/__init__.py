"""The road of a governed call. Read the list; each step is one small function in the file of its name.

Steps of kind `chat`, `embeddings` and `tool` are the same: only the exchange with the upstream differs. A step passes by
returning (its result is a detail for the record) or ends the road by raising `Refusal`. `settle` and `record` run in any case.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from gateway.contract.events import Step
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import ClientGoneError
from gateway.plane.payloads import watch_payload
from gateway.plane.pipeline.authorize import authorize
from gateway.plane.pipeline.cache import cache
from gateway.plane.pipeline.call_upstream import call_upstream
from gateway.plane.pipeline.consent import consent
from gateway.plane.pipeline.flags import flags
from gateway.plane.pipeline.guard_input import guard_input
from gateway.plane.pipeline.guard_output import guard_output
from gateway.plane.pipeline.identify import identify
from gateway.plane.pipeline.policy import policy
from gateway.plane.pipeline.record import record
from gateway.plane.pipeline.reserve import reserve
from gateway.plane.pipeline.route import route
from gateway.plane.pipeline.settle import settle
from gateway.plane.pipeline.tags import tags

StepFunction = Callable[[Call], Awaitable[str]] | Callable[[Call], str]

WHO: Callable[[Call], Awaitable[str]] = identify
"""Finds key and tenant; runs on the headers alone, before the body is read."""

ROAD: tuple[StepFunction, ...] = (
    consent,  # has the tenant agreed to this class of feature?
    tags,  # does it carry the tags that it must? completed from its key and project
    flags,  # does a flag say which model serves what was named?
    authorize,  # may this key call this model or tool?
    policy,  # does every policy that covers the call allow it, and by which ways out?
    reserve,  # is enough left of every limit? take it
    guard_input,  # what is found in what is sent? redacted, recorded or refused
    cache,  # was the same asked before? then that is the answer, and the road ends here
    route,  # which deployments, in which order?
    call_upstream,  # the exchange itself, streamed to the caller as it comes
    guard_output,  # what is found in what a tool gave back? (a model's answer was looked at on its way)
)

INNER_ROAD: tuple[StepFunction, ...] = (consent, policy, reserve, guard_input, route, call_upstream, guard_output)
"""Of a call that the gateway makes itself on behalf of another one, see `gateway.plane.inner`."""

AFTER: tuple[StepFunction, ...] = (
    settle,  # what was reserved becomes what was used
    record,  # one event into the spool
)


async def walk(call: Call, prepare: Callable[[Call], Awaitable[None]]) -> None:
    """Run a call down the road; `prepare` reads the body once the caller is known and says what is called.

    Refusal when a step says no. Settled and recorded in any case, once the key has proved itself: before that, anybody
    could write into a tenant's record.
    """
    try:
        await take((WHO,), call)
        watch_payload(call)
        await prepare(call)
        await take(ROAD, call)
    except Refusal as refusal:
        if call.status == "ok":
            call.status = "refused"
        call.error_code = refusal.code
        call.http_status = refusal.status
        if call.key is None:
            call.plane.metrics.count_stranger(refusal.code)
        raise
    except ClientGoneError:
        call.status, call.error_code, call.http_status = "client_gone", None, 499
    except BaseException:
        if call.status == "ok":
            call.status, call.error_code, call.http_status = "error", "internal_error", 500
        raise
    finally:
        if call.key is not None:
            await finish(call)
            if call.served is not None and call.served.snapshot.shadows:
                call.plane.shadows.offer(call)


async def finish(call: Call) -> None:
    """What is done in any case, however the call went."""
    await take(AFTER, call)


async def take(steps: tuple[StepFunction, ...], call: Call) -> None:
    """Steps in their order, each with its verdict and time noted; a step that answers the call is the last. Refusal when one says no.

    What has nothing to wait for is a plain function: most steps are.
    """
    was_answered, clock = call.is_answered, time.perf_counter_ns
    began = clock()
    for step in steps:
        try:
            detail = step(call)
            if not isinstance(detail, str):
                detail = await detail
        except Refusal as refusal:
            call.steps.append(Step(step.__name__, refusal.code, (clock() - began) // 1000, refusal.scope or ""))
            raise
        ended = clock()
        call.steps.append(Step(step.__name__, "pass", (ended - began) // 1000, detail))
        began = ended
        if call.is_answered and not was_answered:
            return
