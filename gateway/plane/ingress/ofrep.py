"""OFREP 0.3, the OpenFeature Remote Evaluation Protocol: flags for every OpenFeature SDK.

`POST /ofrep/v1/evaluate/flags/{key}` and `POST /ofrep/v1/evaluate/flags`. Who asks is proved by a virtual key; tenant, project and
key come from it and can't be claimed in a context. An evaluation is no governed call: it leaves no event.
Source: open-feature/protocol, service/openapi.yaml, 0.3.0.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from typing import Any

import orjson

from gateway.contract.flags import Decision, Flag, decide
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import JSON, Headers, Receive, Send, is_known_etag, read_body, send_refusal, send_whole, standard_headers
from gateway.plane.pipeline import WHO
from gateway.plane.pipeline.flags import has_consent, known_facts
from gateway.plane.plane import Plane
from gateway.plane.served import Served

ROOT = "/ofrep/v1/evaluate/flags"
MAX_CONTEXT_BYTES = 64 * 1024
MAX_FLAG_KEY_CHARACTERS = 200
EVALUATIONS_PER_WINDOW = 100_000
"""Of one key in one process: far more than a server needs, and less than would starve the calls beside it."""
WINDOW_S = 10.0
MAX_KEYS_PACED = 10_000


class Pace:
    """Counts requests per key in fixed windows."""

    def __init__(self, limit: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._counted: dict[str, tuple[float, int]] = {}

    def wait_s(self, key: str) -> int:
        """Count one request: 0 when it may pass, else whole seconds until the next one may."""
        now = self._clock()
        end, count = self._counted.get(key, (0.0, 0))
        if now >= end:
            if len(self._counted) >= MAX_KEYS_PACED:
                self._counted.clear()
            end, count = now + self._window_s, 0
        if count >= self._limit:
            return math.ceil(end - now)
        self._counted[key] = (end, count + 1)
        return 0


pace = Pace(EVALUATIONS_PER_WINDOW, WINDOW_S)


class EvaluationError(Exception):
    """The request can't be evaluated; becomes an answer in OFREP's error shape."""

    def __init__(self, code: str, details: str, status: int = 400) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.status = status


async def serve_flags(plane: Plane, path: str, method: str, headers: Headers, receive: Receive, send: Send) -> None:
    """One request below /ofrep/."""
    call = Call(plane, "chat", headers, receive, send)
    key = path[len(ROOT) :].strip("/")
    try:
        if path != ROOT and not path.startswith(f"{ROOT}/"):
            raise Refusal("unknown_route", f"There is nothing at {path[:200]}. Flags are evaluated at {ROOT}.")
        if method != "POST":
            raise Refusal("method_not_allowed", f"Use POST for {ROOT}.")
        await WHO(call)
        served = call.served
        assert served is not None
        _keep_pace(call)
        context = _context(call, served, await read_body(receive, headers, MAX_CONTEXT_BYTES))
        if key:
            await _answer_one(call, served, key, context)
        else:
            await _answer_all(call, served, context)
    except EvaluationError as error:
        body = {"errorCode": error.code, "errorDetails": error.details}
        await send_whole(send, error.status, _headers(call), orjson.dumps({"key": key, **body} if key else body))
    except Refusal as refusal:
        if call.key is None:
            plane.metrics.count_stranger(refusal.code)
        await send_refusal(send, refusal, call.request_id, call.overhead_us, [(b"allow", b"POST")] if refusal.status == 405 else None)


def _keep_pace(call: Call) -> None:
    assert call.key is not None
    assert call.served is not None
    wait_s = pace.wait_s(f"{call.served.tenant}:{call.key.id}")
    if wait_s:
        # Seconds, not a date: the official Python client stumbles over ISO dates.
        raise Refusal("rate_limit_exceeded", f"The key {call.key.id} asks for flags too often.", scope="key", retry_after_s=wait_s)


def _context(call: Call, served: Served, body: bytes) -> dict[str, Any]:
    """The evaluation context, with what the credential proves. `user` is the targeting key. EvaluationError when it can't be used."""
    try:
        request = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise EvaluationError("PARSE_ERROR", f"The request body is not valid JSON: {error}") from error
    if not isinstance(request, dict):
        raise EvaluationError("PARSE_ERROR", "The request body must be a JSON object.")
    given = request.get("context")
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise EvaluationError("INVALID_CONTEXT", "The context must be a JSON object.")
    subject = given.get("targetingKey")
    if subject is not None and not isinstance(subject, str):
        raise EvaluationError("INVALID_CONTEXT", "The targetingKey must be a string.")
    if subject is not None and not subject.strip():
        raise EvaluationError("TARGETING_KEY_MISSING", "The targetingKey is empty.")
    context = {**served.snapshot.facts, **given}
    region = context.get("region")
    if subject is not None:
        context["user"] = subject
    if call.agent is not None:
        context["agent"] = call.agent
    context.update(known_facts(call, served))
    if region is not None:
        context["region"] = region  # where the user is, which only the caller knows; the tenant's own where nobody says
    return context


async def _answer_one(call: Call, served: Served, key: str, context: dict[str, Any]) -> None:
    flag = served.snapshot.flags.get(key)
    if flag is None:
        raise EvaluationError("FLAG_NOT_FOUND", f"There is no flag {key[:MAX_FLAG_KEY_CHARACTERS]}.", 404)
    await send_whole(call.send, 200, _headers(call), orjson.dumps(_evaluated(flag, served, context)))


async def _answer_all(call: Call, served: Served, context: dict[str, Any]) -> None:
    """Every flag of the tenant, or 304 when nothing that decides has changed since the caller asked."""
    etag = _etag(served, context)
    headers = [*_headers(call), (b"etag", etag)]
    if is_known_etag(call.headers.get(b"if-none-match", b""), etag):
        await send_whole(call.send, 304, headers[1:], b"")
        return
    flags = [_evaluated(flag, served, context) for flag in served.snapshot.flags.values()]
    await send_whole(call.send, 200, headers, orjson.dumps({"flags": flags, "metadata": {"configVersion": served.version}}))


def _etag(served: Served, context: dict[str, Any]) -> bytes:
    """Over tenant, whole context and configuration: clients send an old tag along with a new context."""
    asked = orjson.dumps([served.tenant, served.version, context], option=orjson.OPT_SORT_KEYS)
    return b'"' + hashlib.sha256(asked).hexdigest()[:32].encode() + b'"'


def _evaluated(flag: Flag, served: Served, context: dict[str, Any]) -> dict[str, Any]:
    consent = has_consent(served, flag.feature_class)
    decision = decide(flag, context, consent)
    return {
        "key": flag.key,
        "value": decision.value,
        "variant": decision.variant,
        "reason": decision.reason,
        "metadata": _metadata(flag, served, decision, consent),
    }


def _metadata(flag: Flag, served: Served, decision: Decision, consent: bool) -> dict[str, Any]:
    """Flat, as the protocol wants it."""
    metadata = {
        "rule": decision.rule,
        "detail": decision.detail,
        "consent": consent,
        "flagVersion": flag.version,
        "configVersion": served.version,
    }
    if decision.bucket is not None:
        metadata["bucket"] = decision.bucket
    return metadata


def _headers(call: Call) -> list[tuple[bytes, bytes]]:
    return [JSON, *standard_headers(call.request_id, call.overhead_us)]
