"""What else a price depends on: how the provider served the call, where, and how long its prompt was."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models import Sum

from costs import price_selectors
from costs.models import Event, PriceEntry, TokenDay, UsageHour
from costs.services import price_proposals, prices
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make

START = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture
def book(acme: Tenant, alice: User) -> None:
    """Usual prices, dearer ones in the EU and for long prompts, and a batch tier."""
    make.prices(alice, input="1", output="4")
    make.price(alice, "input", "1.10", region="eu")
    make.price(alice, "input", "2", context_over=200_000)
    make.price(alice, "output", "6", context_over=200_000)
    make.price(alice, "input", "0.50", service_tier="batch")
    make.price(alice, "output", "2", service_tier="batch")


def cost(acme: Tenant, **fields: Any) -> tuple[str, Decimal | None]:
    """How a call is priced, and at what, in millionths of a dollar."""
    make.record(acme, call := make.call(acme, **{"region": "us", "started_at": START, **fields}))
    event = Event.objects.get(event_id=call["event_id"])
    return event.pricing, None if event.cost is None else (event.cost * 1_000_000).normalize()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1000 + 800),
        ({"service_tier": "default"}, 1000 + 800),
        ({"service_tier": "Batch"}, 500 + 400),
        ({"service_tier": "batch", "cached_input_tokens": 400}, 500 + 400),
        ({"region": "eu"}, 1100 + 800),
        ({"region": "eu", "cached_input_tokens": 400}, 1100 + 800),
        ({"input_tokens": 200_000}, 200_000 + 800),
        ({"input_tokens": 200_001, "cached_input_tokens": 150_000}, 400_002 + 1200),
        # Of the region, whose price has no bands: but the output has one.
        ({"region": "eu", "input_tokens": 300_000}, 330_000 + 1200),
    ],
)
def test_call_has_the_price_of_its_tier_region_and_band(book: None, acme: Tenant, fields: dict[str, Any], expected: int) -> None:
    assert cost(acme, **fields) == ("priced", Decimal(expected))


@pytest.mark.parametrize("tier", ["priority", "warp"])
def test_tier_without_a_price_stays_unpriced_and_is_named(
    book: None, acme: Tenant, alice: User, fay: User, client_for: ClientFor, tier: str
) -> None:
    assert cost(acme, service_tier=tier) == ("unpriced", None)
    [row] = price_selectors.unpriced()
    page = client_for(fay).get("/o/acme/operate/costs/price-book/").content.decode()

    assert row.tiers == [tier]
    assert f"served as {tier}" in page
    make.price(alice, "input", "3", service_tier=tier)
    make.price(alice, "output", "9", service_tier=tier)
    assert prices.price_unpriced(provider="openai", model="small-chat") == 1
    assert Event.objects.get().cost == Decimal("0.0048")


def test_late_price_of_a_band_is_found_by_calls_that_waited(acme: Tenant, alice: User) -> None:
    make.record(acme, *(make.call(acme, started_at=START, input_tokens=tokens) for tokens in (1_000, 300_000)))
    make.prices(alice)
    make.price(alice, "input", "2", context_over=200_000)

    assert prices.price_unpriced(provider="openai", model="small-chat") == 2

    sums = [model.objects.aggregate(n=Sum("cost"))["n"] for model in (Event, UsageHour, TokenDay)]
    assert set(sums) == {Decimal("0.6026")}


def test_correction_of_a_usual_price_leaves_tiers_regions_and_bands(book: None, acme: Tenant, alice: User) -> None:
    calls: list[dict[str, Any]] = [{}, {"service_tier": "batch"}, {"region": "eu"}, {"input_tokens": 300_000}]
    make.record(acme, *(make.call(acme, **{"region": "us", "started_at": START, **fields}) for fields in calls))
    at = datetime(2025, 1, 1, tzinfo=UTC)
    corrected: dict[str, Any] = {"provider": "openai", "model": "small-chat", "token_class": "input", "valid_from": at, "actor": alice}

    usual = prices.reprice(entry=prices.correct_price(price=Decimal("1.50"), **corrected))
    band = prices.reprice(entry=prices.correct_price(price=Decimal("3"), context_over=200_000, **corrected))
    new_region = prices.reprice(entry=prices.correct_price(price=Decimal("1.25"), region="us", **corrected))

    assert usual == (1, Decimal("0.0005"))
    assert band == (1, Decimal("0.3"))
    # A price of the region comes before the band of all regions.
    assert new_region == (2, Decimal("-0.00025") - Decimal("0.525"))
    assert len({model.objects.aggregate(n=Sum("cost"))["n"] for model in (Event, UsageHour, TokenDay)}) == 1


def test_series_with_other_dimensions_do_not_overlap(book: None, alice: User) -> None:
    with pytest.raises(IntegrityError, match="price_no_overlap"), transaction.atomic():
        make.price(alice, "input", "9", region="eu", valid_from=datetime(2024, 1, 1, tzinfo=UTC), valid_to=START)

    assert PriceEntry.objects.usual().count() == 2
    assert price_selectors.current_prices()["openai", "small-chat"].input_per_million == 1


def test_book_shows_what_a_price_is_for_on_page_sheet_and_api(
    book: None, alice: User, fay: User, client_for: ClientFor, api_for: ClientFor
) -> None:
    make.deployment(alice)
    page = client_for(fay).get("/o/acme/operate/costs/price-book/").content.decode()
    form = {
        "provider": "openai",
        "model": "small-chat",
        "token_class": "output",
        "price": "8",
        "service_tier": "priority",
        "context_over": "",
    }
    client_for(fay).post("/o/acme/operate/costs/price-book/", form)
    sheet = b"".join(client_for(fay).get("/o/acme/operate/costs/price-book/csv/").streaming_content).decode()  # type: ignore[attr-defined]  # a stream
    body = {"provider": "openai", "model": "small-chat", "token_class": "input", "price": "7", "region": "eu", "context_over": 200000}
    made = api_for(fay).post("/api/v1/prices/", body, content_type="application/json").json()

    assert "Input, over 200,000 tokens" in page
    assert "Output, batch" in page
    assert "openai,small-chat,output,8,,,,priority,,0" in sheet
    assert (made["service_tier"], made["region"], made["context_over"]) == ("standard", "eu", 200000)


def test_discount_covers_every_series(book: None, fay: User) -> None:
    sheet = price_proposals.propose_discount(provider="openai", percent=Decimal(10), valid_from=START, actor=fay, note="Contract 7")

    found = {(row.series_label, row.before, row.price) for row in sheet.proposals.all()}
    assert len(found) == 7
    assert ("Input, eu", Decimal("1.10"), Decimal("0.99")) in found
