"""What differs between platforms, without a network: signatures, frames, addresses, credentials and the keeping of tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import anthropic
import openai
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.contract import credentials, sigv4
from gateway.contract.credentials import AwsKeys, Credential, CredentialError, EntraId, Key, ServiceAccount
from gateway.contract.outbound import AllowList
from gateway.contract.platforms import COUNT_TOKENS, Endpoint
from gateway.plane.errors import Refusal
from gateway.plane.text import TextTap
from gateway.plane.upstream.anthropic import MessagesTap
from gateway.plane.upstream.eventstream import BedrockTap, FrameError, FrameReader
from gateway.plane.upstream.tokens import DOUBT_S, PAUSE_S, Tokens
from tests.gateway import clouds
from tests.gateway.clouds import Clouds, chunk, frame

EXAMPLE: dict[str, Any] = {
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "session_token": "",
    "region": "us-east-1",
    "service": "service",
    "at": datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Clouds]:
    with clouds.running() as server:
        yield server


# Signatures


@pytest.mark.parametrize(
    ("name", "method", "path", "headers", "body", "signature"),
    [
        ("get-vanilla", "GET", "/", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", {}, b"", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("get-utf8", "GET", "/ሴ", {}, b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("get-header-value-trim", "GET", "/", {"my-header1": " value1", "my-header2": ' "a   b   c"'}, b"", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
        ("post-vanilla", "POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("post-x-www-form-urlencoded", "POST", "/", {"content-type": "application/x-www-form-urlencoded"}, b"Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ],
)  # fmt: skip
def test_signatures_are_those_of_the_test_suite_of_aws(
    name: str, method: str, path: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    signed = sigv4.sign(method, f"https://example.amazonaws.com{path}", headers, body, **EXAMPLE)

    assert signed["authorization"].rpartition("Signature=")[2] == signature, name


@pytest.mark.parametrize(
    ("path", "headers", "signature"),
    [
        ("test.txt", {"range": "bytes=0-9"}, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("?lifecycle", {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("?max-keys=2&prefix=J", {}, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_signatures_for_s3_are_those_of_its_reference(path: str, headers: dict[str, str], signature: str) -> None:
    given = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "service": "s3"}

    signed = sigv4.sign(
        "GET",
        f"https://examplebucket.s3.amazonaws.com/{path}",
        headers,
        b"",
        **{**EXAMPLE, **given, "at": datetime(2013, 5, 24, tzinfo=UTC)},
    )

    assert signed["authorization"].rpartition("Signature=")[2] == signature


# Frames


def test_frames_are_read_however_they_are_cut() -> None:
    data = chunk(b'{"type":"ping"}') + frame(b"{}", event_type="news", message_type="event") + frame(b"", message_type="error")
    whole = list(FrameReader().feed(data))

    reader = FrameReader()
    bytewise = [found for at in range(len(data)) for found in reader.feed(data[at : at + 1])]

    assert bytewise == whole
    assert [headers.get(":event-type") for headers, _ in whole] == ["chunk", "news", None]
    assert reader.is_empty


@pytest.mark.parametrize("at", [0, 5, 9, 20, -9, -1])
def test_damage_in_a_frame_is_noticed(at: int) -> None:
    data = bytearray(chunk(b'{"type":"ping"}'))
    data[at] ^= 1

    with pytest.raises(FrameError):
        list(FrameReader().feed(bytes(data) * 2))


def test_events_of_bedrock_become_those_of_anthropic() -> None:
    tap = BedrockTap(MessagesTap(), "bedrock")
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hé"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}

    said = tap.feed(b"".join(chunk(orjson.dumps(event)) for event in (start, delta, end))) + tap.flush()

    assert said.count(b"event: ") == 3
    assert b'event: content_block_delta\ndata: {"type":"content_block_delta"' in said
    assert tap.usage is not None
    assert (tap.usage.prompt_tokens, tap.usage.completion_tokens, tap.text_bytes) == (9, 3, 3)


def test_text_in_a_stream_of_bedrock_passes_the_guardrails() -> None:
    tap = BedrockTap(TextTap("messages", MessagesTap(), lambda _, piece: piece.replace("4711", "****")), "bedrock")
    begin = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "PIN 4711"}}
    end = {"type": "content_block_stop", "index": 0}

    said = b"".join(tap.feed(chunk(orjson.dumps(event))) for event in (begin, delta, end)) + tap.flush()

    assert b"PIN ****" in said
    assert b"4711" not in said


def test_exception_in_a_stream_of_bedrock_is_told_and_noted() -> None:
    tap = BedrockTap(MessagesTap(), "bedrock")

    said = tap.feed(frame(b'{"message":"Slow down."}', exception_type="throttlingException", message_type="exception"))

    assert said.startswith(b"event: error\n")
    assert orjson.loads(said.partition(b"data: ")[2])["error"] == {
        "type": "rate_limit_error", "message": "Slow down.", "code": "throttlingException",
    }  # fmt: skip
    assert tap.is_failed


def test_half_a_frame_at_the_end_is_an_answer_that_broke_off() -> None:
    tap = BedrockTap(MessagesTap(), "bedrock")
    tap.feed(chunk(b'{"type":"ping"}')[:-1])

    with pytest.raises(Refusal, match="broke off"):
        tap.flush()


# Addresses and bodies

AZURE = "https://res.openai.azure.com/openai"
VERTEX = "https://europe-west4-aiplatform.googleapis.com/v1/projects/acme/locations/europe-west4"
BEDROCK = "https://bedrock-runtime.eu-central-1.amazonaws.com"


@pytest.mark.parametrize(
    ("endpoint", "operation", "model", "stream", "url"),
    [
        (Endpoint("direct", "openai", "https://api.openai.com/v1/"), "responses", "m", True, "https://api.openai.com/v1/responses"),
        (Endpoint("azure", "openai", f"{AZURE}/v1"), "chat/completions", "my gpt", False, f"{AZURE}/v1/chat/completions"),
        (Endpoint("azure", "openai", f"{AZURE}/v1", api_version="preview"), "responses", "m", False, f"{AZURE}/v1/responses?api-version=preview"),
        (Endpoint("azure", "openai", AZURE, api_version="2024-10-21"), "embeddings", "my gpt", False, f"{AZURE}/deployments/my%20gpt/embeddings?api-version=2024-10-21"),
        (Endpoint("azure", "openai", AZURE, api_version="v"), "responses", "m", False, f"{AZURE}/responses?api-version=v"),
        (Endpoint("vertex", "anthropic", VERTEX), "messages", "claude-x@1", False, f"{VERTEX}/publishers/anthropic/models/claude-x@1:rawPredict"),
        (Endpoint("vertex", "anthropic", VERTEX), "messages", "claude-x@1", True, f"{VERTEX}/publishers/anthropic/models/claude-x@1:streamRawPredict"),
        (Endpoint("vertex", "anthropic", VERTEX), COUNT_TOKENS, "claude-x@1", False, f"{VERTEX}/publishers/anthropic/models/count-tokens:rawPredict"),
        (Endpoint("vertex", "openai", VERTEX), "chat/completions", "google/gemini", True, f"{VERTEX}/endpoints/openapi/chat/completions"),
        (Endpoint("bedrock", "anthropic", BEDROCK), "messages", "eu.anthropic.x-v1:0", False, f"{BEDROCK}/model/eu.anthropic.x-v1%3A0/invoke"),
        (Endpoint("bedrock", "anthropic", BEDROCK), "messages", "arn:a/b", True, f"{BEDROCK}/model/arn%3Aa%2Fb/invoke-with-response-stream"),
        (Endpoint("bedrock", "anthropic", BEDROCK), COUNT_TOKENS, "x", False, f"{BEDROCK}/model/x/count-tokens"),
        (Endpoint("bedrock", "openai", BEDROCK), "chat/completions", "x", True, f"{BEDROCK}/openai/v1/chat/completions"),
        (Endpoint("bedrock", "anthropic", "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1"), "messages", "x", True, "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages"),
    ],
)  # fmt: skip
def test_each_platform_has_its_own_addresses(endpoint: Endpoint, operation: str, model: str, stream: bool, url: str) -> None:
    assert endpoint.url(operation, model, stream=stream) == url


def test_models_are_listed_where_the_platform_lists_them() -> None:
    vertex, bedrock = Endpoint("vertex", "openai", VERTEX), Endpoint("bedrock", "anthropic", BEDROCK)

    assert vertex.models_url() == "https://europe-west4-aiplatform.googleapis.com/v1beta1/publishers/google/models?pageSize=100"
    assert vertex.names({"publisherModels": [{"name": "publishers/google/models/gemini"}]}) == ["google/gemini"]
    assert bedrock.models_url() == "https://bedrock.eu-central-1.amazonaws.com/foundation-models"
    assert bedrock.names({"modelSummaries": [{"modelId": "anthropic.x-v1:0"}, {}]}) == ["anthropic.x-v1:0"]
    assert bedrock.names({"message": "no"}) is None


def test_only_what_the_platform_demands_is_changed_in_a_request() -> None:
    asked = {"model": "x", "max_tokens": 5, "messages": [], "stream": True, "unknown": 1}
    kept = {"max_tokens": 5, "messages": [], "unknown": 1}

    vertex = Endpoint("vertex", "anthropic", VERTEX).body("messages", asked, "a,b")
    bedrock = Endpoint("bedrock", "anthropic", BEDROCK).body("messages", asked, "a, b")

    assert vertex == {**kept, "stream": True, "anthropic_version": "vertex-2023-10-16"}
    assert bedrock == {**kept, "anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["a", "b"]}
    for platform in ("azure", "direct", "bedrock", "vertex"):
        assert Endpoint(platform, "openai", BEDROCK).body("chat/completions", asked) is asked


def test_platforms_of_these_tests_take_what_the_vendors_own_clients_send(cloud: Clouds) -> None:
    hello: list[Any] = [{"role": "user", "content": "Hello?"}]
    asked: dict[str, Any] = {"model": "claude-x@1", "max_tokens": 9, "messages": hello}
    cloud.tokens["google"].append("from-gcloud")
    with (
        openai.AzureOpenAI(azure_endpoint=f"{cloud.url}/azure", api_key=clouds.AZURE_KEY, api_version=clouds.API_VERSION) as azure,
        anthropic.AnthropicFoundry(base_url=f"{cloud.url}/azure/anthropic", api_key=clouds.AZURE_KEY) as foundry,
        anthropic.AnthropicVertex(
            base_url=f"{cloud.url}/v1", region="europe-west4", project_id="acme", access_token="from-gcloud"
        ) as vertex,
        anthropic.AnthropicBedrock(base_url=cloud.url, aws_region=clouds.REGION, api_key=clouds.BEDROCK_KEY) as bedrock,
    ):
        said = [azure.chat.completions.create(model="my-gpt", messages=hello).choices[0].message.content]
        said += [client.messages.create(**asked).content[0].text for client in (foundry, vertex, bedrock)]
        streamed = vertex.messages.stream(**asked)
        with streamed as stream:
            said.append(stream.get_final_text())
        counted = vertex.messages.count_tokens(model="claude-x@1", messages=hello)

    assert all(said)
    assert counted.input_tokens


# Credentials


def test_credentials_come_back_as_they_were_kept(cloud: Clouds) -> None:
    given: dict[str, Credential] = {
        "entra_id": cloud.entra(),
        "service_account": cloud.service_account(),
        "aws_keys": clouds.AWS,
        "key": Key("k"),
    }

    back = {kind: credentials.read(kind, credentials.dump(credential)) for kind, credential in given.items()}

    assert back == given
    assert credentials.make("service_account", {"service_account": cloud.service_account_file()}) == cloud.service_account()


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        ("entra_id", {"tenant_id": "t", "client_id": "c"}, "client_secret"),
        ("entra_id", {"tenant_id": "a/b", "client_id": "c", "client_secret": "s"}, "tenant_id"),
        ("entra_id", {"tenant_id": "t", "client_id": "c", "client_secret": "s", "secret": "x"}, "secret"),
        ("aws_keys", {"access_key_id": "AKID"}, "secret_access_key"),
        ("service_account", {"service_account": "no JSON"}, "service_account"),
        ("service_account", {"service_account": '{"type": "authorized_user"}'}, "service_account"),
        ("service_account", {"service_account": '{"client_email": "a@b"}'}, "service_account"),
        ("service_account", {"service_account": '{"client_email": "a@b", "private_key": "PEM"}'}, "service_account"),
        ("service_account", {}, "client_email"),
        ("key", {"access_key_id": "AKID"}, "access_key_id"),
    ],
)  # fmt: skip
def test_bad_credentials_are_refused_by_field(kind: str, given: dict[str, str], field: str) -> None:
    with pytest.raises(CredentialError) as refused:
        credentials.make(kind, given)

    assert refused.value.field == field


def test_private_key_that_takes_long_to_sign_with_is_refused() -> None:
    p, q = 2**2203 - 1, 2**2281 - 1  # primes of Mersenne, so that none must be searched
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    key = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    with pytest.raises(CredentialError, match="larger than 4,096 bits"):
        credentials.make("service_account", {"client_email": "a@b", "private_key": pem})


def test_credential_that_is_not_of_its_kind_cannot_be_read() -> None:
    for kind, text in [("aws_keys", "sk-plain"), ("entra_id", '{"access_key_id": "a"}'), ("service_account", ""), ("entra_id", "[]")]:
        with pytest.raises(CredentialError):
            credentials.read(kind, text)


@pytest.mark.parametrize("secret", [AwsKeys("a", "s3cret", "s3cret"), EntraId("t", "c", "s3cret"), Key("s3cret")])
def test_secrets_are_not_shown(secret: object) -> None:
    assert "s3cret" not in f"{secret} {secret!r}"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b'{"error": "invalid_client", "error_description": "secret s3cret"}', "HTTP 401, invalid_client"),
        (200, b'{"error": "s3cret "}', "HTTP 200"),
        (502, b"<html>s3cret", "HTTP 502 and no JSON"),
        (200, b'{"access_token": "s3cret", "expires_in": 0}', "less than a second"),
        (200, b'{"access_token": "s3cret", "expires_in": "0"}', "less than a second"),
        (200, b'{"access_token": "s3cret", "expires_in": NaN}', "less than a second"),
    ],
)
def test_refusals_of_a_token_service_are_told_without_its_words(status: int, body: bytes, said: str) -> None:
    with pytest.raises(CredentialError, match=said) as refused:
        credentials.read_token(status, body)

    assert "s3cret" not in str(refused.value)


# Tokens

HOLDER = ("acme", "sealed")
ALLOW = AllowList.parse(["127.0.0.1"])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_token_is_asked_for_once_and_renewed_while_it_is_used(cloud: Clouds, client: aiohttp.ClientSession) -> None:
    clock, given = Clock(), cloud.tokens["entra"]
    tokens, before = Tokens(lambda: client, ALLOW, clock), len(given)

    first = await asyncio.gather(*(tokens.get(HOLDER, cloud.entra(), "azure") for _ in range(20)))
    clock.now += 0.85 * cloud.token_life_s
    meanwhile = await tokens.get(HOLDER, cloud.entra(), "azure")
    await asyncio.gather(*tokens._asking.values())
    renewed = await tokens.get(HOLDER, cloud.entra(), "azure")
    clock.now += cloud.token_life_s
    expired = await tokens.get(HOLDER, cloud.entra(), "azure")

    assert set(first) == {given[before]}
    assert [meanwhile, renewed, expired] == [given[before], given[before + 1], given[before + 2]]
    assert len(given) == before + 3


async def test_failing_token_service_is_left_in_peace_for_a_while(cloud: Clouds, client: aiohttp.ClientSession) -> None:
    clock, wrong = Clock(), cloud.entra("wr0ng")
    tokens = Tokens(lambda: client, ALLOW, clock)

    with pytest.raises(Refusal) as refused:
        await tokens.get(HOLDER, wrong, "azure")
    with pytest.raises(Refusal) as at_once:
        await tokens.get(HOLDER, cloud.entra(), "azure")  # not asked: it would have been given
    clock.now += PAUSE_S
    token = await tokens.get(HOLDER, cloud.entra(), "azure")

    assert refused.value.message == at_once.value.message
    assert "HTTP 401, invalid_client" in refused.value.message
    assert "wr0ng" not in refused.value.message
    assert token == cloud.tokens["entra"][-1]


async def test_token_that_is_refused_is_replaced_unless_it_is_new(cloud: Clouds, client: aiohttp.ClientSession) -> None:
    clock = Clock()
    tokens = Tokens(lambda: client, ALLOW, clock)
    account = cloud.service_account()

    first = await tokens.get(HOLDER, account, "vertex")
    tokens.doubt(HOLDER)
    same = await tokens.get(HOLDER, account, "vertex")
    clock.now += DOUBT_S + 1
    tokens.doubt(HOLDER)
    other = await tokens.get(HOLDER, account, "vertex")

    assert first == same != other


async def test_token_service_is_called_under_the_guard_only(cloud: Clouds, client: aiohttp.ClientSession) -> None:
    tokens = Tokens(lambda: client, AllowList.parse([]))
    account = ServiceAccount(clouds.SERVICE_ACCOUNT, cloud.service_account().private_key, token_uri=f"{cloud.url}/google/token")
    before = len(cloud.tokens["google"])

    with pytest.raises(Refusal, match="private address"):
        await tokens.get(HOLDER, account, "vertex")

    assert len(cloud.tokens["google"]) == before
