"""OTLP/HTTP traces: model calls that were made elsewhere become events like those made here.

`POST /v1/traces` takes what every OpenTelemetry SDK and collector sends: protobuf or JSON, gzip or plain. A virtual key says whose
they are (tenant, project, key). Only leaf spans of model operations count: a span around others repeats their usage.

An event's id is made of tenant, trace and span, so what is sent twice counts once. A span of a call that went through this gateway
(its `server.address`, or that of an HTTP span inside, is where the export came to) is already recorded and is passed over. Of those that
do not say where they went, the costs app knows the ones whose answer this gateway gave.

Source: OTLP specification, "OTLP/HTTP".
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import orjson

from gateway.contract.events import CallEvent
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import Headers, Receive, Send, read_body, send_refusal, send_whole, standard_headers
from gateway.plane.ingress.genai import event_of, first, operation_of
from gateway.plane.ingress.ofrep import Pace
from gateway.plane.ingress.otlp_spans import Attributes, Span, is_id, spans_of_json, spans_of_protobuf
from gateway.plane.pipeline import WHO
from gateway.plane.plane import Plane

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
        if is_id(trace_id, 32) and is_id(span_id, 16):
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
        is_through_here = _is_through_here(span.attributes, address)  # or a request to us, and then what is around it is
        if is_around or is_through_here or kind is not None:
            ancestors.note(served.tenant, span.trace_id, span.parent_id)
        if kind is None or is_around or is_through_here:
            taken.passed_over += 1
            continue
        reason = why_not(span, now)
        if reason:
            taken.rejected += 1
            taken.reasons.add(reason)
        else:
            taken.events.append(event_of(call, span, kind))
    return taken


def _is_through_here(attributes: Attributes, address: tuple[str, int | None]) -> bool:
    host, port = first(attributes, ("server.address", "net.peer.name")), first(attributes, ("server.port", "net.peer.port"))
    if not isinstance(host, str) or host.lower() != address[0]:
        return False
    return port is None or address[1] is None or str(port) == str(address[1])


def why_not(span: Span, now: float) -> str:
    """Why a span can't be counted; empty when it can. What passes fits the inbox's columns."""
    if not is_id(span.trace_id, 32) or not is_id(span.span_id, 16):
        return "a span has no trace or span id"
    if not EARLIEST_S * 10**9 <= span.start_ns <= span.end_ns <= int((now + LATEST_AHEAD_S) * 1e9):  # whole numbers have no overflow
        return "a span has an impossible time"
    return ""
