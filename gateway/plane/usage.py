"""How many tokens a call used: as the provider says, else estimated and marked as such."""

from __future__ import annotations

import re
from typing import Any

import msgspec

CHARACTERS_PER_TOKEN = 4
_STRING = rb'\s*:\s*"((?:[^"\\]|\\.)*)"'
TEXT_IN_CHAT = re.compile(rb'"(?:content|arguments|reasoning_content)"' + _STRING)
TEXT_IN_MESSAGES = re.compile(rb'"(?:text|partial_json|thinking)"' + _STRING)
TEXT_IN_RESPONSES = re.compile(rb'"delta"' + _STRING)
"""Where generated text stands in the events of a stream, by surface."""


class PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """The `usage` object of the OpenAI protocol; fields that a provider leaves out are None, not zero."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    service_tier: str | None = None
    """The protocol says it beside the usage; it is kept with what it prices."""

    def served(self, tier: str | None) -> Usage:
        """With the service tier of the answer that it stands in."""
        if tier is not None:
            self.service_tier = tier
        return self


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None
    """In the Anthropic protocol."""
    reasoning_tokens: int | None = None
    """In OpenAI responses."""


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class MessagesUsage(msgspec.Struct):
    """The `usage` object of the Anthropic protocol, whose `input_tokens` leave out what was read from and written to the cache."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None
    service_tier: str | None = None

    def normal(self) -> Usage:
        """In the form of the OpenAI protocol, whose prompt tokens include the cached ones."""
        read, written = self.cache_read_input_tokens, self.cache_creation_input_tokens
        details, known = self.output_tokens_details, read is not None or written is not None
        return Usage(
            prompt_tokens=None if self.input_tokens is None else self.input_tokens + (read or 0) + (written or 0),
            completion_tokens=self.output_tokens,
            prompt_tokens_details=PromptDetails(cached_tokens=read, cache_write_tokens=written) if known else None,
            completion_tokens_details=CompletionDetails(reasoning_tokens=details.thinking_tokens) if details else None,
            service_tier=self.service_tier,
        )

    def updated(self, later: MessagesUsage) -> MessagesUsage:
        """With the figures of a later event, which are totals; what it leaves out holds on."""
        said = {name: value for name in self.__struct_fields__ if (value := getattr(later, name)) is not None}
        return msgspec.structs.replace(self, **said)


class ResponsesUsage(msgspec.Struct):
    """The `usage` object of OpenAI responses: the same meaning as in chat completions under other names."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    def normal(self) -> Usage:
        given, made = self.input_tokens_details, self.output_tokens_details
        return Usage(
            prompt_tokens=self.input_tokens,
            completion_tokens=self.output_tokens,
            prompt_tokens_details=PromptDetails(cached_tokens=given.cached_tokens) if given else None,
            completion_tokens_details=CompletionDetails(reasoning_tokens=made.reasoning_tokens) if made else None,
        )


class WithUsage(msgspec.Struct):
    """A response of which only the usage and what prices it are read; all else is skipped, not built."""

    usage: Usage | None = None
    service_tier: str | None = None


_decoder = msgspec.json.Decoder(WithUsage)


def usage_of_body(body: bytes) -> Usage | None:
    """Usage in a whole JSON response; msgspec.DecodeError when it is not a JSON object."""
    found = _decoder.decode(body)
    return found.usage.served(found.service_tier) if found.usage else None


def estimate_input(body: bytes, context_window: int | None) -> int:
    """Tokens of a request by its size; never more than the model can take in at all."""
    estimate = -(-len(body) // CHARACTERS_PER_TOKEN)
    return min(estimate, context_window) if context_window else estimate


def text_bytes(chunk: bytes, pattern: re.Pattern[bytes] = TEXT_IN_CHAT) -> int:
    """Bytes of generated text in a piece of a stream."""
    return sum(map(len, pattern.findall(chunk)))


def asked_output(request: dict[str, Any], default: int) -> int:
    """The most tokens that a request can make the model write; each surface has its own name for it."""
    given = (request.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    most = next((value for value in given if isinstance(value, int) and value > 0), default)
    choices = request.get("n")
    return most * choices if isinstance(choices, int) and choices > 1 else most
