"""What a key may call, in the form of whoever asks: both protocols list models at the same path."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.contract.snapshot import Model
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import JSON, Headers, Receive, Send, anthropic_headers, send_refusal, send_whole, standard_headers
from gateway.plane.ingress.calls import MAX_NAME_CHARACTERS
from gateway.plane.leaving import leaving_facts
from gateway.plane.pipeline import WHO, take
from gateway.plane.plane import Plane


async def serve_models(plane: Plane, slug: str | None, headers: Headers, receive: Receive, send: Send) -> None:
    """GET /v1/models and /v1/models/{id}: what this key may call. Reading the list is no governed call."""
    call = Call(plane, "chat", headers, receive, send)
    in_anthropic = b"anthropic-version" in headers  # its clients always send it
    extra = anthropic_headers(call.request_id) if in_anthropic else []
    try:
        await take((WHO,), call)
        served, key = call.served, call.key
        assert served is not None
        assert key is not None
        shown = _shown_in_anthropic if in_anthropic else _shown
        models = [shown(model) for model in served.snapshot.models.values() if key.models is None or model.slug in key.models]
        body: dict[str, Any] = {"object": "list", "data": models}
        if in_anthropic:
            ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {"first_id": None, "last_id": None}
            body = {"data": models, "has_more": False, **ends}
        if slug is not None:
            found = [model for model in models if model["id"] == slug]
            if not found:
                raise Refusal("model_not_found", f"There is no model named {slug[:MAX_NAME_CHARACTERS]}.", param="model")
            body = found[0]
    except Refusal as refusal:
        await send_refusal(send, refusal, call.request_id, call.overhead_us, extra, in_anthropic=in_anthropic)
        return
    await send_whole(send, 200, [JSON, *standard_headers(call.request_id, call.overhead_us), *extra], orjson.dumps(body))


def _shown(model: Model) -> dict[str, Any]:
    return {
        "id": model.slug,
        "object": "model",
        "created": 0,  # required by the protocol; a snapshot holds no such time
        "owned_by": model.deployments[0].provider if model.deployments else "",
        "capabilities": list(model.capabilities),
        "context_window": model.context_window,
        **({"default_parameters": model.defaults} if model.defaults else {}),
        **leaving_facts(model.leaving),
    }


def _shown_in_anthropic(model: Model) -> dict[str, Any]:
    return {
        "id": model.slug,
        "type": "model",
        "display_name": model.slug,
        "created_at": "1970-01-01T00:00:00Z",  # what the protocol says of a time that is not known
        "max_input_tokens": model.context_window,
        "max_tokens": model.max_output_tokens,
        "capabilities": None,
        **leaving_facts(model.leaving),
    }
