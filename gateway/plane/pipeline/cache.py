from __future__ import annotations

import hashlib
import time
from collections.abc import Generator
from typing import Any

import msgspec
import orjson

from gateway.contract.events import Step
from gateway.contract.names import CACHE_HEADER, SIMILARITY_HEADER
from gateway.contract.snapshot import PICO_USD
from gateway.plane import big_json
from gateway.plane.cache import Kept
from gateway.plane.call import Call
from gateway.plane.http import HeaderList, send_whole, standard_headers
from gateway.plane.pipeline.reserve import cost_of

_HEADER = CACHE_HEADER.encode()
_SIMILARITY = SIMILARITY_HEADER.encode()
_NOT_ASKED = frozenset(("user", "metadata", "store", "safety_identifier", "prompt_cache_key"))
"""Fields of a request that do not change what is answered."""


async def cache(call: Call) -> str:
    """Answer from what was answered to the same request before, when the model's settings allow it.

    The same is: tenant, model, everything that is asked (system prompt and parameters included), the surface, the guardrails that the
    answer passes, and by the model's setting the project or the key. Whether the caller may call at all was decided before.
    Where the model's settings say so, a question that means the same is looked for too, see `gateway.plane.semantic`.
    """
    model = call.model
    if model is None or not model.cache_ttl_s or call.headers.get(_HEADER) == b"off":
        return ""
    asked = {name: value for name, value in call.body.items() if name not in _NOT_ASKED}
    call.cache_key = await _key(call, asked)
    found = call.plane.answers.get(call.cache_key)
    if found is not None:
        return await _give(call, found, "hit", [(_HEADER, b"hit")])
    if model.semantic is not None and call.kind == "chat":
        near = await call.plane.semantic.find(call, model.semantic, asked, lambda rest: _key(call, rest))
        if near is not None:
            similarity = b"%.4f" % near.similarity
            detail = await _give(call, near.answer, "semantic", [(_HEADER, b"semantic"), (_SIMILARITY, similarity)], near.similarity)
            call.plane.semantic.sample(call, model.semantic, near.answer)
            return detail
    call.steps.append(Step(f"cache:{model.slug}", "miss", 0))
    call.kept = []
    return "miss"


async def _give(call: Call, found: Kept, verdict: str, told: HeaderList, similarity: float | None = None) -> str:
    """Send an answer that was given before."""
    assert call.model is not None
    age = int(time.time() - found.kept_at)
    call.is_answered, call.usage_source = True, "cache"
    headers = [*found.headers, *standard_headers(call.request_id, call.overhead_us), *call.response_headers, *told, (b"age", b"%d" % age)]
    call.client_started = True
    call.ttft_us = (time.perf_counter_ns() - call.started_ns) // 1000
    await send_whole(call.send, 200, headers, found.body)
    saved = cost_of(call, call.model, found.usage.prompt_tokens or 0, found.usage.completion_tokens or 0) if found.usage else None
    said = [f"saved_microusd={saved * 10**6 // PICO_USD}"] if saved is not None else []
    said += [f"similarity_ppm={round(similarity * 10**6)}"] if similarity is not None else []
    call.steps.append(Step(f"cache:{call.model.slug}", verdict, 0, " ".join(said)))
    return f"{verdict}, {age} s old"


def keep_answer(call: Call) -> None:
    """Keep what was sent, when it was a whole answer of the provider to a caller who stayed for it."""
    model = call.model
    if call.kept is None or model is None or call.cache_key is None or (call.client_gone and not call.has_all):
        return
    if call.status != "ok" or call.http_status != 200:
        return
    if call.semantic is not None:
        call.plane.semantic.keep(call, call.semantic)
    call.plane.answers.keep(call.cache_key, headers=call.kept_headers, body=b"".join(call.kept), usage=call.usage, ttl_s=model.cache_ttl_s)


async def _key(call: Call, asked: dict[str, Any]) -> bytes:
    model, key, served = call.model, call.key, call.served
    assert model is not None
    assert key is not None
    assert served is not None
    scope = {"tenant": "", "project": key.project, "key": key.id}[model.cache_scope]
    guards = [guard.guardrail for guard in call.output_guards]
    if call.body_bytes > big_json.LARGE_BYTES:
        request = await big_json.in_turns(big_json.written(asked, is_sorted=True))
    else:
        request = [orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)]
    digest = hashlib.sha256()
    for part in (
        served.tenant.encode(),
        model.slug.encode(),
        scope.encode(),
        call.surface.encode(),
        b"hidden" if call.hide_usage else b"",
        msgspec.json.encode(guards) if guards else b"",
    ):
        digest.update(len(part).to_bytes(8))  # so that no two ways of cutting the parts agree
        digest.update(part)
    digest.update(sum(map(len, request)).to_bytes(8))
    await big_json.in_turns(_digested(digest, request))
    return digest.digest()


def _digested(digest: hashlib._Hash, pieces: list[bytes]) -> Generator[None, None, None]:
    for piece in pieces:
        digest.update(piece)
        yield
