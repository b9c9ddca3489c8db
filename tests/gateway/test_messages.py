"""The Anthropic surface of a real plane, called by the unmodified `anthropic` SDK, on upstreams that speak the same protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from gateway.contract.sealing import Sealer
from tests import bootstrap
from tests.gateway.conftest import SAY_HELLO, Org, Plane, SandboxUpstream, chat_model, deployment, make_org, make_sandbox

pytestmark = pytest.mark.process

WEATHER: list[Any] = [
    {
        "name": "get_weather",
        "description": "The weather at a place.",
        "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    }
]
ASK_WEATHER: list[Any] = [{"role": "user", "content": "Use get_weather for Graz."}]
_clients: list[anthropic.Anthropic] = []


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    yield
    while _clients:
        _clients.pop().close()


def claude(org: Org, **options: Any) -> anthropic.Anthropic:
    """The real SDK with this organisation's key; closed when the test is over."""
    client = anthropic.Anthropic(base_url=org.plane.url, api_key=org.key, max_retries=0, **options)
    _clients.append(client)
    return client


def messages_org(plane: Plane, upstream: SandboxUpstream, *conditions: str, **fields: Any) -> Org:
    """A tenant whose model `chat` is served in the Anthropic protocol."""
    here = deployment(upstream.base_url(*conditions), dialect="anthropic", provider="claude", **fields)
    return make_org(plane, upstream, models={"chat": chat_model(here)})


@pytest.fixture
def org(plane: Plane, sandbox_upstream: SandboxUpstream) -> Org:
    return messages_org(plane, sandbox_upstream)


def test_message_is_answered_and_its_cached_input_is_counted_in(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    client = claude(org, default_headers={"x-request-id": f"msg-{org.id}"})

    message = client.messages.create(model="chat", max_tokens=100, messages=SAY_HELLO)

    assert message.content[0].type == "text"
    assert message.stop_reason == "end_turn"
    assert message._request_id == f"msg-{org.id}"
    [event] = org.plane.wait_for_events(org.id, 1)
    [served] = [line for line in sandbox_upstream.journal() if line["request_id"] == f"msg-{org.id}"]
    assert (event["kind"], event["status"], event["provider"], event["usage_source"]) == ("chat", "ok", "claude", "provider")
    assert (event["input_tokens"], event["output_tokens"]) == (served["input_tokens"], served["output_tokens"])
    assert event["cached_input_tokens"] == message.usage.cache_read_input_tokens
    assert event["cached_input_tokens"] > 0
    assert event["input_tokens"] == message.usage.input_tokens + event["cached_input_tokens"]


async def test_stream_with_a_tool_passes_untouched(org: Org) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=org.plane.url, api_key=org.key, max_retries=0) as client,
        client.messages.stream(model="chat", max_tokens=100, messages=ASK_WEATHER, tools=WEATHER) as stream,
    ):
        message = await stream.get_final_message()

    [block] = message.content
    assert block.type == "tool_use"
    assert (block.name, block.input, message.stop_reason) == ("get_weather", {"place": "place"}, "tool_use")
    [event] = org.plane.wait_for_events(org.id, 1)
    assert (event["status"], event["stream"], event["usage_source"]) == ("ok", True, "provider")
    assert event["input_tokens"] == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    assert event["output_tokens"] == message.usage.output_tokens


def test_text_stream_with_bearer_key_and_structured_output(org: Org) -> None:
    client = anthropic.Anthropic(base_url=org.plane.url, auth_token=org.key, api_key=None, max_retries=0)
    _clients.append(client)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}

    with client.messages.stream(
        model="chat", max_tokens=100, messages=SAY_HELLO, output_config={"format": {"type": "json_schema", "schema": schema}}
    ) as stream:
        text = stream.get_final_text()

    assert text == '{"city": "city"}'


def test_tokens_are_counted_free_of_charge(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    client = claude(org, default_headers={"x-request-id": f"count-{org.id}"})

    counted = client.messages.count_tokens(model="chat", messages=ASK_WEATHER, tools=WEATHER, system="Be short.")

    [served] = [line for line in sandbox_upstream.journal() if line["request_id"] == f"count-{org.id}"]
    assert counted.input_tokens == served["input_tokens"]
    [event] = org.plane.wait_for_events(org.id, 1)
    assert (event["status"], event["usage_source"], event["input_tokens"], event["output_tokens"]) == ("ok", "provider", 0, 0)


def test_tokens_are_counted_under_the_same_rules(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    org = make_org(plane, sandbox_upstream)

    with pytest.raises(anthropic.BadRequestError) as untranslated:
        claude(org).messages.count_tokens(model="chat", messages=SAY_HELLO)
    org.change_now(consents={})
    with pytest.raises(anthropic.PermissionDeniedError) as refused:
        claude(org).messages.count_tokens(model="chat", messages=SAY_HELLO)

    assert "/v1/messages/count_tokens is not translated" in untranslated.value.message
    assert refused.value.body["error"]["code"] == "consent_withdrawn"  # type: ignore[index]


def test_what_is_nested_too_deeply_to_be_passed_on_is_refused(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    org = make_org(plane, sandbox_upstream)
    deep = '{"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "tools": [{"name": "t", "input_schema": '
    deep += '{"a":' * 300 + "1" + "}" * 300 + "}]}"

    refused = [org.post(path, content=deep.encode()) for path in ("/v1/messages", "/v1/chat/completions")]

    assert [answer.status_code for answer in refused] == [400, 400]
    assert refused[0].json()["error"]["type"] == "invalid_request_error"


def test_refusals_have_the_anthropic_shape(org: Org) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        claude(org).messages.create(model="nothing", max_tokens=5, messages=SAY_HELLO)
    stranger = httpx2.post(f"{org.plane.base_url}/messages", headers={"x-api-key": "nonsense"}, json={}, trust_env=False)
    nowhere = httpx2.post(f"{org.plane.base_url}/messages/batches", headers={"x-api-key": org.key}, json={}, trust_env=False)
    wrong_way = httpx2.get(f"{org.plane.base_url}/messages", trust_env=False)

    error = unknown.value.body["error"]  # type: ignore[index]
    assert (unknown.value.type, error["code"], error["param"]) == ("not_found_error", "model_not_found", "model")
    assert unknown.value.request_id == error["request_id"] == unknown.value.body["request_id"]  # type: ignore[index]
    assert (stranger.status_code, stranger.json()["type"], stranger.json()["error"]["type"]) == (401, "error", "authentication_error")
    assert (nowhere.status_code, nowhere.json()["error"]["type"]) == (404, "not_found_error")
    assert (wrong_way.status_code, wrong_way.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(("fault", "kind"), [("429", "rate_limit_error"), ("529", "overloaded_error")])
def test_upstream_errors_are_passed_on_with_a_code(plane: Plane, sandbox_upstream: SandboxUpstream, fault: str, kind: str) -> None:
    org = messages_org(plane, sandbox_upstream, "faults", fault)

    with pytest.raises(anthropic.APIStatusError) as refused:
        claude(org).messages.create(model="chat", max_tokens=5, messages=SAY_HELLO)

    body: Any = refused.value.body
    assert (refused.value.status_code, refused.value.type, body["error"]["code"]) == (int(fault), kind, "upstream_error")
    assert body["error"]["request_id"] == body["request_id"] == refused.value.request_id == refused.value.response.headers["x-request-id"]


def test_cut_stream_keeps_the_input_that_was_said_and_estimates_the_output(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    org = messages_org(plane, sandbox_upstream, "faults", "cut")

    with (
        pytest.raises(anthropic.APIStatusError) as broken,
        claude(org).messages.stream(model="chat", max_tokens=100, messages=SAY_HELLO) as stream,
    ):
        stream.until_done()

    assert broken.value.body["error"]["code"] == "upstream_error"  # type: ignore[index]
    [event] = plane.wait_for_events(org.id, 1)
    assert (event["status"], event["usage_source"]) == ("upstream_error", "estimated")
    assert event["cached_input_tokens"] > 0
    assert event["output_tokens"] > 1


def test_credential_goes_up_as_the_protocol_says(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> None:
    locked = make_sandbox(tmp_path_factory.mktemp("locked"), key="sk-ant-s3cret")
    sealed = Sealer([bootstrap.SECRETS["SEALING_KEYS"]]).seal("sk-ant-s3cret")
    with locked:
        org = messages_org(plane, locked, sealed_secret=sealed)

        message = claude(org).messages.create(model="chat", max_tokens=5, messages=SAY_HELLO)

    assert message.stop_reason == "max_tokens"


def test_models_are_listed_in_the_form_of_who_asks(org: Org) -> None:
    listed = [(model.id, model.type) for model in claude(org).models.list()]

    assert listed == [("chat", "model")]
    assert [model.id for model in org.client().models.list()] == ["chat"]
