"""Answers given again to questions that mean the same: only where nothing else differs, never across organisations, and looked at."""

from __future__ import annotations

import socket
import time
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql

from gateway.contract.names import SEMANTIC_TABLE
from gateway.contract.sealing import Sealer
from gateway.contract.snapshot import Guardrail, PayloadRule, Project, Semantic
from gateway.plane.database import Link
from gateway.plane.errors import DatabaseAwayError
from gateway.plane.semantic import LOOKUP_S, Asked, SemanticStore, answer_text, last_question
from tests import bootstrap
from tests.clock import allowed
from tests.gateway.conftest import Org, Plane, SandboxUpstream, chat_model, deployment, make_org, wait_until

QUESTION = "How does a bill become an explanation for the finance people of a company?"
NEAR = "How does a bill become an explanation for finance people of a company?"
FAR = "Which mushrooms grow in the forest after rain in September?"


def ask(text: str = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}], **fields}


def stored(org: Org) -> list[tuple[Any, ...]]:
    with psycopg.connect(org.plane.database_url) as connection:
        query = sql.SQL("select partition, project, sealed from {}").format(sql.Identifier(org.snapshot.schema, SEMANTIC_TABLE))
        return connection.execute(query).fetchall()


def with_schema(org: Org) -> None:
    """The table of the tenant, as its migrations make it."""
    with psycopg.connect(org.plane.database_url) as connection:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(org.id)))
        table = sql.Identifier(org.id, SEMANTIC_TABLE)
        connection.execute(sql.SQL("create table {} (like t_acme.semantic_answer including all)").format(table))


@pytest.fixture
def semantic(org: Org) -> Org:
    with_schema(org)
    configure(org)
    return org


def configure(org: Org, *, sample: float = 0.0, now: bool = False, **fields: Any) -> None:
    settings = Semantic(embedding="embed", threshold=0.9, sample=sample)
    models = {
        **org.snapshot.models,
        "chat": msgspec.structs.replace(org.snapshot.models["chat"], cache_ttl_s=60, semantic=settings, **fields),
    }
    (org.change_now if now else org.change)(models=models)


def kept(org: Org, count: int) -> list[tuple[Any, ...]]:
    return wait_until(lambda: (rows := stored(org)) and len(rows) >= count and rows, 10, f"{count} answers") or []


@pytest.mark.parametrize("stream", [False, True])
def test_question_of_the_same_meaning_gets_the_same_answer_at_no_cost(semantic: Org, stream: bool) -> None:
    first = semantic.post(json=ask(stream=stream))
    [row] = kept(semantic, 1)
    near, far = semantic.post(json=ask(NEAR, stream=stream)), semantic.post(json=ask(FAR, stream=stream))

    assert near.content == first.content
    assert near.headers["content-type"] == first.headers["content-type"]
    assert (near.headers["x-gatehouse-cache"], float(near.headers["x-gatehouse-similarity"]) > 0.9) == ("semantic", True)
    assert "x-gatehouse-cache" not in far.headers
    assert "bill" not in str(row)
    events = semantic.plane.wait_for_events(semantic.id, 6)
    chats = [event for event in events if event["kind"] == "chat"]
    inner = [event for event in events if event["kind"] == "embeddings"]
    assert [event["usage_source"] for event in chats] == ["provider", "cache", "provider"]
    assert [event["input_tokens"] for event in chats][1] is None
    [step] = [step for step in chats[1]["steps"] if step[0] == "cache:chat"]
    assert step[1] == "semantic"
    assert "saved_microusd=" in step[3]
    assert "similarity_ppm=9" in step[3]
    assert [event["tags"] for event in inner] == [{"gatehouse.cause": "semantic_cache"}] * 3
    assert all(event["input_tokens"] and event["request_id"] == chat["request_id"] for event, chat in zip(inner, chats, strict=True))


def test_whatever_else_differs_is_another_question(semantic: Org, sandbox_upstream: SandboxUpstream) -> None:
    stranger = make_org(semantic.plane, sandbox_upstream)
    with_schema(stranger)
    configure(stranger)
    semantic.change(projects={**semantic.snapshot.projects, "other": Project(slug="other", name="Other")})
    semantic.post(json=ask())
    kept(semantic, 1)

    def is_hit(org: Org, body: dict[str, Any]) -> bool:
        return org.post(json=body).headers.get("x-gatehouse-cache") == "semantic"

    assert is_hit(semantic, ask(NEAR))
    assert not is_hit(stranger, ask(NEAR))
    assert not is_hit(semantic, {**ask(NEAR), "messages": ask(NEAR)["messages"][1:]})
    assert not is_hit(semantic, ask(NEAR, max_tokens=50))
    assert not is_hit(semantic, ask(NEAR, stream=True))
    configure(semantic, now=True, cache_scope="project")
    assert not is_hit(semantic, ask(NEAR))
    kept(semantic, 5)
    key = msgspec.structs.replace(semantic.snapshot.keys[semantic.key_id], project="other")
    semantic.change_now(keys={key.id: key})
    assert not is_hit(semantic, ask(QUESTION + " Please."))


def test_hit_is_sampled_behind_the_reply(semantic: Org, sandbox_upstream: SandboxUpstream) -> None:
    configure(semantic, sample=1.0)
    semantic.post(json=ask())
    kept(semantic, 1)
    before = len(sandbox_upstream.journal())

    assert semantic.post(json=ask(NEAR)).headers["x-gatehouse-cache"] == "semantic"

    def looked_at() -> list[Any]:
        return [step for event in semantic.plane.events(semantic.id) for step in event["steps"] if step[1] in ("agree", "disagree")]

    [step] = wait_until(looked_at, 10, "a verdict")
    assert step[0] == "cache:chat"
    assert step[3].startswith("agreement_ppm=")
    sampled = [event for event in semantic.plane.events(semantic.id) if event["tags"].get("gatehouse.cause") == "semantic_cache_sample"]
    assert {event["kind"] for event in sampled} == {"chat", "embeddings"}
    assert len(sandbox_upstream.journal()) >= before + 2


def test_opinion_that_cannot_be_had_is_no_error_of_the_call(semantic: Org) -> None:
    """Questions are short enough for the embedding model's guardrail, two answers are not."""
    short = Guardrail(name="short", kind="size", scope="model", scope_name="embed", enforce=True, max_characters=100)
    semantic.change(guardrails=(short,))
    configure(semantic, sample=1.0)
    semantic.post(json=ask())
    kept(semantic, 1)

    assert semantic.post(json=ask(NEAR)).headers["x-gatehouse-cache"] == "semantic"

    def sampled() -> dict[str, dict[str, Any]]:
        events = [event for event in semantic.plane.events(semantic.id) if event["tags"].get("gatehouse.cause") == "semantic_cache_sample"]
        return {event["kind"]: event for event in events} if len(events) == 2 else {}

    events = wait_until(sampled, 10, "the sampled call")
    assert events["embeddings"]["error_code"] == "guardrail_blocked"
    assert (events["chat"]["status"], events["chat"]["http_status"], events["chat"]["error_code"]) == ("ok", 200, None)
    assert ["judge", "failed", "Refusal"] in [[step[0], step[1], step[3]] for step in events["chat"]["steps"]]


def test_call_goes_on_when_it_cannot_be_looked_up(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    """No table; an embedding model that takes too long; a project of which nothing may be kept."""
    late, closed = make_org(org.plane, sandbox_upstream), make_org(org.plane, sandbox_upstream)
    slow = chat_model(deployment(sandbox_upstream.base_url("latency/1500")), slug="embed", capabilities=("embeddings",))
    late.change(models={**late.snapshot.models, "embed": slow})
    closed.change(payloads={"demo": PayloadRule(mode="none", days=1)})
    skipped = []
    for each in (org, late, closed):
        configure(each)
        assert each.post(json=ask()).status_code == 200
        events = each.plane.wait_for_events(each.id, 1 if each is closed else 2)
        skipped.append([step[3] for event in events for step in event["steps"] if step[0] == "semantic"])

    assert skipped == [["DatabaseAwayError"], ["TimeoutError"], []]


async def test_lookup_waits_for_nobody(plane: Plane) -> None:
    """Neither for other look-ups, nor for an answer that is put down, nor for a database that accepts and says nothing."""
    link, keeping = Link(plane.database_url, "test"), Link(plane.database_url, "test keep")
    store = SemanticStore(link, keeping, Sealer([bootstrap.SECRETS["SEALING_KEYS"]]))
    asked = Asked("p", [1.0])

    async with keeping.use(), link.use():
        began = time.monotonic()
        with pytest.raises(DatabaseAwayError, match="busy"):
            await store.nearest("t_acme", "acme", asked, 0.9)
        assert time.monotonic() - began < allowed(LOOKUP_S)
    async with keeping.use():
        assert await store.nearest("t_acme", "acme", asked, 0.9) is None
    await store.close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = Link(f"postgresql://127.0.0.1:{server.getsockname()[1]}/x", "silent")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await SemanticStore(silent, keeping, store._sealer).nearest("t_acme", "acme", asked, 0.9)
        assert time.monotonic() - began < allowed(2 * LOOKUP_S)


@pytest.mark.parametrize(
    ("surface", "asked", "expected"),
    [
        ("chat", {"messages": [{"role": "user", "content": "a"}]}, ("a", [])),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, ("a", [])),
        ("chat", {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, None),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, None),
        ("chat", {"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, None),
        ("chat", {"messages": [{"role": "user", "content": "a"}], "temperature": 0.7}, None),
        ("chat", {"messages": [{"role": "user", "content": "a"}], "temperature": 0, "n": 1}, ("a", [])),
        ("chat", {"messages": [{"role": "user", "content": "a"}], "temperature": "0.2"}, None),
        ("chat", {"messages": [{"role": "user", "content": "a"}], "temperature": [1]}, None),
        ("chat", {"messages": [{"role": "user", "content": "a"}], "temperature": True}, None),
        ("chat", {"messages": [{"role": "user", "content": "a"}], "n": 2}, None),
        ("chat", {"messages": [{"role": "user", "content": "a" * 8001}]}, None),
        ("responses", {"input": "a", "instructions": "b"}, ("a", [])),
        ("responses", {"input": "a", "previous_response_id": "r"}, None),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, ("a", [])),
    ],
)  # fmt: skip
def test_only_plain_questions_are_compared(surface: str, asked: dict[str, Any], expected: tuple[str, list[Any]] | None) -> None:
    found = last_question(surface, asked)

    assert (None if found is None else (found[0], found[1].get("messages", found[1].get("input")))) == expected


def test_text_of_an_answer_is_read_whole_or_streamed() -> None:
    whole = b'{"choices":[{"message":{"content":"Hello you"}}]}'
    stream = (
        b'data: {"choices":[{"index":0,"delta":{"content":"Hello "}}]}\n\ndata: {"choices":[{"index":0,"delta":{"content":"you"}}]}\n\n'
    )

    assert answer_text("chat", whole, is_stream=False) == answer_text("chat", stream, is_stream=True) == "Hello you"
