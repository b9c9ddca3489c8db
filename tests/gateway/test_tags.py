"""Required tags: what is found of them, and what the plane does about it."""

from __future__ import annotations

import time
from typing import Any

import anthropic
import msgspec
import openai
import pytest

from gateway.contract.snapshot import Project
from gateway.contract.tags import RequiredTag, TagRules, completed, detail
from tests.gateway.conftest import SAY_HELLO, Org, Plane, SandboxUpstream, make_org

PAST, FUTURE = 1.0, time.time() + 10**6


def required(name: str = "costCenter", **fields: Any) -> RequiredTag:
    return RequiredTag(name=name, version=1, **fields)


def test_nearest_default_completes_what_was_not_sent_or_sent_empty() -> None:
    assert completed({"a": "sent", "b": ""}, {"b": "key"}, {"a": "project", "b": "project", "c": "project"}) == {
        "a": "sent", "b": "key", "c": "project",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "tags", "found"),
    [
        (required(), {}, "costCenter=missing"),
        (required(), {"costCenter": "x"}, "costCenter=ok"),
        (required(values=("CC-1", "CC-2")), {"costCenter": "CC-3"}, "costCenter=not_allowed"),
        (required(values=("ops", "CC-[0-9][0-9]*")), {"costCenter": "CC-1204"}, "costCenter=ok"),
        (required(values=("*a*a*a*a*a*a*a*a*b",)), {"costCenter": "a" * 120}, "costCenter=not_allowed"),
        (required(projects=("other",)), {}, ""),
        (required(projects=("demo",), environments=("staging",)), {}, ""),
        (required(fact="cost_centre"), {}, "costCenter=ok"),
        (required(fact="agent"), {}, "costCenter=missing"),
    ],
)
def test_what_is_found_of_a_required_tag(rule: RequiredTag, tags: dict[str, str], found: str) -> None:
    facts = {"project": "demo", "environment": "production", "cost_centre": "CC-7", "agent": None}

    assert detail(TagRules([rule]).judge(tags, facts)) == found


def test_call_without_a_required_tag_is_refused_in_the_callers_dialect(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    rules = (required(values=("CC-*",), enforce_from=PAST), required("env", fact="environment"), required("later", enforce_from=FUTURE))
    projects = {"demo": Project(slug="demo", name="Demo", environment="production", tags={"costCenter": "wrong", "team": "blue"})}
    org = make_org(plane, sandbox_upstream, projects=projects, required_tags=rules)

    with pytest.raises(openai.BadRequestError) as refused:
        org.client().chat.completions.create(model="chat", messages=SAY_HELLO)
    with (
        anthropic.Anthropic(base_url=plane.url, api_key=org.key, max_retries=0) as client,
        pytest.raises(anthropic.BadRequestError) as other,
    ):
        client.messages.create(model="chat", max_tokens=5, messages=SAY_HELLO)
    org.client(default_headers={"x-gatehouse-tags": "costCenter=CC-1204,later=x"}).chat.completions.create(model="chat", messages=SAY_HELLO)

    assert isinstance(refused.value.body, dict)
    assert (refused.value.code, refused.value.body["scope"], refused.value.param) == ("tag_required", "tag:costCenter", "x-gatehouse-tags")
    assert "`costCenter` may not be `wrong` (it may be `CC-*`)" in refused.value.message
    assert isinstance(other.value.body, dict)
    assert (other.value.body["error"]["type"], other.value.body["error"]["code"]) == ("invalid_request_error", "tag_required")
    first, _, served = org.plane.wait_for_events(org.id, 3)
    assert (first["status"], first["error_code"]) == ("refused", "tag_required")
    assert judged(first) == ("refused", "costCenter=not_allowed env=ok later=missing")
    assert (served["status"], judged(served)) == ("ok", ("pass", "costCenter=ok env=ok later=ok"))
    assert served["tags"] == {"costCenter": "CC-1204", "later": "x", "team": "blue", "env": "production"}
    assert [step[3] for step in served["steps"] if step[0] == "tags:completed"] == ["team env"]


def test_tag_that_is_only_counted_or_in_its_grace_refuses_nothing(org: Org) -> None:
    org.change(required_tags=(required(), required("owner", enforce_from=FUTURE)))

    org.client().chat.completions.create(model="chat", messages=SAY_HELLO)
    org.change_now(keys={org.key_id: msgspec.structs.replace(org.snapshot.keys[org.key_id], tags={"owner": "bob", "costCenter": "CC-1"})})
    org.client().chat.completions.create(model="chat", messages=SAY_HELLO)

    lacking, filled = org.plane.wait_for_events(org.id, 2)
    assert (lacking["status"], judged(lacking)) == ("ok", ("would_refuse", "costCenter=missing owner=missing"))
    assert (judged(filled), filled["tags"]) == (("pass", "costCenter=ok owner=ok"), {"owner": "bob", "costCenter": "CC-1"})


def judged(event: dict[str, Any]) -> tuple[str, str]:
    [step] = [step for step in event["steps"] if step[0] == "tags:required"]
    return step[1], step[3]
