"""The OpenAI surface: chat completions, embeddings, models."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.contract.events import Kind
from gateway.contract.snapshot import Model
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import JSON, Headers, Receive, Send, parse_object, read_body, send_refusal, send_whole, standard_headers
from gateway.plane.pipeline import WHO, take, walk
from gateway.plane.plane import Plane
from gateway.plane.upstream.exchange import exchange
from gateway.plane.usage import asked_output, estimate_input

MAX_NAME_CHARACTERS = 200


async def serve_call(plane: Plane, kind: Kind, headers: Headers, receive: Receive, send: Send) -> None:
    """One POST to /v1/chat/completions or /v1/embeddings."""
    call = Call(plane, kind, headers, receive, send)
    call.exchange = exchange
    try:
        await walk(call, _prepare)
    except Refusal as refusal:
        await send_refusal(send, refusal, call.request_id, call.overhead_us, call.response_headers)


async def _prepare(call: Call) -> None:
    """Read what is called and the most that it can use."""
    assert call.served is not None
    raw = await read_body(call.receive, call.headers)
    body = parse_object(raw)
    name = body.get("model")
    if not isinstance(name, str) or not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise Refusal("invalid_request", "The request must name a model.", param="model")
    call.name = name
    call.model = model = call.served.snapshot.models.get(name)
    call.input_estimate = estimate_input(raw, model.context_window if model else None)
    if call.kind == "chat":
        call.output_estimate = asked_output(body, model.max_output_tokens if model else 0)
        call.stream = body.get("stream") is True
        if call.stream:
            _ask_for_usage(call, body)
    call.body = body


def _ask_for_usage(call: Call, body: dict[str, Any]) -> None:
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise Refusal("invalid_request", "stream_options must be an object.", param="stream_options")
    call.hide_usage = not (options and options.get("include_usage"))
    body["stream_options"] = {**(options or {}), "include_usage": True}


async def serve_models(plane: Plane, slug: str | None, headers: Headers, receive: Receive, send: Send) -> None:
    """GET /v1/models and /v1/models/{id}: what this key may call. Reading the list is no governed call."""
    call = Call(plane, "chat", headers, receive, send)
    try:
        await take(WHO, call)
        served, key = call.served, call.key
        assert served is not None
        assert key is not None
        models = [_shown(model) for model in served.snapshot.models.values() if key.models is None or model.slug in key.models]
        body: dict[str, Any] = {"object": "list", "data": models}
        if slug is not None:
            found = [model for model in models if model["id"] == slug]
            if not found:
                raise Refusal("model_not_found", f"There is no model named {slug[:MAX_NAME_CHARACTERS]}.", param="model")
            body = found[0]
    except Refusal as refusal:
        await send_refusal(send, refusal, call.request_id, call.overhead_us)
        return
    await send_whole(send, 200, [JSON, *standard_headers(call.request_id, call.overhead_us)], orjson.dumps(body))


def _shown(model: Model) -> dict[str, Any]:
    return {
        "id": model.slug,
        "object": "model",
        "created": 0,  # required by the protocol; a snapshot holds no such time
        "owned_by": model.deployments[0].provider if model.deployments else "",
        "capabilities": list(model.capabilities),
        "context_window": model.context_window,
    }
