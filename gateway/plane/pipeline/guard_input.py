from __future__ import annotations

from gateway.contract.guardrails import Scan
from gateway.contract.places import places_in_data, places_in_request
from gateway.contract.steps import at_once
from gateway.plane import big_json
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
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
        scan = await scan_places(call, inputs, places_in_data(given, 0), "input")
        call.arguments = given[0]
        _hold_to_schema(call, scan)
    elif inputs:
        steps = places_in_request(call.body)
        places = at_once(steps) if call.is_short else await big_json.in_turns(steps)
        await scan_places(call, inputs, places, "input")
    return ""


def _hold_to_schema(call: Call, scan: Scan) -> None:
    """What was replaced is another value, which the tool may not take. Refusal."""
    replaced = [finding.guardrail.name for finding in scan.findings if finding.verdict == "redacted"]
    if not replaced or call.tool is None or call.served is None:
        return
    problem = call.served.argument_error(call.tool, call.arguments)
    if problem is not None:
        raise Refusal(
            "guardrail_blocked",
            f"What the guardrail {replaced[0]} replaced in the arguments does not fit the tool's input schema any more: {problem}",
            param="arguments",
            scope=f"guardrail:{replaced[0]}",
        )
