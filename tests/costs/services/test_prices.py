"""The price book: no gap that nobody meant, no overlap, nothing repriced in silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.hooks import Price, cost_figures
from costs import price_selectors, tasks
from costs.errors import PriceExistsError, PriceValueError
from costs.models import Event, PriceEntry, TokenDay, UsageHour
from costs.services import prices
from governance.models import AuditEntry, Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor
from tests.factories import costs as make

JANUARY, MARCH, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 3, 5))


def set_price(actor: User, amount: str, at: datetime | None = None, token_class: str = "input", agreed: bool = False) -> PriceEntry:
    return prices.set_price(
        provider="openai", model="small-chat", token_class=token_class, price=Decimal(amount), actor=actor, valid_from=at, agreed=agreed
    )


def timeline() -> list[tuple[Decimal, datetime, datetime | None]]:
    return [(entry.price, entry.valid_from, entry.valid_to) for entry in PriceEntry.objects.order_by("valid_from")]


def test_new_price_ends_the_one_in_force(acme: Tenant, fay: User) -> None:
    set_price(fay, "1", JANUARY)

    set_price(fay, "2", MARCH)

    assert timeline() == [(Decimal(1), JANUARY, MARCH), (Decimal(2), MARCH, None)]
    assert AuditEntry.objects.filter(event="price.set").first().details["before"] == "1.00000000"  # type: ignore[union-attr]  # it exists


def test_price_in_between_holds_until_the_next(acme: Tenant, fay: User) -> None:
    set_price(fay, "1", JANUARY)
    set_price(fay, "3", MAY)

    set_price(fay, "2", MARCH)

    assert timeline() == [(Decimal(1), JANUARY, MARCH), (Decimal(2), MARCH, MAY), (Decimal(3), MAY, None)]


def test_price_before_the_first_ends_at_the_first(acme: Tenant, fay: User) -> None:
    set_price(fay, "2", MARCH)

    set_price(fay, "1", JANUARY)

    assert timeline() == [(Decimal(1), JANUARY, MARCH), (Decimal(2), MARCH, None)]


def test_same_price_again_changes_nothing(acme: Tenant, fay: User) -> None:
    set_price(fay, "1", JANUARY)

    set_price(fay, "1.0", MARCH)

    assert timeline() == [(Decimal(1), JANUARY, None)]
    assert AuditEntry.objects.filter(event="price.set").count() == 1


def test_second_price_for_the_very_same_time_is_refused(acme: Tenant, fay: User) -> None:
    set_price(fay, "1", JANUARY)

    with pytest.raises(PriceExistsError):
        set_price(fay, "2", JANUARY)


def test_one_person_alone_sets_no_price_in_the_past_of_priced_calls(acme: Tenant, fay: User) -> None:
    make.prices(fay)
    make.record(acme, make.call(acme, started_at=MARCH + timedelta(minutes=20)))

    with pytest.raises(PriceValueError, match="propose it") as refused:
        set_price(fay, "9", MARCH + timedelta(minutes=10), "output")

    assert refused.value.field == "valid_from"
    assert not PriceEntry.objects.filter(price=9).exists()
    assert set_price(fay, "9", MAY, "output").price == 9  # no call since then
    assert set_price(fay, "8", token_class="output").price == 8
    assert set_price(fay, "7", MARCH, "output", agreed=True).price == 7


def test_calls_at_a_price_of_nothing_have_a_price(acme: Tenant, fay: User) -> None:
    make.prices(fay, input="0", output="0")
    make.record(acme, make.call(acme, started_at=MARCH + timedelta(minutes=20)))

    with pytest.raises(PriceValueError, match="propose it"):
        set_price(fay, "9", MARCH)


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "1000001", "0.000000001"])
def test_what_is_no_price(acme: Tenant, fay: User, amount: str) -> None:
    with pytest.raises(PriceValueError):
        set_price(fay, amount)


def test_database_itself_refuses_overlaps(acme: Tenant, fay: User) -> None:
    make.price(fay, "input", "1", valid_from=JANUARY, valid_to=MAY)

    with pytest.raises(IntegrityError, match="price_no_overlap"), transaction.atomic():
        make.price(fay, "input", "2", valid_from=MARCH, valid_to=MAY + timedelta(days=9))
    make.price(fay, "output", "2", valid_from=MARCH)
    make.price(fay, "input", "2", valid_from=MAY)

    assert PriceEntry.objects.count() == 3


def test_unpriced_calls_are_priced_with_their_rollups_and_priced_ones_stay(acme: Tenant, fay: User) -> None:
    make.price(fay, "output", "4", valid_from=JANUARY)
    make.record(
        acme,
        make.call(acme, started_at=JANUARY + timedelta(days=9)),
        make.call(acme, started_at=MARCH),
        make.call(acme, started_at=MAY, input_tokens=0),
    )
    set_price(fay, "2", MARCH, agreed=True)

    count = prices.price_unpriced(provider="openai", model="small-chat")

    first, second, third = Event.objects.order_by("started_at")
    assert count == 1
    assert (first.pricing, first.cost) == ("unpriced", None)  # before the first price
    assert (second.pricing, second.cost) == ("priced", Decimal("0.0028"))
    assert third.cost == Decimal("0.0008")
    assert {hour.hour: (hour.cost, hour.unpriced_calls) for hour in UsageHour.objects.all()} == {
        first.started_at: (0, 1),
        MARCH: (Decimal("0.0028"), 0),
        MAY: (Decimal("0.0008"), 0),
    }
    assert sum(row.unpriced_tokens for row in TokenDay.objects.all()) == 1200
    assert sum(row.cost for row in TokenDay.objects.all()) == Decimal("0.0036")
    assert prices.price_unpriced(provider="openai", model="small-chat") == 0


def test_calls_whose_tokens_are_unknown_stay_unpriced(acme: Tenant, fay: User) -> None:
    make.record(acme, make.call(acme, input_tokens=None, output_tokens=None, usage_source="none"))
    make.prices(fay)

    assert prices.price_unpriced(provider="openai", model="small-chat") == 0
    assert Event.objects.get().cost is None


def test_queue_of_unpriced_models(acme: Tenant) -> None:
    make.record(acme, make.call(acme), make.call(acme), make.call(acme, model="other"))

    assert [(row.model, row.calls) for row in price_selectors.unpriced()] == [("small-chat", 2), ("other", 1)]


def test_catalog_reads_and_sets_list_prices_through_its_hook(acme: Tenant, fay: User) -> None:
    figures = cost_figures()

    with transaction.atomic():
        figures.set_list_price(provider="openai", model="small-chat", price=Price(Decimal("0.15"), Decimal("0.60")), actor=fay)
    make.price(fay, "input", "9", model="half-priced")

    assert figures.current_prices() == {("openai", "small-chat"): Price(Decimal("0.15"), Decimal("0.60"))}


def test_catalog_reads_usage_through_its_hook(acme: Tenant, fay: User) -> None:
    make.prices(fay)
    make.record(
        acme,
        *[make.call(acme, duration_us=200_000) for _ in range(9)],
        make.call(acme, duration_us=3_000_000),
        make.call(acme, **make.REFUSED),
        make.call(acme, model="m2"),
    )

    usage = cost_figures().usage_by_model(["small-chat", "m2", "silent"])

    chat = usage["small-chat"]
    assert (chat.calls, chat.errors, chat.refused, chat.input_tokens, chat.cost_usd) == (11, 0, 1, 10_000, Decimal("0.018"))
    assert chat.p50_ms == pytest.approx(200, rel=0.02)
    assert chat.p95_ms == pytest.approx(200, rel=0.02) or chat.p95_ms == pytest.approx(3000, rel=0.02)
    assert usage["m2"].cost_usd is None
    assert "silent" not in usage
    assert cost_figures().usage_by_key(["k2345678"])["k2345678"].calls == 12


def test_price_book_page_adds_a_price(acme: Tenant, client_for: ClientFor, fay: User, audra: User, alice: User) -> None:
    make.deployment(alice)
    body = {
        "provider": "openai",
        "model": "small-chat",
        "token_class": "input",
        "price": "0.075",
        "valid_from": "2026-03-01T00:00",
        "source": "price page",
    }

    added = client_for(fay).post("/o/acme/operate/costs/price-book/", body)
    refused = client_for(audra).post("/o/acme/operate/costs/price-book/", body)
    wrong = client_for(fay).post("/o/acme/operate/costs/price-book/", body | {"price": "-1"})
    page = client_for(audra).get("/o/acme/operate/costs/price-book/").content.decode()

    assert (added.status_code, refused.status_code, wrong.status_code) == (302, 403, 422)
    assert timeline() == [(Decimal("0.075"), MARCH, None)]
    assert "$0.075" in page
    assert "Put in force" not in page


def test_price_takes_effect_now_by_default(acme: Tenant, fay: User) -> None:
    before = timezone.now()

    entry = set_price(fay, "1")

    assert before <= entry.valid_from <= timezone.now()
    assert acme.config_version < Tenant.objects.get(pk=acme.pk).config_version


@pytest.fixture
def stranger(acme: Tenant) -> Event:
    """A call of a model that nobody registered, as telemetry from elsewhere names it."""
    make.record(acme, make.call(acme, provider="mistral", model="mistral-xxl", deployment=None))
    return Event.objects.get()


def test_model_that_is_in_no_catalog_gets_its_price_from_the_queue(acme: Tenant, client_for: ClientFor, fay: User, stranger: Event) -> None:
    client, book = client_for(fay), "/o/acme/operate/costs/price-book/"
    offered = client.get(f"{book}?provider=mistral&model=mistral-xxl").context["form"]
    begins = (stranger.started_at - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M")

    for token_class in ("input", "output"):
        asked = {"provider": "mistral", "model": "mistral-xxl", "token_class": token_class, "price": "2", "valid_from": begins}
        assert client.post(book, asked).status_code == 302
    enter_tenant(acme)
    tasks.price_unpriced(provider="mistral", model="mistral-xxl", schema_name=acme.schema_name)

    enter_tenant(acme)
    assert (offered["provider"].value(), offered["model"].value()) == ("mistral", "mistral-xxl")
    assert "mistral, not in the catalog" in str(offered["provider"])
    stranger.refresh_from_db()
    assert stranger.pricing == "priced"
    assert "mistral-xxl" in price_selectors.priceable().models  # though nothing waits any more


def test_api_and_sheets_price_what_is_in_no_catalog(acme: Tenant, api_for: ClientFor, fay: User, stranger: Event) -> None:
    api, price = api_for(fay), {"provider": "mistral", "model": "mistral-xxl", "token_class": "input", "price": "2"}

    alone = api.post("/api/v1/prices/", price, content_type="application/json")
    row = {"provider": "mistral", "model": "mistral-xxl", "token_class": "output", "price": "3"}
    sheet = api.post("/api/v1/prices/proposals/", {"name": "July", "note": "n", "prices": [row]}, content_type="application/json")
    unknown = api.post("/api/v1/prices/", {**price, "model": "mistral-xxs"}, content_type="application/json")

    assert (alone.status_code, sheet.status_code, unknown.status_code) == (201, 201, 400)


@pytest.mark.parametrize(("provider", "model"), [("", "some-model"), ("mistral", ""), ("mistral", "m" * 81), ("m" * 49, "some-model")])
def test_names_that_a_price_cannot_have_are_not_offered(acme: Tenant, provider: str, model: str) -> None:
    make.record(acme, make.call(acme, provider=provider or None, model=model or None, deployment=None))

    assert [row.can_have_price for row in price_selectors.unpriced()] == [False]
    assert price_selectors.priceable() == price_selectors.Priceable({}, [])


def test_queue_says_of_calls_without_tokens_that_no_price_helps(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    make.record(acme, make.call(acme, input_tokens=None, cached_input_tokens=None, output_tokens=None, usage_source="none"))

    page = client_for(fay).get("/o/acme/operate/costs/price-book/").content.decode()

    assert "no price helps: their tokens are not known" in page
    assert "Add its price" not in page
