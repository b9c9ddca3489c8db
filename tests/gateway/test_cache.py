"""Answers given again: only to the same request, only as long and among whom the model's settings say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from gateway.contract.snapshot import Guardrail
from gateway.plane.cache import AnswerCache
from gateway.plane.call import Call
from gateway.plane.pipeline.cache import keep_answer
from tests.gateway.conftest import SAY_HELLO, Org, SandboxUpstream, chat_model, deployment, make_org


def cached(org: Org, *, now: bool = False, **settings: Any) -> Org:
    (org.change_now if now else org.change)(
        models={"chat": msgspec.structs.replace(org.snapshot.models["chat"], cache_ttl_s=60, **settings)}
    )
    return org


def served(upstream: SandboxUpstream) -> int:
    return len(upstream.journal())


@pytest.mark.parametrize("stream", [False, True])
def test_same_request_is_answered_from_before_and_costs_nothing(org: Org, sandbox_upstream: SandboxUpstream, stream: bool) -> None:
    cached(org)
    before = served(sandbox_upstream)
    ask = {"model": "chat", "messages": SAY_HELLO, "stream": stream}

    first, second = org.post(json=ask), org.post(json={**ask, "user": "somebody else"})

    assert served(sandbox_upstream) == before + 1
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]
    assert (first.headers.get("x-gatehouse-cache"), second.headers["x-gatehouse-cache"], second.headers["age"]) == (None, "hit", "0")
    miss, hit = org.plane.wait_for_events(org.id, 2)
    assert (miss["usage_source"], hit["usage_source"], hit["status"], hit["input_tokens"], hit["deployment"]) == (
        "provider", "cache", "ok", None, None,
    )  # fmt: skip
    assert (miss["answer_id"], hit["answer_id"]) == (first.json()["id"] if not stream else miss["answer_id"], None)
    assert ["cache:chat", "miss"] in [step[:2] for step in miss["steps"]]
    saved = miss["input_tokens"] * 1_000_000 + miss["output_tokens"] * 4_000_000
    assert ["cache:chat", "hit", f"saved_microusd={saved // 10**6}"] in [[step[0], step[1], step[3]] for step in hit["steps"]]
    assert "call_upstream" not in [step[0] for step in hit["steps"]]


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5},
        {"messages": [{"role": "system", "content": "Be brief."}, *SAY_HELLO]},
        {"stream": True},
        {"max_tokens": 50},
        {"some_new_parameter": 1},
    ],
)
def test_whatever_changes_the_answer_is_another_request(org: Org, sandbox_upstream: SandboxUpstream, change: dict[str, Any]) -> None:
    cached(org)
    before = served(sandbox_upstream)
    ask = {"model": "chat", "messages": SAY_HELLO}

    org.post(json=ask)
    other = org.post(json={**ask, **change})

    assert other.headers.get("x-gatehouse-cache") is None
    assert served(sandbox_upstream) == before + 2


def test_caller_may_ask_afresh(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    cached(org)
    before = served(sandbox_upstream)
    ask = {"model": "chat", "messages": SAY_HELLO}

    org.post(json=ask)
    fresh = org.post(json=ask, headers={"x-gatehouse-cache": "off"})

    assert "x-gatehouse-cache" not in fresh.headers
    assert served(sandbox_upstream) == before + 2


def test_tenants_keys_and_guardrails_are_kept_apart(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    cached(org)
    stranger = cached(make_org(org.plane, sandbox_upstream))
    ask = {"model": "chat", "messages": SAY_HELLO}
    org.post(json=ask)

    assert "x-gatehouse-cache" not in stranger.post(json=ask).headers
    org.change_now(guardrails=(Guardrail(name="out", kind="pii", enforce=True, action="redact", on_input=False, on_output=True),))
    assert "x-gatehouse-cache" not in org.post(json=ask).headers
    assert org.post(json=ask).headers["x-gatehouse-cache"] == "hit"
    cached(org, now=True, cache_scope="key")
    assert "x-gatehouse-cache" not in org.post(json=ask).headers
    assert org.post(json=ask).headers["x-gatehouse-cache"] == "hit"


def test_failure_is_never_kept(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    org.change(models={"chat": chat_model(deployment(sandbox_upstream.base_url("faults/cut")), cache_ttl_s=60)})
    ask = {"model": "chat", "messages": SAY_HELLO, "stream": True}

    for _ in range(2):
        assert "x-gatehouse-cache" not in org.post(json=ask).headers

    events = org.plane.wait_for_events(org.id, 2)
    assert [event["status"] for event in events] == ["upstream_error"] * 2


def test_revoked_key_gets_nothing_from_the_cache(org: Org) -> None:
    cached(org)
    ask = {"model": "chat", "messages": SAY_HELLO}
    org.post(json=ask)
    key = msgspec.structs.replace(org.snapshot.keys[org.key_id], disabled=True)
    org.change_now(keys={key.id: key})

    assert org.post(json=ask).status_code == 401


def test_cache_is_bounded_and_forgets_in_time() -> None:
    now = [0.0]
    cache = AnswerCache(lambda: now[0], most_bytes=3000)

    def keep(name: bytes, ttl_s: float = 10) -> None:
        cache.keep(name, headers=(), body=b"x" * 1000, usage=None, ttl_s=ttl_s)

    keep(b"a")
    keep(b"b")
    assert cache.get(b"a") is not None
    keep(b"c")

    assert cache.get(b"b") is None  # the least recently used
    assert cache.get(b"a") is not None
    now[0] = 10.0
    assert cache.get(b"a") is None
    keep(b"c", ttl_s=5)
    assert cache.bytes_held == 1001


def test_nothing_is_kept_of_a_call_whose_caller_left() -> None:
    plane = SimpleNamespace(answers=AnswerCache())

    def call(key: bytes, *, is_gone: bool, has_all: bool = False) -> Call:
        made = Call(cast(Any, plane), "chat", {}, cast(Any, None), cast(Any, None), kept=[b"Hi"], cache_key=key, client_gone=is_gone)
        made.model, made.has_all = chat_model(cache_ttl_s=60), has_all
        return made

    keep_answer(call(b"stayed", is_gone=False))
    keep_answer(call(b"left", is_gone=True))
    keep_answer(call(b"left with the last event", is_gone=True, has_all=True))  # as SDKs do

    assert plane.answers.get(b"stayed") is not None
    assert plane.answers.get(b"left with the last event") is not None
    assert plane.answers.get(b"left") is None
