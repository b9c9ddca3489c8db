"""A model's cache settings, and what they brought."""

from decimal import Decimal

import pytest

from catalog.errors import InvalidValueError
from catalog.services import models
from costs.models import Event
from gateway.publish.publisher import compile_snapshot
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make
from tests.factories.catalog import make_model


def test_settings_reach_the_plane_and_the_log(acme: Tenant, adam: User) -> None:
    model = make_model(owner=adam, status="approved")

    models.set_cache(model=model, actor=adam, ttl_s=3600, scope="project")
    models.set_cache(model=model, actor=adam, ttl_s=3600, scope="project")

    served = compile_snapshot(acme, 1).models[model.slug]
    assert (served.cache_ttl_s, served.cache_scope) == (3600, "project")
    assert AuditEntry.objects.get(event="model.cache_set").details["after"] == {"ttl_s": 3600, "scope": "project"}
    with pytest.raises(InvalidValueError, match="a week"):
        models.set_cache(model=model, actor=adam, ttl_s=604_801, scope="tenant")


def test_page_and_api_show_what_was_saved(acme: Tenant, client_for: ClientFor, api_for: ClientFor, adam: User) -> None:
    model = make_model(owner=adam, status="approved")
    hit = {"usage_source": "cache", "input_tokens": None, "output_tokens": None, "provider": None}
    make.record(
        acme,
        make.call(acme, model=model.slug, steps=[[f"cache:{model.slug}", "miss", 0, ""]]),
        make.call(acme, model=model.slug, steps=[[f"cache:{model.slug}", "hit", 0, "saved_microusd=250000"]], **hit),
        make.call(acme, model=model.slug, steps=[[f"cache:{model.slug}", "hit", 0, "saved_microusd=250000"]], **hit),
        make.call(acme, model="other", steps=[["cache:other", "hit", 0, "saved_microusd=9"]], **hit),
    )
    client, page = client_for(adam), f"/o/acme/models/{model.slug}/?tab=cache"

    shown = client.get(page).content.decode()

    assert "2 of 3 calls" in shown
    assert "0.50" in shown
    assert client.post(f"/o/acme/models/{model.slug}/cache/", {"ttl_s": "-1", "scope": "tenant"}).status_code == 422
    assert client.post(f"/o/acme/models/{model.slug}/cache/", {"ttl_s": "600", "scope": "key"}).status_code == 302
    body = api_for(adam).get(f"/api/v1/models/{model.slug}/cache/").json()
    assert (body["ttl_s"], body["scope"], body["hits"], body["misses"], Decimal(body["saved_usd"])) == (600, "key", 2, 1, Decimal("0.5"))
    changed = api_for(adam).put(f"/api/v1/models/{model.slug}/cache/", {"ttl_s": 0}, content_type="application/json").json()
    assert (changed["ttl_s"], changed["scope"]) == (0, "tenant")


def test_hit_costs_nothing_and_is_not_unpriced(acme: Tenant) -> None:

    make.record(acme, make.call(acme, usage_source="cache", input_tokens=None, output_tokens=None, provider=None))

    event = Event.objects.get()
    assert (event.pricing, event.cost) == ("free", Decimal())
