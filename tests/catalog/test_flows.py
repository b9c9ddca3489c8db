"""Flows: the schema of their configuration, what they may name, and what is asked before a version is approved."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from catalog import flows
from catalog.cli import manifests
from catalog.errors import InvalidValueError, ReferenceGoneError
from catalog.models import Model, Prompt, PromptVersion, Tool
from catalog.services import prompts
from gateway.publish.publisher import compile_snapshot
from governance.models import Tenant, User
from rollouts.errors import EvaluationMissingError
from rollouts.services import evaluation_runs
from tests.conftest import ClientFor
from tests.factories.catalog import make_model, make_tool, make_tool_server

STEPS: list[dict[str, Any]] = [
    {"id": "find", "tool": "crm__search", "with": {"text": "{{inputs.ticket}}"}},
    {"id": "answer", "prompt": "greeting@production", "after": ["find"]},
]


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        ([], "JSON object"),
        ({"stages": []}, '"steps" is a required property'),
        ({"steps": [{"id": "A 1"}]}, "steps[0].id: an id is lower-case letters"),
        ({"steps": [{"id": "a"}, {"id": "b", "prompt": "Hi there"}]}, "steps[1].prompt: a prompt is named like greeting"),
        ({"steps": [{"id": "a", "retries": 99}]}, "steps[0].retries: 99 is greater than the maximum of 10."),
        ({"steps": [{"id": "a"}, {"id": "a"}]}, "steps[1].id: a is the id of another step, too."),
        ({"steps": [{"id": "a", "tool": "crm__x", "model": "m"}]}, "steps[0].tool: a step uses a tool, or asks a model"),
        ({"steps": [{"id": "a", "after": ["b"]}]}, "steps[0].after[0]: there is no step b."),
        ({"steps": [{"id": "z", "after": ["a"]}, {"id": "a", "after": ["b"]}, {"id": "b", "after": ["a"]}]}, "steps: a after b after a never begins."),
        ({"steps": [{"id": "a"}], "output": "b"}, "output: there is no step b."),
        ({"steps": [{"id": "a", "settings": {"text": "x" * flows.MOST_CHARACTERS}}]}, "100,000 characters at most"),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_its_path(flow: Any, said: str) -> None:
    with pytest.raises(InvalidValueError) as refused:
        flows.checked_flow(flow)

    assert said in refused.value.message
    assert refused.value.field == "flow"


def test_the_schema_is_published_and_manifests_are_held_to_it() -> None:
    jsonschema_rs.meta.validate(flows.schema())
    text = "apiVersion: gatehouse/v1\nkind: Prompt\nmetadata: {name: triage}\nspec:\n  kind: flow\n  flow:\n    steps:\n      - {id: a, modell: x}\n"

    documents, problems = manifests.read_text("flows.yaml", text)

    assert documents == []
    assert problems == ["flows.yaml:8: spec.flow.steps.0: Additional properties are not allowed ('modell' was unexpected)"]
    assert manifests.read_text("flows.yaml", text.replace("modell: x", "timeout_s: 0.5"))[1] == []


def _greeting(author: User, approver: User, model: str) -> Prompt:
    messages = [{"role": "system", "content": "Be kind."}]
    prompt = prompts.create_prompt(slug="greeting", name="Greeting", actor=author, messages=messages, model=model)
    version = prompts.submit_version(version=prompt.versions.get(), actor=author)
    prompts.approve_version(version=version, actor=approver)
    return prompt


def _flow(author: User, steps: list[dict[str, Any]], **fields: Any) -> PromptVersion:
    flow = prompts.create_prompt(slug="triage", name="Triage", kind="flow", actor=author, flow={"steps": steps}, **fields)
    return prompts.submit_version(version=flow.versions.get(), actor=author)


def test_a_flow_names_only_what_is_there_and_is_approved_only_while_that_is_served(
    acme: Tenant, bob: User, adam: User, client_for: ClientFor
) -> None:
    small = make_model(owner=adam, slug="small")
    server = make_tool_server(owner=adam, namespace="crm")
    tool = make_tool(server=server, name="search")
    greeting = _greeting(bob, adam, "small")
    with pytest.raises(InvalidValueError) as refused:
        _flow(
            bob,
            [
                {"id": "a", "model": "big"},
                {"id": "b", "prompt": "hello"},
                {"id": "c", "prompt": "greeting@7"},
                {"id": "d", "tool": "crm__find"},
            ],
        )
    assert refused.value.message == (
        "steps[0].model: there is no model big. steps[1].prompt: there is no prompt hello. "
        "steps[2].prompt: the prompt greeting has no version 7. steps[3].tool: there is no tool crm__find."
    )  # fmt: skip
    version = _flow(bob, STEPS)
    Tool.objects.filter(pk=tool.pk).update(status=Tool.Status.SUSPENDED)

    page = client_for(adam).get("/o/acme/prompts/triage/").content.decode()
    with pytest.raises(ReferenceGoneError) as gone:
        prompts.approve_version(version=version, actor=adam)
    assert gone.value.message == (
        "triage@1 can't be approved: steps[0].tool: the tool crm__search is suspended until its new definition is approved. "
        "steps[1].prompt: no version of greeting has the label production."
    )
    assert "no version of greeting has the label production" in page
    assert version.prompt.versions.get().status == "submitted"
    Tool.objects.filter(pk=tool.pk).update(status=Tool.Status.ACTIVE)
    prompts.set_label(prompt=greeting, name="production", version=greeting.versions.get(), actor=adam)
    naming = prompts.write_version(prompt=greeting, actor=bob, messages=[{"role": "user", "content": "Hi"}], model="small")
    prompts.submit_version(version=naming, actor=bob)
    for status, said in (("draft", "is draft, not served"), ("submitted", "is submitted, not served"), ("retired", "is retired")):
        Model.objects.filter(pk=small.pk).update(status=status)
        with pytest.raises(ReferenceGoneError, match=f"model: the model small {said}"):
            prompts.approve_version(version=naming, actor=adam)
    prompts.approve_version(version=version, actor=adam)

    [served] = compile_snapshot(acme, 1).flows["triage"].versions.values()
    assert (served.models, served.tools) == ((), ("crm",))
    PromptVersion.objects.filter(pk=version.pk).update(status="submitted", content={"flow": {"steps": [7, {"prompt": {}}]}})
    assert client_for(adam).get("/o/acme/prompts/triage/").status_code == 200  # of a form from before the schema
    with pytest.raises(InvalidValueError, match="7 is not of type"):
        prompts.approve_version(version=version, actor=adam)


def test_no_key_reads_a_flow_of_which_it_is_not_known_what_it_names(acme: Tenant, bob: User, adam: User, client_for: ClientFor) -> None:
    old = prompts.approve_version(version=_flow(bob, [{"id": "only"}]), actor=adam)
    prompts.set_label(prompt=old.prompt, name="staging", version=old, actor=adam)
    PromptVersion.objects.filter(pk=old.pk).update(content={"flow": {"nodes": [{"model": "secret-model", "tool": "crm__x"}]}})

    assert compile_snapshot(acme, 1).flows == {}
    assert "is from before the schema of flows" in client_for(adam).get("/o/acme/prompts/triage/").content.decode()
    newer = prompts.write_version(prompt=old.prompt, actor=bob, flow={"steps": [{"id": "other"}]})
    assert "no approved version is served. Submit version 2;" in client_for(adam).get("/o/acme/prompts/triage/").content.decode()
    prompts.approve_version(version=prompts.submit_version(version=newer, actor=bob), actor=adam)
    served = compile_snapshot(acme, 1).flows["triage"]
    assert (list(served.versions), served.labels) == ([2], {})


def test_a_flow_is_evaluated_for_the_class_of_each_model_that_it_names(
    acme: Tenant, bob: User, adam: User, rita: User, client_for: ClientFor
) -> None:
    make_model(owner=adam, slug="small", feature_class="assistants")
    make_model(owner=adam, slug="free", feature_class="analytics")
    greeting = _greeting(bob, adam, "small")
    prompts.set_label(prompt=greeting, name="production", version=greeting.versions.get(), actor=adam)
    version = _flow(bob, [{"id": "sum", "model": "free"}, {"id": "answer", "prompt": "greeting"}])
    evaluation_runs.set_threshold(feature_class="assistants", metric="correctness", value=0.8, minimum=10, max_age_days=30, actor=rita)

    with pytest.raises(EvaluationMissingError, match="triage@1 can't be approved: correctness"):
        prompts.approve_version(version=version, actor=adam)
    page = client_for(adam).get("/o/acme/prompts/triage/").content.decode()
    evaluation_runs.record_run(
        key="one", harness="pytest", dataset="triage@1", prompt_version="triage@1", actor=rita,
        scores=[evaluation_runs.ScoreInput("correctness", items={f"item-{n}": 1.0 for n in range(40)})],
    )  # fmt: skip

    assert "correctness &gt;= 0.8" in page
    assert prompts.approve_version(version=version, actor=adam).status == "approved"


def test_api_gives_the_schema_and_says_what_is_wrong(acme: Tenant, bob: User, api_for: ClientFor) -> None:
    developer = api_for(bob)

    schema = developer.get("/api/v1/flow-schema/").json()
    refused = developer.post("/api/v1/prompts/", {"slug": "triage", "kind": "flow", "flow": {"steps": [{}]}}, "application/json")

    assert schema == flows.schema()
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert 'steps[0]: "id" is a required property.' in refused.json()["detail"]
