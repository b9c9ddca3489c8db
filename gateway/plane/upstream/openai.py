"""The OpenAI surfaces on an upstream that speaks the OpenAI protocol: bytes pass through, only the model's name is changed."""

from __future__ import annotations

import orjson

from gateway.plane.call import Call
from gateway.plane.served import Target
from gateway.plane.sse import SseTap
from gateway.plane.upstream.dialects import TRACE, Pair, same
from gateway.plane.usage import Usage, usage_of_body

FORWARDED = ((b"openai-beta", "openai-beta"), *TRACE)


def _body(call: Call, target: Target) -> bytes:
    return orjson.dumps({**call.body, "model": target.deployment.upstream_model})


def _whole(call: Call, body: bytes) -> tuple[bytes, Usage | None]:
    return body, usage_of_body(body)


def _tap(call: Call) -> SseTap:
    return SseTap(hide_usage=call.hide_usage)


CHAT = Pair("chat/completions", FORWARDED, _body, _whole, _tap, same)
EMBEDDINGS = Pair("embeddings", FORWARDED, _body, _whole, _tap, same)
