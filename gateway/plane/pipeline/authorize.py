from __future__ import annotations

from gateway.plane.call import Call
from gateway.plane.defaults import apply_defaults
from gateway.plane.errors import Refusal
from gateway.plane.leaving import leaving_headers


def authorize(call: Call) -> str:
    """What is called must exist, do this kind of work, and be open to this key."""
    key = call.key
    assert key is not None
    if call.kind == "tool":
        if call.tool is None:
            raise Refusal("tool_not_found", f"There is no tool named {call.name}.", param="name")
        if key.tools is not None and call.tool.server.namespace not in key.tools:
            raise Refusal("tool_not_allowed", f"The key {key.id} may not use {call.tool.server.namespace}.", scope="key")
        problem = call.served.argument_error(call.tool, call.arguments) if call.served else None
        if problem is not None:
            raise Refusal("invalid_arguments", f"The arguments do not fit the tool's input schema: {problem}", param="arguments")
        return ""
    model = call.model
    if model is None:
        raise Refusal("model_not_found", f"There is no model named {call.name}. GET /v1/models lists them.", param="model")
    if key.models is not None and model.slug not in key.models:
        raise Refusal("model_not_allowed", f"The key {key.id} may not call {model.slug}.", param="model", scope="key")
    if call.kind not in model.capabilities:
        raise Refusal("invalid_request", f"The model {model.slug} does {' and '.join(model.capabilities)}, not {call.kind}.", param="model")
    if model.leaving is not None:
        call.response_headers += leaving_headers(model.leaving)
    return apply_defaults(call, model) if model.defaults else ""
