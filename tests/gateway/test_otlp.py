"""Model calls made elsewhere: what the real OpenTelemetry SDK sends becomes events, once, for the right key and model."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from gateway.contract import snapshot as contract
from gateway.plane.errors import Refusal
from gateway.plane.ingress import genai, otlp, otlp_spans
from tests.gateway.conftest import SAY_HELLO, Org, SandboxUpstream, chat_model, deployment

TRACE = "0af7651916cd43dd8448eb211c80319c"
NO_TOKENS: dict[str, Any] = {"gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}


def span(span_id: Any = "b7ad6b7169203331", parent: Any = "", start_s: Any = 0.0, **attributes: Any) -> dict[str, Any]:
    """In OTLP's JSON form; by default a chat call of one second, a minute ago."""
    start = int((start_s or time.time() - 60) * 1e9)
    given: dict[str, Any] = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-far",
        "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
    }  # fmt: skip
    pairs = {name: value for name, value in (given | attributes).items() if value is not None}
    return {
        "traceId": TRACE, "spanId": span_id, "parentSpanId": parent, "name": "chat",
        "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 10**9),
        "attributes": [
            {"key": name, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
            for name, value in pairs.items()
        ],
    }  # fmt: skip


def request(*spans: dict[str, Any], service: str = "far-away") -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


def send(org: Org, *spans: dict[str, Any]) -> Any:
    return org.post(otlp.PATH, json=request(*spans))


@pytest.fixture
def tracing(org: Org) -> Iterator[TracerProvider]:
    """The real SDK, exporting each span at once, gzipped."""
    exporter = OTLPSpanExporter(
        endpoint=f"{org.plane.url}{otlp.PATH}", headers={"authorization": f"Bearer {org.key}"}, compression=Compression.Gzip
    )
    provider = TracerProvider(resource=Resource.create({"service.name": "invoices"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


def test_instrumented_openai_client_is_recorded_once(org: Org, tracing: TracerProvider, sandbox_upstream: SandboxUpstream) -> None:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor  # loads the SDK

    far = chat_model(deployment(sandbox_upstream.base_url(), upstream_model="sandbox-small", provider="acme-openai"), slug="far-chat")
    org.change(models={**org.snapshot.models, "far-chat": far})
    instrumentor = OpenAIInstrumentor()  # type: ignore[no-untyped-call]  # ships half its types
    instrumentor.instrument(tracer_provider=tracing)
    try:
        agent = tracing.get_tracer("app").start_as_current_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"})
        with openai.OpenAI(base_url=sandbox_upstream.base_url(), api_key="none", max_retries=0) as client, agent:
            answer = client.chat.completions.create(model="sandbox-small", messages=SAY_HELLO)
    finally:
        instrumentor.uninstrument()

    [event] = org.plane.wait_for_events(org.id, 1)
    assert answer.usage is not None
    assert (event["model"], event["provider"], event["deployment"], event["project"], event["key_id"]) == (
        "far-chat", "acme-openai", None, "demo", org.key_id,
    )  # fmt: skip
    assert (event["input_tokens"], event["output_tokens"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert (event["agent"], event["usage_source"], event["request_id"]) == ("invoices", "provider", answer.id)
    assert event["steps"][0][:2] == ["otlp", "pass"]


def test_span_of_a_call_through_the_gateway_is_not_counted_again(org: Org) -> None:
    here: dict[str, Any] = {"server.address": "127.0.0.1", "server.port": org.plane.port}

    send(
        org,
        span("00000000000000aa", **here),
        span("00000000000000bb", **(here | {"server.port": 1}), **{"gen_ai.request.model": "next-door"}),
    )

    [event] = org.plane.wait_for_events(org.id, 1)
    assert event["model"] == "next-door"


def test_span_around_a_request_to_the_gateway_is_not_counted_again(org: Org) -> None:
    """What an instrumented HTTP client adds, by present names and by former ones; a request to elsewhere says nothing."""
    here: dict[str, Any] = {"gen_ai.operation.name": None, "gen_ai.request.model": None, "server.address": "127.0.0.1"}
    former: dict[str, Any] = {"net.peer.name": "127.0.0.1", "net.peer.port": str(org.plane.port), "server.address": None}
    chats = [f"{number:016x}" for number in (1, 2, 3)]

    send(
        org,
        span("00000000000000aa", chats[0], **here, **NO_TOKENS, **{"server.port": org.plane.port}),
        span("00000000000000bb", chats[1], **(here | former), **NO_TOKENS),
        span("00000000000000cc", chats[2], **here, **NO_TOKENS, **{"server.port": 1}),
        *(span(chat, **{"gen_ai.request.model": f"model-{chat[-1]}"}) for chat in chats),
    )

    [event] = org.plane.wait_for_events(org.id, 1)
    assert event["model"] == "model-3"


def test_same_span_twice_has_the_same_event_id(org: Org) -> None:
    once = span()

    assert send(org, once).json() == {}
    send(org, once)

    events = org.plane.wait_for_events(org.id, 2)
    assert len({(event["event_id"], event["started_at"]) for event in events}) == 1


def test_only_leaf_model_spans_count_whatever_the_batch(org: Org) -> None:
    parent, child, tool = "00000000000000aa", "00000000000000bb", "00000000000000cc"
    send(org, span(child, parent), span(tool, parent, **{"gen_ai.operation.name": "execute_tool"}))
    later = send(org, span(parent))  # ends, and is sent, after what is inside

    send(org, span("00000000000000dd", **{"gen_ai.request.model": "last"}))
    events = org.plane.wait_for_events(org.id, 2)
    assert later.json() == {}
    assert sorted(event["model"] for event in events) == ["gpt-far", "last"]


def test_bad_spans_are_rejected_and_the_good_ones_kept(org: Org) -> None:
    answer = send(org, span(), span("0000000000000000"), span("00000000000000ee", start_s=1000.0))

    assert answer.status_code == 200
    assert answer.json()["partialSuccess"] == {
        "rejectedSpans": "2", "errorMessage": "a span has an impossible time; a span has no trace or span id",
    }  # fmt: skip
    assert len(org.plane.wait_for_events(org.id, 1)) == 1


def test_partial_success_in_protobuf(org: Org) -> None:
    message = ExportTraceServiceRequest()
    made = message.resource_spans.add().scope_spans.add().spans.add(name="chat")
    made.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"

    answer = org.post(otlp.PATH, content=message.SerializeToString(), headers={"content-type": otlp.PROTOBUF})

    assert answer.headers["content-type"] == otlp.PROTOBUF
    assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {"content-type": otlp.JSON}, 400),
        (b'{"resourceSpans": 3}', {"content-type": otlp.JSON}, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [7]}]}]}', {"content-type": otlp.JSON}, 400),
        (b"\xff\xff\xff", {"content-type": otlp.PROTOBUF}, 400),
        (b"x", {"content-type": "text/plain"}, 415),
        (b"x", {"content-type": otlp.JSON, "content-encoding": "br"}, 415),
        (b"x", {"content-type": otlp.JSON, "content-encoding": "gzip"}, 400),
        (gzip.compress(b"{}", mtime=0)[:-4], {"content-type": otlp.JSON, "content-encoding": "gzip"}, 400),
        (gzip.compress(b" " * (otlp.MAX_INFLATED_BYTES + 1)), {"content-type": otlp.JSON, "content-encoding": "gzip"}, 413),
        (b"{}", {"content-type": otlp.JSON, "authorization": "Bearer nonsense"}, 401),
    ],
)
def test_what_is_no_export_is_refused(content: bytes, headers: dict[str, str], status: int, org: Org) -> None:
    answer = org.post(otlp.PATH, content=content, headers=headers)

    assert answer.status_code == status
    assert answer.json()["error"]["code"]


def test_other_methods_are_not_allowed(org: Org) -> None:
    answer = httpx2.get(org.plane.url + otlp.PATH, trust_env=False)

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# Without a process


@pytest.mark.parametrize(
    ("attributes", "tokens"),
    [
        ({"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}, (100, 20, None, None)),
        ({"gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 20}, (100, 20, None, None)),
        ({"llm.token_count.prompt": "100", "llm.token_count.completion": 20.0}, (100, 20, None, None)),
        ({"gen_ai.usage.input_tokens": 100, "gen_ai.usage.cache_read.input_tokens": 60}, (100, None, 60, None)),
        ({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_read_input_tokens": 60}, (70, None, 60, None)),
        ({"gen_ai.usage.input_tokens": 9, "gen_ai.usage.cache_creation.input_tokens": 20}, (29, None, None, 20)),
        ({"gen_ai.usage.input_tokens": -5, "gen_ai.usage.output_tokens": True}, (None, None, None, None)),
    ],
)
def test_usage_by_present_and_former_names(attributes: dict[str, Any], tokens: tuple[int | None, ...]) -> None:
    found = genai.tokens_of(attributes)

    assert (found.input, found.output, found.cached, found.written) == tokens


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"gen_ai.operation.name": "chat"}, "chat"),
        ({"gen_ai.operation.name": "embeddings"}, "embeddings"),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 3}, None),
        ({"llm.request.type": "completion"}, "chat"),
        ({"openinference.span.kind": "LLM"}, "chat"),
        ({"openinference.span.kind": "CHAIN"}, None),
        ({"gen_ai.system": "openai", "gen_ai.request.model": "m", "gen_ai.usage.prompt_tokens": 3}, "chat"),
        ({"http.request.method": "POST"}, None),
    ],
)
def test_what_a_model_call_is(attributes: dict[str, Any], kind: str | None) -> None:
    assert genai.operation_of(attributes) == kind


def test_model_is_found_by_slug_then_by_the_upstreams_name_and_provider() -> None:
    one, two = (deployment("http://127.0.0.1:9/v1", upstream_model="gpt-5", provider=provider) for provider in ("azure", "openai"))
    models = {"small": chat_model(one, slug="small"), "large": chat_model(two, slug="large")}
    snapshot = contract.TenantSnapshot(tenant="t", slug="t", schema="t", version=1, models=models)

    assert genai.match(snapshot, "openai", ["small"])[0] == "small"
    assert genai.match(snapshot, "openai", ["gpt-5"]) == ("large", two)
    assert genai.match(snapshot, "elsewhere", ["gpt-5"]) == ("small", one)
    assert genai.match(snapshot, "openai", ["unheard-of", "older"]) == ("unheard-of", None)


@pytest.mark.parametrize(
    ("start_ns", "end_ns"), [(0, 10**18), (-1, 1), (1_790_000_000 * 10**9, 10**30), (1_790_000_000 * 10**9, 0), (10**400, 10**400)]
)
def test_times_that_fit_no_column_are_rejected(start_ns: int, end_ns: int) -> None:
    made = otlp_spans.Span(TRACE, "00000000000000aa", "", start_ns, end_ns, False, {}, {})

    assert otlp.why_not(made, 1_790_000_100.0) == "a span has an impossible time"


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(Refusal, match="larger"):
        otlp.inflate(gzip.compress(b"0" * 10_000, mtime=0), limit=1000)


def test_ancestors_are_forgotten_at_the_limit() -> None:
    known = otlp.Ancestors(limit=2)
    names = [f"{number:016x}" for number in (1, 2, 3)]
    for name in [*names, "no id", ""]:
        known.note("t", TRACE, name)

    assert [known.has("t", TRACE, name) for name in [*names, "no id"]] == [False, True, True, False]


def test_json_numbers_may_be_numbers() -> None:
    body = json.dumps(request(span() | {"startTimeUnixNano": 1, "endTimeUnixNano": 2})).encode()

    [read] = otlp_spans.spans_of_json(body)

    assert (read.start_ns, read.attributes["gen_ai.usage.input_tokens"], read.resource["service.name"]) == (1, 100, "far-away")
