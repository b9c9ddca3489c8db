"""Between the protocols, without a network: payloads in `payloads/`, and properties that hold for any."""

from __future__ import annotations

import functools
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.plane.errors import Refusal
from gateway.plane.sse import EventReader
from gateway.plane.translate import anthropic_to_openai, openai_to_anthropic, responses_to_anthropic, translated
from gateway.plane.translate.anthropic_to_openai import MessageTap
from gateway.plane.translate.openai_to_anthropic import ChunkTap
from gateway.plane.translate.responses_to_anthropic import ResponseTap
from gateway.plane.upstream.dialects import Tap

HERE = Path(__file__).parent / "payloads"
OPENAI = "https://api.openai.com/v1"
HELLO = [{"role": "user", "content": "hello"}]


def _read(name: str) -> Any:
    return json.loads((HERE / name).read_text())


def stream_of(name: str) -> bytes:
    return (HERE / name).read_bytes()


def _chunk_tap(hide_usage: bool = False) -> ChunkTap:
    return ChunkTap(provider="claude", hide_usage=hide_usage, request_id="r-1")


def _message_tap() -> MessageTap:
    return MessageTap(provider="gpt", input_estimate=9, request_id="r-1")


def through(tap: Tap, data: bytes, cuts: list[int] | None = None) -> bytes:
    edges = [0, *sorted(cuts or []), len(data)]
    return b"".join(tap.feed(data[start:end]) for start, end in pairwise(edges) if start < end) + tap.flush()


@functools.cache
def _events_of_anthropic() -> TypeAdapter[Any]:
    from anthropic.types import RawMessageStreamEvent

    return TypeAdapter(RawMessageStreamEvent)


def completion_of(stream: bytes) -> dict[str, Any]:
    """What the `openai` SDK makes of a stream."""
    from openai.lib.streaming.chat import ChatCompletionStreamState  # here, and below, because every worker collects this file
    from openai.types.chat import ChatCompletionChunk

    state = ChatCompletionStreamState()
    for payload in EventReader().feed(stream):
        if payload != b"[DONE]":
            state.handle_chunk(ChatCompletionChunk.model_validate_json(payload))
    return state.get_final_completion().to_dict()


def message_of(stream: bytes) -> dict[str, Any]:
    """What the `anthropic` SDK makes of a stream."""
    from anthropic.lib.streaming._messages import accumulate_event

    events = _events_of_anthropic()
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for payload in EventReader().feed(stream):
        if json.loads(payload)["type"] != "ping":
            snapshot = accumulate_event(event=events.validate_json(payload), current_snapshot=snapshot, json_bufs=buffers)
    result: dict[str, Any] = snapshot.to_dict()
    return result


def test_chat_request_becomes_a_messages_request() -> None:
    assert openai_to_anthropic.request(_read("chat_request.json"), "claude-test", 4096) == _read("chat_request.messages.json")


def test_responses_request_becomes_the_messages_request_of_the_same_chat() -> None:
    expected = _read("chat_request.messages.json")
    del expected["stop_sequences"]  # responses have none
    expected["messages"][0]["content"][0].pop("cache_control")

    assert responses_to_anthropic.request(_read("responses_request.json"), "claude-test", 4096) == expected


def test_message_becomes_a_response_whole_and_streamed() -> None:
    asked = {"input": "Hello", "instructions": "Be short."}
    from openai.types.responses import Response, ResponseStreamEvent

    read: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    whole = Response.model_validate(responses_to_anthropic.response(openai_to_anthropic.answer(_read("message.json")), asked))
    tap = ResponseTap(provider="claude", asked=asked, request_id="r-1")

    events = [read.validate_json(payload) for payload in EventReader().feed(through(tap, stream_of("message.sse")))]

    streamed = events[-1].response
    assert [type(item).__name__ for item in whole.output] == [
        "ResponseReasoningItem",
        "ResponseOutputMessage",
        *["ResponseFunctionToolCall"] * 2,
    ]
    assert [item.to_dict() | {"id": ""} for item in streamed.output] == [item.to_dict() | {"id": ""} for item in whole.output]
    assert (streamed.status, streamed.usage, streamed.instructions) == ("completed", whole.usage, "Be short.")
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (377, 65)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == streamed.output_text != ""
    assert tap.is_done


@given(st.lists(st.integers(0, 4000), max_size=6))
def test_response_is_the_same_however_its_bytes_are_cut(cuts: list[int]) -> None:
    def texts(places: list[int]) -> str:
        events = EventReader().feed(through(ResponseTap(provider="c", asked={}, request_id="r"), stream_of("message.sse"), places))
        return "".join(json.loads(event).get("delta", "") for event in events)

    assert texts([cut for cut in cuts if cut < len(stream_of("message.sse"))]) == texts([])


def test_messages_request_becomes_a_chat_request() -> None:
    assert anthropic_to_openai.request(_read("messages_request.json"), "gpt-test", OPENAI) == _read("messages_request.chat.json")


@pytest.mark.parametrize(("base_url", "name"), [(OPENAI, "max_completion_tokens"), ("http://vllm.example/v1", "max_tokens")])
def test_most_tokens_go_by_the_name_that_the_host_knows(base_url: str, name: str) -> None:
    assert anthropic_to_openai.request({"messages": HELLO, "max_tokens": 5}, "m", base_url)[name] == 5


def test_message_becomes_a_completion() -> None:
    completion = openai_to_anthropic.answer(_read("message.json"))

    assert completion.pop("created") > 0
    assert completion == _read("message.chat.json")


def test_completion_becomes_a_message() -> None:
    assert anthropic_to_openai.answer(_read("completion.json")) == _read("completion.message.json")


def test_streamed_message_becomes_the_same_completion_as_the_whole_one() -> None:
    tap = _chunk_tap()

    streamed = completion_of(through(tap, stream_of("message.sse")))

    [said], [expected] = streamed["choices"], _read("message.chat.json")["choices"]
    for call in said["message"]["tool_calls"]:
        call.pop("index", None)
        call["function"].pop("parsed_arguments", None)
    for name in ("content", "reasoning_content", "tool_calls"):
        assert said["message"][name] == expected["message"][name]
    assert said["finish_reason"] == expected["finish_reason"]
    assert streamed["usage"] == _read("message.chat.json")["usage"]
    assert tap.usage is not None
    assert (tap.usage.prompt_tokens, tap.usage.completion_tokens) == (377, 65)


def test_streamed_completion_becomes_the_same_message_as_the_whole_one() -> None:
    tap = _message_tap()

    streamed = message_of(through(tap, stream_of("completion.sse")))

    expected = _read("completion.message.json")
    assert [{name: value for name, value in block.items() if name != "citations"} for block in streamed["content"]] == expected["content"]
    assert (streamed["id"], streamed["stop_reason"]) == (expected["id"], expected["stop_reason"])
    for name in ("input_tokens", "cache_read_input_tokens", "output_tokens"):
        assert streamed["usage"][name] == expected["usage"][name]
    assert tap.usage is not None
    assert (tap.usage.prompt_tokens, tap.usage.completion_tokens) == (377, 65)


def test_what_azure_says_of_its_filters_begins_no_message() -> None:
    tap = _message_tap()

    streamed = message_of(through(tap, stream_of("azure_completion.sse")))

    assert (streamed["id"], streamed["model"]) == ("chatcmpl-azure", "gpt-4.1-mini-2025-04-14")
    assert [block["text"] for block in streamed["content"]] == ["It rains in Graz."]
    assert (streamed["stop_reason"], streamed["usage"]["output_tokens"]) == ("end_turn", 5)
    assert tap.usage is not None
    assert tap.usage.prompt_tokens == 14


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, len(stream_of("completion.sse"))), max_size=6),
    st.lists(st.integers(0, len(stream_of("message.sse"))), max_size=6),
)
def test_however_the_bytes_are_cut_the_result_is_the_same(chat_cuts: list[int], message_cuts: list[int]) -> None:
    assert through(_message_tap(), stream_of("completion.sse"), chat_cuts) == through(_message_tap(), stream_of("completion.sse"))
    cut, uncut = (through(_chunk_tap(), stream_of("message.sse"), cuts) for cuts in (message_cuts, None))
    assert completion_of(cut)["choices"] == completion_of(uncut)["choices"]


def test_usage_of_a_stream_is_shown_only_to_who_asked() -> None:
    hidden = through(_chunk_tap(hide_usage=True), stream_of("message.sse"))

    assert b'"usage"' not in hidden
    assert hidden.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(("tap", "name", "events"), [(_chunk_tap, "message.sse", 12), (_message_tap, "completion.sse", 5)])
def test_stream_that_ends_in_the_middle_is_an_error(tap: Any, name: str, events: int) -> None:
    data = b"\n\n".join(stream_of(name).split(b"\n\n")[:events]) + b"\n\n"

    with pytest.raises(Refusal, match="broke off") as refused:
        through(tap(), data)

    assert refused.value.code == "upstream_error"


@pytest.mark.parametrize("tap", [_chunk_tap, _message_tap])
@pytest.mark.parametrize(
    "data", [b"data: {\n\n", b"data: []\n\n", b'data: {"type": "content_block_delta"}\n\n', b'data: {"choices": 3}\n\n']
)
def test_nonsense_in_a_stream_is_an_error(tap: Any, data: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        through(tap(), data)

    assert refused.value.code == "upstream_error"


def test_error_in_a_stream_is_told_in_the_callers_words() -> None:
    to_chat, to_message = _chunk_tap(), _message_tap()

    chat = through(to_chat, b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n')
    message = through(to_message, b'data: {"error":{"message":"Overloaded","type":"server_error"}}\n\n')

    assert orjson.loads(chat[6:])["error"]["code"] == "upstream_error"
    assert message.startswith(b"event: error\n")
    assert to_chat.is_failed
    assert to_message.is_failed


def test_missing_usage_is_not_zero() -> None:
    completion = {**_read("completion.json"), "usage": None}
    streamed = stream_of("completion.sse").replace(b'"choices":[],"usage":{', b'"choices":[],"other":{')
    tap = _message_tap()

    out = through(tap, streamed)

    assert anthropic_to_openai.answer(completion)["usage"]["output_tokens"] is None
    assert b'"usage":{"input_tokens":null' in out
    assert tap.usage is None
    assert tap.text_bytes > 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"seed": 0}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"temperature": 1.5}, "temperature"),
        ({"store": True}, "store"),
        ({"functions": [{}]}, "functions"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user", "name": "bob", "content": "x"}]}, "messages.0.name"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content.0.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.image_url.url",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]},
            "messages.0.tool_calls.0.function.arguments",
        ),
    ],
)
def test_what_messages_cannot_say_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        openai_to_anthropic.request({"messages": HELLO, **fields}, "m", 100)

    assert (refused.value.code, refused.value.param) == ("invalid_request", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"name": "x", "input_schema": {}, "defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]}, "messages.0.content.0.source.type"),
        ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]}, "messages.0.content.0.type"),
    ],
)
def test_what_chat_cannot_say_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        anthropic_to_openai.request({"messages": HELLO, "max_tokens": 5, **fields}, "m", OPENAI)

    assert (refused.value.code, refused.value.param) == ("invalid_request", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"input": 7}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input.0.content.0.type"),
        ({"temperature": 1.5}, "temperature"),
    ],
)
def test_what_messages_cannot_say_of_responses_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        responses_to_anthropic.request({"input": "hello", **fields}, "m", 100)

    assert (refused.value.code, refused.value.param) == ("invalid_request", param)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "x", "auto", "text", "function", "tool", "user", "assistant", "base64"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "text", "source", "name", "function"]), inner, max_size=4)
    ),
    max_leaves=12,
)
_fields = st.dictionaries(
    st.sampled_from(
        ["messages", "system", "tools", "tool_choice", "stop", "metadata", "thinking", "output_config", "response_format", "temperature",
         "max_tokens", "reasoning_effort", "service_tier", "user", "stop_sequences", "parallel_tool_calls", "stream"]
    ),
    _json,
    max_size=4,
)  # fmt: skip


@settings(max_examples=50)
@given(_fields)
def test_odd_request_is_translated_or_refused_and_nothing_else(fields: dict[str, Any]) -> None:
    body = {"messages": HELLO, "max_tokens": 5, **fields}
    builds = (
        lambda: openai_to_anthropic.request(body, "m", 100),
        lambda: anthropic_to_openai.request(body, "m", OPENAI),
        lambda: responses_to_anthropic.request({**body, "input": body["messages"], "text": body.get("metadata")}, "m", 100),
    )

    for build in builds:
        try:
            assert translated("here", build)["model"] == "m"
        except Refusal as refusal:
            assert refusal.code == "invalid_request"  # noqa: PT017 - either is right


_text = st.text(min_size=1, max_size=20)
_name = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
_arguments = st.dictionaries(_name, st.one_of(st.integers(-(2**53), 2**53), _text, st.booleans(), st.none()), max_size=3)
_calls = st.lists(st.builds(lambda name, given: {"name": name, "arguments": orjson.dumps(given).decode()}, _name, _arguments), max_size=3)


@settings(max_examples=50)
@given(st.lists(st.tuples(_text, _text, _calls), min_size=1, max_size=3), _text)
def test_conversation_comes_back_from_both_translations(turns: list[tuple[str, str, list[dict[str, str]]]], system: str) -> None:
    messages: list[dict[str, Any]] = [{"role": "system", "content": [{"type": "text", "text": system}]}]
    for asked, said, functions in turns:
        messages.append({"role": "user", "content": [{"type": "text", "text": asked}]})
        calls = [{"id": f"c{number}", "type": "function", "function": function} for number, function in enumerate(functions)]
        messages.append({"role": "assistant", "content": said, **({"tool_calls": calls} if calls else {})})
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in calls]

    there = openai_to_anthropic.request({"messages": messages, "max_completion_tokens": 7}, "m", 100)
    back = anthropic_to_openai.request(there, "m", OPENAI)

    assert back == {"model": "m", "messages": messages, "max_completion_tokens": 7}
