"""A tenant's whole configuration as the plane serves it: immutable, versioned, checksummed.

`encode` writes `GHS2` + sha256(payload) + payload. The payload is the length of the head (4 bytes), the head, and the keys in shards. The head
is the MessagePack form of `TenantSnapshot` without its keys, and of the lengths of the shards. A plane reads a shard when it first meets one
of its keys: an organisation with 100,000 keys is loaded and swapped as fast as one with ten.
Unknown fields are ignored on reading, so that a plane of the previous release can read the next release's snapshot.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from gateway.contract.flags import Flag
from gateway.contract.prompts import Flow, Prompt
from gateway.contract.routing import Objectives
from gateway.contract.tags import RequiredTag

MAGIC = b"GHS2"
KEYS_PER_SHARD = 64

Resource = Literal["requests", "input_tokens", "output_tokens", "tokens", "money", "concurrent"]
"""`concurrent` is how many calls run at once; it has no window. `tokens`, input and output together, only deployments are held to."""
Window = Literal["minute", "hour", "day", "month"]
Scope = Literal["tenant", "project", "key", "agent", "model", "deployment", "environment", "tag"]
"""An environment is that of the key's project; a tag is named with its value, `<tag>=<value>`."""
PayloadMode = Literal["none", "metadata", "redacted", "full"]
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
    tags: dict[str, str] = {}
    """Of its calls, unless the caller says otherwise."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    slug: str
    name: str
    cost_centre: str = ""
    environment: str = ""
    enabled: bool = True
    limits: tuple[Limit, ...] = ()
    tags: dict[str, str] = {}
    """Of its calls, unless the caller or the key says otherwise."""


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
    limits: tuple[Limit, ...] = ()
    """Its quota at the provider, of requests and tokens. Used up, calls go to the next deployment."""
    timeout_s: float = 120.0
    input_price: int | None = None
    """Pico-dollars per input token; None while unpriced. Of what calls here cost, and of the deployment's limits on money; others hold the model's price."""
    output_price: int | None = None
    unit_prices: dict[str, int] = {}
    """As of a model."""
    quality: float | None = None
    """The registered score, 0 to 100; None while there is none."""


class Semantic(msgspec.Struct, frozen=True, kw_only=True):
    """When an answer may be given again to a request that only means the same."""

    embedding: str
    """Slug of the model that says what is near what."""
    threshold: float
    """The least cosine similarity of the two questions."""
    sample: float
    """Share of such hits, 0 to 1, after which the model is asked all the same, to see whether it would have said so too."""


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """What callers of a deprecated model are told."""

    since: int | None = None
    """Seconds since the epoch; None when it was not noted."""
    until: int | None = None
    """The beginning of the day it goes, likewise; None when none was announced."""
    successor: str = ""
    """Slug of the model to use instead."""


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
    unit_prices: dict[str, int] = {}
    """Pico-dollars each of `CallEvent.units`; what lacks one costs nobody knows what."""
    max_output_tokens: int = 4096
    """What is reserved when a request names no maximum."""
    defaults: dict[str, Any] = {}
    """Of `treatments.PARAMETERS`: what is sent for a call that sets none of its own."""
    context_window: int | None = None
    sensitivity: str = ""
    """The most sensitive data that may be sent to it; for policies, as the environment is."""
    environment: str = ""
    cache_ttl_s: int = 0
    """How long an answer may be given again to the same request; 0 never."""
    cache_scope: Literal["tenant", "project", "key"] = "tenant"
    """Among whose calls."""
    semantic: Semantic | None = None
    """None: only the same request is the same."""
    objectives: Objectives | None = None
    """What deployments of one priority are chosen by; None: at random by weight."""
    leaving: Leaving | None = None
    """Of a deprecated one."""


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


class Presidio(msgspec.Struct, frozen=True, kw_only=True):
    """How a guardrail on personal data asks Presidio beside its patterns; see `presidio`."""

    entities: tuple[str, ...] = ()
    """By our names; empty for the usual ones."""
    language: str = "en"
    threshold: float = 0.4
    """Score, 0 to 1, from which something counts as found."""
    spacy_model: str = ""
    """Name of an installed one, for names of people and places; empty: none."""
    time_limit_ms: int = 1000
    """For all texts of one direction of a call."""
    may_pass: bool = False
    """Without an answer in time an enforced call goes on, which its record says; false refuses it."""


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
    presidio: Presidio | None = None
    """For `pii`: also looked at by Presidio."""


class PayloadRule(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of what is asked and answered, see `payloads`."""

    mode: PayloadMode
    days: int
    """How long, of the modes that keep something."""


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """A sample of a model's answered calls is repeated to another model; see `gateway.plane.shadow`."""

    slug: str
    model: str
    """Slug of the one that is tried."""
    share: float
    """Of the calls, 0 to 1."""
    key: str
    """Id of the key that pays; its limits hold the amount of money a day."""
    judge: str = ""
    """Slug of the model that is told both answers; empty: none is."""


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
    keys: Mapping[str, Key] = {}
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
    drill: int = 0
    """Of the newest drill. Nobody reads it: it makes another version, whose way to every plane is timed."""
    policies: tuple[Policy, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    shadows: dict[str, Shadow] = {}
    """By slug of the model whose calls are repeated."""
    prompts: dict[str, Prompt] = {}
    """By slug; those with an approved version."""
    flows: dict[str, Flow] = {}
    """Likewise. Apart from `prompts`, which a plane of the previous release fills calls in with."""
    required_tags: tuple[RequiredTag, ...] = ()
    payloads: dict[str, PayloadRule] = {}
    """By project, the organisation's own rule applied. A project that is not here is on `metadata`."""


class _Head(msgspec.Struct, array_like=True):
    snapshot: TenantSnapshot
    shards: list[int]
    """Their lengths in bytes."""


_encoder = msgspec.msgpack.Encoder()
_head_decoder = msgspec.msgpack.Decoder(_Head)
_shard_decoder = msgspec.msgpack.Decoder(dict[str, Key])


class KeyShards(Mapping[str, Key]):
    """Keys that are read when they are first asked for, a shard at a time."""

    def __init__(self, shards: Sequence[memoryview]) -> None:
        self._shards: list[memoryview | dict[str, Key]] = list(shards)

    def __getitem__(self, key_id: str) -> Key:
        if not self._shards:
            raise KeyError(key_id)
        return self._shard(_shard_of(key_id, len(self._shards)))[key_id]

    def __iter__(self) -> Iterator[str]:
        for index in range(len(self._shards)):
            yield from self._shard(index)

    def __len__(self) -> int:
        return sum(len(self._shard(index)) for index in range(len(self._shards)))

    def _shard(self, index: int) -> dict[str, Key]:
        shard = self._shards[index]
        if isinstance(shard, memoryview):
            try:
                shard = self._shards[index] = _shard_decoder.decode(shard)
            except msgspec.DecodeError as error:
                raise SnapshotError(f"keys cannot be read: {error}") from error
        return shard


def _shard_of(key_id: str, count: int) -> int:
    return zlib.crc32(key_id.encode()) % count


def encode(snapshot: TenantSnapshot) -> bytes:
    """The snapshot as it is stored and sent. The same content in the same order gives the same bytes."""
    shards: list[dict[str, Key]] = [{} for _ in range(-(-len(snapshot.keys) // KEYS_PER_SHARD))]
    for key_id, key in snapshot.keys.items():
        shards[_shard_of(key_id, len(shards))][key_id] = key
    bodies = [_encoder.encode(shard) for shard in shards]
    head = _encoder.encode(_Head(msgspec.structs.replace(snapshot, keys={}), [len(body) for body in bodies]))
    payload = b"".join([len(head).to_bytes(4), head, *bodies])
    return MAGIC + hashlib.sha256(payload).digest() + payload


def checksum(body: bytes) -> str:
    """The hexadecimal sha256 that an encoded snapshot carries."""
    return body[4:36].hex()


def decode(body: bytes) -> TenantSnapshot:
    """Read an encoded snapshot back, its keys excepted, see `KeyShards`; SnapshotError when it is damaged.

    Most of the time goes into the checksum, which lets other threads run meanwhile.
    """
    if body[:4] != MAGIC:
        raise SnapshotError("not a snapshot")
    payload = memoryview(body)[36:]
    if hashlib.sha256(payload).digest() != body[4:36]:
        raise SnapshotError("checksum does not match")
    start = 4 + int.from_bytes(payload[:4])
    try:
        head = _head_decoder.decode(payload[4:start])
    except msgspec.DecodeError as error:
        raise SnapshotError(str(error)) from error
    shards = []
    for length in head.shards:
        shards.append(payload[start : start + length])
        start += length
    return msgspec.structs.replace(head.snapshot, keys=KeyShards(shards))
