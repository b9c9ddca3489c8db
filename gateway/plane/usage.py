"""How many tokens a call used: as the provider says, else estimated and marked as such."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import msgspec

from gateway.contract.events import CACHED_UNITS, INPUT_UNITS, OUTPUT_UNITS, WRITE_UNITS
from gateway.contract.surfaces import MOST_OUTPUT, MOST_OUTPUT_NAMES

CHARACTERS_PER_TOKEN = 4
SHORTEST_ID, LONGEST_ID = 20, 100
_ID = re.compile(rb'"id"\s*:\s*"([^"\\]*)"')
_STRING = rb'\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
TEXT_IN_CHAT = re.compile(rb'"(?:content|arguments|reasoning_content)"' + _STRING)
TEXT_IN_MESSAGES = re.compile(rb'"(?:text|partial_json|thinking)"' + _STRING)
TEXT_IN_RESPONSES = re.compile(rb'"delta"' + _STRING)
"""Where generated text stands in the events of a stream, by surface."""


class CachedDetails(msgspec.Struct):
    audio_tokens: int | None = None
    image_tokens: int | None = None


class PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    cached_tokens_details: CachedDetails | None = None
    """Which of `cached_tokens` were sound and images; those are in `audio_tokens` and `image_tokens` too."""


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class Usage(msgspec.Struct):
    """The `usage` object of the OpenAI protocol; fields that a provider leaves out are None, not zero."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    service_tier: str | None = None
    """The protocol says it beside the usage; it is kept with what it prices."""
    others: dict[str, int] | None = None
    """Units that the protocol has no field for; see `units`."""
    answer_id: str | None = None
    """Of the answer that it stands in."""

    @property
    def units(self) -> dict[str, int] | None:
        """Disjoint units beside plain tokens, None without any; see `CallEvent.units`."""
        given, made = self.prompt_tokens_details, self.completion_tokens_details
        if given is None and made is None and self.others is None:
            return None
        found = dict(self.others or {})
        if given is not None:
            read = given.cached_tokens_details or CachedDetails()
            found |= {"audio_input": given.audio_tokens or 0, "image_input": given.image_tokens or 0}
            found |= {"cached_audio": read.audio_tokens or 0, "cached_image": read.image_tokens or 0}
        if made is not None:
            found |= {"audio_output": made.audio_tokens or 0, "image_output": made.image_tokens or 0}
        if not any(found.values()):
            return None
        cached, written = (given.cached_tokens or 0, given.cache_write_tokens or 0) if given else (0, 0)
        return disjoint(
            found, fresh=(self.prompt_tokens or 0) - cached - written, cached=cached, written=written, output=self.completion_tokens or 0
        )

    def of_answer(self, name: Any, tier: str | None = None) -> Usage:
        """With the id of the answer that it stands in, and its service tier where it is told beside the usage."""
        self.answer_id = answer_id(name)
        if tier is not None:
            self.service_tier = tier
        return self


def answer_id(name: Any) -> str | None:
    """What an answer calls itself, if that tells it from all others: some servers count, or draw one of a thousand numbers."""
    return name if isinstance(name, str) and SHORTEST_ID <= len(name) <= LONGEST_ID and name.isascii() and name.isprintable() else None


def disjoint(units: dict[str, int], *, fresh: int, cached: int, written: int, output: int) -> dict[str, int] | None:
    """The units that are in no other class, without zeros; None without any.

    Audio and images of the input are given with the cached ones among them. Some providers do not say how many were both: what does not
    fit into the tokens left was, and stays with the cached ones, which are no dearer. `fresh` is the input without cached and written tokens.
    """
    left = dict(units)
    for name, cached_name in zip(INPUT_UNITS, CACHED_UNITS, strict=True):
        left[name] = left.get(name, 0) - left.get(cached_name, 0)
    for names, whole in ((INPUT_UNITS, fresh), (CACHED_UNITS, cached), (WRITE_UNITS, written), (OUTPUT_UNITS, output)):
        room = max(0, whole)
        for name in names:
            left[name] = min(max(0, left.get(name, 0)), room)
            room -= left[name]
    return {name: count for name, count in left.items() if count > 0} or None


class _CacheCreation(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: int | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None
    """In the Anthropic protocol."""
    reasoning_tokens: int | None = None
    """In OpenAI responses."""
    audio_tokens: int | None = None
    image_tokens: int | None = None


class MessagesUsage(msgspec.Struct):
    """The `usage` object of the Anthropic protocol, whose `input_tokens` leave out what was read from and written to the cache."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    """`cache_creation_input_tokens` by how long they are kept."""
    server_tool_use: _ServerTools | None = None
    output_tokens_details: _OutputDetails | None = None
    service_tier: str | None = None

    def normal(self) -> Usage:
        """In the form of the OpenAI protocol, whose prompt tokens include the cached ones."""
        read, written = self.cache_read_input_tokens, self.cache_creation_input_tokens
        details, known = self.output_tokens_details, read is not None or written is not None
        kept, tools = self.cache_creation, self.server_tool_use
        others = {
            "cache_write_1h": (kept.ephemeral_1h_input_tokens or 0) if kept else 0,
            "web_search": (tools.web_search_requests or 0) if tools else 0,
        }
        return Usage(
            prompt_tokens=None if self.input_tokens is None else self.input_tokens + (read or 0) + (written or 0),
            completion_tokens=self.output_tokens,
            prompt_tokens_details=PromptDetails(cached_tokens=read, cache_write_tokens=written) if known else None,
            completion_tokens_details=CompletionDetails(reasoning_tokens=details.thinking_tokens) if details else None,
            service_tier=self.service_tier,
            others=others if any(others.values()) else None,
        )

    def updated(self, later: MessagesUsage) -> MessagesUsage:
        """With the figures of a later event, which are totals; what it leaves out holds on."""
        said = {name: value for name in self.__struct_fields__ if (value := getattr(later, name)) is not None}
        return msgspec.structs.replace(self, **said)


class ResponsesUsage(msgspec.Struct):
    """The `usage` object of OpenAI responses: the same meaning as in chat completions under other names."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: PromptDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    def normal(self) -> Usage:
        made = self.output_tokens_details
        return Usage(
            prompt_tokens=self.input_tokens,
            completion_tokens=self.output_tokens,
            prompt_tokens_details=self.input_tokens_details,
            completion_tokens_details=CompletionDetails(made.reasoning_tokens, made.audio_tokens, made.image_tokens) if made else None,
        )


class ResponseItem(msgspec.Struct):
    """One item of the output of an OpenAI response, as far as it is a call of a tool that the provider ran."""

    type: str = ""
    action: dict[str, Any] | None = None

    @property
    def unit(self) -> str | None:
        """Opening a page that was found is no search and costs nothing. Source: OpenAI, guide "Web search", output and citations."""
        if self.type == "web_search_call" and (self.action or {}).get("type", "search") == "search":
            return "web_search"
        return "file_search" if self.type == "file_search_call" else None


def tool_units(output: list[ResponseItem]) -> dict[str, int] | None:
    return dict(Counter(unit for item in output if (unit := item.unit))) or None


def id_in(beginning: bytes) -> str | None:
    """The id in the first event of a stream, where it comes before all others."""
    found = _ID.search(beginning)
    return answer_id(found[1].decode("latin-1")) if found else None


class WithUsage(msgspec.Struct):
    """A response of which only its id, the usage and what prices it are read; all else is skipped, not built."""

    id: Any = None
    usage: Usage | None = None
    service_tier: str | None = None


_decoder = msgspec.json.Decoder(WithUsage)


def usage_of_body(body: bytes) -> Usage | None:
    """Usage in a whole JSON response; msgspec.DecodeError when it is not a JSON object."""
    found = _decoder.decode(body)
    return found.usage.of_answer(found.id, found.service_tier) if found.usage else None


def estimate_input(body_bytes: int, context_window: int | None) -> int:
    """Tokens of a request by its size; never more than the model can take in at all."""
    estimate = -(-body_bytes // CHARACTERS_PER_TOKEN)
    return min(estimate, context_window) if context_window else estimate


def text_bytes(chunk: bytes, pattern: re.Pattern[bytes] = TEXT_IN_CHAT) -> int:
    """Bytes of generated text in a piece of a stream."""
    return sum(map(len, pattern.findall(chunk)))


def asked_output(request: dict[str, Any], surface: str, default: int) -> int:
    """The most tokens that a request can make the model write.

    Upstreams differ in which of several names they follow, and fields that a surface does not know are passed on: another surface's name,
    or one that is no count, never makes this less than what the surface's own names ask for, or than `default` without them.
    """
    most = default
    if given := {name: request[name] for name in MOST_OUTPUT_NAMES if request.get(name) is not None}:
        counts = [value for value in given.values() if isinstance(value, int) and value > 0]
        is_asked = len(counts) == len(given) and any(name in given for name in MOST_OUTPUT[surface])
        most = max(counts) if is_asked else max([default, *counts])
    choices = request.get("n")
    return most * choices if isinstance(choices, int) and choices > 1 else most
