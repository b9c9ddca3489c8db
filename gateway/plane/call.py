"""One governed call on its way through the pipeline."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gateway.contract.events import CallEvent, Kind, Status, Step, UsageSource
from gateway.contract.guardrails import Guard, Scan
from gateway.contract.snapshot import Deployment, Key, Model, Project
from gateway.plane.big_json import SHORT_BYTES
from gateway.plane.cache import MOST_ANSWER_BYTES
from gateway.plane.choice import Choice
from gateway.plane.http import HeaderList, Headers, Receive, Send, own_request_id
from gateway.plane.leases import Reservation
from gateway.plane.served import PublishedTool, Served
from gateway.plane.slots import Held
from gateway.plane.usage import Usage

if TYPE_CHECKING:
    from gateway.plane.payloads import Watch
    from gateway.plane.plane import Plane
    from gateway.plane.prompts import AskedPrompt
    from gateway.plane.semantic import Asked
    from gateway.plane.text.said import OnText, Said


Surface = Literal["chat", "embeddings", "messages", "count_tokens", "responses"]
SURFACES: dict[Surface, str] = {
    "chat": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "responses": "/v1/responses",
}
"""What callers speak, by the path where they speak it."""
ANTHROPIC = frozenset[Surface](("messages", "count_tokens"))
"""Those of the Anthropic protocol."""


LOST = "process_lost"
"""Error code of a call whose process was killed while its upstream worked on it."""


def uuid7() -> str:
    """A UUID that sorts by time (RFC 9562). From any thread."""
    try:
        drawn = _drawn.pop()
    except IndexError:
        many = os.urandom(CHANCE_BYTES * 256)
        fresh = [many[start : start + CHANCE_BYTES] for start in range(0, len(many), CHANCE_BYTES)]
        drawn = fresh.pop()
        _drawn.extend(fresh)
    chance = int.from_bytes(drawn)
    # The version 7 is in front of 12 bits of chance, the variant 10 in front of the other 62.
    low = f"{chance & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000:016x}"
    high = f"{time.time_ns() // 1_000_000 << 16 | 0x7000 | chance >> 68:016x}"
    return f"{high[:8]}-{high[8:12]}-{high[12:]}-{low[:4]}-{low[4:]}"


CHANCE_BYTES = 10
_drawn: list[bytes] = []
"""Got from the system for many at once: each time it lets go of the interpreter's lock, and another thread takes it.

Each is popped by one thread only: that is one step of the interpreter.
"""
os.register_at_fork(after_in_child=_drawn.clear)


@dataclass(slots=True, eq=False)
class Call:
    """What the steps know and decide. `kind` says which of the fields about a model or a tool are filled."""

    plane: Plane
    kind: Kind
    headers: Headers
    receive: Receive
    send: Send
    surface: Surface = "chat"
    """Of a model call; decides the shape of answers and errors."""
    started_ns: int = field(default_factory=time.perf_counter_ns)
    started_at: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    event_id: str = field(default_factory=uuid7)
    request_id: str = ""
    """The caller's own where it sent one, else that of the event."""
    steps: list[Step] = field(default_factory=list)
    # who
    served: Served | None = None
    key: Key | None = None
    project: Project | None = None
    agent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    # what
    name: str | None = None
    """The model's slug or the tool's published name, as the caller wrote it."""
    model: Model | None = None
    tool: PublishedTool | None = None
    body: dict[str, Any] = field(default_factory=dict)
    body_bytes: int = 0
    """Of the request as it was read, with the prompt that it names."""
    defaulted: tuple[str, ...] = ()
    """Fields of the body that the model's defaults filled in, as `treatments.FIELDS` writes them."""
    is_limit_ours: bool = False
    """What a chat may write at most is none of a caller's own words (we filled it in, or the portal calls): each host is told it by the name that it knows."""
    arguments: dict[str, Any] = field(default_factory=dict)
    prompt: AskedPrompt | None = None
    """That the body begins with, when the call named one."""
    stream: bool = False
    hide_usage: bool = False
    input_estimate: int = 0
    output_estimate: int = 0
    # how it went
    reservation: Reservation | None = None
    slots: list[Held] = field(default_factory=list)
    """Of limits on calls at once."""
    forbidden: frozenset[str] = frozenset()
    """Deployments that a policy keeps this call from."""
    output_guards: tuple[Guard, ...] = ()
    """The guardrails that the answer passes."""
    deployments: list[Deployment] = field(default_factory=list)
    choice: Choice | None = None
    """Among which deployments it was chosen, when the model has objectives."""
    exchange: Callable[[Call], Awaitable[str]] | None = None
    """Speaks with the upstream; the verdict's detail is its result."""
    is_answered: bool = False
    """The answer is sent already, from what was kept: no upstream is asked."""
    cache_key: bytes | None = None
    semantic: Asked | None = None
    """The question as the semantic cache compares it, when it was looked up and not found."""
    kept: list[bytes] | None = None
    """What is sent to the caller, while the answer is to be kept."""
    kept_bytes: int = 0
    kept_headers: tuple[tuple[bytes, bytes], ...] = ()
    on_text: OnText | None = None
    """Passes or changes the answer's texts before the caller sees them. A Refusal that it raises ends the answer. None costs nothing."""
    output_scan: Scan | None = None
    """What `on_text` has found so far."""
    end_of_answer: Callable[[], None] | None = None
    """Has what was sent of an answer that broke off looked at to its end."""
    heard: dict[Said, list[str]] | None = None
    """The answer's texts in pieces, where a guardrail that only monitors looks at them when the call is over."""
    payload: Watch | None = None
    """What is noted of the call for the organisation's payload mode; None for most."""
    deployment: Deployment | None = None
    upstream_model: str | None = None
    upstream: Any = None
    """The open upstream response of a stream, so that it can be closed from outside."""
    attempt_ns: int = 0
    """When the last deployment was asked, on the clock of `started_ns`."""
    upstream_ns: int = 0
    """Time spent waiting for the upstream before the first byte went to the client, and for its whole body after."""
    waits_since_ns: int = 0
    """Since when it waits for the beginning of an upstream's answer, on the clock of `started_ns`; 0 while it does not."""
    watcher: asyncio.Task[None] | None = None
    """Looks meanwhile whether the caller of a stream hangs up."""
    may_have_spent: bool = False
    """The upstream took the call, so that unknown usage is not zero usage."""
    result: Any = None
    """What a tool gave back."""
    response_headers: HeaderList = field(default_factory=list)
    client_started: bool = False
    client_gone: bool = False
    has_all: bool = False
    """The caller that is gone had read the answer to its last event."""
    cut: Exception | None = None
    """Why it was ended by us while it waited for its upstream: a refusal by a newer snapshot, or its caller is gone."""
    ttft_us: int | None = None
    beginning: bytes = b""
    """First piece of a stream, as its caller gets it."""
    status: Status = "ok"
    http_status: int = 200
    error_code: str | None = None
    usage: Usage | None = None
    usage_source: UsageSource = "none"

    def __post_init__(self) -> None:
        if self.kind == "embeddings":
            self.surface = "embeddings"
        self.request_id = own_request_id(self.headers) or self.event_id

    def keep(self, data: bytes) -> None:
        """Note what is sent; an answer that grows too long is let go."""
        if self.kept is not None:
            self.kept.append(data)
            self.kept_bytes += len(data)
            if self.kept_bytes > MOST_ANSWER_BYTES:
                self.kept = None

    @property
    def is_short(self) -> bool:
        """To look through its request takes no longer than a turn, see `big_json`. A tool's arguments are not measured."""
        return 0 < self.body_bytes <= SHORT_BYTES

    @property
    def overhead_us(self) -> float:
        """Time inside the gateway so far, without waiting for the upstream."""
        return (time.perf_counter_ns() - self.started_ns - self.upstream_ns) / 1000

    def lost(self) -> CallEvent:
        """The record of this call in case that its process is killed before it ends: what is known by now, and its input by estimate."""
        event = self.event()
        event.status, event.http_status, event.error_code = "error", 500, LOST
        event.steps = [*self.steps, Step("call_upstream", LOST, 0)]
        if self.deployments and event.deployment is None:
            first = self.deployments[0]
            event.deployment, event.provider, event.region = first.id, first.provider, first.region or None
        if self.kind != "tool":
            event.input_tokens, event.usage_source = self.input_estimate, "estimated"
        return event

    def event(self, ended_ns: int | None = None) -> CallEvent:
        """The record of this call, which ended then on the clock of `started_ns`, or now. Only for a call whose tenant is known."""
        served, usage, deployment = self.served, self.usage, self.deployment
        assert served is not None
        duration_ns = (ended_ns or time.perf_counter_ns()) - self.started_ns
        prompt = usage.prompt_tokens_details if usage else None
        completion = usage.completion_tokens_details if usage else None
        return CallEvent(
            event_id=self.event_id,
            tenant=served.tenant,
            kind=self.kind,
            started_at=self.started_at,
            duration_us=duration_ns // 1000,
            overhead_us=max(0, duration_ns - self.upstream_ns) // 1000,
            ttft_us=self.ttft_us,
            request_id=self.request_id,
            project=self.key.project if self.key else None,
            key_id=self.key.id if self.key else None,
            agent=self.agent,
            model=self.name,
            provider=deployment.provider if deployment else (self.tool.server.namespace if self.tool else None),
            deployment=deployment.id if deployment else None,
            upstream_model=self.upstream_model,
            region=(deployment.region or None) if deployment else None,
            status=self.status,
            http_status=self.http_status,
            error_code=self.error_code,
            stream=self.stream,
            input_tokens=usage.prompt_tokens if usage else None,
            output_tokens=usage.completion_tokens if usage else None,
            cached_input_tokens=prompt.cached_tokens if prompt else None,
            cache_write_tokens=prompt.cache_write_tokens if prompt else None,
            reasoning_tokens=completion.reasoning_tokens if completion else None,
            usage_source=self.usage_source,
            service_tier=usage.service_tier if usage else None,
            units=usage.units if usage else None,
            answer_id=usage.answer_id if usage else None,
            snapshot_version=served.version,
            tags=self.tags,
            steps=self.steps,
        )
