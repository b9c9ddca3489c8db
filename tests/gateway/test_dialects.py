"""Every surface on upstreams of every protocol: unmodified SDKs, a real plane, the sandbox at the other end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.gateway.conftest import Org, Plane, SandboxUpstream, chat_model, deployment, make_org

pytestmark = pytest.mark.process

IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
CHAT_TOOLS: list[Any] = [{"type": "function", "function": {"name": name, "parameters": PLACE}} for name in ("get_weather", "get_time")]
MESSAGE_TOOLS: list[Any] = [{"name": name, "input_schema": PLACE} for name in ("get_weather", "get_time")]
RESPONSE_TOOLS: list[Any] = [
    {"type": "function", "name": name, "parameters": PLACE, "strict": None} for name in ("get_weather", "get_time")
]
QUESTION = "Use get_weather and get_time for Graz."
DIALECTS = ("openai", "anthropic")


class Plan(BaseModel):
    city: str


@pytest.fixture(params=DIALECTS)
def org(request: pytest.FixtureRequest, plane: Plane, sandbox_upstream: SandboxUpstream) -> Org:
    return _org(plane, sandbox_upstream, request.param)


def _org(plane: Plane, upstream: SandboxUpstream, dialect: str, *conditions: str) -> Org:
    here = deployment(upstream.base_url(*conditions), dialect=dialect)
    return make_org(plane, upstream, models={"chat": chat_model(here)})


@pytest.fixture
def claude() -> Iterator[Any]:
    clients: list[anthropic.Anthropic] = []

    def make(org: Org) -> anthropic.Anthropic:
        clients.append(anthropic.Anthropic(base_url=org.plane.url, api_key=org.key, max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def _as_served(org: Org, upstream: SandboxUpstream, count: int) -> None:
    """What the events say was used is what the upstream says it served."""
    events = org.plane.wait_for_events(org.id, count)
    served = {line["request_id"]: line for line in upstream.journal()}
    assert len(events) == count
    for event in events:
        line = served[event["request_id"]]
        assert (event["status"], event["usage_source"]) == ("ok", "provider")
        assert (event["input_tokens"], event["output_tokens"]) == (line["input_tokens"], line["output_tokens"])


def test_openai_sdk_calls_tools_and_gets_an_answer(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    client = org.client()
    messages: list[Any] = [{"role": "system", "content": "Be short."}, {"role": "user", "content": QUESTION}]

    asked = client.chat.completions.create(model="chat", messages=messages, tools=CHAT_TOOLS).choices[0]
    with client.chat.completions.stream(model="chat", messages=messages, tools=CHAT_TOOLS) as stream:
        streamed = stream.get_final_completion().choices[0]

    for choice in (asked, streamed):
        assert choice.finish_reason == "tool_calls"
        calls = [call for call in choice.message.tool_calls or () if call.type == "function"]
        assert [call.function.name for call in calls] == ["get_weather", "get_time"]
        assert [json.loads(call.function.arguments) for call in calls] == [{"place": "place"}] * 2
    results = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in asked.message.tool_calls or ()]
    messages += [asked.message.to_dict(), *results]
    answer = client.chat.completions.create(model="chat", messages=messages, tools=CHAT_TOOLS)
    assert answer.choices[0].message.content
    _as_served(org, sandbox_upstream, 3)


def test_anthropic_sdk_calls_tools_and_gets_an_answer(org: Org, claude: Any, sandbox_upstream: SandboxUpstream) -> None:
    client = claude(org)
    given: dict[str, Any] = {"model": "chat", "max_tokens": 200, "system": "Be short.", "tools": MESSAGE_TOOLS}
    messages: list[Any] = [{"role": "user", "content": QUESTION}]

    asked = client.messages.create(messages=messages, **given)
    with client.messages.stream(messages=messages, **given) as stream:
        streamed = stream.get_final_message()

    for message in (asked, streamed):
        assert message.stop_reason == "tool_use"
        assert [(block.name, block.input) for block in message.content] == [
            ("get_weather", {"place": "place"}),
            ("get_time", {"place": "place"}),
        ]
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "fine"} for block in asked.content]
    answer = client.messages.create(
        messages=[*messages, {"role": "assistant", "content": asked.content}, {"role": "user", "content": results}], **given
    )
    assert answer.content[0].text
    _as_served(org, sandbox_upstream, 3)


def test_what_the_answer_calls_itself_is_noted(org: Org, claude: Any) -> None:
    """By that an instrumentation's span of the same call is known again."""
    client, messages, hello = org.client(), claude(org).messages, [{"role": "user", "content": "Hello"}]
    given: Any = {"model": "chat", "messages": hello}

    ids = [
        client.chat.completions.create(**given).id,
        [chunk.id for chunk in client.chat.completions.create(**given, stream=True)][-1],
        messages.create(**given, max_tokens=50).id,
        next(event.message.id for event in messages.create(**given, max_tokens=50, stream=True) if event.type == "message_start"),
    ]
    ids.append(client.responses.create(model="chat", input="Hello").id)
    ids += [
        event.response.id
        for event in client.responses.create(model="chat", input="Hello", stream=True)
        if event.type == "response.completed"
    ]

    assert [event["answer_id"] for event in org.plane.wait_for_events(org.id, 6)] == ids


async def test_async_sdks_stream_text_about_an_image(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    url = f"data:image/png;base64,{IMAGE}"
    part = {"type": "text", "text": "What is it?"}
    async with openai.AsyncOpenAI(base_url=org.plane.base_url, api_key=org.key, max_retries=0) as chat:
        messages: Any = [{"role": "user", "content": [part, {"type": "image_url", "image_url": {"url": url}}]}]
        chunks = [chunk async for chunk in await chat.chat.completions.create(model="chat", messages=messages, stream=True)]
    async with anthropic.AsyncAnthropic(base_url=org.plane.url, api_key=org.key, max_retries=0) as messages_client:
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}}
        messages = [{"role": "user", "content": [part, image]}]
        async with messages_client.messages.stream(model="chat", max_tokens=200, messages=messages) as stream:
            said = await stream.get_final_text()

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).startswith("I see 1 image.")
    assert said.startswith("I see 1 image.")
    _as_served(org, sandbox_upstream, 2)


def test_json_by_a_schema_comes_from_both_sdks(org: Org, claude: Any) -> None:
    question: list[Any] = [{"role": "user", "content": "Where?"}]

    parsed = org.client().chat.completions.parse(model="chat", messages=question, response_format=Plan)
    message = claude(org).messages.parse(model="chat", max_tokens=50, messages=question, output_format=Plan)

    assert parsed.choices[0].message.parsed == Plan(city="city")
    assert message.parsed_output == Plan(city="city")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_cut_streams_end_with_an_error_in_the_callers_words(
    plane: Plane, sandbox_upstream: SandboxUpstream, claude: Any, dialect: str
) -> None:
    org = _org(plane, sandbox_upstream, dialect, "faults", "cut")
    hello: list[Any] = [{"role": "user", "content": "Hello there, how do you do?"}]

    with pytest.raises(openai.APIError) as chat:
        list(org.client().chat.completions.create(model="chat", messages=hello, stream=True))
    with (
        pytest.raises(anthropic.APIStatusError) as message,
        claude(org).messages.stream(model="chat", max_tokens=99, messages=hello) as stream,
    ):
        stream.until_done()

    assert chat.value.code == "upstream_error"
    assert message.value.body["error"]["code"] == "upstream_error"  # type: ignore[index]
    for event in plane.wait_for_events(org.id, 2):
        assert (event["status"], event["usage_source"]) == ("upstream_error", "estimated")
        assert event["output_tokens"] > 0


def test_caller_who_hangs_up_after_the_last_event_has_had_the_answer(org: Org, sandbox_upstream: SandboxUpstream, claude: Any) -> None:
    """As SDKs do, also where the upstream closes late."""
    here = org.snapshot.models["chat"].deployments[0]
    org.change(models={"chat": chat_model(deployment(sandbox_upstream.base_url("faults", "linger"), dialect=here.dialect))})
    hello: list[Any] = [{"role": "user", "content": "Hello"}]

    list(org.client().chat.completions.create(model="chat", messages=hello, stream=True))
    with claude(org).messages.stream(model="chat", max_tokens=99, messages=hello) as stream:
        stream.until_done()

    _as_served(org, sandbox_upstream, 2)


def test_errors_of_an_upstream_are_told_in_the_callers_words(plane: Plane, sandbox_upstream: SandboxUpstream, claude: Any) -> None:
    hello: list[Any] = [{"role": "user", "content": "Hello"}]
    overloaded = _org(plane, sandbox_upstream, "anthropic", "faults", "529")
    limited = _org(plane, sandbox_upstream, "openai", "faults", "429")

    with pytest.raises(openai.APIStatusError) as chat:
        overloaded.client().chat.completions.create(model="chat", messages=hello)
    with pytest.raises(anthropic.RateLimitError) as message:
        claude(limited).messages.create(model="chat", max_tokens=5, messages=hello)

    assert (chat.value.status_code, chat.value.code, chat.value.type) == (503, "upstream_error", "overloaded_error")
    assert (message.value.type, message.value.response.headers["retry-after"]) == ("rate_limit_error", "1")


def test_what_cannot_be_said_goes_to_a_deployment_that_understands_it(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    """Only when there is none the call is refused, and names the field."""
    there = deployment(sandbox_upstream.base_url(), id="a-claude", dialect="anthropic")
    here = deployment(sandbox_upstream.base_url(), id="b-gpt", priority=1)
    org = make_org(plane, sandbox_upstream, models={"chat": chat_model(there, here), "only": chat_model(there, slug="only")})
    hello: list[Any] = [{"role": "user", "content": "Hello"}]

    org.client().chat.completions.create(model="chat", messages=hello, seed=7)
    with pytest.raises(openai.BadRequestError) as refused:
        org.client().chat.completions.create(model="only", messages=hello, seed=7)
    with pytest.raises(openai.BadRequestError) as untranslated:
        org.client().responses.create(model="only", input="Hello", previous_response_id="resp_1")

    assert (refused.value.code, refused.value.param) == ("invalid_request", "seed")
    assert (untranslated.value.code, untranslated.value.param) == ("invalid_request", "previous_response_id")
    events = plane.wait_for_events(org.id, 3)
    assert [(event["status"], event["deployment"]) for event in events] == [
        ("ok", "b-gpt"),
        ("refused", "a-claude"),
        ("refused", "a-claude"),
    ]


def test_responses_come_from_both_protocols_with_their_usage(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    client = org.client()

    answer = client.responses.create(model="chat", input="Hello there", instructions="Be short.")
    with client.responses.stream(model="chat", input="Hello there", instructions="Be short.") as stream:
        streamed = stream.get_final_response()
    parsed = client.responses.parse(model="chat", input="Where?", text_format=Plan)

    assert answer.output_text == streamed.output_text
    assert parsed.output_parsed == Plan(city="city")
    _as_served(org, sandbox_upstream, 3)


def test_responses_call_tools_of_an_anthropic_upstream(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    org = _org(plane, sandbox_upstream, "anthropic")
    client = org.client()

    asked = client.responses.create(model="chat", input=QUESTION, tools=RESPONSE_TOOLS)
    calls = [item for item in asked.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        (name, {"place": "place"}) for name in ("get_weather", "get_time")
    ]
    results: list[Any] = [{"type": "function_call_output", "call_id": call.call_id, "output": "fine"} for call in calls]
    turns: list[Any] = [{"role": "user", "content": QUESTION}, *[call.to_dict() for call in calls], *results]

    assert client.responses.create(model="chat", input=turns, tools=RESPONSE_TOOLS).output_text
    with client.responses.stream(model="chat", input=QUESTION, tools=RESPONSE_TOOLS) as stream:
        streamed = [item for item in stream.get_final_response().output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in streamed] == [(call.name, json.loads(call.arguments)) for call in calls]
    _as_served(org, sandbox_upstream, 3)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_cut_responses_end_with_an_error(plane: Plane, sandbox_upstream: SandboxUpstream, dialect: str) -> None:
    org = _org(plane, sandbox_upstream, dialect, "faults", "cut")

    with pytest.raises(openai.APIError, match="broke off"):
        list(org.client().responses.create(model="chat", input="Hello there, how do you do?", stream=True))

    [event] = plane.wait_for_events(org.id, 1)
    assert (event["status"], event["usage_source"]) == ("upstream_error", "estimated")
