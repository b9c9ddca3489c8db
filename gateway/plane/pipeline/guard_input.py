from __future__ import annotations

from gateway.contract.guardrails import places_in_data, places_in_request
from gateway.plane.call import Call
from gateway.plane.guarding import scan_places, watch_answer


async def guard_input(call: Call) -> str:
    """What is sent passes the guardrails of its project, model and agent: redacted in place, recorded, or refused.

    The same walk over the body serves every dialect; a tool's arguments are text as well.
    """
    served, key = call.served, call.key
    assert served is not None
    assert key is not None
    if not served.guards:
        return ""
    model = call.model.slug if call.model else ""
    inputs, call.output_guards = served.guards.of(project=key.project, model=model, agent=call.agent or "")
    if call.output_guards and call.kind == "chat":
        watch_answer(call, call.output_guards)
    if inputs and call.kind == "tool":
        given = [call.arguments]
        await scan_places(call, inputs, places_in_data(given, 0), "input")
        call.arguments = given[0]
    elif inputs:
        await scan_places(call, inputs, places_in_request(call.body), "input")
    return ""
