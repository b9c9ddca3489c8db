"""The text of answers on its way to the caller, on every surface, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.plane.text import TextTap, whole
from gateway.plane.text.said import Said
from gateway.sandbox.surfaces import responses
from tests.gateway.test_translate import HERE, completion_of, message_of, stream_of, through


class _Shout:
    """Holds one piece back until it has seen the next."""

    def __init__(self) -> None:
        self.held: dict[Said, str] = {}

    def __call__(self, place: Said, piece: str) -> str:
        out, self.held[place] = self.held.get(place, ""), piece
        return out.upper()


class _Untouched:
    """The tap of an upstream whose bytes need no change."""

    usage, text_bytes, is_failed, is_done = None, 0, False, False

    def feed(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


@pytest.mark.parametrize(("name", "surface"), [("message.sse", "messages"), ("completion.sse", "chat")])
def test_text_of_a_stream_passes_through(name: str, surface: str) -> None:
    out = through(TextTap(surface, _Untouched(), _Shout()), stream_of(name))

    if surface == "messages":  # without its thought, whose signature is another's
        assert [block.get("text") or block["input"] for block in message_of(out)["content"]] == [
            "I LOOK AT THE WEATHER AND THE TIME.",
            {"PLACE": "PARIS"},
            {},
        ]
    else:
        said = completion_of(out)["choices"][0]["message"]
        assert (said["content"], said["reasoning_content"]) == ("I LOOK.", "PARIS, THEN.")
        assert [call["function"]["arguments"] for call in said["tool_calls"]] == ['{"PLACE":"PARIS"}', "{}"]


@pytest.mark.parametrize(
    ("name", "said", "rest"),
    [
        (
            "tool_calls",
            [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}],
            [{"index": 0, "function": {"arguments": "{}"}}],
        ),
        ("function_call", {"name": "f", "arguments": "{}"}, {"arguments": "{}"}),
        ("reasoning_details", [{"type": "reasoning.text", "text": "so"}], [{"index": 0, "type": "reasoning.text", "text": "SO"}]),
    ],
)
def test_last_piece_of_a_stream_may_have_its_fields_as_null(name: str, said: Any, rest: Any) -> None:
    """As SGLang and LiteLLM write it."""
    deltas = [({"content": None, name: said}, None), ({"content": None, name: None}, "tool_calls")]
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in deltas]

    out = TextTap("chat", _Untouched(), _Shout()).feed(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events))

    assert json.loads(out.split(b"data: ")[-1])["choices"][0]["delta"] == {"content": None, name: rest}


def test_text_of_a_stream_of_responses_passes_through_wherever_it_is_repeated() -> None:
    rendered = responses({"model": "m", "input": "hello there"})
    said = rendered.whole["output"][0]["content"][0]["text"]

    out = through(TextTap("responses", _Untouched(), _Shout()), b"".join(rendered.events))

    assert said.encode() not in out
    assert out.count(said.upper().encode()) == 4  # the text's end, the part's, the item's and the response's
    assert json.loads(whole("responses", json.dumps(rendered.whole).encode(), _Shout()))["output"][0]["content"][0]["text"] == said.upper()


@pytest.mark.parametrize(
    ("name", "surface", "text"), [("message.json", "messages", "I LOOK AT THE WEATHER"), ("completion.json", "chat", "I LOOK.")]
)
def test_text_of_a_whole_answer_passes_through(name: str, surface: str, text: str) -> None:
    out = json.loads(whole(surface, (HERE / name).read_bytes(), _Shout()))

    given_text = out["choices"][0]["message"]["content"] if surface == "chat" else out["content"][0]["text"]
    assert given_text == text
