"""Bills in other currencies: compared in their own at our rates, the rate of the bill set apart, and never 1 for a rate that is not known."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from costs import exchange, exchange_selectors, generator, reconciliation_selectors
from costs.errors import NothingToReconcileError, RateUnknownError
from costs.metrics import spending
from costs.models import BillFile, BillRow, Reconciliation, Revision
from costs.services import bills, exchange_rates, ingest, reconciliation, reconciliation_inputs, signoff
from governance.metrics import Window
from governance.models import AuditEntry, Notice, Tenant, User
from governance.templatetags.gatehouse import money_text
from tests.conftest import ClientFor
from tests.factories import costs as make

MONTH = date(2026, 10, 1)
AT = datetime(2026, 11, 20, 9, tzinfo=UTC)
LIST = "/o/acme/operate/costs/reconciliation/"
PAGE = f"{LIST}openai/prod/2026-10/"
OFFERS = [generator.Offer("small-chat", "gpt-small", {"input": Decimal("1.00"), "output": Decimal("4.00")})]
MONEY = ("BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "ContractedUnitPrice", "ListUnitPrice")


@pytest.fixture
def rows(acme: Tenant, alice: User) -> list[dict[str, str]]:
    """Ten days of calls, and the bill in dollars that agrees with them."""
    make.deployment(alice)
    make.prices(alice)
    made = generator.generate(
        tenant=acme.public_id,
        provider="openai",
        provider_name="OpenAI",
        account="prod",
        month=MONTH,
        offers=OFFERS,
        seed=5,
        calls_per_day=2,
        days=10,
        faults=generator.Faults(),
    )
    ingest.deliver(made.calls)
    ingest.ingest(tenant=acme)
    return made.rows


def rated(fay: User, alice: User, *days: tuple[int, str], currency: str = "EUR") -> None:
    rates = [exchange.Rate(currency, MONTH.replace(day=day), Decimal(rate)) for day, rate in days]
    exchange_rates.approve_rates(sheet=exchange_rates.propose_rates(rates=rates, source="Bank", actor=fay, at=AT), actor=alice, at=AT)


def in_euro(row: dict[str, str], rate: str, *, is_stated: bool = False) -> dict[str, str]:
    euro = {name: f"{Decimal(row[name]) * Decimal(rate):f}" for name in MONEY}
    stated = {"PricingCurrency": "USD", "PricingCurrencyEffectiveCost": row["EffectiveCost"]} if is_stated else {}
    return {**row, **euro, "BillingCurrency": "EUR", **stated}


def compared(fay: User, rows: list[dict[str, str]]) -> Revision:
    text = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    bills.import_bill(file=io.BytesIO(text.getvalue().encode()), name="bill.csv", actor=fay, provider="openai")
    return reconciliation.reconcile(provider="openai", month=MONTH)[0]


def causes(revision: Revision) -> dict[str, Decimal]:
    found = {cause["cause"]: Decimal(cause["amount"]) for cause in revision.causes}
    assert sum(found.values(), Decimal()) == revision.variance
    assert sum((Decimal(cause["cents"]) for cause in revision.causes), Decimal()) == revision.variance_cents
    for line in revision.lines.all():
        assert sum(map(Decimal, line.causes.values()), Decimal()) == line.variance
    return found


def test_bill_in_another_currency_agrees_at_our_rates_of_its_days(acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User) -> None:
    rated(fay, alice, (1, "0.8"), (6, "0.5"))
    euro = [in_euro(row, "0.8" if row["ChargePeriodStart"] < "2026-10-06" else "0.5") for row in rows]

    revision = compared(fay, euro)

    assert causes(revision) == {}
    assert (revision.currency, revision.stated_rows, len(revision.rates)) == ("EUR", 0, 2)
    assert revision.bill == revision.telemetry == sum(Decimal(row["BilledCost"]) for row in euro)
    assert revision.bill_usd == revision.telemetry_usd == sum(Decimal(row["BilledCost"]) for row in rows)
    assert reconciliation.reconcile(provider="openai", month=MONTH) == (revision, False)


def test_rate_of_the_bill_is_a_cause_of_its_own(acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User) -> None:
    rated(fay, alice, (1, "0.8"), (8, "0.8"))
    # Two days are a tenth dearer, too, and each row tells what it costs in dollars: at another rate than ours.
    dear = {**rows[0], **{name: f"{Decimal(rows[0][name]) * Decimal('1.1'):f}" for name in MONEY}}
    stated = [in_euro(row, "0.85", is_stated=True) for row in [dear, *rows[1:]]]

    revision = compared(fay, stated)

    usd = sum(Decimal(row["BilledCost"]) for row in [dear, *rows[1:]])
    found = causes(revision)
    assert (revision.bill, revision.stated_rows) == (usd * Decimal("0.85"), len(rows))
    assert found == {"fx": usd * Decimal("0.05"), "price": (Decimal(dear["BilledCost"]) - Decimal(rows[0]["BilledCost"])) * Decimal("0.8")}
    assert BillRow.objects.filter(pricing_currency="USD", kind=BillRow.Kind.USAGE).count() == len(rows)
    # In metrics, figures of several bills are in USD at our rates.
    reading = spending.variance(Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)))
    assert reading.statistics["bill_usd"] == str(revision.bill_usd)


def test_bill_without_a_rate_is_kept_and_compared_once_it_is_known(
    acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User, client_for: ClientFor, api_for: ClientFor
) -> None:
    rated(fay, alice, (1, "0.8"))

    with pytest.raises(RateUnknownError, match="EUR for 2026-10-09 to 2026-10-10"):
        compared(fay, [in_euro(row, "0.8") for row in rows])
    series = Reconciliation.objects.get()
    shown = client_for(alice).get(LIST).content.decode()
    listed = api_for(alice).get("/api/v1/reconciliations/").json()["results"]
    again = client_for(alice).post(f"{PAGE}run/", follow=True).content.decode()

    assert (series.latest, series.missing_rates) == (None, [{"currency": "EUR", "first": "2026-10-09", "last": "2026-10-10"}])
    assert "?currency=EUR&amp;day=2026-10-09#add" in shown
    assert (listed[0]["latest"], listed[0]["missing_rates"][0]["currency"]) == (None, "EUR")
    assert "No exchange rate is known" in again
    assert Notice.objects.filter(topic="bill.rate_unknown").count() == 1
    assert AuditEntry.objects.filter(event="reconciliation.rate_unknown").count() == 1
    assert reconciliation.due(date(2027, 9, 1)) == [("openai", MONTH)]
    rated(fay, alice, (9, "0.8"))
    assert causes(reconciliation.reconcile(provider="openai", month=MONTH)[0]) == {}
    series.refresh_from_db()
    assert series.missing_rates == []


def test_rows_that_wait_for_a_rate_stop_the_signatures_of_their_month(
    acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User, client_for: ClientFor
) -> None:
    late: dict[str, Any] = {"comment": "Only ten days were used.", "at": AT}
    window = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    revision = compared(fay, rows)
    signoff.sign(revision=revision, digest=revision.digest, actor=fay, **late)

    with pytest.raises(RateUnknownError):
        compared(fay, [{**in_euro(rows[0], "0.8"), "BillingAccountId": "prod eu"}])

    # Whichever series the rows made theirs: it is one month.
    assert {one.account: bool(one.missing_rates) for one in Reconciliation.objects.all()} == {"prod": True, "all-accounts": True}
    assert revision.signatures.get().void_reason == "rows of the bill wait for exchange rates"
    with pytest.raises(RateUnknownError, match="no exchange rate is known of EUR for 2026-10-01"):
        signoff.sign(revision=revision, digest=revision.digest, actor=alice, **late)
    page = client_for(alice).get(PAGE).content.decode()
    assert "Rate unknown" in page
    assert "Sign revision" not in page
    assert spending.variance(window).value is None
    # In force again once it is known, and nothing waits any more.
    rated(fay, alice, (1, "0.8"))
    newer = reconciliation.reconcile(provider="openai", month=MONTH)[0]
    assert not Reconciliation.objects.exclude(missing_rates=[]).exists()
    signoff.sign(revision=newer, digest=newer.digest, actor=alice, **late)
    assert reconciliation.due(date(2028, 1, 1)) == []


def test_corrected_rate_reaches_every_bill_that_used_it(acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User) -> None:
    rated(fay, alice, (1, "0.8"), (8, "0.8"))
    # Billed in dollars, priced in euro.
    priced = {"PricingCurrency": "EUR"}
    revision = compared(
        fay, [{**row, **priced, "PricingCurrencyEffectiveCost": f"{Decimal(row['EffectiveCost']) * Decimal('0.8'):f}"} for row in rows]
    )
    assert (revision.currency, {rate["currency"] for rate in revision.rates}) == ("USD", {"EUR"})
    assert reconciliation.due(date(2027, 6, 1)) == []

    sheet = exchange_rates.propose_rates(
        rates=[exchange.Rate("EUR", MONTH.replace(day=3), Decimal("0.9"))], source="Bank", actor=fay, at=AT
    )
    exchange_rates.approve_rates(sheet=sheet, actor=alice, at=datetime(2027, 5, 31, tzinfo=UTC))

    # Also by the schedule, however old the month is: the broker may be away.
    assert exchange_selectors.months_with(sheet) == {("openai", MONTH)}
    assert reconciliation.due(date(2027, 6, 1)) == [("openai", MONTH)]
    assert reconciliation.due(date(2027, 6, 10)) == []
    BillRow.objects.update(pricing_currency="")  # nothing but the revision tells of it
    assert exchange_selectors.months_with(sheet) == {("openai", MONTH)}


def test_causes_of_a_bill_that_sums_to_nothing_are_in_dollars(acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User) -> None:
    rated(fay, alice, (1, "0.8"), (6, "0.5"))
    more = {**in_euro(rows[0], "1"), "x_Model": "unknown", "SkuMeter": "unknown", "SkuId": "unknown"}
    revision = compared(fay, [in_euro(row, "0.8" if row["ChargePeriodStart"] < "2026-10-06" else "0.5") for row in rows] + [more])
    past = {name: sum(Decimal(line.causes.get(name, 0)) for line in revision.lines.all()) for name in spending.PAST_THE_GATEWAY}
    assert any(past.values())

    usd = sum(Decimal(line.causes.get(name, 0)) / line.rate for line in revision.lines.all() for name in spending.PAST_THE_GATEWAY)
    revision.bill = Decimal()

    assert sum(revision.cause_usd(name) for name in spending.PAST_THE_GATEWAY) == pytest.approx(usd, abs=Decimal("1E-18"))
    assert usd != sum(past.values())


def test_yen_are_whole_and_dinars_have_three_decimals(
    acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User, client_for: ClientFor
) -> None:
    rated(fay, alice, (1, "150.123456"), (8, "151.1"), currency="JPY")
    yen = [{**row, **{name: f"{Decimal(row[name]) * 160:f}" for name in MONEY}, "BillingCurrency": "JPY"} for row in rows[1:]]

    revision = compared(fay, yen)

    assert causes(revision)
    assert all(Decimal(cause["cents"]) == Decimal(cause["cents"]).to_integral_value() for cause in revision.causes)
    assert revision.variance_cents == revision.variance_cents.to_integral_value()
    equation = client_for(alice).get(PAGE).content.decode().partition("gh-eq")[2].partition("</div>")[0]
    assert re.search("JPY\N{NO-BREAK SPACE}[0-9,]+<", equation)
    assert not re.search("JPY\N{NO-BREAK SPACE}[1-9][0-9,]*[.]", equation)
    assert [money_text("1234.5678", code) for code in ("JPY", "KWD", "USD")] == [
        "JPY\N{NO-BREAK SPACE}1,235",
        "KWD\N{NO-BREAK SPACE}1,234.568",
        "$1,234.57",
    ]
    assert money_text("0.0234", "JPY") == "JPY\N{NO-BREAK SPACE}0.023"


def test_month_whose_rows_went_waits_for_no_rate(
    acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User, client_for: ClientFor
) -> None:
    with pytest.raises(RateUnknownError):
        compared(fay, [in_euro(row, "0.8") for row in rows])
    BillRow.objects.update(provider="azure")

    with pytest.raises(NothingToReconcileError):
        reconciliation.reconcile(provider="openai", month=MONTH)

    assert reconciliation.due(date(2028, 1, 1)) == []
    assert "Rate unknown" not in client_for(alice).get(LIST).content.decode()


def test_bills_in_several_currencies_are_compared_in_dollars(acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User) -> None:
    rated(fay, alice, (1, "0.8"), (8, "0.8"))
    euro = [{**in_euro(row, "0.8"), "BillingAccountId": "prod eu"} for row in rows[::2]]

    revision = compared(fay, [*euro, *rows[1::2]])

    assert causes(revision) == {}
    assert (revision.currency, revision.reconciliation.account) == ("USD", Reconciliation.ALL_ACCOUNTS)
    assert revision.bill == revision.telemetry
    assert {rate["currency"] for rate in revision.rates} == {"EUR"}


def test_pages_name_the_currency(
    acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User, client_for: ClientFor, api_for: ClientFor
) -> None:
    rated(fay, alice, (1, "0.8"), (8, "0.8"))
    revision = compared(fay, [in_euro(row, "0.85", is_stated=True) for row in rows])
    page = client_for(alice)

    detail = page.get(PAGE).content.decode()
    line = page.get(f"{PAGE}lines/{revision.lines.first().pk}/").content.decode()  # type: ignore[union-attr]  # it has lines
    header = page.get(f"{PAGE}csv/").getvalue().decode().splitlines()[0]
    body = api_for(alice).get("/api/v1/reconciliations/openai/prod/2026-10/").json()["latest"]

    for text in ("EUR\N{NO-BREAK SPACE}", "Exchange rate", "1 USD", "Compared in EUR", "Bill at our rates"):
        assert text in detail
    assert "at 1 USD = 0.8" in line
    assert "EUR\N{NO-BREAK SPACE}" in page.get(f"{PAGE}lines/").content.decode()
    assert "EUR\N{NO-BREAK SPACE}" in page.get(f"{LIST}bills/{BillFile.objects.get().pk}/").content.decode()
    assert "bill_eur,telemetry_eur" in header
    assert "fx_eur" in header
    assert (body["currency"], Decimal(body["bill"]), Decimal(body["telemetry_usd"])) == ("EUR", revision.bill, revision.telemetry_usd)


def test_home_names_the_currency_of_a_bill_that_waits_for_a_signature(
    acme: Tenant, rows: list[dict[str, str]], client_for: ClientFor, fay: User, alice: User
) -> None:
    rated(fay, alice, (1, "0.9"), (8, "0.9"))
    revision = compared(fay, [in_euro(row, "0.9") for row in rows])
    signoff.sign(revision=revision, digest=revision.digest, comment="The rest comes later", actor=fay)

    home = client_for(alice).get("/o/acme/operate/home/").content.decode()

    assert "wait for your signature" in home
    assert "EUR\N{NO-BREAK SPACE}" in home


def test_late_calls_that_a_revision_in_another_currency_tells_are_converted(
    acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User
) -> None:
    rated(fay, alice, (1, "0.8"), (8, "0.8"))
    first = compared(fay, [in_euro(row, "0.8") for row in rows])
    at = datetime(2026, 10, 7, 12, tzinfo=UTC)
    make.record(acme, make.call(acme, started_at=at, input_tokens=0, output_tokens=250))
    second = compared(fay, [{**rows[0], "BilledCost": "1", "ChargeDescription": "one more"}])
    make.record(acme, make.call(acme, started_at=at, input_tokens=500, output_tokens=0))
    BillRow.objects.filter(currency="USD").delete()
    third, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    found = reconciliation_selectors.restatement(first.reconciliation, first, third)

    assert [one.currency for one in (first, second, third)] == ["EUR", "USD", "EUR"]
    assert (found.late_calls, found.late, found.valued_anew) == (2, Decimal("0.0012"), Decimal())
    assert reconciliation_selectors.restatement(first.reconciliation, first, second).late == Decimal("0.001")
    third.lines.filter(model="small-chat").delete()  # compared by other keys: which rate it is, nobody can say
    assert reconciliation_selectors.restatement(first.reconciliation, first, third).late_calls is None


def test_rules_that_change_no_figure_keep_the_signatures(
    acme: Tenant, rows: list[dict[str, str]], fay: User, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"comment": "Only ten days were used.", "at": AT}
    revision = compared(fay, rows)
    signoff.sign(revision=revision, digest=revision.digest, actor=fay, **late)  # type: ignore[arg-type]  # comment and time
    monkeypatch.setattr(reconciliation_inputs, "RULES_VERSION", reconciliation_inputs.RULES_VERSION + 1)

    same = reconciliation.reconcile(provider="openai", month=MONTH)
    again = reconciliation.reconcile(provider="openai", month=MONTH)

    assert (same, again) == ((revision, False), (revision, False))
    assert revision.signatures.get().voided_at is None
    newer = compared(fay, [{**rows[0], "BilledCost": "1", "ChargeDescription": "one more"}])
    assert newer.number == 2
    assert revision.signatures.get().void_reason == "revision 2 replaced it: the rules of comparison changed"
