"""Spans as OTLP/HTTP carries them, in protobuf and in JSON.

Source: opentelemetry-proto 1.x `collector/trace/v1`, OTLP specification "OTLP/HTTP".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.plane.errors import Refusal

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


def is_id(text: str, length: int) -> bool:
    """Of so many hexadecimal digits, and not the one of zeros, which means none."""
    return len(text) == length and set(text) <= set("0123456789abcdef") and text.strip("0") != ""


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
