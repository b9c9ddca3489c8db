"""Calls that the gateway makes itself on behalf of another call: by the same rules, with an event and a cost of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from gateway.contract.events import Kind, Step
from gateway.contract.names import CAUSE_TAG
from gateway.contract.snapshot import Model
from gateway.contract.tags import MOST_TAGS
from gateway.plane.call import Call, Surface
from gateway.plane.errors import Refusal
from gateway.plane.http import Message
from gateway.plane.upstream.exchange import exchange
from gateway.plane.usage import asked_output, estimate_input

Judge = Callable[[Call, bytes], Awaitable[None]]
"""Asked about a call that was answered, with the answer."""


async def ask(
    outer: Call,
    *,
    kind: Kind,
    surface: Surface,
    model: Model,
    body: dict[str, Any],
    cause: str,
    body_bytes: int | None = None,
    judge: Judge | None = None,
) -> bytes:
    """The answer to a request that is made for the key and project of `outer`; the event carries the tag CAUSE_TAG with `cause`.

    Consent, policies, limits and guardrails hold as for any call. What a key may call is not asked: the organisation chose the model, not
    the caller. `body_bytes` is about the length of a body that may be long. `judge` may add to the steps before they are recorded, and changes nothing else of the call when it fails.
    Raises Refusal, or whatever the exchange raises.
    """
    from gateway.plane.pipeline import AFTER, INNER_ROAD, take  # a step of the pipeline makes such calls

    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Message:  # nobody hangs up
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    call = Call(outer.plane, kind, {}, receive, send)
    call.surface, call.exchange, call.request_id = surface, exchange, outer.request_id
    call.served, call.key, call.project, call.agent = outer.served, outer.key, outer.project, outer.agent
    call.tags = {**dict(list(outer.tags.items())[: MOST_TAGS - 1]), CAUSE_TAG: cause}
    call.name, call.model, call.body = model.slug, model, body
    call.is_limit_ours = outer.is_limit_ours  # of whose body this one may be made
    call.body_bytes = len(orjson.dumps(body)) if body_bytes is None else body_bytes
    call.input_estimate = estimate_input(call.body_bytes, model.context_window)
    if kind == "chat":
        call.output_estimate = asked_output(body, surface, model.max_output_tokens)
    began = time.perf_counter_ns()
    try:
        await take(INNER_ROAD, call)
    except BaseException as error:
        if call.status == "ok":
            is_late = isinstance(error, asyncio.CancelledError)
            call.status, call.http_status = ("client_gone", 499) if is_late else ("error", 500)
            code, status = getattr(error, "code", None), getattr(error, "status", None)
            if isinstance(code, str) and isinstance(status, int):
                call.status, call.error_code, call.http_status = "refused", code, status
        raise
    else:
        answer = b"".join(sent)
        if judge is not None and call.status == "ok" and call.http_status == 200:
            await _judge(judge, call, answer)
        return answer
    finally:
        call.steps.append(Step("inner", "pass", (time.perf_counter_ns() - began) // 1000, cause))
        await take(AFTER, call)


async def _judge(judge: Judge, call: Call, answer: bytes) -> None:
    """What comes of an opinion is no part of the call, which was answered: without one, its record says why there is none."""
    try:
        await judge(call, answer)
    except BaseException as error:
        call.steps.append(Step("judge", "failed", 0, type(error).__name__))
        if not isinstance(error, Refusal | ValueError):  # of those two, what it asked has an event of its own
            raise
