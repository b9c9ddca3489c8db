from __future__ import annotations

from gateway.plane.call import Call
from gateway.plane.pipeline.cache import keep_answer


async def call_upstream(call: Call) -> str:
    """The exchange of the call's kind, see `gateway.plane.upstream`."""
    assert call.exchange is not None
    detail = await call.exchange(call)
    keep_answer(call)
    return detail
