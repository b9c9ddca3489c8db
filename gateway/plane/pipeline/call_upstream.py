from __future__ import annotations

from gateway.plane.call import Call
from gateway.plane.payloads import discreet
from gateway.plane.pipeline.cache import keep_answer


async def call_upstream(call: Call) -> str:
    """The exchange of the call's kind, see `gateway.plane.upstream`. From here on the call is recorded, even if this process is killed."""
    lost = call.lost()
    lost.steps = discreet(call, lost.steps)
    call.plane.spool.opened(lost)
    try:
        detail = await call.plane.under_way.exchange(call)
    finally:
        if call.choice is not None:
            call.choice.learn(call)
    keep_answer(call)
    return detail
