"""Calls of the unmodified SDKs through a real plane to Azure, Vertex AI and Bedrock, which check every proof."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from gateway.contract import credentials
from gateway.contract import snapshot as contract
from gateway.contract.credentials import AwsKeys, Credential, Key
from gateway.contract.sealing import Sealer
from tests import bootstrap
from tests.gateway import clouds
from tests.gateway.clouds import Clouds
from tests.gateway.conftest import SAY_HELLO, Org, Plane, SandboxUpstream, chat_model, deployment, make_org

pytestmark = pytest.mark.process

PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
CHAT_TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": PLACE}}]
MESSAGE_TOOLS: list[Any] = [{"name": "get_weather", "input_schema": PLACE}]
ASK_WEATHER: list[Any] = [{"role": "user", "content": "Use get_weather for Graz."}]
ARN = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Clouds]:
    with clouds.running() as server:
        yield server


@pytest.fixture(scope="module")
def wire() -> Iterator[httpx2.Client]:
    """One bare client for many calls: making one costs more than a call."""
    with httpx2.Client(trust_env=False, timeout=30) as client:
        yield client


def post(wire: httpx2.Client, org: Org, path: str = "/v1/chat/completions", **body: Any) -> httpx2.Response:
    given = {"model": "chat", "max_tokens": 9, "messages": SAY_HELLO, **body}
    return wire.post(org.plane.url + path, json=given, headers={"authorization": f"Bearer {org.key}"})


def sealed(credential: Credential) -> str:
    return Sealer([bootstrap.SECRETS["SEALING_KEYS"]]).seal(credentials.dump(credential))


def upstream(cloud: Clouds, name: str, **fields: Any) -> contract.Deployment:
    """One deployment of each kind, by a short name."""
    azure: dict[str, Any] = {"platform": "azure", "sealed_secret": sealed(Key(clouds.AZURE_KEY)), "upstream_model": "my-gpt"}
    entra = {**azure, "credential": "entra_id", "sealed_secret": sealed(cloud.entra())}
    google: dict[str, Any] = {"platform": "vertex", "credential": "service_account", "sealed_secret": sealed(cloud.service_account())}
    aws = {"platform": "bedrock", "credential": "aws_keys", "sealed_secret": sealed(clouds.AWS), "region": clouds.REGION}
    bearer = {**aws, "credential": "key", "sealed_secret": sealed(Key(clouds.BEDROCK_KEY))}
    claude = {"dialect": "anthropic"}
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "azure": ("/azure/openai/v1", azure),
        "azure-dated": ("/azure/openai", {**azure, "api_version": clouds.API_VERSION}),
        "azure-entra": ("/azure/openai/v1", entra),
        "azure-foundry": ("/azure/anthropic/v1", {**azure, **claude}),
        "foundry-entra": ("/azure/anthropic/v1", {**entra, **claude}),
        "vertex": (clouds.PLACE, {**google, "upstream_model": "google/gemini-x"}),
        "vertex-claude": (clouds.PLACE, {**google, **claude, "upstream_model": "claude-x@20260101"}),
        "bedrock": ("", {**aws, "upstream_model": "openai.gpt-oss-120b-1:0"}),
        "bedrock-claude": ("", {**aws, **claude, "upstream_model": "eu.anthropic.claude-x-v1:0"}),
        "bedrock-arn": ("", {**aws, **claude, "upstream_model": ARN}),
        "bedrock-key": ("", {**bearer, **claude, "upstream_model": "anthropic.claude-x-v1:0"}),
    }
    path, given = known[name]
    return deployment(cloud.url + path, **{"id": name, "provider": name, **given, **fields})


OPENAI = ("azure", "azure-dated", "azure-entra", "vertex", "bedrock")
CLAUDE = ("azure-foundry", "foundry-entra", "vertex-claude", "bedrock-claude", "bedrock-arn", "bedrock-key")


def make(plane: Plane, sandbox: SandboxUpstream, *deployments: contract.Deployment) -> Org:
    models = {"chat": chat_model(*deployments), "embed": chat_model(*deployments, slug="embed", capabilities=("embeddings",))}
    return make_org(plane, sandbox, models=models)


@pytest.fixture
def claude() -> Iterator[Any]:
    clients: list[anthropic.Anthropic] = []

    def open_client(org: Org) -> anthropic.Anthropic:
        clients.append(anthropic.Anthropic(base_url=org.plane.url, api_key=org.key, max_retries=0))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


def _as_served(org: Org, cloud: Clouds, count: int) -> None:
    """What the events say was used is what the platform says it served."""
    events = org.plane.wait_for_events(org.id, count)
    assert len(events) == count
    for event in events:
        rendered = cloud.asked(event["request_id"])["rendered"]
        assert (event["status"], event["usage_source"]) == ("ok", "provider")
        assert (event["input_tokens"], event["output_tokens"]) == (rendered.input_tokens, rendered.output_tokens)


def test_openai_sdk_is_answered_whole_and_in_a_stream(plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds) -> None:
    names = (*OPENAI, *CLAUDE)
    models = {name: chat_model(upstream(cloud, name), slug=name) for name in names}
    org = make_org(plane, sandbox_upstream, models=models)
    client = org.client()

    for name in names:
        whole = client.chat.completions.create(model=name, messages=SAY_HELLO)
        with client.chat.completions.stream(model=name, messages=ASK_WEATHER, tools=CHAT_TOOLS) as stream:
            streamed = stream.get_final_completion().choices[0]

        assert whole.choices[0].message.content, name
        [call] = streamed.message.tool_calls or []
        assert call.type == "function", name
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"place": "place"}), name
    _as_served(org, cloud, 2 * len(names))


def test_anthropic_sdk_is_answered_whole_and_in_a_stream(
    plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds, claude: Any
) -> None:
    names = (*CLAUDE, "azure-dated", "vertex")
    models = {name: chat_model(upstream(cloud, name), slug=name) for name in names}
    org = make_org(plane, sandbox_upstream, models=models)
    client = claude(org)

    for name in names:
        whole = client.messages.create(model=name, max_tokens=99, messages=SAY_HELLO)
        with client.messages.stream(model=name, max_tokens=99, messages=ASK_WEATHER, tools=MESSAGE_TOOLS) as stream:
            streamed = stream.get_final_message()

        assert whole.content[0].text, name
        assert [(block.name, block.input) for block in streamed.content] == [("get_weather", {"place": "place"})], name
    _as_served(org, cloud, 2 * len(names))


def test_tokens_are_counted_where_claude_is(plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds, claude: Any) -> None:
    models = {name: chat_model(upstream(cloud, name), slug=name) for name in CLAUDE}
    client = claude(make_org(plane, sandbox_upstream, models=models))

    counts = {name: client.messages.count_tokens(model=name, messages=SAY_HELLO, tools=MESSAGE_TOOLS).input_tokens for name in CLAUDE}

    usage = client.messages.create(model="vertex-claude", max_tokens=1, messages=SAY_HELLO).usage
    assert set(counts.values()) == {usage.input_tokens + usage.cache_read_input_tokens}


def test_other_surfaces_of_azure(plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds) -> None:
    dated = make(plane, sandbox_upstream, upstream(cloud, "azure-dated")).client()
    newest = make(plane, sandbox_upstream, upstream(cloud, "azure-entra")).client()

    vectors = dated.embeddings.create(model="embed", input="a", encoding_format="float")
    answer = newest.responses.create(model="chat", input="Hello?")

    assert vectors.data[0].embedding == [0.5]
    assert answer.output_text


def test_callers_betas_reach_the_body_of_bedrock(plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds, claude: Any) -> None:
    org = make(plane, sandbox_upstream, upstream(cloud, "bedrock-claude"))
    headers = {"anthropic-beta": "one-2026-01-01,two-2026-01-01", "x-request-id": f"betas-{org.id}"}

    claude(org).messages.create(model="chat", max_tokens=9, messages=SAY_HELLO, extra_headers=headers, extra_body={"unknown": 1})

    body = cloud.asked(f"betas-{org.id}")["body"]
    assert (body["anthropic_beta"], body["unknown"]) == (["one-2026-01-01", "two-2026-01-01"], 1)


def test_many_first_calls_ask_for_one_token(plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds, wire: httpx2.Client) -> None:
    org = make(plane, sandbox_upstream, upstream(cloud, "azure-entra"))
    before = len(cloud.tokens["entra"])

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: post(wire, org).status_code, range(8)))

    assert statuses == [200] * 8
    assert len(cloud.tokens["entra"]) == before + 1


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("azure", Key("wr0ng-key")),
        ("azure-entra", None),
        ("bedrock-claude", AwsKeys(clouds.AWS.access_key_id, "wr0ng-key", clouds.AWS.session_token)),
        ("bedrock-key", Key("wr0ng-key")),
    ],
)
def test_refused_credential_is_told_without_it_and_the_next_deployment_asked(
    plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds, wire: httpx2.Client, name: str, wrong: Credential | None
) -> None:
    secret = sealed(wrong or cloud.entra("wr0ng-key"))
    alone = make(plane, sandbox_upstream, upstream(cloud, name, sealed_secret=secret))
    with_other = make(
        plane, sandbox_upstream, upstream(cloud, name, sealed_secret=secret), upstream(cloud, "bedrock-arn", priority=1, provider="other")
    )

    refused, answered = post(wire, alone), post(wire, with_other)

    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_error")
    assert "credential" in refused.json()["error"]["message"]
    assert "wr0ng" not in refused.text
    assert answered.status_code == 200
    [event] = plane.wait_for_events(with_other.id, 1)
    assert event["provider"] == "other"


def test_errors_of_platforms_come_in_the_callers_shape(
    plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds, wire: httpx2.Client
) -> None:
    codes = {"vertex": "resource_exhausted", "vertex-claude": "resource_exhausted", "bedrock-claude": "ThrottlingException"}
    names = {"vertex": "google/throttled"}
    models = {name: chat_model(upstream(cloud, name, upstream_model=names.get(name, "throttled")), slug=name) for name in codes}
    org = make_org(plane, sandbox_upstream, models=models)

    for name, code in codes.items():
        chat, message = post(wire, org, model=name), post(wire, org, "/v1/messages", model=name)

        assert (chat.status_code, message.status_code) == (429, 429), name
        assert chat.json()["error"]["message"] == message.json()["error"]["message"]
        error = message.json()["error"]
        assert (message.json()["type"], error["type"], error["code"]) == ("error", "rate_limit_error", code)
        assert error["request_id"] == message.headers["x-request-id"]


def test_content_filter_of_azure_is_passed_on(plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds) -> None:
    refused = make(plane, sandbox_upstream, upstream(cloud, "azure", upstream_model="filtered"))
    org = make(plane, sandbox_upstream, upstream(cloud, "azure"))

    with pytest.raises(openai.BadRequestError) as filtered:
        refused.client().chat.completions.create(model="chat", messages=SAY_HELLO)
    chunks = list(org.client().chat.completions.create(model="chat", messages=SAY_HELLO, stream=True))

    assert filtered.value.code == "content_filter"
    assert filtered.value.body["innererror"]["content_filter_result"]["violence"]["filtered"]  # type: ignore[index]
    assert chunks[0].model_extra["prompt_filter_results"]  # type: ignore[index]


@pytest.mark.parametrize(("model", "kind"), [("failing", "rate_limit_error"), ("damaged", "api_error")])
def test_stream_of_bedrock_that_fails_ends_with_an_error(
    plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds, claude: Any, model: str, kind: str
) -> None:
    org = make(plane, sandbox_upstream, upstream(cloud, "bedrock-claude", upstream_model=model))

    with (
        pytest.raises(anthropic.APIStatusError) as broken,
        claude(org).messages.stream(model="chat", max_tokens=99, messages=SAY_HELLO) as stream,
    ):
        stream.until_done()

    assert broken.value.type == kind
    [event] = plane.wait_for_events(org.id, 1)
    assert (event["status"], event["error_code"], event["usage_source"]) == ("upstream_error", "upstream_error", "estimated")


def test_credential_of_another_kind_is_a_fault_of_the_configuration(
    plane: Plane, sandbox_upstream: SandboxUpstream, cloud: Clouds, wire: httpx2.Client
) -> None:
    org = make(plane, sandbox_upstream, upstream(cloud, "bedrock-claude", sealed_secret=sealed(Key("sk-plain"))))

    answer = post(wire, org)

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert "not of its kind" in answer.json()["error"]["message"]
    assert "sk-plain" not in answer.text
