"""Keys by request: asked for, agreed to by somebody else, taken once by the person who asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.errors import InvalidValueError, KeyByRequestError, SelfApprovalError, WrongStatusError
from catalog.models import KeyRequest, Project, VirtualKey
from catalog.services import key_requests, keys, projects
from governance.errors import NotAllowedError
from governance.models import AuditEntry, Notice, Tenant, User
from tests.conftest import ClientFor
from tests.factories import catalog as make

API = "/api/v1/key-requests/"


@pytest.fixture
def guarded(acme: Tenant, adam: User) -> Project:
    return make.make_project(owner=adam, slug="checkout", keys_by_request=True)


def ask(project: Project, actor: User, **fields: Any) -> KeyRequest:
    return key_requests.ask(project=project, actor=actor, **{"name": "staging", "why": "Load test of the basket", **fields})


def test_key_is_made_when_it_is_taken_and_only_once(guarded: Project, adam: User, bob: User, sam: User) -> None:
    with pytest.raises(KeyByRequestError):
        keys.create_key(name="staging", project=guarded, owner=bob, actor=bob)
    asked = ask(guarded, bob, lifetime_days=30, requests_per_minute=60)
    with pytest.raises(WrongStatusError):
        key_requests.take(request=asked, actor=bob)
    with pytest.raises(KeyByRequestError):
        keys.open_playground_session(project=guarded, person=bob)
    assert keys.open_playground_session(project=guarded, person=adam).key.owner == adam

    key_requests.decide(request=asked, agree=True, actor=sam)
    with pytest.raises(NotAllowedError):
        key_requests.take(request=asked, actor=adam)
    at = timezone.now() + timedelta(days=2)
    key, text = key_requests.take(request=asked, actor=bob, at=at)

    assert text.startswith("ghk_")
    assert (key.owner, key.requests_per_minute, key.expires_at) == (bob, 60, at + timedelta(days=30))
    with pytest.raises(WrongStatusError):
        key_requests.take(request=asked, actor=bob)
    assert VirtualKey.objects.filter(project=guarded, owner=bob).count() == 1
    assert keys.open_playground_session(project=guarded, person=bob, at=at).key.owner == bob
    assert [entry.event for entry in AuditEntry.objects.filter(event__startswith="key_request.").order_by("pk")] == [
        "key_request.asked",
        "key_request.agreed",
        "key_request.taken",
    ]
    assert Notice.objects.get(topic="key.asked").text == "Load test of the basket"


def test_nobody_decides_on_their_own_or_without_the_right_or_a_reason(guarded: Project, adam: User, bob: User, rita: User) -> None:
    own = ask(guarded, adam)
    asked = ask(guarded, bob)

    with pytest.raises(SelfApprovalError):
        key_requests.decide(request=own, agree=True, actor=adam)
    with pytest.raises(NotAllowedError):
        key_requests.decide(request=asked, agree=True, actor=rita)
    with pytest.raises(InvalidValueError):
        key_requests.decide(request=asked, agree=False, actor=adam, note=" ")
    with pytest.raises(InvalidValueError):
        ask(guarded, bob, why=" ")
    with pytest.raises(InvalidValueError):
        ask(guarded, bob, models=["no-such-model"])

    key_requests.decide(request=asked, agree=False, actor=adam, note="Use the shared one")
    with pytest.raises(WrongStatusError):
        key_requests.decide(request=asked, agree=True, actor=adam)
    with pytest.raises(WrongStatusError):
        key_requests.withdraw(request=asked, actor=bob)
    with pytest.raises(NotAllowedError):
        key_requests.withdraw(request=own, actor=bob)
    key_requests.withdraw(request=own, actor=adam)
    assert keys.create_key(name="at once", project=guarded, owner=bob, actor=adam)[0].owner == bob


def test_what_was_agreed_long_ago_or_for_a_project_that_is_off_is_not_made(guarded: Project, adam: User, bob: User) -> None:
    old, off = ask(guarded, bob), ask(guarded, bob)
    for asked in (old, off):
        key_requests.decide(request=asked, agree=True, actor=adam)

    with pytest.raises(WrongStatusError):
        key_requests.take(request=old, actor=bob, at=timezone.now() + timedelta(days=14, minutes=1))
    projects.switch_project(project=guarded, enabled=False, actor=adam)
    with pytest.raises(Exception, match="switched off"):
        key_requests.take(request=off, actor=bob)
    assert not VirtualKey.objects.filter(project=guarded).exists()
    assert KeyRequest.objects.get(pk=off.pk).status == "agreed"


def test_by_page(guarded: Project, adam: User, bob: User, client_for: ClientFor) -> None:
    developer, admin = client_for(bob), client_for(adam)
    form = developer.get("/o/acme/build/keys/new/", {"project": "checkout", "name": "staging"}).content.decode()
    body = {"name": "staging", "project": guarded.pk, "lifetime_days": 30}

    refused = developer.post("/o/acme/build/keys/new/", body)
    asked = developer.post("/o/acme/build/keys/new/", body | {"why": "Load test"}, follow=True).content.decode()
    waiting = admin.get("/o/acme/operate/keys/requests/").content.decode()
    home = admin.get("/o/acme/operate/home/").content.decode()
    assert 'title="Waiting for you">1<' in home
    request = KeyRequest.objects.get()
    declined = admin.post(f"/o/acme/operate/keys/requests/{request.pk}/decide/", {"agree": "0"}, follow=True).content.decode()
    too_long = {"agree": "0", "note": "n" * 201}
    uncut = admin.post(f"/o/acme/operate/keys/requests/{request.pk}/decide/", too_long, follow=True).content.decode()
    admin.post(f"/o/acme/operate/keys/requests/{request.pk}/decide/", {"agree": "1"})
    agreed = developer.get("/o/acme/build/keys/").content.decode()
    shown = developer.post(f"/o/acme/build/keys/requests/{request.pk}/take/")

    assert "Ask for the key" in form
    assert "Make the key" in admin.get("/o/acme/build/keys/new/", {"project": "checkout"}).content.decode()
    assert refused.status_code == 422
    assert "Asked for" in asked
    assert "Load test" in waiting
    assert "asks for a key of" in home
    assert "Say why" in declined
    assert "at most 200 characters" in uncut
    assert "Take the key" in agreed
    assert "ghk_" in shown.content.decode()
    assert shown.headers["Cache-Control"] == "no-store"


def test_by_api(guarded: Project, adam: User, bob: User, rita: User, api_for: ClientFor) -> None:
    developer, admin = api_for(bob), api_for(adam)
    body = {"name": "ci", "project": "checkout", "why": "Nightly evaluation", "models": None, "lifetime_days": 7}

    straight = developer.post("/api/v1/keys/", {"name": "ci", "project": "checkout"}, content_type="application/json")
    made = developer.post(API, body, content_type="application/json").json()
    foreign = api_for(rita).get(f"{API}{made['id']}/")
    decided = admin.post(f"{API}{made['id']}/decide/", {"agree": True}, content_type="application/json").json()
    taken = developer.post(f"{API}{made['id']}/take/").json()
    with CaptureQueriesContext(connection) as few:
        admin.get(API)
    for _ in range(5):
        ask(guarded, bob)
    with CaptureQueriesContext(connection) as many:
        listed = admin.get(API, {"status": "waiting"}).json()

    assert (straight.status_code, straight.json()["code"]) == (403, "key_by_request")
    assert (made["status"], decided["status"], decided["decided_by"]) == ("waiting", "agreed", adam.email)
    assert foreign.status_code == 404
    assert taken["secret"].startswith("ghk_")
    assert len(listed["results"]) == 5
    assert len(many) <= len(few)
    assert admin.get(API, {"status": "nonsense"}).status_code == 422
