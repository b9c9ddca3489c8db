from __future__ import annotations

from gateway.contract.places import places_in
from gateway.plane import big_json
from gateway.plane.call import Call
from gateway.plane.guarding import scan_places


async def guard_output(call: Call) -> str:
    """What a tool gave back passes the guardrails before the caller gets it. (A model's answer has passed them on its way.)"""
    if call.kind != "tool" or not call.output_guards or call.result is None:
        return ""
    content = [part.model_dump(mode="json", by_alias=True) for part in call.result.content]
    found = {"structured": call.result.structured_content}
    places = await big_json.in_turns(places_in(content))
    places.add_document(found, "structured")
    await scan_places(call, call.output_guards, places, "output")
    call.result = call.result.model_validate(
        {**call.result.model_dump(mode="json", by_alias=True), "content": content, "structuredContent": found["structured"]}
    )
    return ""
