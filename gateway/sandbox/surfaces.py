"""The sandbox's answers in the protocols that it speaks: OpenAI chat completions, responses and embeddings, Anthropic messages."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.sandbox import talk
from gateway.sandbox.answers import Answer, Ask, answer

DEFAULT_DIMENSIONS = 256


@dataclass(frozen=True)
class Rendered:
    """One answer, whole and as the events of a stream."""

    whole: dict[str, Any]
    events: list[bytes]
    input_tokens: int
    output_tokens: int


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def _named(data: dict[str, Any]) -> bytes:
    return b"event: " + str(data["type"]).encode() + b"\n" + _event(data)


def _halves(text: str) -> list[str]:
    """Arguments arrive in pieces that are no JSON by themselves."""
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def _id(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex[:24]}"


def chat(request: dict[str, Any]) -> Rendered:
    """POST /v1/chat/completions"""
    choice = request.get("tool_choice") or ""
    ask = Ask(
        messages=request["messages"],
        tools={tool["function"]["name"]: tool["function"].get("parameters") for tool in request.get("tools") or ()},
        forced={"required": "any", "auto": ""}.get(choice, choice) if isinstance(choice, str) else choice["function"]["name"],
        schema=((request.get("response_format") or {}).get("json_schema") or {}).get("schema"),
        limit=request.get("max_completion_tokens") or request.get("max_tokens"),
    )
    said = answer(ask)
    usage = {"prompt_tokens": said.input_tokens, "completion_tokens": said.output_tokens}
    usage["total_tokens"] = said.input_tokens + said.output_tokens
    finish = "tool_calls" if said.stop == "tools" else said.stop
    calls = [{"id": _id("call_"), "type": "function", "function": {"name": name, "arguments": given}} for name, given in said.calls]
    head = {"id": _id("chatcmpl-"), "created": int(time.time()), "model": request["model"]}
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    if calls:
        message["tool_calls"] = calls
    options = request.get("stream_options")
    with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
    return Rendered(
        {**head, "object": "chat.completion", "usage": usage, "choices": [{"index": 0, "finish_reason": finish, "message": message}]},
        _chat_events({**head, "object": "chat.completion.chunk"}, said, calls, finish, usage if with_usage else None),
        said.input_tokens,
        said.output_tokens,
    )


def _chat_events(
    chunk: dict[str, Any], said: Answer, calls: list[dict[str, Any]], finish: str, usage: dict[str, int] | None
) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"content": part} for part in said.parts]
    for index, call in enumerate(calls):
        deltas.append({"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in _halves(call["function"]["arguments"])]
    deltas[0] = {"role": "assistant", **deltas[0]}
    events = [_event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]
    events.append(_event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}))
    if usage is not None:
        events.append(_event({**chunk, "choices": [], "usage": usage}))
    return [*events, b"data: [DONE]\n\n"]


def messages(request: dict[str, Any]) -> Rendered:
    """POST /v1/messages"""
    choice = request.get("tool_choice") or {}
    system = request.get("system") or ""
    ask = Ask(
        messages=request["messages"],
        tools={tool["name"]: tool.get("input_schema") for tool in request.get("tools") or ()},
        forced={"any": "any", "none": "none", "tool": choice.get("name", "")}.get(choice.get("type", ""), ""),
        schema=((request.get("output_config") or {}).get("format") or {}).get("schema"),
        limit=request["max_tokens"],
        system=system if isinstance(system, str) else " ".join(block["text"] for block in system),
    )
    said = answer(ask)
    cached = said.input_tokens // 4  # so that who forgets that input_tokens leaves the cached ones out is found out
    usage = {
        "input_tokens": said.input_tokens - cached, "cache_read_input_tokens": cached, "cache_creation_input_tokens": 0,
        "output_tokens": said.output_tokens,
    }  # fmt: skip
    stop = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use"}[said.stop]
    blocks: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.parts else []
    blocks += [{"type": "tool_use", "id": _id("toolu_"), "name": name, "input": json.loads(given)} for name, given in said.calls]
    whole = {
        "id": _id("msg_"), "type": "message", "role": "assistant", "model": request["model"], "content": blocks,
        "stop_reason": stop, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    started = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": started}, {"type": "ping"}]
    for index, block in enumerate(blocks):
        is_text = block["type"] == "text"
        empty = {**block, "text": ""} if is_text else {**block, "input": {}}
        pieces = (
            [{"type": "text_delta", "text": part} for part in said.parts]
            if is_text
            else [{"type": "input_json_delta", "partial_json": piece} for piece in _halves(json.dumps(block["input"]))]
        )
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces]
        events.append({"type": "content_block_stop", "index": index})
    # The final figures stand here, cumulative; what is not said again holds from the start.
    events.append(
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": said.output_tokens}}
    )
    events.append({"type": "message_stop"})
    return Rendered(whole, [_named(event) for event in events], said.input_tokens, said.output_tokens)


def responses(request: dict[str, Any]) -> Rendered:
    """POST /v1/responses; text only."""
    given = request.get("input") or ""
    ask = Ask(
        messages=[{"role": "user", "content": given}] if isinstance(given, str) else given,
        tools={},
        schema=((request.get("text") or {}).get("format") or {}).get("schema"),
        limit=request.get("max_output_tokens"),
        system=request.get("instructions") or "",
    )
    said = answer(ask)
    usage = {
        "input_tokens": said.input_tokens, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": said.output_tokens, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": said.input_tokens + said.output_tokens,
    }  # fmt: skip
    part = {"type": "output_text", "text": said.text, "annotations": []}
    item = {"id": _id("msg_"), "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    head = {
        "id": _id("resp_"), "object": "response", "created_at": int(time.time()), "model": request["model"], "error": None,
        "incomplete_details": None, "instructions": request.get("instructions"), "metadata": {}, "parallel_tool_calls": True,
        "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0,
    }  # fmt: skip
    started = {**head, "status": "in_progress", "output": [], "usage": None}
    whole = {**head, "status": "completed", "output": [item], "usage": usage}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in said.parts),
        {"type": "response.output_text.done", **place, "text": said.text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    numbered = [_named({**event, "sequence_number": number}) for number, event in enumerate(events)]
    return Rendered(whole, numbered, said.input_tokens, said.output_tokens)


def embeddings(request: dict[str, Any]) -> Rendered:
    """POST /v1/embeddings; never streamed."""
    given = request.get("input", "")
    texts = [given] if isinstance(given, str) else [str(text) for text in given]
    dimensions = min(4096, max(1, int(request.get("dimensions") or DEFAULT_DIMENSIONS)))
    tokens = sum(map(talk.count_tokens, texts))
    data = [{"object": "embedding", "index": index, "embedding": talk.vector(text, dimensions)} for index, text in enumerate(texts)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Rendered({"object": "list", "model": request["model"], "data": data, "usage": usage}, [], tokens, 0)


SURFACES: dict[str, Callable[[dict[str, Any]], Rendered]] = {
    "/v1/chat/completions": chat,
    "/v1/messages": messages,
    "/v1/responses": responses,
    "/v1/embeddings": embeddings,
}
