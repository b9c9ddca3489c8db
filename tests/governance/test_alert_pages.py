"""Pages and endpoints of alerts; rights are in the access matrix."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance.access import Permission
from governance.models import AlertChannel, Delivery, Membership, Notice, Severity, Tenant, User
from governance.services import alerts
from tests.conftest import ClientFor, api_client

HOOK = "http://127.0.0.1:9/hook"


def tell(key: str, permission: Permission = Permission.VIEW) -> Notice:
    with transaction.atomic():
        return alerts.notify(topic="gate.ready", severity=Severity.INFO, title=f"Told {key}", key=key, permission=permission)


def test_a_channel_is_made_tried_changed_and_removed(client_for: ClientFor, adam: User, acme: Tenant) -> None:
    client = client_for(adam)

    assert "Nobody is told yet" in client.get("/o/acme/operate/alerts/").content.decode()
    bad = client.post("/o/acme/operate/alerts/new/", {"name": "Ops", "kind": "webhook", "target": "ftp://x", "least_severity": "info"})
    made = client.post("/o/acme/operate/alerts/new/", {"name": "Ops", "kind": "webhook", "target": HOOK, "least_severity": "info"})
    channel = AlertChannel.objects.get()
    other = {"name": "Chat", "kind": "apprise", "least_severity": "info"}
    mail = client.post("/o/acme/operate/alerts/new/", {**other, "target": "mailto://a:b@mail.example.com"})
    ready = client.post("/o/acme/operate/alerts/new/", {**other, "target": "gchat://space/key/token-7"}, follow=True)
    AlertChannel.objects.filter(name="Chat").delete()
    tried = client.post(f"/o/acme/operate/alerts/{channel.pk}/try/", follow=True)
    rotated = client.post(f"/o/acme/operate/alerts/{channel.pk}/rotate/")
    changed = client.post(
        f"/o/acme/operate/alerts/{channel.pk}/edit/",
        {"name": "On call", "topics": "gate, budget", "least_severity": "critical"},
        follow=True,
    )
    page = client.get(f"/o/acme/operate/alerts/{channel.pk}/edit/").content.decode()

    assert bad.status_code == 422
    assert (mail.status_code, "begins with one of" in mail.content.decode()) == (422, True)
    assert ("Google Chat" in ready.content.decode(), "token-7" in ready.content.decode()) == (True, False)
    assert re.search(r"whsec_[A-Za-z0-9+/=]{44}", made.content.decode())
    assert "could not be reached" in tried.content.decode()
    assert "24 hours" in rotated.content.decode()
    channel.refresh_from_db()
    assert (channel.name, channel.topics, channel.is_enabled) == ("On call", ["gate", "budget"], False)
    assert "On call" in changed.content.decode()
    assert HOOK not in page
    client.post(f"/o/acme/operate/alerts/{channel.pk}/delete/")
    assert not AlertChannel.objects.exists()


def test_a_topic_that_nothing_has_is_refused_with_those_that_were_meant(client_for: ClientFor, api_for: ClientFor, adam: User) -> None:
    fields = {"name": "Finance", "kind": "email", "target": "cfo@example.com", "least_severity": "info"}

    page = client_for(adam).post("/o/acme/operate/alerts/new/", {**fields, "topics": "budget, cost.showbak"})
    made = api_for(adam).post("/api/v1/alert-channels/", {**fields, "topics": ["cost", "bill.waiting"]})
    body = {"name": "Finance", "topics": ["costs"], "least_severity": "info", "is_enabled": True}
    changed = api_for(adam).put(f"/api/v1/alert-channels/{made.json()['id']}/", body)

    assert (page.status_code, "Nothing is told under cost.showbak; known are cost.showback" in page.content.decode()) == (422, True)
    assert (made.status_code, changed.status_code, changed.json()["code"]) == (201, 400, "unknown_topic")


def test_a_channel_keeps_the_unknown_topic_that_it_has_and_gets_no_other(client_for: ClientFor, adam: User, acme: Tenant) -> None:
    channel, _ = alerts.create_channel(name="Finance", kind="email", target="cfo@example.com", topics=["cost"], actor=adam)
    AlertChannel.objects.update(topics=["costs.old"])  # of before topics were checked
    page, client = f"/o/acme/operate/alerts/{channel.pk}/edit/", client_for(adam)

    off = client.post(page, {"name": "Finance", "topics": "costs.old", "least_severity": "info"})
    more = client.post(page, {"name": "Finance", "topics": "costs.old, costs.new", "least_severity": "info"})

    assert (off.status_code, more.status_code) == (302, 422)
    channel.refresh_from_db()
    assert (channel.topics, channel.is_enabled) == (["costs.old"], False)


def test_a_page_leads_to_a_channel_for_its_topic(client_for: ClientFor, adam: User, fay: User, acme: Tenant) -> None:
    showback = "/o/acme/operate/costs/showback/"

    assert 'href="/o/acme/operate/alerts/new/?topics=cost.showback"' in client_for(adam).get(showback).content.decode()
    assert "Admins add one" in client_for(fay).get(showback).content.decode()
    form = client_for(adam).get("/o/acme/operate/alerts/new/?topics=cost.showback").content.decode()
    assert re.search(r'name="topics" value="cost\.showback"', form)


def test_a_delivery_is_listed_and_sent_again(client_for: ClientFor, adam: User, acme: Tenant) -> None:
    alerts.create_channel(name="Ops", kind="slack", target=HOOK, actor=adam)
    tell("one")
    Delivery.objects.update(status="dead", next_at=None, attempts=8, last_error="The receiver answered 500.")
    client = client_for(adam)

    listed = client.get("/o/acme/operate/alerts/deliveries/?status=dead").content.decode()
    none = client.get("/o/acme/operate/alerts/deliveries/?status=sent").content.decode()
    Delivery.objects.update(status="pending", next_at=timezone.now() - timedelta(seconds=1))
    due = client.get("/o/acme/operate/alerts/deliveries/").content.decode()
    Delivery.objects.update(next_at=timezone.now() + timedelta(minutes=5, seconds=30))
    later = client.get("/o/acme/operate/alerts/deliveries/").content.decode()
    client.post(f"/o/acme/operate/alerts/deliveries/{Delivery.objects.get().pk}/replay/")

    assert "8 attempts: The receiver answered 500." in listed
    assert "None in this state" in none
    assert "500. Again in a moment." in due
    assert ">in 5 min</time>." in later
    assert Delivery.objects.get().status == "pending"


def test_notifications_show_what_the_person_may_read(client_for: ClientFor, bob: User, fay: User, acme: Tenant) -> None:
    tell("for all")
    tell("for finance", Permission.VIEW_COSTS)

    bobs, fays = (client_for(user).get("/o/acme/notifications/").content.decode() for user in (bob, fay))

    assert "Told for all" in bobs
    assert "Told for finance" not in bobs
    assert "Told for finance" in fays


@pytest.mark.parametrize("path", ["operate/alerts/", "operate/alerts/deliveries/", "notifications/"])
def test_lists_cost_the_same_for_one_and_for_many(client_for: ClientFor, adam: User, acme: Tenant, path: str) -> None:
    client = client_for(adam)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(f"/o/acme/{path}").status_code == 200
        return len(captured)

    alerts.create_channel(name="0", kind="slack", target=HOOK, actor=adam)
    tell("0")
    queries()  # the first look of a session also notes the area
    one = queries()
    for number in range(1, 6):
        alerts.create_channel(name=str(number), kind="slack", target=HOOK, actor=adam)
        tell(str(number))

    assert queries() == one


def test_api_makes_a_channel_and_replays(api_for: ClientFor, adam: User, bob: User) -> None:
    client = api_for(adam)
    base = "/api/v1/alert-channels/"

    made = client.post(base, {"name": "Ops", "kind": "webhook", "target": HOOK, "topics": ["gate"]})
    bad = client.post(base, {"name": "Ops2", "kind": "webhook", "target": "http://10.0.0.1/"})
    again = client.post(base, {"name": "Ops", "kind": "webhook", "target": HOOK})
    other = {"name": "Pages", "kind": "apprise", "target": "opsgenie://key-7"}
    service = client.post(base, {**other, "least_severity": "critical"}).json()
    one = f"{base}{made.json()['id']}/"
    tried = client.post(f"{one}try/")
    rotated = client.post(f"{one}rotate/")
    body = {"name": "Ops", "topics": [], "least_severity": "info", "is_enabled": True}
    changed = client.put(one, body)
    tell("api")
    [delivery] = client.get("/api/v1/deliveries/").json()["results"]
    replayed = client.post(f"/api/v1/deliveries/{delivery['id']}/replay/")

    assert made.status_code == 201
    assert made.json()["secret"].startswith("whsec_")
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_target")
    assert service["shown_target"] == "Opsgenie"
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    assert tried.json()["tried_ok"] is False
    assert rotated.json()["secret"] != made.json()["secret"]
    assert changed.json()["topics"] == []
    assert (delivery["title"], delivery["channel"]) == ("Told api", "Ops")
    assert replayed.json()["status"] == "pending"
    assert [row["key"] for row in api_for(bob).get("/api/v1/notices/").json()["results"]] == ["api"]
    assert client.get(one).json()["shown_target"] == "127.0.0.1"
    assert client.delete(one).status_code == 204


def test_a_token_with_fewer_roles_reads_fewer_notices(adam: User, acme: Tenant) -> None:
    tell("of the gateway")
    tell("of the catalog", Permission.MANAGE_CATALOG)
    Membership.objects.filter(user=adam, tenant=acme).update(roles=["admin", "developer"])

    seen = api_client(adam, acme, roles=["developer"]).get("/api/v1/notices/").json()["results"]

    assert [row["key"] for row in seen] == ["of the gateway"]


def test_home_shows_warnings_first_the_critical_ones(client_for: ClientFor, adam: User, acme: Tenant) -> None:
    client = client_for(adam)
    quiet = client.get("/o/acme/operate/home/").content.decode()
    tell("only information")
    with transaction.atomic():
        for key, severity in (("worst", Severity.CRITICAL), ("newer", Severity.WARNING)):
            alerts.notify(topic="budget.exceeded", severity=severity, title=f"Told {key}", key=key)

    shown = client.get("/o/acme/operate/home/").content.decode()

    assert "Nothing in the last seven days" in quiet
    assert "Told only information" not in shown
    assert shown.index("Told worst") < shown.index("Told newer")
