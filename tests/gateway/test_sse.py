from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.events import Kind
from gateway.plane.call import Call
from gateway.plane.sse import MAX_HELD_BYTES, MOST_UNCOUNTED_BYTES, EventTap, SseTap
from gateway.plane.upstream.answers import take_usage
from gateway.plane.upstream.anthropic import MessagesTap
from gateway.plane.upstream.openai import ResponsesTap
from gateway.plane.usage import Usage, usage_of_body

USAGE = {"prompt_tokens": 13, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}


def _event(data: object, ending: str = "\n\n") -> bytes:
    return f"data: {json.dumps(data)}{ending}".encode()


def _chunk(text: str, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}}], **fields}


STREAM = [
    _event(_chunk("Hel", usage=None)),
    _event(_chunk('lo "usage": {"prompt_tokens": 99}')),
    _event({"choices": [], "usage": USAGE}),
    b"data: [DONE]\n\n",
]


@settings(deadline=None)  # what it looks for is a difference, and a machine under load is none
@given(st.lists(st.integers(0, sum(map(len, STREAM))), max_size=8), st.booleans())
def test_however_the_bytes_are_cut_the_result_is_the_same(cuts: list[int], hide: bool) -> None:
    data = b"".join(STREAM)
    edges = [0, *sorted(cuts), len(data)]
    tap = SseTap(hide_usage=hide)

    out = b"".join(tap.feed(data[start:end]) for start, end in pairwise(edges) if start < end) + tap.flush()

    assert out == b"".join(event for event in STREAM if not (hide and event is STREAM[2]))
    assert tap.usage is not None
    assert (tap.usage.prompt_tokens, tap.usage.completion_tokens) == (13, 4)
    assert tap.usage.prompt_tokens_details is not None
    assert tap.usage.prompt_tokens_details.cached_tokens == 8
    assert tap.usage.completion_tokens_details is None
    assert tap.is_done


def test_events_are_forwarded_at_once() -> None:
    tap = SseTap(hide_usage=True)

    assert tap.feed(STREAM[0]) == STREAM[0]
    assert tap.feed(STREAM[1][:10]) == b""
    assert tap.feed(STREAM[1][10:]) == STREAM[1]


def test_line_ends_of_windows_are_understood() -> None:
    tap = SseTap(hide_usage=True)
    first, last = _event(_chunk("x"), "\r\n\r\n"), _event({"choices": [], "usage": USAGE}, "\r\n\r\n")

    assert tap.feed(first + last) == first
    assert tap.usage is not None


def test_usage_in_a_chunk_with_choices_is_read_and_kept() -> None:
    tap = SseTap(hide_usage=True)
    event = _event(_chunk("x", usage=USAGE))

    assert tap.feed(event) == event
    assert tap.usage is not None


def test_usage_beside_a_choice_that_says_nothing_is_hidden() -> None:
    said = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    beside = b'data: {"choices":[{"index":0,"delta":{"content":null},"finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    hiding, showing = SseTap(hide_usage=True), SseTap(hide_usage=False)

    assert hiding.feed(said + beside) == said
    assert showing.feed(said + beside) == said + beside
    assert hiding.usage is not None
    assert hiding.usage.prompt_tokens == 3


def test_service_tier_is_read_where_each_protocol_says_it() -> None:
    said = {"choices": [], "usage": USAGE, "service_tier": "flex"}
    chat, messages, responses = SseTap(hide_usage=False), MessagesTap(), ResponsesTap()
    chat.feed(_event(said))
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1, "service_tier": "priority"}}}
    messages.feed(_event(start) + _event({"type": "message_delta", "usage": {"output_tokens": 9}}))
    usage = {"input_tokens": 3, "output_tokens": 4}
    responses.feed(_event({"type": "response.completed", "response": {"usage": usage, "service_tier": "default"}}))
    whole = usage_of_body(json.dumps(said).encode())

    found = (chat.usage, messages.usage, responses.usage, whole)
    assert [usage.service_tier if usage else "" for usage in found] == ["flex", "priority", "default", "flex"]


def test_without_usage_the_text_is_counted() -> None:
    tap = SseTap(hide_usage=False)

    tap.feed(_event(_chunk("twelve bytes")) + _event({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "four"}}]}}]}))

    assert tap.usage is None
    assert tap.text_bytes == 16


def test_text_is_counted_only_where_the_provider_does_not_tell() -> None:
    def taken(usage: Usage | None, kind: Kind = "chat") -> tuple[int | None, int | None, str | None, int]:
        call, asked = Call(cast(Any, None), kind, {}, cast(Any, None), cast(Any, None), input_estimate=7), []
        take_usage(call, usage, lambda: asked.append(1) or 16)  # type: ignore[func-returns-value]
        assert call.usage is not None
        return call.usage.prompt_tokens, call.usage.completion_tokens, call.usage_source, len(asked)

    assert taken(Usage(13, 4)) == (13, 4, "provider", 0)
    assert taken(Usage(13), "embeddings") == (13, None, "provider", 0)
    assert taken(None, "embeddings") == (7, None, "estimated", 0)
    assert taken(Usage(13)) == (13, 4, "estimated", 1)
    assert taken(None) == taken(Usage(None, 9)) == (7, 4, "estimated", 1)


def test_text_of_a_long_stream_is_counted_as_it_goes() -> None:
    tap = SseTap(hide_usage=False)
    event = _event(_chunk('a \\ and "quoted"'))

    for _ in range(MOST_UNCOUNTED_BYTES // len(event) * 2):
        tap.feed(event)

    assert tap.text_bytes == MOST_UNCOUNTED_BYTES // len(event) * 2 * len(r"a \\ and \"quoted\"")


def test_odd_event_is_passed_on() -> None:
    tap = SseTap(hide_usage=True)
    odd = b'data: {"usage": {"prompt_tokens": "many"\n\n'

    assert tap.feed(odd) == odd
    assert tap.usage is None


def test_event_without_end_is_not_held_for_ever() -> None:
    tap = SseTap(hide_usage=True)

    out = tap.feed(b"data: " + b"x" * MAX_HELD_BYTES)

    assert len(out) == MAX_HELD_BYTES + 6


def test_error_in_a_stream_is_noticed_and_passed_on() -> None:
    well, ill = SseTap(hide_usage=True), SseTap(hide_usage=True)
    text, error = _event(_chunk('data: {"error": 1}')), _event({"error": {"message": "overloaded"}})

    assert (well.feed(text), ill.feed(error)) == (text, error)
    assert (well.is_failed, ill.is_failed) == (False, True)


@pytest.mark.parametrize(
    ("tap", "ends", "fails"),
    [
        (SseTap(hide_usage=True), b"data: [DONE]\n\n", _event({"error": {"message": "overloaded"}})),
        (MessagesTap(), b"event: message_stop\r\ndata: {}\r\n\r\n", b"event: error\ndata: {}\n\n"),
        (ResponsesTap(), b"event: response.completed\ndata: {}\n\n", b"event: response.failed\ndata: {}\n\n"),
        (ResponsesTap(), b"event: response.incomplete\ndata: {}\n\n", b"event: error\ndata: {}\n\n"),
    ],
)
def test_text_about_the_protocol_is_not_the_protocol(tap: EventTap, ends: bytes, fails: bytes) -> None:
    tap.feed(_event(_chunk(f"It ends with {ends.decode()} and fails with {fails.decode()}.")))
    from_text = (tap.is_done, tap.is_failed)
    tap.feed(_event(_chunk("So.")) + ends)
    from_end = (tap.is_done, tap.is_failed)
    tap.feed(fails)

    assert (from_text, from_end, tap.is_failed) == ((False, False), (True, False), True)
