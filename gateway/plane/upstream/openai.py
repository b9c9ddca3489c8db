"""The OpenAI surfaces on an upstream that speaks the OpenAI protocol: bytes pass through, only the model's name is changed."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.contract.surfaces import MOST_OUTPUT
from gateway.plane.call import Call
from gateway.plane.served import Target
from gateway.plane.sse import SseTap, UsageTap, has_line
from gateway.plane.upstream.dialects import TRACE, Pair, same
from gateway.plane.usage import TEXT_IN_RESPONSES, ResponseItem, ResponsesUsage, Usage, tool_units, usage_of_body

_NEWER_NAME = (".openai.com", ".azure.com", ".azure.us", ".azure.cn")
"""Hosts that take the most tokens as `max_completion_tokens` only, at least for models that reason; others know `max_tokens` longer."""
FORWARDED = ((b"openai-beta", "openai-beta"), *TRACE)


def _body(call: Call, target: Target) -> dict[str, Any]:
    fields = {**call.body, "model": target.deployment.upstream_model}
    if call.is_limit_ours and call.surface == "chat":
        said = next((name for name in MOST_OUTPUT["chat"] if name in fields), None)
        if said is not None:
            most = fields.pop(said)
            fields[limit_name(target.deployment.base_url)] = most
    return fields


def limit_name(base_url: str) -> str:
    """What this host calls the most tokens that a chat may write."""
    host = f".{urlsplit(base_url).hostname or ''}"
    return "max_completion_tokens" if host.endswith(_NEWER_NAME) else "max_tokens"


def _whole(call: Call, body: bytes) -> tuple[bytes, Usage | None]:
    return body, usage_of_body(body)


def _tap(call: Call) -> SseTap:
    return SseTap(hide_usage=call.hide_usage)


class _Response(msgspec.Struct):
    """A whole response, or the event that ends one; all else is skipped."""

    type: str = ""
    id: Any = None
    usage: ResponsesUsage | None = None
    service_tier: str | None = None
    output: list[ResponseItem] = []
    response: _Response | None = None

    def used(self) -> Usage | None:
        """Its usage, with the tools that the provider ran; those stand in the output."""
        if self.usage is None:
            return None
        usage = self.usage.normal().of_answer(self.id, self.service_tier)
        usage.others = tool_units(self.output)
        return usage


_response_decoder = msgspec.json.Decoder(_Response)


class ResponsesTap(UsageTap):
    """Of responses: the last event holds the whole response with its usage."""

    pattern = TEXT_IN_RESPONSES

    def _read(self, data: bytes) -> bytes:
        if has_line(data, b"event: response.failed") or has_line(data, b"event: error"):
            self.is_failed = True
        if has_line(data, b"event: response.completed") or has_line(data, b"event: response.incomplete"):
            self.is_done = True
        return super()._read(data)

    def _take_usage(self, payload: bytes) -> None:
        try:
            response = _response_decoder.decode(payload).response
        except msgspec.DecodeError:
            return  # the caller sees what the provider sent, however odd
        if response is not None and response.usage is not None:
            self.usage = response.used()


def _whole_response(call: Call, body: bytes) -> tuple[bytes, Usage | None]:
    return body, _response_decoder.decode(body).used()


def _responses_tap(call: Call) -> ResponsesTap:
    return ResponsesTap()


CHAT = Pair("chat/completions", FORWARDED, _body, _whole, _tap, same)
EMBEDDINGS = Pair("embeddings", FORWARDED, _body, _whole, _tap, same)
RESPONSES = Pair("responses", FORWARDED, _body, _whole_response, _responses_tap, same)
