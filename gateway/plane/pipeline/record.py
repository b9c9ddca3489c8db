from __future__ import annotations

from gateway.plane.call import Call
from gateway.plane.guarding import look_afterwards, note_findings


async def record(call: Call) -> str:
    """One event into the spool; what the call said goes there apart, where the payload mode keeps it."""
    if call.output_scan is not None:
        await look_afterwards(call)
        note_findings(call, call.output_scan, "output")
    if call.payload is not None:
        call.plane.payloads.take(call)
    event = call.event()
    call.plane.spool.append(event)
    call.plane.metrics.count(event)
    return ""
