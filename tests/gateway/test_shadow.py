"""Calls that are repeated to a candidate, on a real plane: who pays, what is allowed, and what callers notice of it: nothing."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import psycopg
import pytest

from gateway.contract import keys
from gateway.contract import snapshot as contract
from gateway.contract.names import PAYLOAD_TABLE
from gateway.plane.errors import Refusal
from gateway.plane.shadow import rests_until
from tests.gateway.conftest import SAY_HELLO, Org, Plane, SandboxUpstream, chat_model, deployment, make_org, wait_until

pytestmark = pytest.mark.process


def _org(plane: Plane, upstream: SandboxUpstream, cap: int = 10**12, **candidate: Any) -> Org:
    """Every call to `chat` is repeated to `candidate`, which answers late; project `lab` pays up to `cap` pico-dollars a day."""
    org = make_org(plane, upstream)
    payer = contract.Key(
        id=keys.new_id(), digest="-", name="Shadow", project="lab", owner="alice", models=None, tools=None,
        limits=(contract.Limit(id="shadow:1:money:day", scope="key", scope_name="lab", resource="money", window="day", amount=cap),),
    )  # fmt: skip
    late = deployment(upstream.base_url("latency", "300"), id="late")
    models = {
        "chat": chat_model(deployment(upstream.base_url()), defaults={"temperature": 0.2, "max_tokens": 500}),
        "candidate": chat_model(late, slug="candidate", **candidate),
    }
    org.snapshot = msgspec.structs.replace(org.snapshot, models=models)
    org.change(
        projects={**org.snapshot.projects, "lab": contract.Project(slug="lab", name="Lab")},
        keys={org.key_id: org.snapshot.keys[org.key_id], payer.id: payer},
        payloads={"demo": contract.PayloadRule(mode="full", days=1)},
        shadows={"chat": contract.Shadow(slug="try-it", model="candidate", share=1.0, key=payer.id)},
    )
    wait_until(lambda: any(model.id == "candidate" for model in org.client().models.list()), what="the snapshot")
    return org


def _say(org: Org, **options: Any) -> httpx2.Response:
    answer = org.post(json={"model": "chat", "messages": SAY_HELLO, **options.pop("body", {})}, **options)
    assert answer.status_code == 200
    return answer


def _kept(org: Org) -> dict[str, str]:
    """Payloads that arrived: event to project, once there is one for each call."""
    with psycopg.connect(org.plane.database_url) as connection:
        rows = wait_until(
            lambda: (
                len(found := connection.execute(f"select event_id, project from {PAYLOAD_TABLE} where tenant = %s", [org.id]).fetchall())
                == 5
                and found
            )
        )
    return {str(event_id): project for event_id, project in rows or []}


def _counted(org: Org, name: str) -> int:
    text = httpx2.get(f"{org.plane.url}/metrics", trust_env=False).text
    return int(float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"gatehouse_shadows_{name} "))))


def test_call_is_repeated_after_its_answer_and_another_project_pays(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    org = _org(plane, sandbox_upstream, defaults={"max_tokens": 400, "top_p": 0.9})

    answers = [_say(org), _say(org, body={"stream": True}), _say(org, headers={"x-gatehouse-shadow": "off"})]

    events = plane.wait_for_events(org.id, 5)
    calls = [event for event in events if event["model"] == "chat"]
    repeated = sorted((event for event in events if event["model"] == "candidate"), key=lambda event: event["stream"])
    assert [answer.json()["choices"][0]["finish_reason"] for answer in (answers[0], answers[2])] == ["stop", "stop"]
    assert max(event["duration_us"] for event in calls) < 300_000 <= min(event["duration_us"] for event in repeated)
    assert [(event["project"], event["key_id"] == org.key_id, event["status"], event["stream"]) for event in repeated] == [
        ("lab", False, "ok", False),
        ("lab", False, "ok", True),
    ]
    assert [event["tags"] for event in repeated] == [
        {"shadow": "try-it", "shadow_of": str(next(call["event_id"] for call in calls if call["stream"] is event["stream"]))}
        for event in repeated
    ]
    assert all(event["tags"] == {} and event["project"] == "demo" for event in calls)
    assert repeated[0]["output_tokens"] > 0
    assert {step[3] for event in repeated for step in event["steps"] if step[0] == "authorize"} == {"defaults: top_p 0.9, max_tokens 400"}
    assert {event["agent"] for event in repeated} == {"shadow"}
    assert _kept(org) == {str(event["event_id"]): "demo" for event in events}  # by the rule of those whose words they are


@pytest.mark.parametrize("kept", ["consent", "judge", "key", "money", "price"])
def test_what_is_not_allowed_is_not_repeated_and_not_recorded(kept: str, plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    changed: dict[str, dict[str, Any]] = {"consent": {"feature_class": "agents"}, "price": {"input_price": None}}
    org = _org(plane, sandbox_upstream, cap=1 if kept == "money" else 10**12, **changed.get(kept, {}))
    if kept == "judge":  # the organisation has not agreed to what it would be told
        judge = chat_model(deployment(sandbox_upstream.base_url(), id="judge"), slug="judge", feature_class="agents")
        shadow = msgspec.structs.replace(org.snapshot.shadows["chat"], judge="judge")
        org.change(models={**org.snapshot.models, "judge": judge}, shadows={"chat": shadow})
        wait_until(lambda: any(model.id == "judge" for model in org.client().models.list()), what="the snapshot")
    if kept == "key":
        org.change_key(models=("chat",))
    before = _counted(org, "not_allowed")

    for _ in range(2):
        _say(org)
        wait_until(lambda: _counted(org, "not_allowed") > before, what="the refusal")

    assert _counted(org, "not_allowed") - before <= (1 if kept == "money" else 2)  # used up, it is not tried again for a while
    assert [event["model"] for event in plane.wait_for_events(org.id, 2)] == ["chat", "chat"]


@pytest.mark.parametrize(
    ("code", "resets_at", "until"),
    [
        ("budget_exceeded", 87_400.0, 1060.0),
        ("rate_limit_exceeded", 1010.0, 1010.0),
        ("rate_limit_exceeded", None, 1000.0),
        ("policy_denied", None, 1000.0),
    ],
)
def test_one_call_that_is_too_big_does_not_rest_the_shadow_for_the_day(code: str, resets_at: float | None, until: float) -> None:
    assert rests_until(Refusal(code, "No.", resets_at=resets_at), 1000.0) == until
