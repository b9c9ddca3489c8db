from __future__ import annotations

from gateway.plane.call import Call


async def record(call: Call) -> str:
    """One event into the spool."""
    event = call.event()
    call.plane.spool.append(event)
    call.plane.metrics.count(event)
    return ""
