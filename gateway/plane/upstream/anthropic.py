"""The Anthropic surface on an upstream that speaks the Anthropic protocol: bytes pass through, only the model's name is changed."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from gateway.contract import platforms
from gateway.plane.call import Call
from gateway.plane.served import Target
from gateway.plane.sse import UsageTap, has_line
from gateway.plane.upstream.dialects import TRACE, Pair, same
from gateway.plane.usage import TEXT_IN_MESSAGES, MessagesUsage, Usage

FORWARDED = ((b"anthropic-version", "anthropic-version"), (b"anthropic-beta", "anthropic-beta"), *TRACE)


class _WithUsage(msgspec.Struct):
    """A whole message, or the event that begins one or the one that nearly ends it; all else is skipped."""

    type: str = ""
    id: Any = None
    usage: MessagesUsage | None = None
    message: _WithUsage | None = None


_decoder = msgspec.json.Decoder(_WithUsage)


def usage_of_message(body: bytes) -> Usage | None:
    """Usage in a whole message; msgspec.DecodeError when it is not a JSON object."""
    message = _decoder.decode(body)
    return message.usage.normal().of_answer(message.id) if message.usage else None


class MessagesTap(UsageTap):
    """Of messages: the first event knows the input, a late one the output and sometimes better figures for both."""

    pattern = TEXT_IN_MESSAGES

    def __init__(self) -> None:
        super().__init__()
        self._usage = MessagesUsage()
        self._id: Any = None

    def _read(self, data: bytes) -> bytes:
        if has_line(data, b"event: error"):
            self.is_failed = True
        if has_line(data, b"event: message_stop"):
            self.is_done = True
        return super()._read(data)

    def _take_usage(self, payload: bytes) -> None:
        try:
            event = _decoder.decode(payload)
        except msgspec.DecodeError:
            return  # the caller sees what the provider sent, however odd
        if event.type == "message_start" and event.message is not None and event.message.usage is not None:
            # Its output is what was written so far, which is no figure for the whole.
            self._usage = msgspec.structs.replace(event.message.usage, output_tokens=None)
            self._id = event.message.id
        elif event.type == "message_delta" and event.usage is not None:
            self._usage = self._usage.updated(event.usage)
        self.usage = self._usage.normal().of_answer(self._id)


def _body(call: Call, target: Target) -> dict[str, Any]:
    return {**call.body, "model": target.deployment.upstream_model}


def _whole(call: Call, body: bytes) -> tuple[bytes, Usage | None]:
    return body, usage_of_message(body)


def _tap(call: Call) -> MessagesTap:
    return MessagesTap()


class _Counted(msgspec.Struct):
    input_tokens: int | None = None
    of_bedrock: int | None = msgspec.field(default=None, name="inputTokens")


_counted_decoder = msgspec.json.Decoder(_Counted)


def _count(call: Call, body: bytes) -> tuple[bytes, Usage]:
    """A count of tokens uses none: that is known, not missing."""
    counted = _counted_decoder.decode(body)
    if counted.of_bedrock is not None:
        body = orjson.dumps({"input_tokens": counted.of_bedrock})
    return body, Usage(prompt_tokens=0, completion_tokens=0)


MESSAGES = Pair("messages", FORWARDED, _body, _whole, _tap, same)
COUNT_TOKENS = Pair(platforms.COUNT_TOKENS, FORWARDED, _body, _count, _tap, same)
