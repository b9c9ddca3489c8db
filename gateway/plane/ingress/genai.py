"""A span of a model call as the event that it becomes, by the GenAI conventions, present and former.

What a span says that it cost is kept as a tag and never believed.

Source: open-telemetry/semantic-conventions-genai; the names that OpenLLMetry and OpenInference gave before.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.contract import tags as required_tags
from gateway.contract.events import CallEvent, Kind, Step
from gateway.contract.snapshot import Deployment, TenantSnapshot
from gateway.contract.tags import Finding
from gateway.plane.call import Call
from gateway.plane.ingress.otlp_spans import Attributes, Span
from gateway.plane.pipeline.tags import judge
from gateway.plane.usage import disjoint

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


def operation_of(attributes: Attributes) -> Kind | None:
    """What the span did with a model; None for everything else."""
    named = first(attributes, ("gen_ai.operation.name",))
    if named is None:
        named = _REQUEST_TYPES.get(str(attributes.get("llm.request.type", "")))
        named = named or {"LLM": "chat", "EMBEDDING": "embeddings"}.get(str(attributes.get("openinference.span.kind", "")))
    if named is None and first(attributes, MODELS) and (first(attributes, INPUT) is not None or first(attributes, OUTPUT) is not None):
        return "chat"  # instrumentations from before operations had names
    return OPERATIONS.get(str(named))


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
    """The span's call as an event of the key that exports it. What the span does not tell is None."""
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
