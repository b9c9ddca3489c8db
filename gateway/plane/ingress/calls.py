"""One governed call to a model, on whatever surface: the same road, with that surface's reading of the request and shape of errors."""

from __future__ import annotations

from typing import Any

from gateway.contract.events import Kind
from gateway.plane.call import ANTHROPIC, Call, Surface
from gateway.plane.errors import Refusal
from gateway.plane.http import Headers, Receive, Send, anthropic_headers, read_object, send_refusal
from gateway.plane.pipeline import walk
from gateway.plane.plane import Plane
from gateway.plane.prompts import resolve_prompt
from gateway.plane.upstream.exchange import exchange
from gateway.plane.usage import asked_output, estimate_input

MAX_NAME_CHARACTERS = 200


async def serve_call(plane: Plane, surface: Surface, headers: Headers, receive: Receive, send: Send) -> None:
    """One POST to a path of `call.SURFACES`."""
    kind: Kind = "embeddings" if surface == "embeddings" else "chat"
    call = Call(plane, kind, headers, receive, send)
    call.surface = surface
    call.exchange = exchange
    in_anthropic = surface in ANTHROPIC
    if in_anthropic:
        call.response_headers = anthropic_headers(call.request_id)
    try:
        await walk(call, _prepare)
    except Refusal as refusal:
        await send_refusal(send, refusal, call.request_id, call.overhead_us, call.response_headers, in_anthropic=in_anthropic)


async def _prepare(call: Call) -> None:
    """Read what is called and the most that it can use."""
    assert call.served is not None
    body, size = await read_object(call.receive, call.headers)
    call.body_bytes = size
    if "prompt" in body:
        resolve_prompt(call, body)
    name = body.get("model")
    if not isinstance(name, str) or not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise Refusal("invalid_request", "The request must name a model.", param="model")
    call.name = name
    call.model = model = call.served.snapshot.models.get(name)
    call.body = body
    if call.surface == "count_tokens":  # nothing is generated, and no provider charges for it
        return
    call.input_estimate = estimate_input(call.body_bytes, model.context_window if model else None)
    if call.kind == "chat":
        call.output_estimate = asked_output(body, call.surface, model.max_output_tokens if model else 0)
        call.stream = body.get("stream") is True
        if call.stream and call.surface == "chat":
            _ask_for_usage(call, body)


def _ask_for_usage(call: Call, body: dict[str, Any]) -> None:
    """Chat completions tell the usage of a stream only when asked; the other surfaces always do."""
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise Refusal("invalid_request", "stream_options must be an object.", param="stream_options")
    call.hide_usage = not (options and options.get("include_usage"))
    body["stream_options"] = {**(options or {}), "include_usage": True}
