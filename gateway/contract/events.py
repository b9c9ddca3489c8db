"""One governed call as the plane records it, and the inbox that the costs app reads.

A spool line is the JSON form of `CallEvent`; the plane copies the same fields into `names.INBOX_TABLE`, column by
column in the order of `INBOX_COLUMNS`. An event id is a UUIDv7 made when the call began; delivering it twice is
harmless, since attribution is exactly once by event id.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["chat", "embeddings", "tool"]
Status = Literal["ok", "refused", "upstream_error", "client_gone", "error"]
UsageSource = Literal["provider", "estimated", "cache", "none"]
"""`cache`: the answer had been given before, and nothing was used."""


class Step(msgspec.Struct, frozen=True, array_like=True, gc=False):  # holds no containers, so no cycles
    """What one step of the pipeline decided."""

    name: str
    verdict: str
    """`pass`, or the stable code of the refusal."""
    micros: int
    detail: str = ""


class CallEvent(msgspec.Struct, kw_only=True, gc=False):  # never part of a cycle
    """Times are seconds since the epoch, UTC; durations are microseconds; unknown is None, never zero."""

    event_id: str
    tenant: str
    """Public id of the tenant."""
    kind: Kind
    started_at: float
    duration_us: int
    overhead_us: int | None
    """Time inside the gateway, without waiting for the upstream."""
    ttft_us: int | None
    """Until the first byte of the body left for the client."""
    request_id: str
    project: str | None
    key_id: str | None
    agent: str | None
    """As named by the caller's header; None is an untagged call and is counted as such."""
    model: str | None
    """The model's slug, or `<namespace>__<tool>` for a tool."""
    provider: str | None
    deployment: str | None
    upstream_model: str | None
    region: str | None
    status: Status
    http_status: int
    error_code: str | None
    stream: bool
    input_tokens: int | None
    """Inclusive of cached ones, as the provider counts."""
    output_tokens: int | None
    """Inclusive of reasoning."""
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    usage_source: UsageSource
    service_tier: str | None = None
    """As the provider says that it served the call, in its words; older planes do not tell."""
    units: dict[str, int] | None = None
    """What has a price of its own: tokens of `INPUT_UNITS`, `CACHED_UNITS`, `WRITE_UNITS` and `OUTPUT_UNITS`, which are inside the figures above
    and disjoint, and `COUNTED_UNITS`. None for most calls.
    """
    answer_id: str | None = None
    """What the answer that the caller got calls itself, by which a span of the same call is known again; see `usage.answer_id`."""
    snapshot_version: int
    tags: dict[str, str]
    steps: list[Step]


INPUT_UNITS = ("audio_input", "image_input")
"""Part of the input that was neither read from nor written to a cache."""
CACHED_UNITS = ("cached_audio", "cached_image")
"""Part of `cached_input_tokens`."""
WRITE_UNITS = ("cache_write_1h",)
"""Part of `cache_write_tokens`: kept for an hour instead of five minutes."""
OUTPUT_UNITS = ("audio_output", "image_output")
COUNTED_UNITS = ("web_search", "file_search")
"""Calls of tools that the provider ran itself; no tokens."""


class CircuitEvent(msgspec.Struct, kw_only=True, gc=False):
    """A plane's verdict on a deployment changed. Travels like a call, to `names.CIRCUIT_TABLE`."""

    circuit: Literal["closed", "open", "half_open"]
    """Tells the line from a call's."""
    event_id: str
    tenant: str
    at: float
    """Seconds since the epoch, UTC."""
    model: str
    """Slug of the model whose call noticed."""
    provider: str
    deployment: str
    calls: int
    """In the window, with those that failed in `errors`."""
    errors: int
    cooldown_s: float
    """Until the next probe; 0 unless open."""
    reason: str
    """What the last call ended with."""


class PayloadEvent(msgspec.Struct, kw_only=True, gc=False):
    """What a call said, sealed. Travels like the call, apart from it, to `names.PAYLOAD_TABLE`."""

    event_id: str
    """The call's."""
    tenant: str
    at: float
    """When the call began, in seconds since the epoch, UTC; as the next one."""
    expires_at: float
    project: str
    key_id: str
    model: str
    """The model's slug, or the tool's published name."""
    mode: str
    """`redacted` or `full`."""
    subject: str
    """Keyed digest of the end user that the caller named; empty when none was."""
    sealed: str
    """See `payloads.seal`. Tells the line from a call's."""


PAYLOAD_COLUMNS: tuple[str, ...] = PayloadEvent.__struct_fields__
CIRCUIT_COLUMNS: tuple[str, ...] = CircuitEvent.__struct_fields__
INBOX_COLUMNS: tuple[str, ...] = CallEvent.__struct_fields__
"""The inbox has these columns, `received_at` (default now) and `id` (identity). `tags` and `steps` are jsonb,
`started_at` is timestamptz, `event_id` is uuid."""
