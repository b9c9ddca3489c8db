"""Pages and API of policies and guardrails."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from governance.models import Guardrail, Policy, Tenant, User
from tests.conftest import ClientFor
from tests.factories.catalog import make_key, make_model, make_project

RULE = {"namespace": "data", "name": "eu-only", "when": "true", "require": 'egress.region.startsWith("eu")', "reason": "Stay in Europe."}


def test_policy_is_written_replayed_and_enforced_by_two_people(acme: Tenant, client_for: ClientFor, adam: User, sam: User) -> None:
    writer, approver = client_for(adam), client_for(sam)
    assert "No policy yet" in writer.get("/o/acme/operate/policies/").content.decode()

    bad = writer.post("/o/acme/operate/policies/new/", {**RULE, "require": "egress.colour == 1"})
    made = writer.post("/o/acme/operate/policies/new/", RULE)
    assert (bad.status_code, made.status_code) == (422, 302)
    assert "There is no egress.colour" in bad.content.decode()
    path = "/o/acme/operate/policies/data/eu-only/"
    early = approver.post(f"{path}mode/", {"mode": "enforce", "version": 1})
    assert early.status_code == 422
    assert "Replay this version first" in early.content.decode()
    writer.post(f"{path}replay/")
    assert approver.post(f"{path}mode/", {"mode": "enforce", "version": 1}).status_code == 302

    assert Policy.objects.get().mode == "enforce"
    page = approver.get(path).content.decode()
    assert "Enforced" in page
    assert "+ require  egress.region.startsWith" in page.replace("&quot;", '"')
    assert "data.eu-only" in approver.get("/o/acme/operate/policies/?q=data.eu&mode=enforce").content.decode()
    none = approver.get("/o/acme/operate/policies/?q=eu&mode=off").content.decode()
    assert "No policy matches" in none
    assert "data.eu-only" not in none
    assert "data.eu-only" in approver.get("/o/acme/operate/policies/").content.decode()
    assert approver.post(f"{path}mode/", {"mode": "off", "version": 1}).status_code == 422
    writer.post(f"{path}edit/", {"when": "true", "require": 'egress.region == "eu-west"', "note": "Only one region."})
    assert "version 2 waits" in approver.get("/o/acme/operate/policies/").content.decode()
    assert approver.post(f"{path}describe/", {"description": "Where data goes", "is_critical": "on"}).status_code == 302
    assert "at most 300 characters" in approver.post(f"{path}describe/", {"description": "x" * 301}, follow=True).text
    assert approver.post(f"{path}delete/").status_code == 302
    assert Policy.objects.get().is_critical
    approver.post(f"{path}mode/", {"mode": "off", "version": 2, "reason": "done"})
    approver.post(f"{path}delete/")
    assert not Policy.objects.exists()


@pytest.mark.parametrize(("expression", "said"), [("time.hour < 8", "reads well"), ("time.minute < 8", "There is no time.minute")])
def test_linter_speaks_while_typing(acme: Tenant, client_for: ClientFor, adam: User, expression: str, said: str) -> None:
    assert said in client_for(adam).post("/o/acme/operate/policies/lint/?when", {"when": expression}).content.decode()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("pii", {"action": "redact", "entities": ["email", "card"]}),
        ("secrets", {"action": "block"}),
        ("injection", {"threshold": "0.6"}),
        ("topics", {"terms": "falcon\nproject x\n"}),
        ("size", {"max_characters": "5000"}),
    ],
)
def test_guardrail_of_each_kind_is_made_tried_changed_and_removed(
    acme: Tenant, client_for: ClientFor, adam: User, kind: str, fields: dict[str, Any]
) -> None:
    client = client_for(adam)
    assert "operate/guardrails/new/" in client.get("/o/acme/operate/guardrails/").content.decode()
    assert f"operate/guardrails/new/{kind}/" in client.get("/o/acme/operate/guardrails/new/").content.decode()
    form = {"name": f"guard-{kind}", "mode": "monitor", "scope": "tenant", "on_input": "on", **fields}
    assert client.get(f"/o/acme/operate/guardrails/new/{kind}/").status_code == 200

    assert client.post(f"/o/acme/operate/guardrails/new/{kind}/", form).status_code == 302

    guardrail = Guardrail.objects.get()
    path = f"/o/acme/operate/guardrails/{guardrail.pk}/"
    assert client.get(path).status_code == 200
    assert client.get(f"{path}edit/").status_code == 200
    tried = client.post(f"{path}try/", {"text": "Mail jo@acme.example about the falcon"}).content.decode()
    assert ("[EMAIL]" in tried) is (kind == "pii")
    assert ("Would be refused" in tried) is (kind == "topics")
    assert client.post(f"{path}edit/", {**form, "scope": "project"}).status_code == 422
    assert client.post(f"{path}edit/", {**form, "mode": "enforce"}).status_code == 302
    assert "Enforced" in client.get("/o/acme/operate/guardrails/").content.decode()
    client.post(f"{path}delete/")
    assert not Guardrail.objects.exists()


def test_guardrail_is_of_a_project_or_model_that_there_is(acme: Tenant, client_for: ClientFor, adam: User, alice: User) -> None:
    make_project(owner=alice, slug="checkout", name="Check out")
    make_model(owner=alice, slug="small")
    client, form = client_for(adam), {"name": "long", "mode": "monitor", "action": "block", "on_input": "on", "max_characters": "9"}
    new = "/o/acme/operate/guardrails/new/size/"

    assert 'list="scope-names"' in client.get(new).content.decode()
    for scope, unknown, known in (("project", "chekout", "checkout"), ("model", "smal", "small")):
        refused = client.post(new, {**form, "name": scope, "scope": scope, "ref": unknown})
        assert refused.status_code == 422
        assert f"There is no {scope} {unknown}." in refused.content.decode()
        assert client.post(new, {**form, "name": scope, "scope": scope, "ref": known}).status_code == 302
    assert client.post(new, {**form, "name": "agent", "scope": "agent", "ref": "any"}).status_code == 302

    of_project = Guardrail.objects.get(name="project")
    Guardrail.objects.filter(pk=of_project.pk).update(ref="gone")
    edit = f"/o/acme/operate/guardrails/{of_project.pk}/edit/"
    kept = {**form, "name": "project", "scope": "project"}
    assert client.post(edit, {**kept, "ref": "gone", "mode": "off"}).status_code == 302
    assert client.post(edit, {**kept, "ref": "elsewhere"}).status_code == 422


def test_forms_suggest_what_there_is_of_each_scope(
    acme: Tenant,
    client_for: ClientFor,
    adam: User,
    alice: User,
    bob: User,
    charlie: User,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    make_project(owner=alice, slug="checkout", name="Check out")
    small = make_model(owner=alice, slug="small")
    make_model(owner=alice, slug="gone", status="retired")
    key, _ = make_key(owner=alice, name="nightly")
    names, client = "/o/acme/operate/scope-names/", client_for(adam)

    def suggested(scope: str, typed: str = "") -> list[str]:
        with django_assert_max_num_queries(11):
            page = client.get(names, {"scope": scope, "ref": typed}).content.decode()
        return re.findall(r'<option value="([^"]+)"', page)

    assert suggested("project", "check o") == ["checkout"]
    assert suggested("model") == ["small"]
    assert suggested("key", "night") == suggested("key", key.public_id[:4]) == [key.public_id]
    assert suggested("deployment", "SMALL") == [f"small/{small.deployments.get().reference}"]
    assert (suggested("agent"), suggested("tenant"), suggested("project", "none")) == ([], [], [])
    assert client_for(charlie).get(names).status_code == 404
    assert client_for(bob).get(names).status_code == 403


def test_guardrail_says_what_becomes_of_calls_that_presidio_did_not_look_at(acme: Tenant, client_for: ClientFor, adam: User) -> None:
    client = client_for(adam)
    form = {
        "name": "names",
        "mode": "enforce",
        "action": "redact",
        "scope": "tenant",
        "on_input": "on",
        "engine": "presidio",
        "language": "qq",
    }

    refused = client.post("/o/acme/operate/guardrails/new/pii/", form)
    Guardrail.objects.create(name="names", kind="pii", engine="presidio", entities=["phone", "uk_nhs"], created_by=adam)
    page = client.get(f"/o/acme/operate/guardrails/{Guardrail.objects.get().pk}/").content.decode()

    assert refused.status_code == 422
    assert '<details class="cat-more" open><summary>How Presidio reads' in refused.content.decode()
    assert '<details class="cat-more"><summary>How Presidio reads' in client.get("/o/acme/operate/guardrails/new/pii/").content.decode()
    assert "How Presidio reads" not in client.get("/o/acme/operate/guardrails/new/injection/").content.decode()
    assert "spaCy has no language qq" in refused.content.decode() or "Presidio is not installed here" in refused.content.decode()
    assert "Without its answer in 1,000 ms</dt><dd>Refuse the call" in page
    assert "Telephone numbers, UK health numbers (NHS)" in page


def test_guardrail_of_an_unknown_kind_is_no_page(acme: Tenant, client_for: ClientFor, adam: User) -> None:
    assert client_for(adam).get("/o/acme/operate/guardrails/new/feelings/").status_code == 404


def test_whoever_only_looks_gets_no_buttons(acme: Tenant, client_for: ClientFor, adam: User, audra: User) -> None:
    client_for(adam).post("/o/acme/operate/policies/new/", RULE)

    page = client_for(audra).get("/o/acme/operate/policies/data/eu-only/").content.decode()

    assert "Enforce version" not in page
    assert client_for(audra).post("/o/acme/operate/policies/data/eu-only/replay/").status_code == 403


def test_both_over_the_api(acme: Tenant, api_for: ClientFor, adam: User, sam: User) -> None:
    writer, approver = api_for(adam), api_for(sam)

    made = writer.post("/api/v1/policies/", RULE).json()
    path = f"/api/v1/policies/{made['id']}/"
    assert writer.post("/api/v1/policies/", RULE).json()["code"] == "policy_invalid"
    assert writer.post("/api/v1/policies/lint/", {"expression": "nope"}).json()["ok"] is False
    assert writer.post("/api/v1/policies/lint/", {"expression": "time.hour < 9"}).json() == {"ok": True, "error": ""}
    assert approver.post(f"{path}mode/", {"mode": "enforce"}).json()["code"] == "policy_state"
    assert writer.post(f"{path}replay/", {}).json()["replay"]["calls"] == 0
    assert approver.post(f"{path}mode/", {"mode": "enforce"}).json()["active_version"] == 1
    assert writer.post(f"{path}versions/", {"require": "time.hour < 20"}).json()["number"] == 2
    assert writer.get(path).json()["newest_version"] == 2
    assert writer.get("/api/v1/policies/").json()["results"][0]["mode"] == "enforce"
    assert approver.delete(path).status_code == 409
    assert writer.post(f"{path}mode/", {"mode": "off", "version": 7}).status_code == 404

    guardrail = writer.post("/api/v1/guardrails/", {"name": "no-pii", "kind": "pii", "action": "redact"}).json()
    path = f"/api/v1/guardrails/{guardrail['id']}/"
    assert writer.post(f"{path}try/", {"text": "jo@acme.example"}).json()["becomes"] == "[EMAIL]"
    assert writer.put(path, {"name": "no-pii", "kind": "secrets"}).json()["code"] == "guardrail_invalid"
    assert writer.put(path, {"name": "no-pii", "kind": "pii", "mode": "enforce"}).json()["mode"] == "enforce"
    assert writer.get(path).json()["action"] == "block"
    assert len(writer.get("/api/v1/guardrails/").json()["results"]) == 1
    assert writer.delete(path).status_code == 204


def test_lists_take_the_same_queries_however_long(acme: Tenant, client_for: ClientFor, adam: User) -> None:
    client = client_for(adam)

    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    def fill(numbers: range) -> None:
        for number in numbers:
            client.post("/o/acme/operate/policies/new/", {**RULE, "name": f"rule-{number}"})
            Guardrail.objects.create(name=f"guard-{number}", kind="pii", created_by=adam)

    fill(range(2))
    client.get("/o/acme/operate/policies/")  # shows the messages of the forms, and forgets them
    before = queries("/o/acme/operate/policies/"), queries("/o/acme/operate/guardrails/")
    fill(range(2, 12))
    client.get("/o/acme/operate/policies/")

    assert (queries("/o/acme/operate/policies/"), queries("/o/acme/operate/guardrails/")) == before
