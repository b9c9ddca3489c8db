"""What calls said, on its way to the organisation's own store: noted while it goes by, cleaned and sealed afterwards.

Nothing here delays an answer: while the call runs, references to what is sent are kept; the rest happens in a thread after the record.
It is best effort, unlike the record: when memory or the spool fill up, payloads are left out first, and the record of the call says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.contract.events import PayloadEvent, Step
from gateway.contract.keys import digest
from gateway.contract.payloads import KEEPING, Payload, clean, seal, subject_text
from gateway.contract.sealing import Sealer
from gateway.contract.snapshot import PayloadRule
from gateway.plane.assembly import assembled
from gateway.plane.call import Call
from gateway.plane.http import Message, Send
from gateway.plane.spool import Spool

logger = logging.getLogger(__name__)

MOST_REPLY_BYTES = 4 * 1024 * 1024
"""Of a reply as it was sent; a longer one is not kept."""
MOST_WAITING_BYTES = 32 * 1024 * 1024
SPOOL_SHARE = 0.5
"""Of the spool's room: above it there is room for records only."""
DAY_S = 24 * 3600


class Watch:
    """What is noted of one call under a rule that is not `metadata`."""

    __slots__ = ("_send", "is_too_long", "parts", "project", "rule", "size")

    def __init__(self, rule: PayloadRule, project: str, send: Send) -> None:
        self.rule = rule
        self.project = project
        """Whose words they are: a shadow is paid by another one."""
        self.parts: list[bytes] = []
        self.size = 0
        self.is_too_long = False
        self._send = send

    async def send(self, message: Message) -> None:
        body: bytes = message.get("body", b"")
        if body and not self.is_too_long:
            self.parts.append(body)
            self.size += len(body)
            if self.size > MOST_REPLY_BYTES:
                self.is_too_long = True
                self.parts.clear()
        await self._send(message)


def watch_payload(call: Call) -> None:
    """From now on what the caller is sent is noted, if the rule of the call's project wants it. For calls whose key is known."""
    served, key = call.served, call.key
    assert served is not None
    assert key is not None
    rules = served.snapshot.payloads
    if not rules or (rule := rules.get(key.project)) is None:
        return
    call.payload = watch = Watch(rule, key.project, call.send)
    if rule.mode in KEEPING and call.kind != "tool":
        call.send = watch.send


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One call's payload before it is cleaned. Holds what was said, so it is never logged or shown."""

    rule: PayloadRule
    event: PayloadEvent
    surface: str
    is_stream: bool
    request: Any
    reply: Any
    """The bytes that were sent, or a tool's result."""
    is_reply_cut: bool
    """It was too long to be kept."""
    size: int

    def __repr__(self) -> str:
        return f"_Waiting({self.event.event_id})"


class Payloads:
    """The payloads of one plane process between the call and the spool."""

    def __init__(self, spool: Spool, sealer: Sealer, pepper: bytes) -> None:
        self._spool = spool
        self._sealer = sealer
        self._pepper = pepper
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        """Since the start, for want of room."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._work_always())

    async def close(self) -> None:
        """Seal what waits into the spool, which must still be open."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._waiting:
            await self._seal_one(self._waiting.popleft())

    def take(self, call: Call) -> None:
        """The call has ended: keep what its rule allows, and say in its steps what became of it."""
        watch = call.payload
        assert watch is not None
        if watch.rule.mode not in KEEPING:
            call.steps = discreet(call, call.steps)
            return
        size = waiting_bytes(call, watch)
        if self._waiting_bytes + size > MOST_WAITING_BYTES or self._spool.share_used > SPOOL_SHARE:
            self.dropped += 1
            call.steps.append(Step("payload", "dropped", 0, "no room"))
            return
        self._waiting_bytes += size
        self._waiting.append(_waiting(call, watch, self._subject(call), size))
        self._news.set()
        call.steps.append(Step("payload", "pass", 0, watch.rule.mode))

    def _subject(self, call: Call) -> str:
        assert call.served is not None
        user = end_user(call.body)
        return digest(subject_text(call.served.tenant, user), self._pepper) if user else ""

    async def _work_always(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await asyncio.shield(self._seal_one(self._waiting.popleft()))

    async def _seal_one(self, waiting: _Waiting) -> None:
        try:
            sealed = await asyncio.to_thread(_sealed, waiting, self._sealer)
        except Exception:  # of one payload; those behind it must not wait for ever
            logger.exception("payload.failed", extra={"event_id": waiting.event.event_id})
            sealed = None
        self._waiting_bytes -= waiting.size
        if sealed is None:
            self.dropped += 1
            return
        waiting.event.sealed = sealed
        self._spool.append(waiting.event)


def waiting_bytes(call: Call, watch: Watch) -> int:
    """What a call holds while its payload waits, about: as it was read and sent, for a tool's arguments and result as they are written."""
    if call.kind != "tool":
        return call.body_bytes + (0 if watch.is_too_long else watch.size)
    result = call.result.model_dump() if call.result is not None else None
    return len(repr(call.arguments)) + len(repr(result))


def end_user(body: dict[str, Any]) -> str:
    """The end user whom a request names, in any dialect; empty when none is."""
    user = body.get("user") or body.get("safety_identifier")
    if user is None and isinstance(metadata := body.get("metadata"), dict):
        user = metadata.get("user_id")
    return user if isinstance(user, str) else ""


def _waiting(call: Call, watch: Watch, subject: str, size: int) -> _Waiting:
    served, key = call.served, call.key
    assert served is not None
    assert key is not None
    event = PayloadEvent(
        event_id=call.event_id,
        tenant=served.tenant,
        at=call.started_at,
        expires_at=call.started_at + watch.rule.days * DAY_S,
        project=watch.project,
        key_id=key.id,
        model=call.name or "",
        mode=watch.rule.mode,
        subject=subject,
        sealed="",
    )
    is_tool = call.kind == "tool"
    reply = call.result if is_tool else watch.parts
    return _Waiting(watch.rule, event, call.surface, call.stream, call.arguments if is_tool else call.body, reply, watch.is_too_long, size)


def _sealed(waiting: _Waiting, sealer: Sealer) -> str | None:
    """In a thread. None when it is too long all the same."""
    mode, event = waiting.rule.mode, waiting.event
    reply = _reply(waiting)
    request, request_cut = clean(waiting.request, mode)
    reply, reply_cut = clean(reply, mode) if reply is not None else (None, False)
    is_cut = request_cut or reply_cut or waiting.is_reply_cut
    return seal(sealer, Payload(event_id=event.event_id, tenant=event.tenant, request=request, reply=reply, is_cut=is_cut))


def _reply(waiting: _Waiting) -> Any:
    """The answer as a value; None when there was none or it cannot be read."""
    if not isinstance(waiting.reply, list):
        return waiting.reply.model_dump(mode="json", by_alias=True, exclude_none=True) if waiting.reply is not None else None
    body = b"".join(waiting.reply)
    if not body:
        return None
    try:
        return orjson.loads(body)  # an answer to a stream may be whole, too: an error is
    except orjson.JSONDecodeError:
        return assembled(waiting.surface, body) if waiting.is_stream else None


def discreet(call: Call, steps: list[Step]) -> list[Step]:
    """Under `none` the record says what was decided, and nothing that was counted in the texts."""
    if call.payload is None or call.payload.rule.mode in KEEPING:
        return steps
    return [Step(step.name, step.verdict, step.micros) if step.name.startswith("guardrail:") else step for step in steps]
