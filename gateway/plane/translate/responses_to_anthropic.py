"""OpenAI responses on an upstream that speaks the Anthropic protocol.

A responses request is said as a chat request first, and what comes back as a chat completion is told as a response: so what chat completions
and messages have in common is written once, in `openai_to_anthropic`. Nothing is stored here: what refers to an earlier response is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import msgspec
import orjson

from gateway.plane.call import SURFACES, Call
from gateway.plane.errors import Refusal
from gateway.plane.served import Target
from gateway.plane.sse import EventReader, named_event
from gateway.plane.translate import no_counterpart, objects, openai_to_anthropic, passed_on, refuse, text, translated, understood
from gateway.plane.translate.openai_to_anthropic import ChunkTap
from gateway.plane.upstream.anthropic import FORWARDED, usage_of_message
from gateway.plane.upstream.dialects import Pair
from gateway.plane.usage import Usage

_ANTHROPIC = "Anthropic"
_HANDLED = frozenset(
    ["model", "input", "instructions", "max_output_tokens", "tools", "tool_choice", "text", "reasoning"]
)  # fmt: skip
_DROPPED = frozenset(
    ["metadata", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "stream_options", "store", "include"]
)
"""About the provider's own books; the answer is the same without them."""
_ONLY: dict[str, Any] = {
    "background": False, "previous_response_id": None, "conversation": None, "prompt": None, "truncation": "disabled", "top_logprobs": 0,
    "max_tool_calls": None, "moderation": None, "context_management": [],
}  # fmt: skip
_IN_THE_ANSWER = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "user",
)
"""Fields of the request that a response repeats."""
_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_PREFIX = "resp_"
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


# The request


def chat_request(body: dict[str, Any]) -> dict[str, Any]:
    """A responses request as a chat request, without the model. Refusal where it cannot be said."""
    out = passed_on(body, _HANDLED, _DROPPED, _ONLY, _ANTHROPIC)
    messages = _messages(body.get("input"))
    if body.get("instructions"):
        messages.insert(0, {"role": "system", "content": text(body["instructions"], "instructions")})
    out["messages"] = messages
    if body.get("max_output_tokens") is not None:
        out["max_completion_tokens"] = body["max_output_tokens"]
    if body.get("tools"):
        out["tools"] = [_tool(tool, f"tools.{index}") for index, tool in enumerate(objects(body["tools"], "tools"))]
    if body.get("tool_choice") is not None:
        out["tool_choice"] = _tool_choice(body["tool_choice"])
    form = (body.get("text") or {}).get("format") or {"type": "text"}
    if form["type"] == "json_schema":
        out["response_format"] = {"type": "json_schema", "json_schema": {name: value for name, value in form.items() if name != "type"}}
    elif form["type"] != "text":
        refuse("text.format", "a model that is served in the Anthropic protocol writes JSON by a schema; use the type json_schema.")
    if (body.get("text") or {}).get("verbosity") not in (None, "medium"):
        no_counterpart("text.verbosity", _ANTHROPIC)
    effort = (body.get("reasoning") or {}).get("effort")
    return out if effort is None else {**out, "reasoning_effort": effort}


def _tool(tool: dict[str, Any], param: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        no_counterpart(f"{param}.type", _ANTHROPIC)
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function":
        no_counterpart("tool_choice", _ANTHROPIC)
    return {"type": "function", "function": {"name": choice.get("name")}}


def _messages(given: Any) -> list[dict[str, Any]]:
    """The turns. Calls of functions that follow a message of the assistant, or one another, are one turn."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    for index, item in enumerate(objects(given, "input")):
        param, kind = f"input.{index}", item.get("type", "message")
        if kind == "message":
            messages.append({"role": item.get("role"), "content": _content(item.get("content"), param)})
        elif kind == "function_call":
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            messages[-1].setdefault("tool_calls", []).append({"id": item.get("call_id"), "type": "function", "function": function})
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": _content(item.get("output"), param)})
        elif kind != "reasoning":  # thoughts of another turn, which their maker would only take back sealed
            no_counterpart(f"{param}.type", _ANTHROPIC)
    return messages


def _content(content: Any, param: str) -> Any:
    if isinstance(content, str):
        return content
    return [_part(part, f"{param}.content.{index}") for index, part in enumerate(objects(content or [], f"{param}.content"))]


def _part(part: dict[str, Any], param: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in _PARTS:
        name = _PARTS[kind]
        return {"type": name, name: part.get("refusal" if kind == "refusal" else "text")}
    if kind == "input_image" and part.get("image_url"):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    if kind == "input_file" and part.get("file_data"):
        return {"type": "file", "file": {"file_data": part["file_data"], "filename": part.get("filename")}}
    return no_counterpart(f"{param}.type", _ANTHROPIC)


# The answer


def response(completion: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """A chat completion as a response; `asked` is the caller's request."""
    choice = completion["choices"][0]
    said, output = choice["message"], []
    if said.get("reasoning_content"):
        output.append(_thought(_id("rs"), said["reasoning_content"]))
    if said.get("content") is not None:
        output.append(_message(_id("msg"), said["content"]))
    for call in said.get("tool_calls") or ():
        output.append(_function_call(_id("fc"), call["id"], call["function"]["name"], call["function"]["arguments"]))
    head = {**_head(completion["id"], completion["model"], asked), "created_at": completion["created"]}
    return _ended(head, output, choice["finish_reason"], completion.get("usage"))


def _with_our_id(usage: Usage | None) -> Usage | None:
    """The answer has another id here than upstream."""
    return msgspec.structs.replace(usage, answer_id=_PREFIX + usage.answer_id) if usage and usage.answer_id else usage


def _id(kind: str) -> str:
    return f"{kind}_{uuid4().hex}"


def _head(upstream_id: str, model: str, asked: dict[str, Any]) -> dict[str, Any]:
    repeated = {name: asked.get(name) for name in _IN_THE_ANSWER}
    return {
        "id": f"{_PREFIX}{upstream_id}", "object": "response", "created_at": int(time.time()), "status": "in_progress", "error": None,
        "incomplete_details": None, "model": model, "output": [], "previous_response_id": None, "store": False, "truncation": "disabled",
        **repeated, "metadata": repeated["metadata"] or {}, "tools": repeated["tools"] or [], "tool_choice": repeated["tool_choice"] or "auto",
        "parallel_tool_calls": repeated["parallel_tool_calls"] is not False, "text": asked.get("text") or {"format": {"type": "text"}},
        "reasoning": asked.get("reasoning") or {"effort": None, "summary": None}, "usage": None,
    }  # fmt: skip


def _ended(head: dict[str, Any], output: list[dict[str, Any]], finish: str | None, usage: dict[str, Any] | None) -> dict[str, Any]:
    reason = _INCOMPLETE.get(finish or "")
    return {
        **head,
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "usage": None if usage is None else _usage(usage),
    }


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    made, read = usage.get("completion_tokens_details") or {}, usage.get("prompt_tokens_details") or {}
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": read.get("cached_tokens") or 0,
            "cache_write_tokens": read.get("cache_write_tokens") or 0,
        },
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": made.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens"),
    }


def _text_part(said: str) -> dict[str, Any]:
    return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}


def _message(item_id: str, said: str, status: str = "completed") -> dict[str, Any]:
    content = [_text_part(said)] if status == "completed" else []
    return {"type": "message", "id": item_id, "status": status, "role": "assistant", "content": content}


def _thought(item_id: str, thought: str, status: str = "completed") -> dict[str, Any]:
    return {"type": "reasoning", "id": item_id, "summary": [{"type": "summary_text", "text": thought}] if status == "completed" else []}


def _function_call(item_id: str, call_id: str, name: str, arguments: str, status: str = "completed") -> dict[str, Any]:
    return {"type": "function_call", "id": item_id, "call_id": call_id, "name": name, "arguments": arguments, "status": status}


class _Item:
    """One item of the output while it is streamed."""

    def __init__(self, index: int, kind: str, what: object, call: dict[str, Any] | None = None) -> None:
        self.index, self.kind, self.what, self.call = index, kind, what, call or {}
        self.id = _id({"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind])
        self.said: list[str] = []

    def told(self, status: str = "completed") -> dict[str, Any]:
        said = "".join(self.said)
        if self.kind == "message":
            return _message(self.id, said, status)
        if self.kind == "reasoning":
            return _thought(self.id, said, status)
        return _function_call(self.id, self.call["id"], self.call["name"], said, status)


class ResponseTap:
    """The events of a message as the events of a response, by way of the chunks of a chat completion."""

    def __init__(self, *, provider: str, asked: dict[str, Any], request_id: str) -> None:
        self._provider = provider
        self._asked = asked
        self._chunks = ChunkTap(provider=provider, hide_usage=False, request_id=request_id)
        self._reader = EventReader()
        self._head: dict[str, Any] = {}
        self._output: list[dict[str, Any]] = []
        self._open: _Item | None = None
        self._finish: str | None = None
        self._used: dict[str, Any] | None = None
        self._number = 0
        self.is_done = False

    @property
    def usage(self) -> Usage | None:
        return _with_our_id(self._chunks.usage)

    @property
    def text_bytes(self) -> int:
        return self._chunks.text_bytes

    @property
    def is_failed(self) -> bool:
        return self._chunks.is_failed

    def feed(self, data: bytes) -> bytes:
        return self._told(self._chunks.feed(data))

    def flush(self) -> bytes:
        return self._told(self._chunks.flush())

    def _told(self, chunks: bytes) -> bytes:
        return b"".join([event for payload in self._reader.feed(chunks) for event in self._events(payload)])

    def _events(self, payload: bytes) -> list[bytes]:
        if payload == b"[DONE]":
            return list(self._end())
        return understood(self._provider, payload, lambda chunk: list(self._read(chunk)))

    def _read(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        if chunk.get("error"):
            error = chunk["error"]
            yield named_event({**error, "type": "error", "error": error})  # as `sse.error_event` says it
            return
        if not self._head:
            self._head = _head(chunk["id"], chunk["model"], self._asked)
            yield self._event("response.created", response=self._head)
            yield self._event("response.in_progress", response=self._head)
        self._used = chunk.get("usage") or self._used
        for choice in chunk["choices"]:
            yield from self._delta(choice["delta"])
            self._finish = choice.get("finish_reason") or self._finish

    def _delta(self, delta: dict[str, Any]) -> Iterator[bytes]:
        if delta.get("reasoning_content"):
            yield from self._piece("reasoning", "reasoning", delta["reasoning_content"])
        if delta.get("content"):
            yield from self._piece("message", "message", delta["content"])
        for call in delta.get("tool_calls") or ():
            function = call["function"]
            if "id" in call:
                yield from self._begin("function_call", call["index"], {"id": call["id"], "name": function["name"]})
            if function.get("arguments"):
                yield from self._piece("function_call", call["index"], function["arguments"])

    def _piece(self, kind: str, what: object, said: str) -> Iterator[bytes]:
        yield from self._begin(kind, what)
        item = self._open
        assert item is not None
        item.said.append(said)
        if kind == "message":
            yield self._of(item, "response.output_text.delta", content_index=0, delta=said, logprobs=[])
        elif kind == "reasoning":
            yield self._of(item, "response.reasoning_summary_text.delta", summary_index=0, delta=said)
        else:
            yield self._of(item, "response.function_call_arguments.delta", delta=said)

    def _begin(self, kind: str, what: object, call: dict[str, Any] | None = None) -> Iterator[bytes]:
        if self._open is not None and self._open.what == what:
            return
        yield from self._close()
        item = self._open = _Item(len(self._output), kind, what, call)
        yield self._event("response.output_item.added", output_index=item.index, item=item.told("in_progress"))
        if kind == "message":
            yield self._of(item, "response.content_part.added", content_index=0, part=_text_part(""))
        elif kind == "reasoning":
            yield self._of(item, "response.reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""})

    def _close(self) -> Iterator[bytes]:
        item, self._open = self._open, None
        if item is None:
            return
        said = "".join(item.said)
        if item.kind == "message":
            yield self._of(item, "response.output_text.done", content_index=0, text=said, logprobs=[])
            yield self._of(item, "response.content_part.done", content_index=0, part=_text_part(said))
        elif item.kind == "reasoning":
            yield self._of(item, "response.reasoning_summary_text.done", summary_index=0, text=said)
            yield self._of(item, "response.reasoning_summary_part.done", summary_index=0, part={"type": "summary_text", "text": said})
        else:
            yield self._of(item, "response.function_call_arguments.done", name=item.call["name"], arguments=said)
        yield self._event("response.output_item.done", output_index=item.index, item=item.told())
        self._output.append(item.told())

    def _end(self) -> Iterator[bytes]:
        yield from self._close()
        ended = _ended(self._head, self._output, self._finish, self._used)
        self.is_done = True
        yield self._event(f"response.{ended['status']}", response=ended)

    def _of(self, item: _Item, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=item.id, output_index=item.index, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return named_event({"type": kind, **fields, "sequence_number": self._number - 1})


def request(body: dict[str, Any], upstream_model: str, max_tokens: int) -> dict[str, Any]:
    """A responses request as a messages request. Refusal where it cannot be said."""
    try:
        return openai_to_anthropic.request(chat_request(body), upstream_model, max_tokens)
    except Refusal as refusal:
        # By the name that the caller gave it; what stands deeper in a message is named by its place there.
        if refusal.param == "reasoning_effort":
            no_counterpart("reasoning.effort", _ANTHROPIC)
        raise


def _body(call: Call, target: Target) -> dict[str, Any]:
    assert call.model is not None
    upstream_model, max_tokens = target.deployment.upstream_model, call.model.max_output_tokens
    return translated(SURFACES["responses"], lambda: request(call.body, upstream_model, max_tokens))


def _whole(call: Call, body: bytes) -> tuple[bytes, Usage | None]:
    assert call.deployment is not None

    def told(message: dict[str, Any]) -> bytes:
        return orjson.dumps(response(openai_to_anthropic.answer(message), call.body))

    return understood(call.deployment.provider, body, told), _with_our_id(usage_of_message(body))


def _tap(call: Call) -> ResponseTap:
    assert call.deployment is not None
    return ResponseTap(provider=call.deployment.provider, asked=call.body, request_id=call.request_id)


RESPONSES_ON_MESSAGES = Pair("messages", FORWARDED, _body, _whole, _tap, openai_to_anthropic.error)
