"""An upstream's error as what its caller may see of it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import orjson

from gateway.plane.call import ANTHROPIC, Call
from gateway.plane.errors import Refusal
from gateway.plane.http import JSON, send_whole, standard_headers
from gateway.plane.served import Target
from gateway.plane.upstream.answers import read_up_to
from gateway.plane.upstream.dialects import Pair
from gateway.plane.upstream.wire import Answer, WireError

MAX_ERROR_BYTES = 1024 * 1024
_BUSY = frozenset({429, 503, 529})
"""Whoever answers so is asked again by clients at once, unless they are told when."""


@dataclass(frozen=True)
class ForeignRefusal:
    """An upstream's refusal in the caller's shape, fit to be passed on."""

    status: int
    body: bytes
    retry_after_s: int | None


async def failure(call: Call, pair: Pair, response: Answer, target: Target) -> Refusal | ForeignRefusal:
    """An upstream's error status as what the caller may see."""
    provider = target.deployment.provider
    if response.status in (401, 403, 407):
        # About our credential, not the caller's; providers like to quote parts of it.
        response.close()
        if target.cloud is not None and response.status == 401:
            target.cloud.refused(call.plane.tokens)
        return Refusal("upstream_error", f"The provider {provider} refused the gateway's credential (HTTP {response.status}).")
    try:
        body = await read_up_to(response, MAX_ERROR_BYTES) or b""
    except (WireError, TimeoutError):
        body = b""
    finally:
        response.close()
    for secret in target.secrets:
        body = body.replace(secret.encode(), b"[redacted]")
    try:
        shape = orjson.loads(body)
    except orjson.JSONDecodeError:
        shape = None
    if target.cloud is not None:
        shape = target.cloud.error(response.status, response.headers, shape)
    if isinstance(shape, dict) and isinstance(shape.get("error"), dict):
        # What no provider gives reliably, and every refusal must have: a stable code, who refused, and the call's id.
        status, shape = pair.error(response.status, shape)
        error = shape["error"]
        code = error.get("code")  # some servers repeat the status in it, as a number or in digits
        error["code"] = code if isinstance(code, str) and code and not code.isdigit() else "upstream_error"
        error |= {"request_id": call.request_id, "scope": f"deployment:{target.deployment.id}"}
        if call.surface in ANTHROPIC:
            shape["request_id"] = call.request_id
        return ForeignRefusal(status, orjson.dumps(shape), _wait_s(response))
    if response.status == 429:
        return Refusal("upstream_error", f"The provider {provider} is overloaded (HTTP 429).", status=429, retry_after_s=_wait_s(response))
    return Refusal("upstream_error", f"The provider {provider} answered with HTTP {response.status}.")


def _wait_s(response: Answer) -> int | None:
    """Seconds that an upstream asks callers to wait, which it may say as a number or a date; at least 1 where it must be told.

    Source: RFC 9110, section 10.2.3.
    """
    said = response.headers.get("retry-after", "").strip()
    try:
        wait_s = math.ceil(float(said))
    except (ValueError, OverflowError):
        try:
            wait_s = math.ceil(parsedate_to_datetime(said).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            wait_s = 0
    return max(1, wait_s) if wait_s > 0 or response.status in _BUSY else None


async def pass_on(call: Call, answer: ForeignRefusal) -> None:
    """An upstream's own refusal to the caller."""
    call.status, call.error_code, call.http_status, call.client_started = "upstream_error", "upstream_error", answer.status, True
    headers = [JSON, *standard_headers(call.request_id, call.overhead_us), *call.response_headers]
    if answer.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % answer.retry_after_s))
    await send_whole(call.send, answer.status, headers, answer.body)
