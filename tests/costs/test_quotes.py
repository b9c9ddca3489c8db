"""Prices that are quoted in other currencies: converted once, at a rate that stays with them, and compared as they are quoted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from costs import exchange, generator, price_sheets
from costs.errors import PriceSheetError, PriceValueError
from costs.models import Event, PriceEntry, PriceProposal, Revision
from costs.services import exchange_rates, ingest, price_proposals, prices, reconciliation
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.costs import test_currencies as currencies
from tests.factories import costs as make

BOOK = "/o/acme/operate/costs/price-book/"
START = datetime(2026, 10, 1, tzinfo=UTC)
MONTH = date(2026, 10, 1)


def offer(price: str, token_class: str = "input", currency: str = "EUR", at: datetime = START) -> price_sheets.Offer:
    return price_sheets.Offer("openai", "small-chat", token_class, Decimal(price), at, "Contract 7", currency=currency)


def agreed(fay: User, alice: User, *offers: price_sheets.Offer) -> list[PriceEntry]:
    sheet = price_proposals.propose(offers=offers, name="Contract 7", actor=fay)
    found = [price_proposals.approve(proposal=one, actor=alice).entry for one in sheet.proposals.order_by("pk")]
    return [entry for entry in found if entry is not None]


def test_quoted_price_is_converted_once_and_keeps_its_rate(acme: Tenant, fay: User, alice: User) -> None:
    make.deployment(alice)
    with pytest.raises(PriceSheetError, match="No exchange rate of EUR for 2026-10-01 is known"):
        price_proposals.propose(offers=[offer("2.50")], name="Contract 7", actor=fay)
    currencies.rated(fay, alice, (1, "0.8"))

    given, made = agreed(fay, alice, offer("2.50"), offer("7", "output"))
    currencies.rated(fay, alice, (1, "0.9"))  # corrected: what two people agreed on stays
    make.record(acme, make.call(acme, started_at=START + timedelta(hours=1), input_tokens=1_000_000, output_tokens=0))

    assert (given.price, given.currency, given.quoted, given.rate, given.rate_on) == (
        Decimal("3.125"),
        "EUR",
        Decimal("2.5"),
        Decimal("0.8"),
        MONTH,
    )
    assert (made.price, given.quote_text) == (Decimal("8.75"), "EUR 2.50 at 0.8")
    assert Event.objects.get().cost == Decimal("3.125")
    sheet = price_proposals.propose_discount(
        provider="openai", percent=Decimal(20), valid_from=START + timedelta(days=1), actor=fay, note="Contract 8"
    )
    cheaper = PriceProposal.objects.get(sheet=sheet, token_class="input")
    assert (cheaper.price, cheaper.quote_text, cheaper.before) == (Decimal("2.5"), "EUR 2.00 at 0.8", Decimal("3.125"))
    # In dollars just the same, and yet another price: what it is quoted in matters for bills.
    changed = price_proposals.propose(offers=[offer("3.125", currency="USD", at=START + timedelta(days=3))], name="List", actor=fay)
    assert changed.proposals.count() == 1


def test_limit_of_a_price_is_in_dollars_whatever_it_is_quoted_in(acme: Tenant, fay: User, alice: User) -> None:
    make.deployment(alice)
    currencies.rated(fay, alice, (1, "26000"), currency="VND")
    highest = offer("26000000000", currency="VND")

    [taken] = agreed(fay, alice, highest)

    assert (taken.quoted, taken.price) == (Decimal(26_000_000_000), Decimal(1_000_000))
    higher: dict[str, Any] = {"price": highest.price + 1, "currency": "VND"}
    with pytest.raises(PriceSheetError, match="between 0 and 1,000,000 USD"):
        price_proposals.propose(offers=[replace(highest, price=highest.price + 1)], name="Contract 8", actor=fay)
    with pytest.raises(PriceValueError, match="between 0 and 1,000,000 USD"):
        prices.set_price(provider="openai", model="small-chat", token_class="output", valid_from=START, actor=fay, **higher)
    with pytest.raises(PriceSheetError, match="between 0 and 1,000,000 USD"):
        price_sheets.check(offer("1000001", currency="USD"), providers=["openai"], models=["small-chat"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("openai,small-chat,input,,XYZ,1", "XYZ is no currency"),
        ("openai,small-chat,input,1,EUR,", "stands under price_per_million"),
        ("openai,small-chat,input,1,,1", "stands twice"),
        ("openai,small-chat,input,,EUR,", "nothing is no price"),
    ],
)
def test_sheet_names_one_price_in_one_currency(row: str, message: str) -> None:
    header = "provider,model,token_class,price_usd_per_million,currency,price_per_million\n"
    with pytest.raises(PriceSheetError, match=message):
        price_sheets.read((header + row).encode(), providers=["openai"], models=["small-chat"], now=START)


def test_pages_and_api_name_the_quote(acme: Tenant, fay: User, alice: User, client_for: ClientFor, api_for: ClientFor) -> None:
    make.deployment(alice)
    today = timezone.now().date()
    body = {"provider": "openai", "model": "small-chat", "token_class": "input", "price": "2.5", "currency": "EUR"}
    with pytest.raises(PriceValueError, match="is known: enter it first"):
        prices.set_price(provider="openai", model="small-chat", token_class="input", price=Decimal(1), currency="EUR", actor=fay)
    refused = client_for(fay).post(BOOK, {**body, "currency": "eur"})
    rate = exchange.Rate("EUR", today, Decimal("0.8"))
    exchange_rates.approve_rates(sheet=exchange_rates.propose_rates(rates=[rate], source="Bank", actor=fay), actor=alice)

    client_for(fay).post(BOOK, {**body, "currency": "eur"})
    listed = api_for(fay).post("/api/v1/prices/", {**body, "token_class": "output"}, content_type="application/json").json()
    sheet = client_for(fay).get(f"{BOOK}csv/").getvalue()
    shown = client_for(fay).get(BOOK).content.decode()

    assert (refused.status_code, "enter it first" in refused.content.decode()) == (422, True)
    assert (listed["price"], listed["currency"], listed["quoted"], listed["rate"]) == ("3.125", "EUR", "2.5", "0.8")
    assert "EUR 2.50 at 0.8" in shown
    # The book as a sheet changes nothing when it comes back.
    offers = price_sheets.read(sheet, providers=["openai"], models=["small-chat"], now=timezone.now())
    with pytest.raises(PriceSheetError, match="in force already"):
        price_proposals.propose(offers=offers, name="Book", actor=fay)


@pytest.fixture
def quoted_rows(acme: Tenant, fay: User, alice: User) -> list[dict[str, str]]:
    """Ten days of calls at 0.92 EUR and 3 EUR, converted at a rate that divides nothing evenly; and the bill in euro that agrees with them."""
    make.deployment(alice)
    currencies.rated(fay, alice, (1, "0.913007"))
    agreed(fay, alice, offer("0.92"), offer("3", "output"))
    made = generator.generate(
        tenant=acme.public_id,
        provider="openai",
        provider_name="OpenAI",
        account="prod",
        month=MONTH,
        offers=[generator.Offer("small-chat", "gpt-small", {"input": Decimal("0.92"), "output": Decimal("3")})],
        seed=5,
        calls_per_day=2,
        days=7,
        faults=generator.Faults(),
    )
    ingest.deliver(made.calls)
    ingest.ingest(tenant=acme)
    return made.rows


def compared(fay: User, rows: list[dict[str, str]], **changed: Any) -> Revision:
    return currencies.compared(fay, [{**row, **changed} for row in rows])


def test_bill_in_the_currency_of_the_quote_agrees_whatever_the_rate_is_by_now(
    acme: Tenant, quoted_rows: list[dict[str, str]], fay: User, alice: User
) -> None:
    currencies.rated(fay, alice, (3, "0.5"))

    revision = compared(fay, quoted_rows, BillingCurrency="EUR")

    assert currencies.causes(revision) == {}
    assert revision.bill == sum(Decimal(row["BilledCost"]) for row in quoted_rows)
    assert revision.rates == []
    assert reconciliation.reconcile(provider="openai", month=MONTH) == (revision, False)


def test_bill_in_dollars_differs_from_the_quote_by_the_rate_of_the_day(
    acme: Tenant, quoted_rows: list[dict[str, str]], fay: User, alice: User
) -> None:
    currencies.rated(fay, alice, (1, "0.8"))  # two people say by now what it was; the price was agreed on at another
    dollars = [currencies.in_euro(row, "1.25") | {"BillingCurrency": "USD"} for row in quoted_rows]

    revision = compared(fay, dollars)

    found = currencies.causes(revision)
    euro = sum(Decimal(row["BilledCost"]) for row in quoted_rows)
    assert set(found) == {"fx", "rounding"}
    assert abs(found["fx"] - euro * (Decimal("1.25") - 1 / Decimal("0.913007"))) < Decimal("1e-15")
    assert abs(found["rounding"]) < Decimal("1e-8")
