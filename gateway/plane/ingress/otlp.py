"""OTLP/HTTP traces: model calls that were made elsewhere become events like those made here.

`POST /v1/traces` takes what every OpenTelemetry SDK and collector sends: protobuf or JSON, gzip or plain. A virtual key says whose
they are (tenant, project, key). Only leaf spans of model operations count: a span around others repeats their usage. Names are those
of the GenAI conventions, present and former. What a span says that it cost is kept as a tag and never believed.

An event's id is made of tenant, trace and span, so what is sent twice counts once. A span of a call that went through this gateway
(its `server.address` is where the export came to) is already recorded and is passed over.

Source: opentelemetry-proto 1.x `collector/trace/v1`, OTLP specification "OTLP/HTTP"; open-telemetry/semantic-conventions-genai.
"""

from __future__ import annotations

import asyncio
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.contract import tags as required_tags
from gateway.contract.events import CallEvent, Kind, Step
from gateway.contract.snapshot import Deployment, TenantSnapshot
from gateway.contract.tags import Finding
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import Headers, Receive, Send, read_body, send_refusal, send_whole, standard_headers
from gateway.plane.ingress.ofrep import Pace
from gateway.plane.pipeline import WHO
from gateway.plane.pipeline.tags import judge
from gateway.plane.plane import Plane
from gateway.plane.usage import disjoint

PATH = "/v1/traces"
PROTOBUF, JSON = "application/x-protobuf", "application/json"
MAX_SENT_BYTES = 8 * 1024 * 1024
MAX_INFLATED_BYTES = 16 * 1024 * 1024
MAX_SPANS = 20_000
"""More than twice what a collector sends at once."""
OFF_LOOP_BYTES = 64 * 1024
"""Larger bodies are read in a thread: 16 MiB of spans take a good part of a second."""
EXPORTS_PER_WINDOW = 2_000
WINDOW_S = 10.0
MAX_ANCESTORS = 100_000
"""Spans around model calls that a process remembers, to know them when they end after the calls inside them."""
EARLIEST_S = 1_577_836_800
"""2020-01-01: a span before that comes from a broken clock. The costs app has the same bound."""
LATEST_AHEAD_S = 3600
MAX_TEXT = 200
MAX_TOKENS = 10**12

NAMESPACE = uuid.UUID("6f1d9b0e-6f0d-5a4e-9d38-1c8f7a52e0b7")
OPERATIONS: dict[str, Kind] = {
    "chat": "chat",
    "text_completion": "chat",
    "generate_content": "chat",
    "completion": "chat",
    "embeddings": "embeddings",
    "embedding": "embeddings",
}
"""Of a model; `invoke_agent`, `execute_tool` and the like are around or beside model calls."""
_REQUEST_TYPES = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}

# Attributes by meaning, the present name first.
PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
MODELS = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "embedding.model_name")
INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "llm.token_count.prompt")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens", "llm.token_count.completion")
CACHE_READ = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.input_tokens.cached",
    "gen_ai.usage.details.cache_read_tokens",
    "gen_ai.usage.details.cached_tokens",
    "llm.token_count.prompt_details.cache_read",
)
CACHE_WRITE = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "llm.token_count.prompt_details.cache_write",
)
REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
)
UNITS = {
    "audio_input": ("gen_ai.usage.audio.input_tokens", "gen_ai.usage.details.input_audio_tokens", "llm.token_count.prompt_details.audio"),
    "image_input": ("gen_ai.usage.image.input_tokens", "gen_ai.usage.details.input_image_tokens"),
    "cached_audio": ("gen_ai.usage.audio.cache_read.input_tokens", "gen_ai.usage.details.cache_audio_read_tokens"),
    "cached_image": ("gen_ai.usage.image.cache_read.input_tokens", "gen_ai.usage.details.cache_image_read_tokens"),
    "audio_output": (
        "gen_ai.usage.audio.output_tokens",
        "gen_ai.usage.details.output_audio_tokens",
        "llm.token_count.completion_details.audio",
    ),
    "image_output": ("gen_ai.usage.image.output_tokens", "gen_ai.usage.details.output_image_tokens"),
}
"""No name is in use for how long a cache keeps, or for tools that the provider ran."""
CLAIMED_COST = ("gen_ai.usage.cost", "gen_ai.usage.total_cost", "gen_ai.cost.total_tokens", "llm.usage.total_cost")
SERVICE_TIER = ("openai.response.service_tier", "gen_ai.openai.response.service_tier", "openai.request.service_tier")
STREAM = ("gen_ai.request.stream", "gen_ai.request.is_stream", "llm.is_streaming")
FIRST_CHUNK = ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token")
"""Seconds."""

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """What is read of one span. Ids are hexadecimal, times nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    is_error: bool
    attributes: Attributes
    resource: Attributes


@dataclass
class Taken:
    """What became of the spans of one export: events + passed over + rejected = all of them."""

    events: list[CallEvent] = field(default_factory=list)
    passed_over: int = 0
    """No model calls, around others, or made through this gateway."""
    rejected: int = 0
    reasons: set[str] = field(default_factory=set)


class Ancestors:
    """Spans that have a model call inside, per process, the oldest forgotten first. Children end, and so arrive, before their parents."""

    def __init__(self, limit: int = MAX_ANCESTORS) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def note(self, tenant: str, trace_id: str, span_id: str) -> None:
        if _is_id(trace_id, 32) and _is_id(span_id, 16):
            self._known[tenant, trace_id, span_id] = None
            if len(self._known) > self._limit:
                self._known.popitem(last=False)

    def has(self, tenant: str, trace_id: str, span_id: str) -> bool:
        return (tenant, trace_id, span_id) in self._known


ancestors = Ancestors()
pace = Pace(EXPORTS_PER_WINDOW, WINDOW_S)


async def serve_traces(plane: Plane, headers: Headers, receive: Receive, send: Send) -> None:
    """One export. Answers as OTLP/HTTP wants it, in the content type that came."""
    call = Call(plane, "chat", headers, receive, send)
    try:
        await WHO(call)  # 503 with Retry-After while nothing can be recorded
        assert call.key is not None
        assert call.served is not None
        wait_s = pace.wait_s(f"{call.served.tenant}:{call.key.id}")
        if wait_s:
            raise Refusal("rate_limit_exceeded", f"The key {call.key.id} exports too often.", scope="key", retry_after_s=wait_s)
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().decode("latin-1").lower()
        if kind not in (PROTOBUF, JSON):
            raise Refusal("invalid_request", f"Send {PROTOBUF} or {JSON}.", status=415)
        encoding = headers.get(b"content-encoding", b"identity").strip().decode("latin-1").lower()
        if encoding not in ("gzip", "identity", ""):
            raise Refusal("invalid_request", "Send gzip, or no content encoding.", status=415)
        body = await read_body(receive, headers, MAX_SENT_BYTES)
        work = _worker(call, body, kind, encoding, own_address(headers))
        taken = await asyncio.to_thread(work) if len(body) > OFF_LOOP_BYTES else work()
        for event in taken.events:
            plane.spool.append(event)
        await send_whole(
            send, 200, [(b"content-type", kind.encode()), *standard_headers(call.request_id, call.overhead_us)], _answer(taken, kind)
        )
    except Refusal as refusal:
        if call.key is None:
            plane.metrics.count_stranger(refusal.code)
        await send_refusal(send, refusal, call.request_id, call.overhead_us)


def _worker(call: Call, body: bytes, kind: str, encoding: str, address: tuple[str, int | None]) -> Callable[[], Taken]:
    """Everything between the body and the spool; touches nothing that belongs to the loop."""

    def work() -> Taken:
        plain = inflate(body) if encoding == "gzip" else body
        spans = spans_of_protobuf(plain) if kind == PROTOBUF else spans_of_json(plain)
        if len(spans) > MAX_SPANS:
            raise Refusal("request_too_large", f"An export holds {MAX_SPANS:,} spans at most.")
        return take(call, spans, address)

    return work


def inflate(body: bytes, limit: int = MAX_INFLATED_BYTES) -> bytes:
    """Gunzip at most `limit` bytes; Refusal when it is more, cut short or no gzip."""
    machine = zlib.decompressobj(wbits=31)
    try:
        plain = machine.decompress(body, limit + 1)
    except zlib.error as error:
        raise Refusal("invalid_request", f"The body is not gzip: {error}.") from error
    if len(plain) > limit:
        raise Refusal("request_too_large", f"The body is larger than {limit // 2**20} MiB when it is unpacked.")
    if not machine.eof:
        raise Refusal("invalid_request", "The gzip body ends too early.")
    return plain


def _answer(taken: Taken, kind: str) -> bytes:
    message = "; ".join(sorted(taken.reasons))
    if kind == JSON:
        partial = {"partialSuccess": {"rejectedSpans": str(taken.rejected), "errorMessage": message}} if taken.rejected else {}
        return orjson.dumps(partial)
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess, ExportTraceServiceResponse

    if not taken.rejected:
        return b""
    partial_success = ExportTracePartialSuccess(rejected_spans=taken.rejected, error_message=message)
    return bytes(ExportTraceServiceResponse(partial_success=partial_success).SerializeToString())


# Reading


def spans_of_protobuf(body: bytes) -> list[Span]:
    """Refusal when the body is no ExportTraceServiceRequest."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # loaded with the first export

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise Refusal("invalid_request", f"The body is no ExportTraceServiceRequest: {error}.") from error
    found = []
    for resource_spans in request.resource_spans:
        resource = {pair.key: _value(pair.value) for pair in resource_spans.resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            found += [
                Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == 2,
                    {pair.key: _value(pair.value) for pair in span.attributes},
                    resource,
                )
                for span in scope_spans.spans
            ]
    return found


def _value(value: Any) -> Any:
    """Of an AnyValue; lists, maps and bytes are not needed and become None."""
    name = value.WhichOneof("value")
    return getattr(value, name) if name in ("string_value", "int_value", "double_value", "bool_value") else None


def spans_of_json(body: bytes) -> list[Span]:
    """OTLP's own JSON form: ids in hexadecimal, 64-bit numbers as text or number, enums as numbers. Refusal when it is something else."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal("invalid_json", f"The request body is not valid JSON: {error}") from error
    found = []
    try:
        for resource_spans in _list(request, "resourceSpans"):
            resource = _json_attributes(_object(resource_spans, "resource"))
            for scope_spans in _list(resource_spans, "scopeSpans"):
                for span in _list(scope_spans, "spans"):
                    found.append(
                        Span(
                            str(span.get("traceId", "")).lower(),
                            str(span.get("spanId", "")).lower(),
                            str(span.get("parentSpanId") or "").lower(),
                            int(span.get("startTimeUnixNano", 0)),
                            int(span.get("endTimeUnixNano", 0)),
                            _object(span, "status").get("code") in (2, "STATUS_CODE_ERROR"),
                            _json_attributes(span),
                            resource,
                        )
                    )
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise Refusal("invalid_request", "The body is no ExportTraceServiceRequest in OTLP's JSON form.") from error
    return found


def _list(holder: Any, name: str) -> list[Any]:
    found = holder.get(name) or []
    if not isinstance(found, list):
        raise TypeError(name)
    return found


def _object(holder: Any, name: str) -> dict[str, Any]:
    found = holder.get(name) or {}
    if not isinstance(found, dict):
        raise TypeError(name)
    return found


def _json_attributes(holder: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in _list(holder, "attributes"):
        value = _object(pair, "value")
        if "intValue" in value:
            found[pair["key"]] = int(value["intValue"])
        else:
            found[pair["key"]] = next((value[name] for name in ("stringValue", "doubleValue", "boolValue") if name in value), None)
    return found


# Taking


def own_address(headers: Headers) -> tuple[str, int | None]:
    """Host and port that the export came to."""
    host, colon, port = headers.get(b"host", b"").decode("latin-1").lower().rpartition(":")
    if colon and port.isdigit():
        return host.strip("[]"), int(port)
    return headers.get(b"host", b"").decode("latin-1").lower().strip("[]"), None


def take(call: Call, spans: Iterable[Span], address: tuple[str, int | None]) -> Taken:
    """Events of the leaf model calls among the spans. For a call whose key is known."""
    served, taken = call.served, Taken()
    assert served is not None
    now = time.time()
    for span in sorted(spans, key=lambda one: (one.end_ns, -one.start_ns)):
        is_around = ancestors.has(served.tenant, span.trace_id, span.span_id)
        kind = operation_of(span.attributes)
        if is_around or kind is not None:
            ancestors.note(served.tenant, span.trace_id, span.parent_id)
        if kind is None or is_around or _is_through_here(span.attributes, address):
            taken.passed_over += 1
            continue
        reason = why_not(span, now)
        if reason:
            taken.rejected += 1
            taken.reasons.add(reason)
        else:
            taken.events.append(event_of(call, span, kind))
    return taken


def operation_of(attributes: Attributes) -> Kind | None:
    """What the span did with a model; None for everything else."""
    named = first(attributes, ("gen_ai.operation.name",))
    if named is None:
        named = _REQUEST_TYPES.get(str(attributes.get("llm.request.type", "")))
        named = named or {"LLM": "chat", "EMBEDDING": "embeddings"}.get(str(attributes.get("openinference.span.kind", "")))
    if named is None and first(attributes, MODELS) and (first(attributes, INPUT) is not None or first(attributes, OUTPUT) is not None):
        return "chat"  # instrumentations from before operations had names
    return OPERATIONS.get(str(named))


def _is_through_here(attributes: Attributes, address: tuple[str, int | None]) -> bool:
    host, port = first(attributes, ("server.address", "net.peer.name")), first(attributes, ("server.port", "net.peer.port"))
    if not isinstance(host, str) or host.lower() != address[0]:
        return False
    return port is None or address[1] is None or str(port) == str(address[1])


def why_not(span: Span, now: float) -> str:
    """Why a span can't be counted; empty when it can. What passes fits the inbox's columns."""
    if not _is_id(span.trace_id, 32) or not _is_id(span.span_id, 16):
        return "a span has no trace or span id"
    if not EARLIEST_S * 10**9 <= span.start_ns <= span.end_ns <= int((now + LATEST_AHEAD_S) * 1e9):  # whole numbers have no overflow
        return "a span has an impossible time"
    return ""


def _is_id(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdef") and text.strip("0") != ""


def first(attributes: Attributes, names: Iterable[str]) -> Any:
    """The value under the first of the names that has one."""
    return next((value for name in names if (value := attributes.get(name)) not in (None, "")), None)


def count(attributes: Attributes, names: Iterable[str]) -> int | None:
    """A number of tokens; None when there is none, or something that is no number of tokens."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) < 14:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS:
            return value
    return None


@dataclass(frozen=True)
class Tokens:
    """As events want them: input includes cached and cache-write tokens, output includes reasoning."""

    input: int | None
    output: int | None
    cached: int | None
    written: int | None
    reasoning: int | None
    units: dict[str, int] | None
    note: str


def tokens_of(attributes: Attributes) -> Tokens:
    """The conventions count inclusively. Where the parts exceed the whole, the sender left them out of it, and they are added."""
    given, output = count(attributes, INPUT), count(attributes, OUTPUT)
    cached, written, reasoning = count(attributes, CACHE_READ), count(attributes, CACHE_WRITE), count(attributes, REASONING)
    notes = []
    parts = (cached or 0) + (written or 0)
    if given is not None and parts > given:
        given += parts
        notes.append("input was given without its cached tokens")
    if output is not None and reasoning is not None and reasoning > output:
        output += reasoning
        notes.append("output was given without its reasoning tokens")
    units = {name: number for name, names in UNITS.items() if (number := count(attributes, names))}
    apart = disjoint(units, fresh=(given or 0) - parts, cached=cached or 0, written=written or 0, output=output or 0) if units else None
    return Tokens(given, output, cached, written, reasoning, apart, "; ".join(notes))


def match(snapshot: TenantSnapshot, provider: str, names: list[str]) -> tuple[str, Deployment | None]:
    """Which of our models it was, and the deployment that has the provider's price: by our slug, else by what the upstream calls it.

    A deployment of a provider with the span's provider name is preferred. Unknown ones keep the name that the span gives.
    """
    for name in names:
        model = snapshot.models.get(name)
        if model is not None and model.deployments:
            return name, next((one for one in model.deployments if one.provider == provider), model.deployments[0])
    for name in names:
        found = [(slug, one) for slug, model in snapshot.models.items() for one in model.deployments if one.upstream_model == name]
        if found:
            return next((pair for pair in found if pair[1].provider == provider), found[0])
    return (names[0] if names else ""), None


def event_of(call: Call, span: Span, kind: Kind) -> CallEvent:
    served, key, attributes = call.served, call.key, span.attributes
    assert served is not None
    assert key is not None
    provider = _text(first(attributes, PROVIDER))
    names = [text for name in MODELS if (text := _text(attributes.get(name)))]
    model, deployment = match(served.snapshot, provider, names)
    tokens = tokens_of(attributes)
    is_known = tokens.input is not None or tokens.output is not None
    error = _text(attributes.get("error.type"))
    is_error = span.is_error or bool(error)
    status = attributes.get("http.response.status_code")
    agent = _agent(call, span)
    tags, findings = judge(served, key, call.project, agent, _tags(call, span))
    return CallEvent(
        event_id=str(uuid.uuid5(NAMESPACE, f"{served.tenant}:{span.trace_id}:{span.span_id}")),
        tenant=served.tenant,
        kind=kind,
        started_at=span.start_ns / 1e9,
        duration_us=(span.end_ns - span.start_ns) // 1000,
        overhead_us=None,
        ttft_us=_micros(first(attributes, FIRST_CHUNK)),
        request_id=_text(attributes.get("gen_ai.response.id")) or span.trace_id,
        project=key.project,
        key_id=key.id,
        agent=agent,
        model=model or None,
        provider=deployment.provider if deployment else provider or None,
        deployment=None,  # ours did not serve it; it only lends its provider's name, and so its price
        upstream_model=(names[0] if names else None),
        region=None,
        status="upstream_error" if is_error else "ok",
        http_status=status if isinstance(status, int) and 100 <= status <= 599 else 502 if is_error else 200,
        error_code="upstream_error" if is_error else None,
        stream=first(attributes, STREAM) is True,
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cached_input_tokens=tokens.cached,
        cache_write_tokens=tokens.written,
        reasoning_tokens=tokens.reasoning,
        usage_source="provider" if is_known else "none",
        service_tier=_text(first(span.attributes, SERVICE_TIER)) or None,
        units=tokens.units,
        snapshot_version=served.version,
        tags=tags,
        steps=[Step("otlp", "pass", 0, "; ".join(filter(None, ("made without the gateway", tokens.note)))), *_judged(findings)],
    )


def _agent(call: Call, span: Span) -> str | None:
    """As the span names it, else the export's header, else the service; the SDK's placeholder for a service is no name."""
    service = _text(span.resource.get("service.name"))
    named = _text(span.attributes.get("gen_ai.agent.name")) or call.agent
    return named or (service if service and not service.startswith("unknown_service") else None)


def _tags(call: Call, span: Span) -> dict[str, str]:
    found = {
        "service": _text(span.resource.get("service.name")),
        "environment": _text(first(span.resource, ("deployment.environment.name", "deployment.environment"))),
        "claimed_cost_usd": _text(first(span.attributes, CLAIMED_COST)),
    }
    return {**call.tags, **{name: value[:128] for name, value in found.items() if value}}


def _judged(findings: list[Finding]) -> list[Step]:
    """What was made without the gateway cannot be refused any more."""
    if not findings:
        return []
    verdict = "pass" if all(finding.found == "ok" for finding in findings) else "would_refuse"
    return [Step(required_tags.STEP, verdict, 0, required_tags.detail(findings))]


def _text(value: Any) -> str:
    """Printable text of bounded length; numbers as text."""
    if isinstance(value, bool) or value is None:
        return ""
    text = str(value)[:MAX_TEXT].strip()
    return text if text.isprintable() else ""


def _micros(seconds: Any) -> int | None:
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return int(seconds * 1_000_000) if is_number and 0 <= seconds < 86_400 else None
