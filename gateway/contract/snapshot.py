"""A tenant's whole configuration as the plane serves it: immutable, versioned, checksummed.

`encode` writes `GHS1` + sha256(payload) + payload, where the payload is the MessagePack form of `TenantSnapshot`.
Unknown fields are ignored on reading, so that a plane of the previous release can read the next release's snapshot.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from gateway.contract.flags import Flag

MAGIC = b"GHS1"

Resource = Literal["requests", "input_tokens", "output_tokens", "money", "concurrent"]
"""`concurrent` is how many calls run at once; it has no window."""
Window = Literal["minute", "hour", "day", "month"]
Scope = Literal["tenant", "project", "key", "agent", "model"]
PICO_USD = 10**12
"""Money on the hot path is a whole number of pico-dollars: a price per million tokens with six decimals is exact."""


class SnapshotError(ValueError):
    """The bytes are not a snapshot: wrong magic, wrong checksum, or not decodable."""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A ceiling on one resource in one calendar-aligned window of the tenant's time zone."""

    id: str
    """Names the counter; the same across snapshots, for example `key:4tq2:requests:minute`."""
    scope: Scope
    scope_name: str
    """What a refusal calls it, for example the project's slug."""
    resource: Resource
    window: Window
    amount: int
    """Requests, tokens, or pico-dollars for `money`."""
    fail_open: bool = False
    """What happens when the database is away and nothing is left on lease: admit (true) or refuse with 503."""
    budget: str | None = None
    """Name of the budget that it holds to: refusals name it."""
    throttle_from: float | None = None
    """Share of the amount, below 1, from which fewer and fewer calls are admitted: all at it, none at the whole amount."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual key. The secret itself is never here, only its keyed digest."""

    id: str
    digest: str
    """Hexadecimal HMAC-SHA256 of the whole key under the pepper, see `keys.digest`."""
    previous_digest: str = ""
    """Of the secret before the last rotation, good until `previous_until`."""
    previous_until: float = 0.0
    """Seconds since the epoch, UTC."""
    name: str
    project: str
    owner: str
    models: tuple[str, ...] | None
    """Model slugs this key may call; None means every model of the tenant."""
    tools: tuple[str, ...] | None
    """Tool server namespaces this key may use; None means all."""
    disabled: bool = False
    expires_at: float | None = None
    """Seconds since the epoch, UTC."""
    limits: tuple[Limit, ...] = ()


class Project(msgspec.Struct, frozen=True, kw_only=True):
    slug: str
    name: str
    cost_centre: str = ""
    environment: str = ""
    enabled: bool = True
    limits: tuple[Limit, ...] = ()


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream that can serve a model."""

    id: str
    provider: str
    """Provider slug; goes into events and is what a bill is matched on."""
    dialect: Literal["openai", "anthropic"]
    """The protocol that the upstream speaks."""
    platform: Literal["direct", "azure", "vertex", "bedrock"] = "direct"
    """Whose paths and framing it is spoken with, see `platforms`."""
    base_url: str
    """Up to and including the version segment, for example `https://api.openai.com/v1`."""
    sealed_secret: str
    """The upstream credential, sealed with `sealing`; empty when the upstream needs none."""
    credential: Literal["key", "entra_id", "service_account", "aws_keys"] = "key"
    """What the sealed text holds, see `credentials`."""
    api_version: str = ""
    """Of Azure."""
    upstream_model: str
    region: str = ""
    weight: int = 1
    priority: int = 0
    """Lower is tried first; deployments of one priority share traffic by weight."""
    timeout_s: float = 120.0


class Model(msgspec.Struct, frozen=True, kw_only=True):
    slug: str
    capabilities: tuple[str, ...]
    """Of `chat`, `embeddings`."""
    feature_class: str
    """The consent that a call to it needs."""
    deployments: tuple[Deployment, ...]
    input_price: int | None = None
    """Pico-dollars per input token; None while unpriced (money limits then refuse the call: missing is not zero)."""
    output_price: int | None = None
    max_output_tokens: int = 4096
    """What is reserved when a request names no maximum."""
    context_window: int | None = None
    sensitivity: str = ""
    """The most sensitive data that may be sent to it; for policies, as the environment is."""
    environment: str = ""
    cache_ttl_s: int = 0
    """How long an answer may be given again to the same request; 0 never."""
    cache_scope: Literal["tenant", "project", "key"] = "tenant"
    """Among whose calls."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    title: str
    description: str
    input_schema: str
    """JSON Schema, as JSON text; likewise the next two. (Not msgspec.Raw, which would be taken for MessagePack.)"""
    output_schema: str | None = None
    annotations: str | None = None
    enabled: bool = True


class ToolServer(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server behind the gateway. Its tools are published as `<namespace>__<tool name>`."""

    namespace: str
    url: str
    sealed_secret: str
    feature_class: str
    tools: tuple[Tool, ...]
    enabled: bool = True
    timeout_s: float = 60.0


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    feature_class: str
    granted: bool
    reason: str
    """Said to the caller when refused, for example who withdrew it and when."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A rule in force or on trial; see `policies`."""

    name: str
    """`<namespace>.<name>`."""
    version: int
    when: str
    """CEL: which calls it covers."""
    require: str
    """CEL: what a covered call must satisfy."""
    reason: str = ""
    """Said to the caller when refused."""
    enforce: bool = False
    """False on trial: decided and recorded, and the call goes on."""
    critical: bool = False


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """A check of what is said; see `guardrails`."""

    name: str
    kind: Literal["pii", "secrets", "injection", "topics", "size"]
    scope: Literal["tenant", "project", "model", "agent"] = "tenant"
    scope_name: str = ""
    on_input: bool = True
    on_output: bool = False
    enforce: bool = False
    """False: found and recorded only."""
    action: Literal["redact", "block"] = "block"
    entities: tuple[str, ...] = ()
    """For `pii` and `secrets`: which kinds; empty for all of them."""
    terms: tuple[str, ...] = ()
    """For `topics`: words and phrases."""
    threshold: float = 0.5
    """For `injection`: the suspicion, 0 to 1, from which it is a hit."""
    max_characters: int = 0
    """For `size`."""


class TenantSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    tenant: str
    """The tenant's public id, the one inside its keys."""
    slug: str
    schema: str
    version: int
    enabled: bool = True
    time_zone: str = "UTC"
    consents: dict[str, Consent] = {}
    projects: dict[str, Project] = {}
    keys: dict[str, Key] = {}
    models: dict[str, Model] = {}
    tool_servers: dict[str, ToolServer] = {}
    limits: tuple[Limit, ...] = ()
    budgets: tuple[Limit, ...] = ()
    """Money limits of any scope. Apart from `limits`, so that a plane that does not know their scopes can read the snapshot."""
    flags: dict[str, Flag] = {}
    facts: dict[str, str] = {}
    """What flags may ask about the tenant: `tenant` (slug), `tier`, `kind`, `region`; a fact that is not known is left out."""
    switched_off: dict[str, str] = {}
    """Of `models` and `tools`: those switched off, with the reason that callers are told."""
    usage_limits: tuple[Limit, ...] = ()
    """Limits on anything but money, of any scope; apart from `limits` for the same reason."""
    policies: tuple[Policy, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TenantSnapshot)


def encode(snapshot: TenantSnapshot) -> bytes:
    """The snapshot as it is stored and sent."""
    payload = _encoder.encode(snapshot)
    return MAGIC + hashlib.sha256(payload).digest() + payload


def checksum(body: bytes) -> str:
    """The hexadecimal sha256 that an encoded snapshot carries."""
    return body[4:36].hex()


def decode(body: bytes) -> TenantSnapshot:
    """Read an encoded snapshot back; SnapshotError when it is damaged."""
    if body[:4] != MAGIC:
        raise SnapshotError("not a snapshot")
    payload = body[36:]
    if hashlib.sha256(payload).digest() != body[4:36]:
        raise SnapshotError("checksum does not match")
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise SnapshotError(str(error)) from error
