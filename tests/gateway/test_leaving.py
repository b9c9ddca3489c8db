"""Callers of a deprecated model are told so, whatever they speak and however they are answered."""

from __future__ import annotations

from gateway.contract.snapshot import Leaving
from tests.gateway.conftest import SAY_HELLO, Org, SandboxUpstream, chat_model, deployment

TOLD = {
    "deprecation": "@1767225600",
    "sunset": "Sat, 06 Mar 2027 23:00:00 GMT",
    "link": '</v1/models/chat-2>; rel="successor-version"',
}


def test_deprecated_model_says_so_in_every_answer_and_in_the_list(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    openai, anthropic = deployment(sandbox_upstream.base_url()), deployment(sandbox_upstream.base_url(), dialect="anthropic")
    leaving = Leaving(since=1767225600, until=1804374000, successor="chat-2")
    models = {
        "chat": chat_model(openai, leaving=leaving, cache_ttl_s=60),
        "claude": chat_model(anthropic, slug="claude", leaving=leaving),
        "embed": chat_model(openai, slug="embed", capabilities=("embeddings",), leaving=Leaving(since=1767225600)),
        "stays": chat_model(openai, slug="stays"),
    }
    org.change(models=models)
    chat = {"model": "chat", "messages": SAY_HELLO}

    answers = [
        org.post(json=chat),
        org.post(json=chat),  # a cache hit
        org.post(json={**chat, "stream": True}),
        org.post("/v1/responses", json={"model": "chat", "input": "Hello"}),
        org.post("/v1/messages", json={**chat, "model": "claude", "max_tokens": 50}),
        org.post(json={**chat, "model": "embed"}),  # refused: it makes no chat
        org.post("/v1/embeddings", json={"model": "embed", "input": "Hello"}),
        org.post(json={**chat, "model": "stays"}),
    ]
    listed = {model.id: model.to_dict() for model in org.client().models.list()}

    assert [answer.status_code for answer in answers] == [200] * 5 + [400, 200, 200]
    assert answers[1].headers["x-gatehouse-cache"] == "hit"
    assert [{name: answer.headers.get(name) for name in TOLD} for answer in answers[:5]] == [TOLD] * 5
    assert [answers[6].headers.get(name) for name in TOLD] == ["@1767225600", None, None]
    assert [answers[7].headers.get(name) for name in TOLD] == [None] * 3
    facts = ("deprecated_at", "retires_at", "successor")
    assert [listed["chat"][name] for name in facts] == [1767225600, 1804374000, "chat-2"]
    assert "deprecated_at" not in listed["stays"]
