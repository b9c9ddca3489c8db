"""Prompts: versions that never change, approved by somebody else, moved into use by labels; what the gateway gets of them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction
from pytest_django import DjangoAssertNumQueries

from catalog import prompt_selectors, prompt_texts
from catalog.errors import InvalidValueError, NameTakenError, SelfApprovalError, TooMuchServedError, WrongStatusError
from catalog.models import Prompt, PromptVersion
from catalog.services import prompts
from gateway.contract import prompts as contract
from gateway.publish.publisher import compile_snapshot
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor
from tests.factories.catalog import make_model

HELLO = [{"role": "system", "content": "Greet {{name}} in {{ language }}."}]


def make_prompt(author: User, slug: str = "greeting", **fields: Any) -> Prompt:
    given: dict[str, Any] = {"name": slug.title(), "messages": HELLO, **fields}
    return prompts.create_prompt(slug=slug, actor=author, **given)


def approve(version: PromptVersion | None, author: User, approver: User) -> PromptVersion:
    assert version is not None
    return prompts.approve_version(version=prompts.submit_version(version=version, actor=author), actor=approver)


def test_text_of_messages_is_read_and_written_back() -> None:
    text = "Before any head\n\n[system]\nBe kind.\n\n[user]\nI am {{name}}: [system] is no head here"

    messages = prompt_texts.parse_messages(text)

    assert [message["role"] for message in messages] == ["user", "system", "user"]
    assert prompt_texts.parse_messages(prompt_texts.format_messages(messages)) == messages
    assert prompt_texts.parse_messages(text.replace("\n", "\r\n")) == messages
    for wrong in ("", "[system]\n\n[user]\nx", "[user]\nHello {{ 1st }}", "x" * (prompt_texts.MOST_CHARACTERS + 1)):
        with pytest.raises(InvalidValueError):
            prompt_texts.parse_messages(wrong)


def test_differences_are_told_by_line_and_word() -> None:
    rows = prompt_texts.side_by_side("same\nGreet Ada kindly.\ngone", "same\nGreet Bob kindly.\ngone\nnew")

    assert [row.is_same for row in rows] == [True, False, True, False]
    assert rows[1].before == [("Greet ", False), ("Ada", True), (" kindly.", False)]
    assert rows[1].after == [("Greet ", False), ("Bob", True), (" kindly.", False)]
    assert (rows[3].before, rows[3].after) == (None, [("new", True)])


def test_texts_that_repeat_themselves_are_compared_as_far_as_the_work_goes() -> None:
    words = prompt_texts.side_by_side(*("same\nfirst " + " ".join(f"{name}{n}" for n in range(4_000)) + " last" for name in "ab"))
    lines = prompt_texts.side_by_side(*(f"same\n{name}" + "\n" * 20_000 + f"{name}\nlast" for name in "ab"))

    assert [row.is_same for row in words] == [True, False]
    assert words[1].after is not None
    assert (words[1].after[0], words[1].after[-1]) == (("first ", False), (" last", False))
    assert "".join(text for text, _ in words[1].after).endswith(" b3999 last")
    assert (lines[0].is_same, lines[1].after, lines[-2].after, lines[-1].is_same) == (True, [("b", True)], [("b", True)], True)


def test_places_are_filled_once_and_every_one() -> None:
    version = contract.Version(number=3, messages=(contract.Message("user", "{{a}} {{ b }} {{a}}"),))

    assert contract.render(version, {"a": "{{b}}", "b": 7}) == [{"role": "user", "content": "{{b}} 7 {{b}}"}]
    for given in ({"a": "x"}, {"a": "x", "b": "y", "c": "z"}, {"a": "x", "b": ["y"]}, {"a": True, "b": "y"}):
        with pytest.raises(contract.PromptError):
            contract.render(version, given)
    assert contract.parse_reference(contract.reference("greeting.v2", 3)) == ("greeting.v2", 3)
    for text in ("greeting", "@3", "greeting@", "greeting@0", "greeting@x"):
        with pytest.raises(contract.PromptError):
            contract.parse_reference(text)


def test_a_version_never_changes_and_is_approved_by_somebody_else(acme: Tenant, bob: User, alice: User, adam: User) -> None:
    make_model(owner=alice, slug="small")
    prompt = make_prompt(bob, model="small", parameters={"temperature": 0.2})
    first = prompt.versions.get()
    again = prompts.write_version(prompt=prompt, actor=alice, messages=HELLO, model="small", parameters={"temperature": 0.2})
    second = prompts.write_version(prompt=prompt, actor=alice, messages=HELLO, model="small")

    assert again == first
    assert (second.number, second.digest == first.digest) == (2, False)
    with pytest.raises(WrongStatusError):  # a draft
        prompts.set_label(prompt=prompt, name="production", version=first, actor=adam)
    with pytest.raises(WrongStatusError):
        prompts.approve_version(version=first, actor=adam)
    prompts.submit_version(version=second, actor=bob)
    with pytest.raises(SelfApprovalError):
        prompts.approve_version(version=second, actor=alice)
    assert prompts.reject_version(version=second, actor=adam, reason="too short").status == "draft"
    version = Tenant.objects.get(pk=acme.pk).config_version
    approve(first, bob, adam)
    prompts.set_label(prompt=prompt, name="production", version=first, actor=bob)
    assert Tenant.objects.get(pk=acme.pk).config_version == version + 2
    with pytest.raises(WrongStatusError):
        prompts.submit_version(version=first, actor=bob)
    events = list(AuditEntry.objects.filter(event__startswith="prompt.").order_by("sequence").values_list("event", flat=True))
    assert events == [
        "prompt.created", "prompt.version_written", "prompt.version_written", "prompt.version_submitted", "prompt.version_rejected",
        "prompt.version_submitted", "prompt.version_approved", "prompt.label_moved",
    ]  # fmt: skip
    with pytest.raises(IntegrityError), transaction.atomic():
        PromptVersion.objects.create(prompt=prompt, number=1, content={}, digest="", author=bob)


def test_a_label_is_removed_once_and_only_where_it_was_seen(acme: Tenant, bob: User, adam: User) -> None:
    prompt = make_prompt(bob)
    first = approve(prompt.versions.get(), bob, adam)
    second = approve(prompts.write_version(prompt=prompt, actor=bob, messages=[*HELLO, *HELLO]), bob, adam)
    seen = prompts.set_label(prompt=prompt, name="production", version=first, actor=adam)
    moved = prompts.set_label(prompt=prompt, name="production", version=second, actor=adam)

    with pytest.raises(WrongStatusError, match="moved to version 2"):
        prompts.remove_label(label=seen, actor=adam)
    prompts.archive_prompt(prompt=prompt, actor=adam)
    with pytest.raises(WrongStatusError, match="archived"):
        prompts.remove_label(label=moved, actor=adam)
    prompts.restore_prompt(prompt=prompt, actor=adam)
    for _ in range(2):
        prompts.remove_label(label=moved, actor=adam)

    assert not prompt.labels.exists()
    assert AuditEntry.objects.get(event="prompt.label_removed").details["before"] == 2


def test_what_the_gateway_serves_is_bounded(acme: Tenant, bob: User, adam: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_selectors, "MOST_SERVED", 2)
    prompt = make_prompt(bob)
    for number in (1, 2, 3):
        text = "x" * 1000 * number
        approve(prompts.write_version(prompt=prompt, actor=bob, messages=[{"role": "user", "content": text}]), bob, adam)
    first, *_ = versions = list(prompt.versions.filter(status="approved").order_by("number"))
    prompts.set_label(prompt=prompt, name="old", version=first, actor=adam)
    assert list(prompt_selectors.served_prompts(())[0]["greeting"].versions) == [version.number for version in versions]
    assert 6000 < prompt_selectors.served_characters() < 6300
    prompts.remove_label(label=prompt.labels.get(), actor=adam)
    assert prompt_selectors.served_characters() < 5300
    with pytest.raises(InvalidValueError, match="not served any more"):
        prompt_selectors.version_named(f"greeting@{first.number}")

    monkeypatch.setattr(prompt_selectors, "MOST_SERVED_CHARACTERS", 5300)
    other = make_prompt(bob, "other", messages=[{"role": "user", "content": "y" * 1000}])
    waiting = prompts.submit_version(version=other.versions.get(), actor=bob)
    with pytest.raises(TooMuchServedError, match="5,300 is the most"):
        prompts.approve_version(version=waiting, actor=adam)
    with pytest.raises(TooMuchServedError):
        prompts.set_label(prompt=prompt, name="old", version=first, actor=adam)
    prompts.set_label(prompt=prompt, name="production", version=versions[1], actor=adam)  # is served anyway
    prompts.archive_prompt(prompt=prompt, actor=adam)
    prompts.approve_version(version=waiting, actor=adam)
    with pytest.raises(TooMuchServedError):
        prompts.restore_prompt(prompt=prompt, actor=adam)


def test_what_is_wrong_is_refused_with_its_field(acme: Tenant, bob: User) -> None:
    prompt = make_prompt(bob)

    with pytest.raises(NameTakenError):
        make_prompt(bob)
    for given, field in (
        ({"messages": HELLO, "model": "nowhere"}, "model"),
        ({"messages": HELLO, "parameters": {"model": "x"}}, "parameters"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"flow": {"a": 1}}, "messages"),
    ):
        with pytest.raises(InvalidValueError) as refused:
            prompts.write_version(prompt=prompt, actor=bob, **given)
        assert refused.value.field == field
    with pytest.raises(InvalidValueError):
        prompts.create_prompt(slug="flow", name="Flow", kind="flow", actor=bob, messages=HELLO)
    assert not Prompt.objects.filter(slug="flow").exists()


def test_the_gateway_gets_approved_versions_until_the_prompt_is_archived(acme: Tenant, bob: User, alice: User) -> None:
    prompt = make_prompt(bob, parameters={"temperature": 0.2})
    first = approve(prompt.versions.get(), bob, alice)
    prompts.write_version(prompt=prompt, actor=bob, messages=[*HELLO, {"role": "user", "content": "Hi"}])
    prompts.set_label(prompt=prompt, name="production", version=first, actor=alice)
    flow = prompts.create_prompt(slug="flow", name="Flow", kind="flow", actor=bob, flow={"steps": [{"id": "only"}]})
    approve(flow.versions.get(), bob, alice)

    compiled = compile_snapshot(acme, 1)
    served = compiled.prompts

    assert served == {
        "greeting": contract.Prompt(
            labels={"production": 1},
            versions={
                1: contract.Version(
                    number=1, messages=(contract.Message("system", HELLO[0]["content"]),), parameters='{"temperature": 0.2}'
                )
            },
        )
    }
    document = '{"steps": [{"id": "only"}]}'
    assert compiled.flows == {"flow": contract.Flow(labels={}, versions={1: contract.FlowVersion(number=1, document=document)})}
    assert prompt_selectors.version_named("greeting@1") == first
    for reference in ("greeting@2", "flow@1", "greeting", "nothing@1"):
        with pytest.raises(InvalidValueError):
            prompt_selectors.version_named(reference)
    prompts.archive_prompt(prompt=prompt, actor=alice)
    assert compile_snapshot(acme, 1).prompts == {}
    with pytest.raises(WrongStatusError):
        prompts.write_version(prompt=prompt, actor=bob, messages=HELLO)
    prompts.restore_prompt(prompt=prompt, actor=alice)
    assert compile_snapshot(acme, 1).prompts == served


def test_pages_from_writing_to_production(
    acme: Tenant, bob: User, adam: User, rita: User, client_for: ClientFor, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    developer, admin, reader = client_for(bob), client_for(adam), client_for(rita)
    form = {"slug": "greeting", "name": "Greeting", "kind": "chat", "content": "[system]\nGreet {{name}}.", "parameters": "{}"}
    assert "No prompts yet" in developer.get("/o/acme/build/prompts/").content.decode()

    assert developer.post("/o/acme/build/prompts/new/", {**form, "content": "[system]\n{{ 1 }}"}).status_code == 422
    assert developer.post("/o/acme/build/prompts/new/", {**form, "kind": "flow"}).status_code == 422
    assert developer.post("/o/acme/build/prompts/new/", form)["Location"] == "/o/acme/prompts/greeting/"
    developer.post("/o/acme/prompts/greeting/new-version/", {"content": "[system]\nWelcome {{name}}.", "parameters": '{"top_p": 0.5}'})
    developer.post("/o/acme/prompts/greeting/versions/2/submit/")
    assert developer.post("/o/acme/prompts/greeting/versions/2/decide/", {"act": "approve"}).status_code == 403
    too_long = {"act": "reject", "reason": "r" * 301}
    uncut = admin.post("/o/acme/prompts/greeting/versions/2/decide/", too_long, follow=True).content.decode()
    assert ("at most 300 characters" in uncut, "Approve version 2" in uncut) == (True, True)
    admin.post("/o/acme/prompts/greeting/versions/2/decide/", {"act": "approve"})
    admin.post("/o/acme/prompts/greeting/labels/", {"name": "production", "version": "2"})
    refused = admin.post("/o/acme/prompts/greeting/labels/", {"name": "production", "version": "1"}, follow=True).content.decode()

    assert "Only an approved version gets a label." in refused
    assert Prompt.objects.get().labels.get().version.number == 2
    page = reader.get("/o/acme/prompts/greeting/").content.decode()
    assert "Welcome {{name}}." in page
    assert "&quot;version&quot;: &quot;production&quot;" in page
    assert "New version" not in page
    changed = reader.get("/o/acme/prompts/greeting/diff/").content.decode()
    assert "<del>Greet</del>" in changed
    assert "<ins>Welcome</ins>" in changed
    for strange in ("diff/?before=99", "diff/?after=x", "?version=0", "?version=x"):
        assert reader.get(f"/o/acme/prompts/greeting/{strange}").status_code == 404
    for number in range(20):
        make_prompt(bob, f"more-{number}")
    with django_assert_max_num_queries(20):
        found = reader.get("/o/acme/build/prompts/?q=greet", headers={"HX-Request": "true"}).content.decode()
    assert "greeting" in found
    assert "more-1" not in found
    admin.post("/o/acme/prompts/greeting/archive/")
    assert "greeting" in reader.get("/o/acme/build/prompts/?archived=1").content.decode()


def test_page_names_the_version_that_callers_get(acme: Tenant, bob: User, adam: User, client_for: ClientFor) -> None:
    reader, prompt = client_for(bob), make_prompt(bob)
    page = "/o/acme/prompts/greeting/"

    none = reader.get(page).content.decode()
    first = approve(prompt.versions.get(), bob, adam)
    prompts.write_version(prompt=prompt, actor=bob, messages=[{"role": "user", "content": "Hi"}])
    unlabelled, served = reader.get(page).content.decode(), reader.get(f"{page}?version=1").content.decode()
    prompts.set_label(prompt=prompt, name="production", version=first, actor=adam)
    labelled = reader.get(page).content.decode()
    prompts.archive_prompt(prompt=prompt, actor=adam)
    archived = reader.get(page).content.decode()

    assert "Callers get nothing yet: no approved version is served. Submit version 1; somebody else approves it." in none
    assert "It is archived, so callers get nothing of it." in archived
    assert not any("/v1/prompts/greeting?" in without for without in (none, archived))
    assert "Version 2 is not approved, so callers can’t get it." in unlabelled
    assert "/v1/prompts/greeting?version=1 " in unlabelled
    assert "prompt=greeting@1" in unlabelled
    assert "data-served" not in served
    assert "/v1/prompts/greeting?label=production " in labelled


def test_api_from_writing_to_production(acme: Tenant, bob: User, adam: User, alice: User, api_for: ClientFor) -> None:
    developer, admin = api_for(bob), api_for(adam)
    body = {"slug": "greeting", "messages": HELLO, "parameters": {"temperature": 0.2}}

    made = developer.post("/api/v1/prompts/", body, "application/json")
    second = developer.post("/api/v1/prompts/greeting/versions/", {"messages": HELLO}, "application/json").json()
    developer.post("/api/v1/prompts/greeting/versions/2/submit/")
    own = api_for(alice).post("/api/v1/prompts/greeting/versions/1/approve/")
    approved = admin.post("/api/v1/prompts/greeting/versions/2/approve/").json()
    labelled = admin.put("/api/v1/prompts/greeting/labels/production/", {"version": 2}, "application/json").json()
    diff = developer.get("/api/v1/prompts/greeting/versions/2/diff/1/").json()

    assert made.status_code == 201, made.content
    assert (made.json()["newest_version"], made.json()["labels"]) == (1, {})
    assert (second["reference"], second["variables"], second["status"]) == ("greeting@2", ["name", "language"], "draft")
    assert (own.status_code, own.json()["code"]) == (409, "wrong_status")
    assert (approved["status"], approved["decided_by"]) == ("approved", adam.email)
    assert labelled["labels"] == {"production": 2}
    assert {"before": [{"text": "temperature: 0.2", "is_changed": True}], "after": None} in diff
    assert [row["number"] for row in developer.get("/api/v1/prompts/greeting/versions/").json()["results"]] == [2, 1]
    assert developer.post("/api/v1/prompts/", {**body, "slug": "x", "text": "y"}, "application/json").status_code == 400
    assert admin.delete("/api/v1/prompts/greeting/labels/production/").status_code == 204
    assert admin.post("/api/v1/prompts/greeting/archive/").json()["archived_at"] is not None
    assert developer.get("/api/v1/prompts/?archived=true").json()["results"][0]["slug"] == "greeting"
