"""The catalog of models and a model's page."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from catalog import selectors
from catalog.hooks import Price
from catalog.models import Deployment, Model, ModelReview, VirtualKey
from catalog.services import models
from governance.models import Tenant, User
from governance.pages import keyset_page
from tests.catalog.pages import HTMX, text_of
from tests.conftest import ClientFor
from tests.factories import costs
from tests.factories.catalog import make_model, make_provider


@pytest.fixture
def assorted(acme: Tenant, alice: User) -> None:
    """Three models: two that chat, at different prices, and one for embeddings without a price or a stated context."""
    eu, us = make_provider(slug="eu-cloud", region="eu"), make_provider(slug="us-cloud", region="us")
    talker: dict[str, Any] = {"capabilities": ["chat", "vision"], "data_sensitivity": "confidential", "context_window": 200_000}
    make_model(owner=alice, slug="talker", provider=eu, price=("2.00", "8.00"), **talker)
    make_model(owner=alice, slug="brief", provider=us, price=("0.10", "0.40"), context_window=32_000)
    make_model(owner=alice, slug="embedder", provider=us, capabilities=["embeddings"])


def test_facets_narrow_the_catalog(assorted: None, bob: User, client_for: ClientFor) -> None:
    client = client_for(bob)

    def found(query: str) -> list[str]:
        text = text_of(client.get(f"/o/acme/build/models/?{query}", headers=HTMX))
        return re.findall(r'href="/o/acme/models/([a-z]+)/"', text)

    assert found("") == ["brief", "embedder", "talker"]
    assert found("capability=vision") == ["talker"]
    assert found("sensitivity=internal") == ["brief", "embedder"]
    assert found("q=TALK") == ["talker"]
    assert found("capability=vision&sensitivity=internal") == []
    assert found("provider=us-cloud&context=32000") == ["brief"]
    assert found("region=eu") == ["talker"]
    assert found("price=5") == ["brief"]  # what has no price is not known to be cheap
    assert found("context=many") == found("price=NaN") == found("price=9e999") == []


def test_facets_say_how_many_models_each_choice_would_leave(assorted: None, bob: User, client_for: ClientFor) -> None:
    text = text_of(client_for(bob).get("/o/acme/build/models/?capability=chat&provider=us-cloud&region=mars"))

    # each facet counts under what the others choose: nothing is left on Mars, and no region but its own fits the rest
    assert "Chat (0)" in text
    assert "us (1)" in text
    assert "mars (0)" in text
    assert "Clear" in text
    text = text_of(client_for(bob).get("/o/acme/build/models/?capability=chat"))
    assert all(words in text for words in ("Chat (2)", "Embeddings (1)", "Us Cloud (1)", "≥ 128K (1)", "≤ $15 (2)", "Confidential (1)"))
    assert "≥ 1M" not in text


def test_models_are_sorted_by_what_matters_and_paged_in_that_order(assorted: None, bob: User, client_for: ClientFor) -> None:
    for sort, expected in (
        ("output", ["brief", "talker", "embedder"]),  # what has no price is last in both directions
        ("-output", ["talker", "brief", "embedder"]),
        ("context", ["talker", "brief", "embedder"]),
        ("-name", ["talker", "embedder", "brief"]),
    ):
        found, order = selectors.ordered_models(selectors.served_models(), sort)
        first = keyset_page(found, order=order, size=2)
        second = keyset_page(found, order=order, size=2, cursor=str(first.next_cursor))
        back = keyset_page(found, order=order, size=2, cursor=str(second.previous_cursor))
        assert [[model.slug for model in page.rows] for page in (first, second, back)] == [expected[:2], expected[2:], expected[:2]], sort

    text = text_of(client_for(bob).get("/o/acme/build/models/?sort=-output"))
    assert 'aria-sort="descending"' in text
    assert re.findall(r'href="/o/acme/models/([a-z]+)/"', text) == ["talker", "brief", "embedder"]


def test_sample_code_names_the_persons_key(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    response = client_for(bob).get("/o/acme/models/small/")

    key = VirtualKey.objects.get()
    assert f"_{key.public_id}_…" in text_of(response)
    assert "/v1/chat/completions" in text_of(response)


def test_model_is_retired_by_button(furnished: dict[str, str], alice: User, client_for: ClientFor) -> None:
    response = client_for(alice).post("/o/acme/models/small/act/retire/", {"reason": "too old"}, follow=True)

    assert Model.objects.get(slug="small").status == Model.Status.RETIRED
    assert "is retired" in text_of(response)


def test_quota_of_a_deployment_is_set_on_its_page(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    deployment = make_model(owner=alice, slug="small").deployments.get()
    client, url = client_for(alice), f"/o/acme/models/small/deployments/{deployment.pk}/change/"

    wrong = client.post(url, {"weight": 1, "priority": 0, "is_enabled": "1", "tokens_per_minute": "0"}, follow=True)
    done = client.post(url, {"weight": 1, "priority": 0, "is_enabled": "1", "tokens_per_minute": "90000"}, follow=True)

    deployment.refresh_from_db()
    assert "numbers from 1, or empty" in text_of(wrong)
    assert (deployment.requests_per_minute, deployment.tokens_per_minute) == (None, 90_000)
    assert 'name="tokens_per_minute" value="90000"' in text_of(done)


def test_only_deployment_of_a_served_model_stays(furnished: dict[str, str], alice: User, client_for: ClientFor) -> None:
    deployment = Model.objects.get(slug="small").deployments.get()

    response = client_for(alice).post(f"/o/acme/models/small/deployments/{deployment.pk}/remove/", follow=True)

    assert "only deployment" in text_of(response)


def test_wider_change_waits_and_is_asked_again_when_it_went_stale(acme: Tenant, alice: User, sam: User, client_for: ClientFor) -> None:
    model = make_model(owner=alice, slug="small", price=("1", "2"))
    client, page = client_for(alice), "/o/acme/models/small/"
    facts = {
        "name": "Small",
        "capabilities": ["chat"],
        "max_output_tokens": "4096",
        "feature_class": "assistants",
        "environment": "production",
    }

    held = text_of(client.post(f"{page}edit/", {**facts, "data_sensitivity": "restricted"}, follow=True))
    added = text_of(
        client.post(
            f"{page}deployments/add/", {"provider": make_provider().pk, "upstream_model": "x", "weight": "1", "priority": "0"}, follow=True
        )
    )

    assert "waits for approval: it makes a served model wider" in held
    assert "restricted" in held
    assert "off: waits for approval" in added
    model.refresh_from_db()
    assert model.data_sensitivity == "internal"
    review = ModelReview.objects.get(kind="facts")
    models.set_price(model=model, provider=model.deployments.earliest("pk").provider, price=Price(Decimal(3), Decimal(4)), actor=alice)
    stale = client_for(sam).post(f"/o/acme/operate/models/approvals/{review.pk}/decide/", {"decision": "approve"}, follow=True)
    assert "changed since approval was asked for" in text_of(stale)
    assert "Ask again, as it is now" in text_of(client.get(f"{page}?tab=approval"))
    client.post(f"/o/acme/operate/models/approvals/{review.pk}/again/")
    fresh = ModelReview.objects.get(kind="facts", status="waiting")
    client_for(sam).post(f"/o/acme/operate/models/approvals/{fresh.pk}/decide/", {"decision": "approve"})
    model.refresh_from_db()
    assert model.data_sensitivity == "restricted"
    assert ModelReview.objects.get(pk=review.pk).status == "withdrawn"


def test_cost_of_a_model_says_how_many_calls_have_no_price(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_model(owner=alice, slug="small-chat")
    costs.record(acme, costs.call(acme), costs.call(acme, **costs.REFUSED))

    page = text_of(client_for(alice).get("/o/acme/models/small-chat/"))

    assert "out · 1 unpriced</dd>" in page
    assert '<span title="Those that the caller left are among them">0 failed</span>, 1 refused' in page


def test_a_model_with_several_providers_has_the_price_of_each(acme: Tenant, alice: User, client_for: ClientFor, api_for: ClientFor) -> None:
    model = make_model(owner=alice, slug="talker", provider=make_provider(slug="eu-cloud"))
    us = make_provider(slug="us-cloud", name="US cloud")
    Deployment.objects.create(model=model, provider=us, upstream_model="talker", check_ok=True)
    models.set_price(model=model, provider=us, price=Price(Decimal("0.10"), Decimal("0.40")), actor=alice)

    text = text_of(client_for(alice).get("/o/acme/models/talker/"))
    row = api_for(alice).get("/api/v1/models/talker/").json()

    assert "unpriced where it is tried first" in text
    assert re.search(r"US cloud.*\$0\.10.*\$0\.40", text, re.DOTALL)
    assert row["price"] is None
    assert {slug: Decimal(price["output_per_million"]) for slug, price in row["prices"].items()} == {"us-cloud": Decimal("0.40")}
