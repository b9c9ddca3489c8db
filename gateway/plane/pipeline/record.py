from __future__ import annotations

import time

from gateway.plane.call import Call
from gateway.plane.guarding import look_afterwards, note_findings


async def record(call: Call) -> str:
    """One event into the spool; what the call said goes there apart, where the payload mode keeps it."""
    ended_ns = time.perf_counter_ns()  # for the caller: what is looked at afterwards held nobody up
    if call.output_scan is not None:
        await look_afterwards(call)
        note_findings(call, call.output_scan, "output")
    if call.payload is not None:
        call.plane.payloads.take(call)
    event = call.event(ended_ns)
    call.plane.spool.append(event)
    call.plane.metrics.count(event)
    return ""
