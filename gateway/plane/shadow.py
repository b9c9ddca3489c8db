"""Shadows: a sample of a model's answered calls goes to another model as well, after the caller has the whole answer.

The second call is a governed call of its own: the caller's key, consent and policies must allow it, then the shadow's own key pays, in its own
project and under its own amount of money a day, and the record carries the tags `shadow` and `shadow_of`. Its answer goes nowhere but to the
payload store, under the payload rule of the caller's project. Whatever is too much is dropped: callers never wait for a shadow.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from typing import TYPE_CHECKING

from gateway.contract.names import SHADOW_HEADER, SHADOW_OF_TAG, SHADOW_TAG
from gateway.contract.snapshot import Key, Shadow, SnapshotError
from gateway.plane.call import Call
from gateway.plane.defaults import without_defaults
from gateway.plane.errors import Refusal
from gateway.plane.http import Message
from gateway.plane.payloads import watch_payload
from gateway.plane.pipeline import StepFunction, finish, take
from gateway.plane.pipeline.authorize import authorize
from gateway.plane.pipeline.call_upstream import call_upstream
from gateway.plane.pipeline.consent import consent
from gateway.plane.pipeline.guard_input import guard_input
from gateway.plane.pipeline.identify import check_holder
from gateway.plane.pipeline.policy import policy
from gateway.plane.pipeline.reserve import reserve
from gateway.plane.pipeline.route import route
from gateway.plane.pipeline.settle import settle
from gateway.plane.usage import asked_output

if TYPE_CHECKING:
    from gateway.plane.plane import Plane

logger = logging.getLogger(__name__)

MOST_WAITING = 32
REST_S = 60.0
"""After a limit that refused. What is left may still cover smaller calls, and limits are raised: it is never until the window ends."""
WORKERS = 2
SURFACES = frozenset(("chat", "messages"))
_HEADER = SHADOW_HEADER.encode()
AGENT = "shadow"
_MAY: tuple[StepFunction, ...] = (consent, authorize, policy, guard_input)
"""Asked as the caller, whose words these are."""
_MAY_BE_TOLD: tuple[StepFunction, ...] = (consent, policy)
"""Likewise of the judge, which is asked later, by the key that pays."""
_ROAD: tuple[StepFunction, ...] = (route, call_upstream)


class Shadows:
    """Of one plane process: calls that wait to be repeated, and the few that repeat them."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._waiting: deque[tuple[Call, Shadow]] = deque()
        self._news = asyncio.Semaphore(0)
        self._tasks: list[asyncio.Task[None]] = []
        self._closed_until: dict[tuple[str, str], float] = {}
        """Shadows that a limit refused, until seconds since the epoch."""
        self.dropped = 0
        """Since the start, because too many waited."""
        self.not_allowed = 0
        """Since the start, because consent, key, policies or limits did not allow the call."""

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._work_always()) for _ in range(WORKERS)]

    async def close(self) -> None:
        """What waits is forgotten; what is under way is cut off, settled and recorded."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._waiting.clear()

    def offer(self, call: Call) -> None:
        """A call has ended. Sampled by chance; never blocks."""
        assert call.served is not None
        shadow = call.served.snapshot.shadows.get(call.model.slug) if call.model else None
        if shadow is None or call.status != "ok" or call.is_answered or call.surface not in SURFACES or call.headers.get(_HEADER) == b"off":
            return
        if call.key is None or call.key.id == shadow.key:  # what its own key pays is the judge, not a caller
            return
        if random.random() >= shadow.share or self._is_closed(call, shadow):  # noqa: S311  # no secret
            return
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append((call, shadow))
        self._news.release()

    def _is_closed(self, call: Call, shadow: Shadow) -> bool:
        assert call.served is not None
        return self._closed_until.get((call.served.tenant, shadow.slug), 0.0) > time.time()

    async def _work_always(self) -> None:
        while True:
            await self._news.acquire()
            primary, shadow = self._waiting.popleft()
            if self._is_closed(primary, shadow):
                continue
            try:
                await self._repeat(primary, shadow)
            except Refusal as refusal:
                self.not_allowed += 1
                assert primary.served is not None
                self._closed_until[primary.served.tenant, shadow.slug] = rests_until(refusal, time.time())
            except Exception:  # of one shadow; those behind it must not wait for ever
                logger.exception("shadow.failed", extra={"shadow": shadow.slug})

    async def _repeat(self, primary: Call, shadow: Shadow) -> None:
        """Refusal when it may not be made, or the shadow's money is used up; then nothing is recorded."""
        call, payer = self._call(primary, shadow, shadow.model)
        await take(_MAY, call)
        if shadow.judge:
            judging, _ = self._call(primary, shadow, shadow.judge)
            await take(_MAY_BE_TOLD, judging)
            if judging.forbidden:  # which of its deployments will be asked is not known now
                raise Refusal("policy_denied", "A policy forbids a deployment of the judge.")
        assert call.served is not None
        if call.served.snapshot.payloads:
            watch_payload(call)  # by the rule of the caller's project, whose words these are
        call.key, call.project, call.agent = payer, call.served.snapshot.projects.get(payer.project), AGENT
        try:
            await take((reserve,), call)
        except Refusal:
            await take((settle,), call)  # slots that were taken before the limit that refused
            raise
        try:
            await take(_ROAD, call)
        except Refusal as refusal:
            if call.status == "ok":
                call.status = "refused"
            call.error_code, call.http_status = refusal.code, refusal.status
        except BaseException:
            call.status, call.error_code, call.http_status = "error", "internal_error", 500
            raise
        finally:
            await finish(call)

    def _call(self, primary: Call, shadow: Shadow, model: str) -> tuple[Call, Key]:
        """The same request to another model, under the newest snapshot, and the key that pays. Refusal when one of the keys is no more."""
        assert primary.served is not None
        assert primary.key is not None
        served = self._plane.snapshots.current(primary.served.tenant) or primary.served
        try:
            caller, payer = (served.snapshot.keys.get(key_id) for key_id in (primary.key.id, shadow.key))
        except SnapshotError as error:
            raise Refusal("store_unavailable", "The keys of the organisation cannot be read.") from error
        if caller is None or payer is None or shadow != served.snapshot.shadows.get(primary.model.slug if primary.model else ""):
            raise Refusal("key_revoked", "The shadow or one of its keys is no more.")
        check_holder(served, caller)
        check_holder(served, payer)
        call = Call(self._plane, "chat", primary.headers, _nobody_leaves, _nobody_reads)
        call.request_id = call.event_id
        call.surface, call.stream, call.exchange = primary.surface, primary.stream, primary.exchange
        call.served, call.key, call.project, call.agent = served, caller, primary.project, primary.agent
        call.name, call.model = model, served.snapshot.models.get(model)
        call.tags = {**primary.tags, SHADOW_TAG: shadow.slug, SHADOW_OF_TAG: primary.event_id}
        call.is_limit_ours = primary.is_limit_ours
        call.body, call.body_bytes = {**without_defaults(primary), "model": model}, primary.body_bytes
        call.input_estimate = primary.input_estimate
        call.output_estimate = asked_output(call.body, call.surface, call.model.max_output_tokens if call.model else 0)
        return call, payer


def rests_until(refusal: Refusal, now: float) -> float:
    """When the next call is repeated after one that was refused: at once, unless a limit did it. Seconds since the epoch."""
    if refusal.code not in ("budget_exceeded", "rate_limit_exceeded") or refusal.resets_at is None:
        return now
    return min(refusal.resets_at, now + REST_S)


async def _nobody_leaves() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("waited for ever")


async def _nobody_reads(message: Message) -> None:
    pass
