"""Limits of any scope: kept, published, shown with what is used of them."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.errors import CatalogError
from catalog.models import UsageLimit
from catalog.services import limits
from gateway.contract.snapshot import PICO_USD
from gateway.publish.models import Counter, Slot
from gateway.publish.publisher import compile_snapshot
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor
from tests.factories.catalog import make_key, make_model, make_project

PER_DAY: dict[str, Any] = {"scope": "agent", "ref": "cart", "resource": "input_tokens", "window": "day", "amount": 5000}


def test_limits_of_every_scope_reach_the_plane(acme: Tenant, adam: User) -> None:
    make_project(owner=adam, slug="checkout")
    model, (key, _) = make_model(owner=adam), make_key(owner=adam)
    for scope, ref in (("tenant", ""), ("project", "checkout"), ("agent", "cart"), ("model", model.slug), ("key", key.public_id)):
        limits.create_limit(actor=adam, **{**PER_DAY, "scope": scope, "ref": ref})
    limits.create_limit(actor=adam, scope="tenant", resource="concurrent", window="day", amount=40, fail_open=False)

    served = compile_snapshot(acme, 1).usage_limits

    assert [(limit.scope, limit.scope_name, limit.resource, limit.window, limit.amount, limit.fail_open) for limit in served] == [
        ("tenant", "acme", "input_tokens", "day", 5000, True),
        ("project", "checkout", "input_tokens", "day", 5000, True),
        ("agent", "cart", "input_tokens", "day", 5000, True),
        ("model", model.slug, "input_tokens", "day", 5000, True),
        ("key", key.public_id, "input_tokens", "day", 5000, True),
        ("tenant", "acme", "concurrent", "minute", 40, False),
    ]
    assert UsageLimit.objects.get(resource="concurrent").window == ""


def test_limits_of_a_deployment_go_with_it(acme: Tenant, adam: User) -> None:
    model = make_model(owner=adam)
    [deployment] = model.deployments.all()
    named = f"{model.slug}/{deployment.reference}"

    limits.create_limit(actor=adam, scope="deployment", ref=named, resource="money", window="month", amount=20)
    limits.create_limit(actor=adam, scope="deployment", ref=named, resource="concurrent", amount=8)
    for scope, ref in (("deployment", f"{model.slug}/elsewhere/gpt"), ("deployment", "nothing"), ("model", model.slug)):
        with pytest.raises(CatalogError):
            limits.create_limit(actor=adam, scope=scope, ref=ref, resource="money", window="day", amount=1)

    snapshot = compile_snapshot(acme, 1)
    assert snapshot.usage_limits == ()
    assert [(limit.resource, limit.window, limit.amount) for limit in snapshot.models[model.slug].deployments[0].limits] == [
        ("money", "month", 20 * PICO_USD),
        ("concurrent", "minute", 8),
    ]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scope": "project", "ref": "nobody"}, "ref"),
        ({"scope": "key", "ref": ""}, "ref"),
        ({"window": ""}, "window"),
        ({"amount": -1}, "amount"),
        ({}, "scope"),  # there is one already
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(acme: Tenant, adam: User, fields: dict[str, Any], field: str) -> None:
    limits.create_limit(actor=adam, **PER_DAY)

    with pytest.raises(CatalogError) as refused:
        limits.create_limit(actor=adam, **{**PER_DAY, **fields})

    assert refused.value.field == field
    assert UsageLimit.objects.count() == 1


def test_changing_and_taking_away_are_audited(acme: Tenant, adam: User) -> None:
    made = limits.create_limit(actor=adam, **PER_DAY)

    changed = limits.change_limit(limit=made, actor=adam, amount=9000, fail_open=True, is_enabled=False)
    limits.change_limit(limit=made, actor=adam, amount=9000, fail_open=True, is_enabled=False)
    assert compile_snapshot(acme, 1).usage_limits == ()
    assert changed.counter_id == made.counter_id  # what is used up counts on
    limits.delete_limit(limit=changed, actor=adam)

    events = [entry.event for entry in AuditEntry.objects.filter(event__startswith="limit.").order_by("sequence")]
    assert events == ["limit.created", "limit.changed", "limit.deleted"]


def test_page_shows_what_is_used(acme: Tenant, client_for: ClientFor, adam: User) -> None:
    client, now = client_for(adam), timezone.now()
    assert "No limit yet" in client.get("/o/acme/operate/limits/").content.decode()
    assert client.post("/o/acme/operate/limits/new/", {**PER_DAY, "window": ""}).status_code == 422
    assert client.post("/o/acme/operate/limits/new/", PER_DAY).status_code == 302
    client.post("/o/acme/operate/limits/new/", {"scope": "tenant", "resource": "concurrent", "amount": 10})
    tokens, at_once = UsageLimit.objects.get(resource="input_tokens"), UsageLimit.objects.get(resource="concurrent")
    Counter.objects.create(
        tenant=acme.public_id, limit_id=tokens.counter_id, window_start=now - timedelta(hours=1), window_end=now + timedelta(hours=1),
        granted=4100, last_grant=0,
    )  # fmt: skip
    for plane in ("one", "two"):
        Slot.objects.create(tenant=acme.public_id, limit_id=at_once.counter_id, plane=plane, slots=3, expires_at=now + timedelta(seconds=9))

    page = client.get("/o/acme/operate/limits/").content.decode()

    assert "82% used" in page
    assert "60% used" in page
    assert "No limit matches" in client.get("/o/acme/operate/limits/?q=nobody").content.decode()
    assert client.post(f"/o/acme/operate/limits/{tokens.pk}/edit/", {"amount": 100, "is_enabled": "on"}).status_code == 302
    assert "100% used" in client.get("/o/acme/operate/limits/?q=cart").content.decode()
    client.post(f"/o/acme/operate/limits/{tokens.pk}/delete/")
    assert UsageLimit.objects.count() == 1


def test_form_says_at_its_field_what_there_is_not(acme: Tenant, client_for: ClientFor, adam: User) -> None:
    client = client_for(adam)

    page = client.get("/o/acme/operate/limits/new/").content.decode()
    refused = client.post("/o/acme/operate/limits/new/", {**PER_DAY, "scope": "project", "ref": "nobody"})

    assert 'list="scope-names"' in page
    assert refused.status_code == 422
    assert refused.context["form"].errors["ref"] == ["There is no project nobody."]


def test_limits_over_the_api(acme: Tenant, api_for: ClientFor, adam: User) -> None:
    client = api_for(adam)

    made = client.post("/api/v1/limits/", PER_DAY).json()
    path = f"/api/v1/limits/{made['id']}/"

    assert client.post("/api/v1/limits/", PER_DAY).json()["code"] == "name_taken"
    assert client.post("/api/v1/limits/", {**PER_DAY, "scope": "project", "ref": "nobody"}).json()["code"] == "invalid"
    assert client.put(path, {"amount": 7, "fail_open": False}, content_type="application/json").json()["amount"] == 7
    assert client.get(path).json()["fail_open"] is False
    assert [row["ref"] for row in client.get("/api/v1/limits/?q=car").json()["results"]] == ["cart"]
    assert client.delete(path).status_code == 204


def test_list_takes_the_same_queries_however_long(acme: Tenant, client_for: ClientFor, adam: User) -> None:
    client = client_for(adam)
    client.get("/o/acme/operate/limits/")  # what a process reads once

    def queries(count: int) -> int:
        for number in range(count):
            limits.create_limit(actor=adam, **{**PER_DAY, "ref": f"agent-{count}-{number}"})
        with CaptureQueriesContext(connection) as captured:
            assert client.get("/o/acme/operate/limits/").status_code == 200
        return len(captured)

    assert queries(2) == queries(12)


def test_page_of_a_model_tells_developers_what_holds_their_calls(acme: Tenant, adam: User, bob: User, client_for: ClientFor) -> None:
    make_model(owner=adam, slug="small", max_output_tokens=512)
    client, page = client_for(bob), "/o/acme/models/small/"

    none = client.get(page).content.decode()
    project = make_project(owner=adam, slug="checkout", requests_per_minute=77)
    make_key(owner=bob, project=project, name="elsewhere", models=["other"])
    other = client.get(page).content.decode()
    key, _ = make_key(owner=bob, project=project, name="mine")
    for scope, ref, amount in (("tenant", "", 9001), ("model", "small", 9002), ("project", "checkout", 9003), ("key", key.public_id, 9004)):
        limits.create_limit(actor=adam, **{**PER_DAY, "scope": scope, "ref": ref, "amount": amount})
    for scope, ref, amount in (("model", make_model(owner=adam).slug, 8001), ("project", make_project(owner=adam).slug, 8002)):
        limits.create_limit(actor=adam, **{**PER_DAY, "scope": scope, "ref": ref, "amount": amount})
    UsageLimit.objects.filter(amount=9003).update(is_enabled=False)
    text = client.get(page).content.decode()

    assert "None of Acme. An answer has at most 512 tokens" in none
    assert "You have no key yet" in none
    assert "None of your keys may call it" in other
    assert [number for number in ("9,001", "9,002", "9,003", "9,004", "8,001", "8,002") if number in text] == ["9,001", "9,002", "9,004"]
    assert "77</span> requests per minute" in text
