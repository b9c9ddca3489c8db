"""Calls that name a prompt: filled in before anything else is read of them, on a real plane."""

from __future__ import annotations

from typing import Any, cast

import pytest
from cryptography.fernet import Fernet

from gateway.contract import prompts as contract
from gateway.contract.outbound import AllowList
from gateway.contract.sealing import Sealer
from gateway.contract.snapshot import TenantSnapshot
from gateway.plane.call import Call
from gateway.plane.prompts import resolve_prompt
from gateway.plane.served import Served, Target
from gateway.plane.upstream.openai import CHAT
from tests.gateway.conftest import Org, deployment

GREETING = contract.Prompt(
    labels={"production": 3},
    versions={
        2: contract.Version(number=2, messages=(contract.Message("user", "Hi"),), model="chat"),
        3: contract.Version(
            number=3,
            messages=(contract.Message("system", "Greet {{name}}."),),
            model="chat",
            parameters='{"temperature": 0.2, "max_tokens": 3}',
        ),
    },
)


def test_prompt_is_filled_in_and_recorded(org: Org) -> None:
    """The sandbox gives the same answer to the same request."""
    org.change(prompts={"greeting": GREETING})
    own = [{"role": "user", "content": "Go on."}]
    prompt = {"id": "greeting", "variables": {"name": "{{name}} Ada"}}
    tags = {"x-gatehouse-tags": "prompt=forged,team=blue"}

    asked = org.post(json={"prompt": prompt, "messages": own}, headers=tags).json()
    longer = org.post(json={"model": "chat", "prompt": prompt, "messages": own, "max_tokens": 40}).json()
    bare = org.post(json={"prompt": {"id": "greeting", "version": "2"}}).json()
    plain = org.post(
        json={"model": "chat", "max_tokens": 3, "messages": [{"role": "system", "content": "Greet {{name}} Ada."}, *own]},
        headers={"x-gatehouse-tags": "prompt=greeting@3, shadow_of =x,gatehouse.cause=me,team=red"},
    ).json()
    hi = org.post(json={"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}).json()

    assert (asked["choices"], asked["usage"]) == (plain["choices"], plain["usage"])
    assert (bare["choices"], bare["usage"]) == (hi["choices"], hi["usage"])
    assert asked["choices"][0]["finish_reason"] == "length"
    assert longer["usage"]["completion_tokens"] > asked["usage"]["completion_tokens"]  # what a call sets itself holds
    first, _, third, plain_event, _ = org.plane.wait_for_events(org.id, 5)
    assert (first["tags"], third["tags"]) == ({"prompt": "greeting@3", "team": "blue"}, {"prompt": "greeting@2"})
    assert plain_event["tags"] == {"team": "red"}  # no caller can say that a call is a prompt's
    assert (first["model"], first["input_tokens"]) == ("chat", plain["usage"]["prompt_tokens"])
    assert ["prompt", "pass", "greeting@3"] in [[step[0], step[1], step[3]] for step in first["steps"]]


def test_prompt_is_the_beginning_of_a_response(org: Org) -> None:
    org.change(prompts={"greeting": GREETING})

    ours = org.post("/v1/responses", json={"prompt": {"id": "greeting", "variables": {"name": "Ada"}}, "input": "Go on."}).json()
    given = [{"role": "system", "content": "Greet Ada."}, {"role": "user", "content": "Go on."}]
    plain = org.post("/v1/responses", json={"model": "chat", "input": given, "max_output_tokens": 3}).json()
    hosted = org.post("/v1/responses", json={"model": "chat", "prompt": {"id": "pmpt_123", "version": "2"}, "input": "Go on."})

    assert ours["usage"]["input_tokens"] == plain["usage"]["input_tokens"]
    assert ours["output"][0]["content"] == plain["output"][0]["content"]
    assert ours["usage"]["output_tokens"] == 3  # the version's most tokens, by the name that responses have for it
    assert hosted.status_code == 200, hosted.text  # kept by the provider, and gone on to it


@pytest.mark.parametrize(
    ("host", "own", "sent"),
    [
        ("api.openai.com", {}, {"max_completion_tokens": 7}),
        ("vllm.example", {}, {"max_tokens": 7}),
        ("api.openai.com", {"max_tokens": 9}, {"max_tokens": 9}),
        ("vllm.example", {"max_completion_tokens": None}, {"max_completion_tokens": None}),
    ],
)
def test_most_tokens_are_said_once_under_the_name_that_the_host_knows(host: str, own: dict[str, Any], sent: dict[str, Any]) -> None:
    """OpenAI answers 400 to a request that has two of the names."""
    parameters = '{"max_tokens": 3, "max_completion_tokens": 7, "seed": 1}'
    version = contract.Version(number=1, messages=(contract.Message("user", "Hi"),), parameters=parameters)
    prompts = {"both": contract.Prompt(labels={"production": 1}, versions={1: version})}
    snapshot = TenantSnapshot(tenant="t", slug="t", schema="t", version=1, prompts=prompts)
    call = Call(cast(Any, None), "chat", {}, cast(Any, None), cast(Any, None))
    call.served = Served(snapshot, Sealer([Fernet.generate_key().decode()]), AllowList.parse([]))
    call.body = {"prompt": {"id": "both"}, **own}

    resolve_prompt(call, call.body)
    fields = CHAT.body(call, Target(deployment(f"https://{host}/v1", upstream_model="m"), {}, {}, b"", ()))

    assert fields == {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "seed": 1, **sent}


@pytest.mark.parametrize(
    ("host", "is_portal", "sent"),
    [("api.openai.com", True, "max_completion_tokens"), ("vllm.example", True, "max_tokens"), ("api.openai.com", False, "max_tokens")],
)
def test_most_tokens_of_the_portal_are_said_as_the_host_knows_them(host: str, is_portal: bool, sent: str) -> None:
    call = Call(cast(Any, None), "chat", {}, cast(Any, None), cast(Any, None))
    call.body, call.is_limit_ours = {"max_tokens": 7}, is_portal

    assert CHAT.body(call, Target(deployment(f"https://{host}/v1", upstream_model="m"), {}, {}, b"", ())) == {"model": "m", sent: 7}


@pytest.mark.parametrize(
    ("asked", "status", "code", "param"),
    [
        ({"id": "nothing"}, 404, "prompt_not_found", "prompt.id"),
        ({"id": "greeting", "version": "staging"}, 404, "prompt_not_found", "prompt.version"),
        ({"id": "greeting", "version": 1}, 404, "prompt_not_found", "prompt.version"),
        ({"id": "greeting"}, 400, "invalid_request", "prompt.variables"),
        ({"id": "greeting", "variables": {"name": "Ada", "age": 1}}, 400, "invalid_request", "prompt.variables"),
        ({"id": "greeting", "variables": ["Ada"]}, 400, "invalid_request", "prompt.variables"),
        ({"id": "greeting", "versoin": "3"}, 400, "invalid_request", "prompt"),
        ({"version": "3"}, 400, "invalid_request", "prompt"),
        ({"id": "greeting", "version": [3]}, 400, "invalid_request", "prompt.version"),
    ],
)
def test_prompt_that_cannot_be_had_is_refused(org: Org, asked: dict[str, Any], status: int, code: str, param: str) -> None:
    org.change(prompts={"greeting": GREETING})

    refused = org.post(json={"model": "chat", "prompt": asked})

    assert refused.status_code == status, refused.text
    assert (refused.json()["error"]["code"], refused.json()["error"]["param"]) == (code, param)


def test_programs_read_prompts_and_flows_within_the_scope_of_their_key(org: Org) -> None:
    version = contract.FlowVersion(
        number=4, document='{"steps": [{"id": "a", "model": "chat", "settings": {"z": 1, "a": 2}}]}', models=("chat",), tools=("crm",)
    )
    org.change(prompts={"greeting": GREETING}, flows={"triage": contract.Flow(labels={"production": 4}, versions={4: version})})

    flow, prompt = org.get("/v1/prompts/triage"), org.get("/v1/prompts/greeting?label=production")
    same = org.get("/v1/prompts/triage", headers={"if-none-match": flow.headers["etag"]})
    listed = org.get("/v1/prompts").json()
    asked = [org.get(f"/v1/prompts/{path}") for path in ("nothing", "triage?version=9", "triage?label=x&version=4", "triage?lable=x")]
    called = org.post(json={"model": "chat", "prompt": {"id": "triage"}}).json()["error"]
    posted, stranger = org.post("/v1/prompts/triage"), org.get("/v1/prompts/triage", headers={"authorization": "Bearer nobody"})

    assert flow.json() == {
        "object": "prompt", "id": "triage", "kind": "flow", "version": 4, "reference": "triage@4", "labels": ["production"], "model": None,
        "parameters": {}, "flow": {"steps": [{"id": "a", "model": "chat", "settings": {"z": 1, "a": 2}}]},
    }  # fmt: skip
    assert (prompt.json()["messages"], prompt.json()["variables"]) == ([{"role": "system", "content": "Greet {{name}}."}], ["name"])
    assert (prompt.json()["version"], prompt.json()["parameters"]) == (3, {"temperature": 0.2, "max_tokens": 3})
    assert (same.status_code, same.content) == (304, b"")
    assert [(row["id"], row["kind"], row["versions"]) for row in listed["data"]] == [("greeting", "chat", [3, 2]), ("triage", "flow", [4])]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in asked] == [
        (404, "prompt_not_found"), (404, "prompt_not_found"), (400, "invalid_request"), (400, "invalid_request"),
    ]  # fmt: skip
    assert "There are: production, 4." in asked[1].json()["error"]["message"]
    assert (called["code"], "GET /v1/prompts/triage" in called["message"]) == ("prompt_not_found", True)
    assert (posted.status_code, posted.headers["allow"], stranger.status_code) == (405, "GET", 401)
    org.change_key(tools=("wiki",))
    org.change_now(keys=org.snapshot.keys)
    assert org.get("/v1/prompts/triage").json()["error"]["code"] == "tool_not_allowed"
    assert [row["id"] for row in org.get("/v1/prompts").json()["data"]] == ["greeting"]
    org.change_key(models=("embed",), tools=None)
    org.change_now(keys=org.snapshot.keys)
    assert org.get("/v1/prompts/greeting").json()["error"]["code"] == "model_not_allowed"
    assert org.get("/v1/prompts").json()["data"] == []
