from __future__ import annotations

import hashlib
import time

import msgspec
import orjson

from gateway.contract.events import Step
from gateway.contract.names import CACHE_HEADER
from gateway.contract.snapshot import PICO_USD
from gateway.plane.call import Call
from gateway.plane.http import standard_headers
from gateway.plane.pipeline.reserve import cost_of

_HEADER = CACHE_HEADER.encode()
_NOT_ASKED = frozenset(("user", "metadata", "store", "safety_identifier", "prompt_cache_key"))
"""Fields of a request that do not change what is answered."""


async def cache(call: Call) -> str:
    """Answer from what was answered to the same request before, when the model's settings allow it.

    The same is: tenant, model, everything that is asked (system prompt and parameters included), the surface, the guardrails that the
    answer passes, and by the model's setting the project or the key. Whether the caller may call at all was decided before.
    """
    model, served = call.model, call.served
    if model is None or not model.cache_ttl_s or call.headers.get(_HEADER) == b"off":
        return ""
    assert served is not None
    call.cache_key = _key(call)
    found = call.plane.answers.get(call.cache_key)
    if found is None:
        call.steps.append(Step(f"cache:{model.slug}", "miss", 0))
        call.kept = []
        return "miss"
    age = int(time.time() - found.kept_at)
    call.is_answered, call.usage_source = True, "cache"
    headers = [*found.headers, *standard_headers(call.request_id, call.overhead_us), *call.response_headers]
    headers += [(_HEADER, b"hit"), (b"age", b"%d" % age)]
    call.client_started = True
    call.ttft_us = (time.perf_counter_ns() - call.started_ns) // 1000
    await call.send({"type": "http.response.start", "status": 200, "headers": headers})
    await call.send({"type": "http.response.body", "body": found.body})
    saved = cost_of(call, found.usage.prompt_tokens or 0, found.usage.completion_tokens or 0) if found.usage else None
    call.steps.append(Step(f"cache:{model.slug}", "hit", 0, f"saved_microusd={saved * 10**6 // PICO_USD}" if saved is not None else ""))
    return f"hit, {age} s old"


def keep_answer(call: Call) -> None:
    """Keep what was sent, when it was a whole answer of the provider."""
    model = call.model
    if call.kept is None or model is None or call.cache_key is None or call.status != "ok" or call.http_status != 200:
        return
    call.plane.answers.keep(call.cache_key, headers=call.kept_headers, body=b"".join(call.kept), usage=call.usage, ttl_s=model.cache_ttl_s)


def _key(call: Call) -> bytes:
    model, key, served = call.model, call.key, call.served
    assert model is not None
    assert key is not None
    assert served is not None
    scope = {"tenant": "", "project": key.project, "key": key.id}[model.cache_scope]
    guards = [guard.guardrail for guard in call.output_guards]
    asked = {name: value for name, value in call.body.items() if name not in _NOT_ASKED}
    digest = hashlib.sha256()
    for part in (
        served.tenant.encode(),
        model.slug.encode(),
        scope.encode(),
        call.surface.encode(),
        b"hidden" if call.hide_usage else b"",
        msgspec.json.encode(guards) if guards else b"",
        orjson.dumps(asked, option=orjson.OPT_SORT_KEYS),
    ):
        digest.update(len(part).to_bytes(8))  # so that no two ways of cutting the parts agree
        digest.update(part)
    return digest.digest()
