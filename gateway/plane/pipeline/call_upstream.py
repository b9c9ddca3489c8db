from __future__ import annotations

from gateway.plane.call import Call


async def call_upstream(call: Call) -> str:
    """The exchange of the call's kind, see `gateway.plane.upstream`."""
    assert call.exchange is not None
    return await call.exchange(call)
