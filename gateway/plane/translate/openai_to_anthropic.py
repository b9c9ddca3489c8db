"""OpenAI chat completions on an upstream that speaks the Anthropic protocol."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from gateway.plane.call import SURFACES, Call
from gateway.plane.errors import Refusal
from gateway.plane.served import Target
from gateway.plane.sse import EventReader, data_event
from gateway.plane.translate import no_counterpart, objects, passed_on, refuse, text, translated, understood
from gateway.plane.upstream.anthropic import FORWARDED, usage_of_message
from gateway.plane.upstream.dialects import Pair
from gateway.plane.usage import MessagesUsage, Usage

_ANTHROPIC = "Anthropic"
_HANDLED = frozenset(
    ["model", "messages", "max_tokens", "max_completion_tokens", "stop", "tools", "tool_choice", "parallel_tool_calls", "user",
     "safety_identifier", "response_format", "reasoning_effort", "service_tier", "temperature", "output_config"]
)  # fmt: skip
_DROPPED = frozenset(["stream_options", "metadata", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "prediction"])
"""About the provider's own books and its speed; the answer is the same without them."""
_ONLY = {
    "n": 1, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "logprobs": False, "top_logprobs": 0, "store": False,
    "modalities": ["text"], "audio": None, "verbosity": "medium", "web_search_options": None, "moderation": None, "seed": None,
    "functions": [], "function_call": None,
}  # fmt: skip
_SAID_BEFORE = frozenset(["role", "content", "tool_calls", "refusal", "annotations", "reasoning_content", "provider_specific_fields"])
"""Fields of an assistant's message that are handled, or that only its reader had use for."""
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_TIERS = {"auto": "auto", "default": "standard_only"}
_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tool_calls", "refusal": "content_filter",
}  # fmt: skip
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)


# The request


def request(body: dict[str, Any], upstream_model: str, max_tokens: int) -> dict[str, Any]:
    """A chat request as a messages request; `max_tokens` where the caller names no maximum. Refusal where it cannot be said."""
    out = passed_on(body, _HANDLED, _DROPPED, _ONLY, _ANTHROPIC)
    system, messages = _messages(objects(body.get("messages"), "messages"))
    out |= {"model": upstream_model, "messages": messages}
    out["max_tokens"] = body.get("max_completion_tokens") or body.get("max_tokens") or max_tokens
    if system:
        out["system"] = system
    if body.get("temperature") is not None:
        if not isinstance(body["temperature"], int | float) or body["temperature"] > 1:
            refuse("temperature", "must be a number up to 1 for a model that is served in the Anthropic protocol.")
        out["temperature"] = body["temperature"]
    if body.get("stop"):
        out["stop_sequences"] = [body["stop"]] if isinstance(body["stop"], str) else body["stop"]
    who = body.get("safety_identifier") or body.get("user")
    if who:
        out["metadata"] = {"user_id": who}
    if body.get("service_tier") is not None:
        if body["service_tier"] not in _TIERS:
            no_counterpart("service_tier", _ANTHROPIC)
        out["service_tier"] = _TIERS[body["service_tier"]]
    _add_tools(body, out)
    _add_output(body, out)
    return out


def _add_tools(body: dict[str, Any], out: dict[str, Any]) -> None:
    if body.get("tools"):
        out["tools"] = [_tool(tool, f"tools.{index}") for index, tool in enumerate(objects(body["tools"], "tools"))]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        if choice.get("type") != "function" or not isinstance(choice.get("function"), dict):
            no_counterpart("tool_choice", _ANTHROPIC)
        chosen = {"type": "tool", "name": choice["function"].get("name")}
    elif choice in ("auto", "none", "required"):
        chosen = {"type": "any" if choice == "required" else choice}
    elif choice is None:
        chosen = {"type": "auto"}
    else:
        refuse("tool_choice", "must be auto, none, required, or a function.")
    one_at_a_time = body.get("parallel_tool_calls") is False and chosen["type"] != "none"
    if one_at_a_time:
        chosen["disable_parallel_tool_use"] = True
    if choice is not None or (one_at_a_time and body.get("tools")):
        out["tool_choice"] = chosen


def _tool(tool: dict[str, Any], param: str) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        no_counterpart(f"{param}.type", _ANTHROPIC)
    rest = {
        name: value for name, value in {**tool, **function}.items() if name not in ("type", "function", "parameters") and value is not None
    }
    return {**rest, "input_schema": function.get("parameters") or {"type": "object", "properties": {}}}


def _add_output(body: dict[str, Any], out: dict[str, Any]) -> None:
    config = dict(body.get("output_config") or {})
    wanted = body.get("response_format") or {"type": "text"}
    if wanted.get("type") == "json_schema":
        config["format"] = {"type": "json_schema", "schema": (wanted.get("json_schema") or {}).get("schema") or {}}
    elif wanted.get("type") != "text":
        refuse("response_format", "a model that is served in the Anthropic protocol writes JSON by a schema; use the type json_schema.")
    effort = body.get("reasoning_effort")
    if effort == "none":
        out["thinking"] = {"type": "disabled"}
    elif effort is not None:
        if effort not in _EFFORTS:
            no_counterpart("reasoning_effort", _ANTHROPIC)
        config["effort"] = _EFFORTS[effort]
    if config:
        out["output_config"] = config


def _messages(given: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system's blocks, from wherever they stand, and the turns. Results of tools are joined, as they must come in one turn."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    for index, message in enumerate(given):
        param, role = f"messages.{index}", message.get("role")
        if message.get("name"):
            no_counterpart(f"{param}.name", _ANTHROPIC)
        if role == "tool":
            if results is None:
                results = []
                turns.append({"role": "user", "content": results})
            results.append(_result(message, param))
            continue
        results = None
        if role in ("system", "developer"):
            system += _blocks(message.get("content"), param)
        elif role == "user":
            rest = {name: value for name, value in message.items() if name not in ("role", "content", "name")}
            turns.append({**rest, "role": "user", "content": _blocks(message.get("content"), param)})
        elif role == "assistant":
            turns.append(_assistant(message, param))
        else:
            no_counterpart(f"{param}.role", _ANTHROPIC)
    return system, turns


def _result(message: dict[str, Any], param: str) -> dict[str, Any]:
    call_id = text(message.get("tool_call_id"), f"{param}.tool_call_id")
    return {"type": "tool_result", "tool_use_id": call_id, "content": _blocks(message.get("content"), param)}


def _assistant(message: dict[str, Any], param: str) -> dict[str, Any]:
    rest = {name: value for name, value in message.items() if name not in _SAID_BEFORE and value is not None}
    for name in ("audio", "function_call"):
        if name in rest:
            no_counterpart(f"{param}.{name}", _ANTHROPIC)
    blocks = _blocks(message.get("content") or message.get("refusal") or [], param)
    for number, call in enumerate(objects(message.get("tool_calls") or [], f"{param}.tool_calls")):
        where = f"{param}.tool_calls.{number}"
        if call.get("type", "function") != "function" or not isinstance(call.get("function"), dict):
            no_counterpart(f"{where}.type", _ANTHROPIC)
        blocks.append({
            "type": "tool_use", "id": call.get("id"), "name": call["function"].get("name"),
            "input": _arguments(call["function"].get("arguments"), f"{where}.function.arguments"),
        })  # fmt: skip
    return {**rest, "role": "assistant", "content": blocks}


def _arguments(given: Any, param: str) -> dict[str, Any]:
    try:
        arguments = orjson.loads(given or "{}")
    except (orjson.JSONDecodeError, TypeError):
        arguments = None
    if not isinstance(arguments, dict):
        refuse(param, "must be a JSON object, as text.")
    return arguments


def _blocks(content: Any, param: str) -> list[dict[str, Any]]:
    """A message's content as blocks. Empty texts are left out: the protocol does not take them."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    parts = objects(content or [], f"{param}.content")
    blocks = [_block(part, f"{param}.content.{index}") for index, part in enumerate(parts)]
    return [block for block in blocks if block.get("type") != "text" or block["text"]]


def _block(part: dict[str, Any], param: str) -> dict[str, Any]:
    kind = part.get("type")
    rest = {name: value for name, value in part.items() if name not in ("type", kind)}
    if kind in ("text", "refusal"):
        return {**rest, "type": "text", "text": text(part.get(kind), f"{param}.{kind}")}
    if kind == "image_url" and isinstance(part.get("image_url"), dict):
        return {**rest, "type": "image", "source": _image(text(part["image_url"].get("url"), f"{param}.image_url.url"), param)}
    if kind == "file" and isinstance(part.get("file"), dict):
        return {**rest, **_document(part["file"], param)}
    return no_counterpart(f"{param}.type", _ANTHROPIC)


def _image(url: str, param: str) -> dict[str, Any]:
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    data = _DATA_URL.fullmatch(url)
    if data is None:
        refuse(f"{param}.image_url.url", "must be an address, or a data URL in base64.")
    return {"type": "base64", "media_type": data[1], "data": data[2]}


def _document(file: dict[str, Any], param: str) -> dict[str, Any]:
    data = _DATA_URL.fullmatch(file.get("file_data") or "")
    if data is None:
        refuse(f"{param}.file", "must hold file_data, a data URL in base64: the model's provider has not got the file.")
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": {"type": "base64", "media_type": data[1], "data": data[2]}, **title}


# The answer


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """A whole message as a chat completion."""
    texts, thoughts, calls, others = [], [], [], []
    for block in message["content"]:
        if block["type"] == "text":
            texts.append(block["text"])
        elif block["type"] == "thinking":
            thoughts.append(block["thinking"])
        elif block["type"] == "tool_use":
            function = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
            calls.append({"id": block["id"], "type": "function", "function": function})
        else:
            others.append(block)
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
    if calls:
        said["tool_calls"] = calls
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    if others:
        said["provider_specific_fields"] = {"content": others}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": _FINISH.get(message["stop_reason"], "stop")}
    out = {
        "id": message["id"], "object": "chat.completion", "created": int(time.time()), "model": message["model"], "choices": [choice],
    }  # fmt: skip
    usage = msgspec.convert(message.get("usage") or {}, MessagesUsage).normal()
    return {**out, "usage": usage_object(usage)} if usage.prompt_tokens is not None else out


def usage_object(usage: Usage) -> dict[str, Any]:
    """The `usage` of a chat completion."""
    out: dict[str, Any] = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    if usage.prompt_tokens is not None and usage.completion_tokens is not None:
        out["total_tokens"] = usage.prompt_tokens + usage.completion_tokens
    if usage.prompt_tokens_details is not None:
        details = usage.prompt_tokens_details
        out["prompt_tokens_details"] = {"cached_tokens": details.cached_tokens, "cache_write_tokens": details.cache_write_tokens}
    if usage.completion_tokens_details is not None:
        out["completion_tokens_details"] = {"reasoning_tokens": usage.completion_tokens_details.reasoning_tokens}
    return out


def error(status: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """An error answer. 529 (overloaded) is known to nobody but Anthropic's clients."""
    given = body["error"]
    return 503 if status == 529 else status, {
        "error": {"message": given.get("message") or f"HTTP {status}", "type": given.get("type"), "code": None, "param": None}
    }


class ChunkTap:
    """The events of a message as the chunks of a chat completion."""

    def __init__(self, *, provider: str, hide_usage: bool, request_id: str) -> None:
        self._provider = provider
        self._hide_usage = hide_usage
        self._request_id = request_id
        self._reader = EventReader()
        self._head: dict[str, Any] = {}
        self._tools: dict[int, int] = {}
        """Number of the tool call by the index of its block."""
        self._usage = MessagesUsage()
        self.is_done = False
        self.usage: Usage | None = None
        self.text_bytes = 0
        self.is_failed = False

    def feed(self, data: bytes) -> bytes:
        return b"".join([chunk for payload in self._reader.feed(data) for chunk in self._chunks(payload)])

    def flush(self) -> bytes:
        payload = self._reader.flush()
        out = b"".join(self._chunks(payload)) if payload else b""
        if not self.is_done and not self.is_failed:
            raise Refusal("upstream_error", f"The provider {self._provider} broke off its answer.")
        return out

    def _chunks(self, payload: bytes) -> list[bytes]:
        return understood(self._provider, payload, lambda event: list(self._read(event)))

    def _read(self, event: dict[str, Any]) -> Iterator[bytes]:
        kind = event["type"]
        if kind == "message_start":
            message = event["message"]
            self._head = {
                "id": message["id"], "object": "chat.completion.chunk", "created": int(time.time()), "model": message["model"],
            }  # fmt: skip
            # Its output is what was written so far, which is no figure for the whole.
            self._take({**(message.get("usage") or {}), "output_tokens": None})
            yield self._chunk({"role": "assistant", "content": ""})
        elif kind == "content_block_start":
            yield from self._begin(event["index"], event["content_block"])
        elif kind == "content_block_delta":
            yield from self._delta(event["index"], event["delta"])
        elif kind == "message_delta":
            self._take(event.get("usage") or {})
            reason = event["delta"].get("stop_reason")
            if reason:
                yield self._chunk({}, _FINISH.get(reason, "stop"))
        elif kind == "message_stop":
            self.is_done = True
            if self.usage is not None and self.usage.prompt_tokens is not None and not self._hide_usage:
                yield data_event({**self._head, "choices": [], "usage": usage_object(self.usage)})
            yield b"data: [DONE]\n\n"
        elif kind == "error":
            self.is_failed = True
            told = error(0, event)[1]["error"] | {"code": "upstream_error", "request_id": self._request_id}
            yield data_event({"error": told})

    def _begin(self, index: int, block: dict[str, Any]) -> Iterator[bytes]:
        if block["type"] == "tool_use":
            number = self._tools[index] = len(self._tools)
            function = {"name": block["name"], "arguments": ""}
            yield self._chunk({"tool_calls": [{"index": number, "id": block["id"], "type": "function", "function": function}]})
        elif block["type"] == "text":
            if block.get("text"):
                yield self._said("content", block["text"])
        elif block["type"] != "thinking":
            yield self._chunk({"provider_specific_fields": {"content_block": block}})

    def _delta(self, index: int, delta: dict[str, Any]) -> Iterator[bytes]:
        kind = delta["type"]
        if kind == "text_delta":
            yield self._said("content", delta["text"])
        elif kind == "thinking_delta":
            yield self._said("reasoning_content", delta["thinking"])
        elif kind == "input_json_delta" and index in self._tools:
            piece = delta["partial_json"]
            self.text_bytes += len(piece.encode())
            if piece:
                yield self._chunk({"tool_calls": [{"index": self._tools[index], "function": {"arguments": piece}}]})
        elif kind != "signature_delta":  # proves a thought to its own maker, who will not see it again
            yield self._chunk({"provider_specific_fields": {"delta": delta}})

    def _said(self, name: str, piece: str) -> bytes:
        self.text_bytes += len(piece.encode())
        return self._chunk({name: piece})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return data_event({**self._head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})

    def _take(self, usage: dict[str, Any]) -> None:
        self._usage = self._usage.updated(msgspec.convert(usage, MessagesUsage))
        self.usage = self._usage.normal().of_answer(self._head.get("id"))


def _body(call: Call, target: Target) -> dict[str, Any]:
    assert call.model is not None
    upstream_model, max_tokens = target.deployment.upstream_model, call.model.max_output_tokens
    return translated(SURFACES["chat"], lambda: request(call.body, upstream_model, max_tokens))


def _whole(call: Call, body: bytes) -> tuple[bytes, Usage | None]:
    assert call.deployment is not None
    return understood(call.deployment.provider, body, lambda message: orjson.dumps(answer(message))), usage_of_message(body)


def _tap(call: Call) -> ChunkTap:
    assert call.deployment is not None
    return ChunkTap(provider=call.deployment.provider, hide_usage=call.hide_usage, request_id=call.request_id)


CHAT_ON_MESSAGES = Pair("messages", FORWARDED, _body, _whole, _tap, error)
