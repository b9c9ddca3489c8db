"""How many tokens a call used: as the provider says, else estimated and marked as such."""

from __future__ import annotations

import re
from typing import Any

import msgspec

CHARACTERS_PER_TOKEN = 4
_TEXT_IN_DELTA = re.compile(rb'"(?:content|arguments|reasoning_content)"\s*:\s*"((?:[^"\\]|\\.)*)"')


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


class WithUsage(msgspec.Struct):
    """A response of which only the usage is read; all else is skipped, not built."""

    usage: Usage | None = None


_decoder = msgspec.json.Decoder(WithUsage)


def usage_of_body(body: bytes) -> Usage | None:
    """Usage in a whole JSON response; msgspec.DecodeError when it is not a JSON object."""
    return _decoder.decode(body).usage


def estimate_input(body: bytes, context_window: int | None) -> int:
    """Tokens of a request by its size; never more than the model can take in at all."""
    estimate = -(-len(body) // CHARACTERS_PER_TOKEN)
    return min(estimate, context_window) if context_window else estimate


def text_bytes(chunk: bytes) -> int:
    """Bytes of generated text in a piece of a stream."""
    return sum(map(len, _TEXT_IN_DELTA.findall(chunk)))


def asked_output(request: dict[str, Any], default: int) -> int:
    """The most tokens that a chat request can make the model write."""
    most = request.get("max_completion_tokens")
    if not isinstance(most, int) or most < 1:
        most = request.get("max_tokens")
    if not isinstance(most, int) or most < 1:
        most = default
    choices = request.get("n")
    return most * choices if isinstance(choices, int) and choices > 1 else most
