"""Anthropic messages on an upstream that speaks OpenAI chat completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from gateway.plane.call import SURFACES, Call
from gateway.plane.errors import Refusal, anthropic_type
from gateway.plane.served import Target
from gateway.plane.sse import EventReader, named_event
from gateway.plane.translate import no_counterpart, objects, passed_on, refuse, text, translated, understood
from gateway.plane.upstream.dialects import Pair
from gateway.plane.upstream.openai import FORWARDED, limit_name
from gateway.plane.usage import Usage, usage_of_body

_OPENAI = "OpenAI"
_HANDLED = frozenset(
    ["model", "system", "messages", "max_tokens", "stop_sequences", "tools", "tool_choice", "metadata", "thinking", "output_config",
     "output_format", "service_tier", "stream"]
)  # fmt: skip
_DROPPED = frozenset(["cache_control", "diagnostics"])
"""About the provider's own books; the answer is the same without them. OpenAI caches prompts unasked."""
_ONLY: dict[str, Any] = {"container": None, "mcp_servers": [], "context_management": {}, "inference_geo": None, "speed": "standard"}
_TIERS = {"auto": "auto", "standard_only": "default"}
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "xhigh"}
_TOOL_FIELDS = frozenset(["type", "name", "description", "input_schema", "strict", "cache_control", "eager_input_streaming"])
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use", "content_filter": "refusal"}


# The request


def request(body: dict[str, Any], upstream_model: str, base_url: str) -> dict[str, Any]:
    """A messages request as a chat request. Refusal where it cannot be said."""
    out = passed_on(body, _HANDLED, _DROPPED, _ONLY, _OPENAI)
    most = body.get("max_tokens")
    if not isinstance(most, int) or most < 1:
        refuse("max_tokens", "must be a number from 1.")
    messages = [
        message for index, given in enumerate(objects(body.get("messages"), "messages")) for message in _turn(given, f"messages.{index}")
    ]
    out |= {"model": upstream_model, "messages": _system(body.get("system"), "system") + messages}
    out[limit_name(base_url)] = most
    if body.get("stop_sequences"):
        out["stop"] = body["stop_sequences"]
    user = (body.get("metadata") or {}).get("user_id")
    if user:
        out["user"] = user
    if body.get("service_tier") is not None:
        if body["service_tier"] not in _TIERS:
            no_counterpart("service_tier", _OPENAI)
        out["service_tier"] = _TIERS[body["service_tier"]]
    if body.get("stream") is True:
        out |= {"stream": True, "stream_options": {"include_usage": True}}
    _add_tools(body, out)
    _add_output(body, out)
    return out


def _system(given: Any, param: str) -> list[dict[str, Any]]:
    if not given:
        return []
    content = (
        given if isinstance(given, str) else [_text_part(block, f"{param}.{index}") for index, block in enumerate(objects(given, param))]
    )
    return [{"role": "system", "content": content}]


def _text_part(block: dict[str, Any], param: str) -> dict[str, Any]:
    if block.get("type") != "text":
        no_counterpart(f"{param}.type", _OPENAI)
    return {"type": "text", "text": text(block.get("text"), f"{param}.text")}


def _add_tools(body: dict[str, Any], out: dict[str, Any]) -> None:
    if body.get("tools"):
        out["tools"] = [_tool(tool, f"tools.{index}") for index, tool in enumerate(objects(body["tools"], "tools"))]
    choice = body.get("tool_choice") or {}
    if not isinstance(choice, dict):
        refuse("tool_choice", "must be an object.")
    kind = choice.get("type")
    if kind == "tool":
        out["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif kind in ("auto", "any", "none"):
        out["tool_choice"] = "required" if kind == "any" else kind
    elif kind is not None:
        no_counterpart("tool_choice.type", _OPENAI)
    if choice.get("disable_parallel_tool_use"):
        out["parallel_tool_calls"] = False


def _tool(tool: dict[str, Any], param: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        no_counterpart(f"{param}.type", _OPENAI)  # tools that run at the provider
    for name, value in tool.items():
        if name not in _TOOL_FIELDS and value:
            no_counterpart(f"{param}.{name}", _OPENAI)
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema")}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _add_output(body: dict[str, Any], out: dict[str, Any]) -> None:
    config = body.get("output_config") or {}
    wanted = config.get("format") or body.get("output_format")
    if wanted:
        if wanted.get("type") != "json_schema":
            no_counterpart("output_config.format.type", _OPENAI)
        out["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted.get("schema"), "strict": True}}
    if config.get("effort"):
        if config["effort"] not in _EFFORTS:
            no_counterpart("output_config.effort", _OPENAI)
        out["reasoning_effort"] = _EFFORTS[config["effort"]]
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled" and "reasoning_effort" not in out:
        tokens = thinking.get("budget_tokens") or 0
        out["reasoning_effort"] = "high" if tokens >= 16_000 else "medium" if tokens >= 4_000 else "low"


def _turn(message: dict[str, Any], param: str) -> list[dict[str, Any]]:
    """One turn as one message or, where it holds results of tools, as several."""
    role, content = message.get("role"), message.get("content")
    if role == "system":
        return _system(content, f"{param}.content")
    if role not in ("user", "assistant"):
        no_counterpart(f"{param}.role", _OPENAI)
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    blocks = objects(content, f"{param}.content")
    return [_assistant(blocks, param)] if role == "assistant" else _user(blocks, param)


def _user(blocks: list[dict[str, Any]], param: str) -> list[dict[str, Any]]:
    """Results first: they must follow the calls that they answer."""
    results, parts = [], []
    for index, block in enumerate(blocks):
        where = f"{param}.content.{index}"
        if block.get("type") == "tool_result":
            results.append(_result(block, where))
        else:
            parts.append(_part(block, where))
    return results + ([{"role": "user", "content": parts}] if parts else [])


def _result(block: dict[str, Any], param: str) -> dict[str, Any]:
    content = block.get("content") or ""
    if not isinstance(content, str):
        content = "\n".join(
            _text_part(part, f"{param}.content.{index}")["text"] for index, part in enumerate(objects(content, f"{param}.content"))
        )
    if block.get("is_error"):
        content = f"Error: {content}"  # the protocol has no other way to say so
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content}


def _part(block: dict[str, Any], param: str) -> dict[str, Any]:
    kind, source = block.get("type"), block.get("source")
    if kind == "text":
        return _text_part(block, param)
    if kind in ("image", "document") and isinstance(source, dict):
        how = source.get("type")
        url = (
            f"data:{source.get('media_type')};base64,{source.get('data')}"
            if how == "base64"
            else source.get("url")
            if how == "url"
            else None
        )
        if kind == "image" and url:
            return {"type": "image_url", "image_url": {"url": url}}
        if kind == "document" and how == "base64":
            return {"type": "file", "file": {"filename": block.get("title") or "document.pdf", "file_data": url}}
        if kind == "document" and how == "text":
            return {"type": "text", "text": text(source.get("data"), f"{param}.source.data")}
        no_counterpart(f"{param}.source.type", _OPENAI)
    return no_counterpart(f"{param}.type", _OPENAI)


def _assistant(blocks: list[dict[str, Any]], param: str) -> dict[str, Any]:
    texts, calls = [], []
    for index, block in enumerate(blocks):
        where, kind = f"{param}.content.{index}", block.get("type")
        if kind == "text":
            texts.append(text(block.get("text"), f"{where}.text"))
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": orjson.dumps(block.get("input") or {}).decode()}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind not in ("thinking", "redacted_thinking"):  # signed by another provider, of no use to this one
            no_counterpart(f"{where}.type", _OPENAI)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    return {**message, "tool_calls": calls} if calls else message


# The answer


def answer(completion: dict[str, Any]) -> dict[str, Any]:
    """A whole chat completion as a message."""
    choice = completion["choices"][0]
    said = choice["message"]
    blocks: list[dict[str, Any]] = []
    if said.get("reasoning_content"):
        blocks.append({"type": "thinking", "thinking": said["reasoning_content"], "signature": ""})
    if said.get("content") or said.get("refusal"):
        blocks.append({"type": "text", "text": said.get("content") or said["refusal"]})
    for call in said.get("tool_calls") or ():
        function = call["function"]
        blocks.append(
            {"type": "tool_use", "id": call["id"], "name": function["name"], "input": orjson.loads(function["arguments"] or "{}")}
        )
    usage = msgspec.convert(completion.get("usage") or {}, Usage)
    return {
        "id": completion["id"], "type": "message", "role": "assistant", "model": completion["model"], "content": blocks,
        "stop_reason": _stop_reason(choice.get("finish_reason"), bool(said.get("refusal"))), "stop_sequence": None,
        "usage": usage_object(usage),
    }  # fmt: skip


def _stop_reason(finish: str | None, is_refusal: bool) -> str:
    return "refusal" if is_refusal else _STOP.get(finish or "", "end_turn")


def usage_object(usage: Usage) -> dict[str, Any]:
    """The `usage` of a message, whose input leaves out the cached tokens. What the provider did not say is null."""
    details = usage.prompt_tokens_details
    read = details.cached_tokens if details else None
    written = details.cache_write_tokens if details else None
    fresh = None if usage.prompt_tokens is None else usage.prompt_tokens - (read or 0) - (written or 0)
    out = {
        "input_tokens": fresh, "cache_creation_input_tokens": written, "cache_read_input_tokens": read,
        "output_tokens": usage.completion_tokens,
    }  # fmt: skip
    reasoning = usage.completion_tokens_details.reasoning_tokens if usage.completion_tokens_details else None
    return out if reasoning is None else {**out, "output_tokens_details": {"thinking_tokens": reasoning}}


def error(status: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """An error answer. Its clients know an overloaded server by 529."""
    status = 529 if status == 503 else status
    given = body["error"]
    told = {"type": anthropic_type(status), "message": given.get("message") or f"HTTP {status}", "code": given.get("code")}
    return status, {"type": "error", "error": {**told, "param": given.get("param")}}


class MessageTap:
    """The chunks of a chat completion as the events of a message: blocks one after another, each begun and ended."""

    def __init__(self, *, provider: str, input_estimate: int, request_id: str) -> None:
        self._provider = provider
        self._input_estimate = input_estimate
        self._request_id = request_id
        self._reader = EventReader()
        self._is_started = False
        self._open: object = None
        """What the open block holds: `text`, `thinking`, or the number of a tool call."""
        self._index = -1
        self._begun: set[object] = set()
        """Tool calls that have had their block."""
        self._finish: str | None = None
        self._is_refusal = False
        self._has_ended = False
        self.is_done = False
        self.usage: Usage | None = None
        self.text_bytes = 0
        self.is_failed = False

    def feed(self, data: bytes) -> bytes:
        return b"".join([event for payload in self._reader.feed(data) for event in self._events(payload)])

    def flush(self) -> bytes:
        payload = self._reader.flush()
        out = b"".join(self._events(payload)) if payload else b""
        if self.is_failed:
            return out
        if not self._is_started or (self._finish is None and not self._has_ended):
            raise Refusal("upstream_error", f"The provider {self._provider} broke off its answer.")
        self.is_done = True
        return out + b"".join(self._end())

    def _events(self, payload: bytes) -> list[bytes]:
        if payload == b"[DONE]":
            self._has_ended = True
            return []  # the end comes when the upstream has closed: some tell their usage late
        return understood(self._provider, payload, lambda chunk: list(self._read(chunk)))

    def _read(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        if chunk.get("error"):
            self.is_failed = True
            message = chunk["error"].get("message") or "The provider failed."
            yield named_event(
                {
                    "type": "error",
                    "error": {"type": "api_error", "message": message, "code": "upstream_error", "request_id": self._request_id},
                }
            )
            return
        if chunk.get("usage"):
            self.usage = msgspec.convert(chunk["usage"], Usage).of_answer(chunk.get("id"), chunk.get("service_tier"))
        if not self._is_started:
            if not chunk.get("id") and not any("delta" in choice for choice in chunk.get("choices") or ()):
                return  # Azure tells first what its filters found in the prompt, in a chunk without a name
            self._is_started = True
            yield self._start(chunk)
        for choice in chunk.get("choices") or ():
            yield from self._delta(choice.get("delta") or {})
            self._finish = choice.get("finish_reason") or self._finish

    def _start(self, chunk: dict[str, Any]) -> bytes:
        # The protocol demands figures before any are known; the last event corrects them.
        usage = {"input_tokens": self._input_estimate, "output_tokens": 0}
        return named_event({
            "type": "message_start",
            "message": {
                "id": chunk["id"], "type": "message", "role": "assistant", "model": chunk["model"], "content": [],
                "stop_reason": None, "stop_sequence": None, "usage": usage,
            },
        })  # fmt: skip

    def _delta(self, delta: dict[str, Any]) -> Iterator[bytes]:
        if delta.get("reasoning_content"):
            yield from self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            yield self._piece({"type": "thinking_delta", "thinking": delta["reasoning_content"]}, delta["reasoning_content"])
        said = delta.get("content") or delta.get("refusal")
        self._is_refusal = self._is_refusal or bool(delta.get("refusal"))
        if said:
            yield from self._begin("text", {"type": "text", "text": ""})
            yield self._piece({"type": "text_delta", "text": said}, said)
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            if call["index"] not in self._begun:
                self._begun.add(call["index"])
                yield from self._begin(call["index"], {"type": "tool_use", "id": call["id"], "name": function["name"], "input": {}})
            elif call["index"] != self._open:
                raise ValueError("a tool call goes on after another one has begun")
            if function.get("arguments"):
                yield self._piece({"type": "input_json_delta", "partial_json": function["arguments"]}, function["arguments"])

    def _begin(self, what: object, block: dict[str, Any]) -> Iterator[bytes]:
        if what == self._open:
            return
        yield from self._close()
        self._open, self._index = what, self._index + 1
        yield named_event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            yield named_event({"type": "content_block_stop", "index": self._index})
            self._open = None

    def _piece(self, delta: dict[str, Any], said: str) -> bytes:
        self.text_bytes += len(said.encode())
        return named_event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _end(self) -> Iterator[bytes]:
        yield from self._close()
        delta = {"stop_reason": _stop_reason(self._finish, self._is_refusal), "stop_sequence": None}
        yield named_event({"type": "message_delta", "delta": delta, "usage": usage_object(self.usage or Usage())})
        yield named_event({"type": "message_stop"})


def _body(call: Call, target: Target) -> dict[str, Any]:
    upstream_model, base_url = target.deployment.upstream_model, target.deployment.base_url
    return translated(SURFACES["messages"], lambda: request(call.body, upstream_model, base_url))


def _whole(call: Call, body: bytes) -> tuple[bytes, Usage | None]:
    assert call.deployment is not None
    return understood(call.deployment.provider, body, lambda completion: orjson.dumps(answer(completion))), usage_of_body(body)


def _tap(call: Call) -> MessageTap:
    assert call.deployment is not None
    return MessageTap(provider=call.deployment.provider, input_estimate=call.input_estimate, request_id=call.request_id)


MESSAGES_ON_CHAT = Pair("chat/completions", FORWARDED, _body, _whole, _tap, error)
