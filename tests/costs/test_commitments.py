"""Commitments: exact sums of what was used and what was not, four eyes, and their way into exports and bills."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from costs import commitment_selectors, commitments, export_schema, export_selectors
from costs.errors import CommitmentError, CommitmentStateError
from costs.metrics import spending
from costs.models import BillRow, Commitment, CommitmentDay, TokenDay, UsageHour
from costs.periods import Period
from costs.services import bills, prices, reconciliation
from costs.services import commitments as services
from governance.metrics import NO_DATA, Window
from governance.models import AuditEntry, Notice, Tenant, User
from tests.conftest import ClientFor
from tests.costs import test_currencies as currencies
from tests.factories import costs as make

FIRST = date(2026, 10, 7)
NOON = datetime(2026, 10, 7, 12, tzinfo=UTC)
AT = datetime(2026, 10, 9, 1, tzinfo=UTC)
PAGE = "/o/acme/operate/costs/commitments/"
API = "/api/v1/commitments/"
# Two units at 0.50 an hour that serve 60,000 of the weighted tokens in an hour: a day costs 24 USD.
THROUGHPUT: dict[str, Any] = {
    "reference": "PTU-1",
    "kind": "throughput",
    "provider": "openai",
    "model": "small-chat",
    "quantity": Decimal(2),
    "unit_price": Decimal("0.5"),
    "unit_tokens_per_minute": 500,
    "output_weight": Decimal(4),
    "first_on": FIRST,
    "last_on": FIRST + timedelta(days=1),
    "source": "Order 7",
}
SPEND: dict[str, Any] = {
    "reference": "CREDITS-1",
    "kind": "credits",
    "provider": "openai",
    "quantity": Decimal(5),
    "unit_price": Decimal("0.8"),
    "first_on": FIRST,
    "last_on": FIRST + timedelta(days=1),
    "source": "Contract 9",
}


@pytest.fixture(autouse=True)
def catalog(acme: Tenant, alice: User) -> None:
    make.deployment(alice)
    make.prices(alice)


def approved(fay: User, alice: User, **terms: Any) -> Commitment:
    found = services.propose_commitment(actor=fay, at=AT, **(THROUGHPUT | terms))
    return services.approve_commitment(commitment=found, actor=alice, at=AT)


def used(acme: Tenant, *, at: datetime = NOON, millions: str = "0.03", output: int = 0, **fields: Any) -> None:
    """A call at 1 USD per million input and 4 per million output tokens."""
    make.record(acme, make.call(acme, started_at=at, input_tokens=int(Decimal(millions) * 10**6), output_tokens=output, **fields))


COUNTS = st.integers(0, 10**6)


@given(
    st.lists(st.tuples(st.integers(0, 23), st.sampled_from(["a", "b"]), COUNTS, COUNTS), max_size=8),
    st.integers(1, 10**5),
    st.decimals("0.01", "9", places=3),
    st.decimals("0.01", "5", places=2),
)
def test_every_dollar_of_a_day_is_used_or_unused_and_no_use_is_covered_twice(
    calls: list[tuple[int, str, int, int]], tokens_a_minute: int, price: Decimal, rest: Decimal
) -> None:
    def terms(pk: int, is_throughput: bool, model: str, quantity: Decimal) -> commitments.Terms:
        return commitments.Terms(pk, is_throughput, "p", model, quantity, price, tokens_a_minute, Decimal(4), FIRST, FIRST)

    running = [terms(1, True, "a", Decimal(3)), terms(2, True, "", Decimal("0.5")), terms(3, False, "", rest)]
    merged = {(hour, model): (given, made) for hour, model, given, made in calls}
    uses = [
        commitments.Use(hour, "p", model, given, made, Decimal(given + 4 * made) / 10**6) for (hour, model), (given, made) in merged.items()
    ]

    found = commitments.day_of(running, uses, FIRST, {})

    for one in running[:2]:
        parts = [part for (pk, _), part in found.items() if pk == one.pk]
        assert sum(part.cost for part in parts) == one.quantity * 24 * price
        assert abs(sum(part.quantity for part in parts) - one.quantity * 24) < Decimal("1e-15")
    assert sum(part.quantity for (pk, _), part in found.items() if pk == 3) == rest  # the last day: what is left is unused
    for model in ("a", "b"):
        covered = sum((part.list_cost for (_, name), part in found.items() if name == model), Decimal())
        assert covered <= sum(use.cost for use in uses if use.model == model)
    assert all(part.cost >= 0 or abs(part.cost) < Decimal("1e-15") for part in found.values())


def test_commitment_counts_once_a_second_person_approves_it(acme: Tenant, fay: User, alice: User) -> None:
    used(acme)
    found = services.propose_commitment(actor=fay, at=AT, **THROUGHPUT)

    assert services.count(at=AT) == 0
    with pytest.raises(CommitmentStateError, match="their own"):
        services.approve_commitment(commitment=found, actor=fay)
    with pytest.raises(CommitmentError, match="begins that day"):
        services.propose_commitment(actor=fay, at=AT, **THROUGHPUT)
    with pytest.raises(CommitmentStateError, match="Say why"):
        services.reject_commitment(commitment=found, actor=alice)
    services.approve_commitment(commitment=found, actor=alice, at=AT)
    assert services.count(at=AT) == 2
    with pytest.raises(CommitmentStateError, match="approved"):
        services.reject_commitment(commitment=found, actor=fay)
    services.void_commitment(commitment=found, actor=fay, reason="Another contract", at=AT)

    assert not CommitmentDay.objects.exists()
    events = AuditEntry.objects.filter(event__startswith="commitment.").order_by("sequence").values_list("event", "actor_name")
    assert list(events) == [("commitment.proposed", str(fay)), ("commitment.approved", str(alice)), ("commitment.voided", str(fay))]
    assert Notice.objects.get(topic="commitment.proposed").title == "The commitment PTU-1 waits for approval"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"provider": "nobody"}, "provider"),
        ({"model": "large-chat"}, "model"),
        ({"quantity": Decimal(0)}, "quantity"),
        ({"quantity": Decimal(10**9)}, "quantity"),
        ({"unit_price": Decimal(-1)}, "unit_price"),
        ({"unit_tokens_per_minute": None}, "unit_tokens_per_minute"),
        ({"kind": "spend"}, "unit_tokens_per_minute"),
        ({"last_on": FIRST - timedelta(days=1)}, "last_on"),
        ({"source": " "}, "source"),
    ],
)
def test_what_is_no_commitment_is_refused(wrong: dict[str, Any], field: str, fay: User) -> None:
    with pytest.raises(CommitmentError) as error:
        services.propose_commitment(actor=fay, **(THROUGHPUT | wrong))
    assert error.value.field == field


def test_throughput_is_spread_over_its_use_and_the_rest_is_unused(acme: Tenant, fay: User, alice: User) -> None:
    used(acme, millions="0.030", output=3_000)  # 42,000 of 60,000 weighted tokens: 70% of the hour
    used(acme, at=NOON + timedelta(hours=1), millions="0.120")  # twice what it serves
    used(acme, at=NOON + timedelta(hours=1), millions="0.5", provider="azure")
    approved(fay, alice)
    services.count(at=AT)
    again = list(CommitmentDay.objects.order_by("day", "model").values_list("day", "model", "cost"))

    services.count(since=FIRST, at=AT)

    assert list(CommitmentDay.objects.order_by("day", "model").values_list("day", "model", "cost")) == again
    [found] = commitment_selectors.commitment_utilisation(FIRST)
    figures = found.figures
    assert (figures.used, figures.unused) == (Decimal("3.4"), Decimal("92.6"))  # of 2 units x 48 hours
    assert (figures.cost, figures.unused_cost, figures.fee) == (Decimal("1.7"), Decimal("46.3"), Decimal(48))
    assert (figures.list_cost, figures.eligible) == (Decimal("0.102"), Decimal("0.162"))  # 0.042 and half of 0.120
    assert figures.utilisation is not None
    assert round(figures.utilisation, 4) == Decimal("3.5417")
    assert (round(figures.coverage or 0, 2), figures.saved) == (Decimal("62.96"), Decimal("-47.898"))
    assert figures.break_even is not None
    assert figures.break_even > 100
    assert [(one.model, one.cost) for one in found.models] == [("small-chat", Decimal("1.7"))]


def test_credits_are_drawn_down_until_they_are_gone_and_the_rest_is_unused_at_the_end(acme: Tenant, fay: User, alice: User) -> None:
    used(acme, millions="3")
    used(acme, at=NOON + timedelta(days=1), millions="1.5")
    found = approved(fay, alice, **SPEND, model="", unit_tokens_per_minute=None)
    with pytest.raises(CommitmentStateError, match="covers the same use"):
        approved(fay, alice, **SPEND | {"reference": "CREDITS-2", "model": "", "unit_tokens_per_minute": None})

    services.count(at=AT)

    rows = CommitmentDay.objects.order_by("day", "-model").values_list("day", "model", "quantity", "cost")
    assert list(rows) == [
        (FIRST, "small-chat", Decimal(3), Decimal("2.4")),
        (FIRST + timedelta(days=1), "small-chat", Decimal("1.5"), Decimal("1.2")),
        (FIRST + timedelta(days=1), "", Decimal("0.5"), Decimal("0.4")),
    ]
    assert CommitmentDay.objects.aggregate(n=Sum("cost"))["n"] == found.fee == 4
    used(acme, at=NOON + timedelta(minutes=1), millions="3")  # a late call: the second day finds nothing left
    services.count(since=FIRST, at=AT)
    assert not CommitmentDay.objects.filter(model="").exists()
    [month] = commitment_selectors.commitment_utilisation(FIRST)
    assert (month.figures.drawn, month.figures.utilisation) == (Decimal(5), Decimal(100))
    assert month.figures.break_even == 80


def test_hours_that_have_not_come_are_neither_paid_nor_unused(acme: Tenant, fay: User, alice: User) -> None:
    used(acme, at=NOON - timedelta(hours=1), millions="0.060")  # all that an hour serves
    used(acme, millions="0.060")  # the hour under way
    approved(fay, alice, last_on=FIRST)
    approved(fay, alice, **SPEND | {"provider": "openai", "model": "", "unit_tokens_per_minute": None, "last_on": FIRST})

    services.count(at=NOON + timedelta(minutes=30))
    money, units = sorted(commitment_selectors.commitment_utilisation(FIRST), key=lambda one: one.figures.is_throughput)
    rows = list(export_selectors.focus_rows(Period(FIRST, FIRST), {}))
    services.count(at=NOON + timedelta(days=1))
    later = {one.commitment.kind: one.figures for one in commitment_selectors.commitment_utilisation(FIRST)}

    assert (units.figures.used, units.figures.unused, units.figures.fee) == (
        Decimal(2),
        Decimal(22),
        Decimal(12),
    )  # twelve hours of two units
    assert (money.figures.unused, money.figures.is_over) == (Decimal(), False)
    assert sum(row["BilledCost"] for row in rows if row["ChargeCategory"] == "Purchase") == 12 + 4  # and the credits
    assert (later["throughput"].used, later["throughput"].unused) == (Decimal(4), Decimal(44))
    assert (later["credits"].unused, later["credits"].is_over) == (Decimal(5), True)


def test_next_count_reaches_what_was_changed_even_if_nobody_asks_for_it(
    acme: Tenant, fay: User, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(acme, millions="0.060")
    used(acme, millions="1", model="no-price")
    wrong = approved(fay, alice)
    approved(fay, alice, **SPEND | {"model": "", "unit_tokens_per_minute": None})
    later = NOON + timedelta(days=90)

    def drawn() -> Decimal:
        services.count(at=later)
        found = CommitmentDay.objects.filter(commitment__kind="credits").exclude(model="")
        return sum(found.values_list("quantity", flat=True), Decimal())

    assert drawn() == 0  # throughput covers it
    services.void_commitment(commitment=wrong, actor=fay, reason="Another contract", at=later)
    assert drawn() == Decimal("0.06")
    make.prices(alice, input="1", model="no-price")
    with monkeypatch.context() as killed:
        killed.setattr(services, "count", None)
        with pytest.raises(TypeError):
            prices.price_unpriced(provider="openai", model="no-price")
    assert drawn() == Decimal("1.06")


def test_export_tells_fee_use_and_unused_apart_and_bills_of_it_leave_nothing_unexplained(acme: Tenant, fay: User, alice: User) -> None:
    used(acme, millions="0.030", output=3_000)
    used(acme, at=NOON + timedelta(hours=1), millions="0.120", project=None)
    approved(fay, alice)
    services.count(at=AT)
    october = Period(FIRST, FIRST + timedelta(days=1))

    rows = list(export_selectors.focus_rows(october, {}))

    def total(column: str, **where: Any) -> Decimal:
        return sum((row[column] for row in rows if all(row[name] == value for name, value in where.items())), Decimal())

    assert total("EffectiveCost", CommitmentDiscountStatus="Used") == Decimal("1.7")
    assert total("EffectiveCost", CommitmentDiscountStatus="Unused") == Decimal("46.3")
    assert total("BilledCost", ChargeCategory="Purchase") == 48
    assert total("EffectiveCost", PricingCategory="Standard") == total("BilledCost", PricingCategory="Standard")
    assert abs(total("EffectiveCost", PricingCategory="Standard") - Decimal("0.06")) < Decimal("1e-12")
    assert sum(row["x_Calls"] for row in rows if row["x_TokenClass"] == "input") == 2
    tokens = sum((row["ConsumedQuantity"] for row in rows if row["x_TokenClass"]), Decimal())
    assert tokens == TokenDay.objects.aggregate(n=Sum("tokens"))["n"]
    narrowed = list(export_selectors.focus_rows(october, {"project": "checkout"}))
    assert {row["ChargeCategory"] for row in narrowed} == {"Usage"}
    content = b"".join(export_schema.to_bytes(export_schema.FOCUS, "csv", rows))
    bills.import_bill(file=io.BytesIO(content), name="export.csv", actor=fay)
    assert set(BillRow.objects.values_list("kind", flat=True)) == {"usage", "committed", "unused", "purchase"}
    [billed] = commitment_selectors.billed(FIRST)
    assert (billed.used, billed.unused) == (Decimal("1.7"), Decimal("46.3"))
    revision, _ = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    assert {cause["cause"] for cause in revision.causes} == {"commitment"}


def test_committed_rows_without_a_price_differ_by_the_commitment_where_we_have_one(acme: Tenant, fay: User, alice: User) -> None:
    used(acme, millions="0.030")
    row = {
        "BilledCost": "0", "EffectiveCost": "0.9", "BillingAccountId": "prod", "BillingCurrency": "USD", "ChargeCategory": "Usage",
        "BillingPeriodStart": "2026-10-01T00:00:00Z", "BillingPeriodEnd": "2026-11-01T00:00:00Z", "ProviderName": "OpenAI",
        "ChargePeriodStart": "2026-10-07T00:00:00Z", "ChargePeriodEnd": "2026-10-08T00:00:00Z", "PricingCategory": "Committed",
        "ConsumedQuantity": "30000", "ConsumedUnit": "Tokens", "SkuMeter": "gpt-small Input Tokens", "ServiceSubcategory": "Generative AI",
    }  # fmt: skip
    bills.import_bill(
        file=io.BytesIO(f"{','.join(row)}\n{','.join(row.values())}\n".encode()), name="october.csv", actor=fay, provider="openai"
    )
    before, _ = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    approved(fay, alice)
    services.count(at=AT)

    after, is_new = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))

    causes = [{cause["cause"]: Decimal(cause["amount"]) for cause in each.causes} for each in (before, after)]
    assert is_new
    assert causes[0].keys() & {"price"}
    assert causes[1]["commitment"] == Decimal("0.87")


def test_end_is_told_a_month_and_a_week_ahead_once_each(acme: Tenant, fay: User, alice: User) -> None:
    approved(fay, alice, last_on=FIRST + timedelta(days=100))
    for days in (60, 80, 80, 95, 96, 101):
        services.warn_of_ends(at=NOON + timedelta(days=days))

    assert list(Notice.objects.filter(topic="commitment.ending").order_by("at").values_list("severity", flat=True)) == ["info", "warning"]


def test_metric_has_no_data_until_every_day_is_counted(acme: Tenant, fay: User, alice: User) -> None:
    used(acme, millions="0.060")
    approved(fay, alice)
    window = Window(datetime(2026, 10, 7, tzinfo=UTC), datetime(2026, 10, 9, tzinfo=UTC))

    assert spending.commitment_utilisation(window) is NO_DATA
    services.count(at=AT)
    found = spending.commitment_utilisation(window)

    assert (round(found.value or 0, 4), found.sample) == (round(100 * 2 / 96, 4), 96)


def test_page_shows_bars_and_takes_proposals_and_decisions(
    acme: Tenant, fay: User, alice: User, client_for: ClientFor, django_assert_max_num_queries: Any
) -> None:
    today = timezone.now().astimezone(UTC).date()
    fields = {name: str(value) for name, value in THROUGHPUT.items()} | {"first_on": f"{today:%Y-%m}-01", "last_on": str(today)}
    page = client_for(fay)
    assert "No commitment yet" in page.get(PAGE).content.decode()
    assert page.post(f"{PAGE}new/", fields | {"quantity": "-1"}).status_code == 422
    assert page.post(f"{PAGE}new/", fields).status_code == 302
    found = Commitment.objects.get()
    assert page.post(f"{PAGE}{found.pk}/decide/", {"act": "approve"}).status_code == 302
    assert Commitment.objects.get().status == "waiting"  # one's own
    client_for(alice).post(f"{PAGE}{found.pk}/decide/", {"act": "approve"})
    services.count()

    with django_assert_max_num_queries(22):
        shown = page.get(f"{PAGE}?month={today:%Y-%m}").content.decode()

    assert "Unused commitment" in shown
    assert "ends in 0 days" in shown
    assert UsageHour.objects.count() == 0
    assert page.post(f"{PAGE}{found.pk}/decide/", {"act": "sell"}).status_code == 404


def test_api(acme: Tenant, fay: User, alice: User, api_for: ClientFor) -> None:
    used(acme, millions="0.060")
    body = {name: str(value) for name, value in THROUGHPUT.items()}
    made = api_for(fay).post(API, body, content_type="application/json")
    own = api_for(fay).post(f"{API}{made.json()['id']}/approve/")
    agreed = api_for(alice).post(f"{API}{made.json()['id']}/approve/")
    services.count(at=AT)

    [month] = api_for(fay).get(f"{API}utilisation/2026-10/").json()

    assert (made.status_code, own.status_code, own.json()["code"], agreed.json()["status"]) == (201, 409, "commitment_state", "approved")
    assert (month["used"], month["unused_usd"], month["commitment"]["reference"]) == ("2", "47", "PTU-1")
    assert api_for(fay).post(f"{API}{made.json()['id']}/void/", {"reason": ""}, content_type="application/json").status_code == 409
    assert api_for(fay).get(API).json()["results"][0]["fee_usd"] == "48"


def test_commitment_in_the_currency_of_its_contract(
    acme: Tenant, fay: User, alice: User, client_for: ClientFor, api_for: ClientFor
) -> None:
    with pytest.raises(CommitmentError, match="No exchange rate of EUR for 2026-10-07 is known") as refused:
        services.propose_commitment(actor=fay, at=AT, **(THROUGHPUT | {"currency": "EUR"}))
    currencies.rated(fay, alice, (7, "0.8"))
    used(acme)

    throughput = approved(fay, alice, currency="EUR")
    body = {name: str(value) for name, value in SPEND.items()} | {"currency": "EUR", "quantity": "400"}
    credits = api_for(fay).post(API, body, format="json").json()
    services.count(at=AT)

    assert refused.value.field == "currency"
    assert (throughput.unit_price, throughput.quoted, throughput.rate, throughput.rate_on) == (
        Decimal("0.625"),
        Decimal("0.5"),
        Decimal("0.8"),
        FIRST,
    )
    assert (throughput.fee, throughput.quoted_fee) == (Decimal(60), Decimal(48))
    # Of money the amount of use is quoted; what each part of it costs is a share, in any currency.
    assert [Decimal(credits[name]) for name in ("quantity", "quoted", "unit_price", "fee_usd", "quoted_fee")] == [
        500,
        400,
        Decimal("0.8"),
        400,
        320,
    ]
    page = client_for(fay).get(PAGE).content.decode()
    assert "EUR 0.50 at 0.8" in page
    assert "(48.00 EUR at 0.8)" in Notice.objects.get(topic="commitment.proposed", data__commitment=throughput.pk).text
    rows = list(export_selectors.focus_rows(Period(FIRST, FIRST), {}))
    fees = [row for row in rows if row["CommitmentDiscountId"] == "PTU-1"]
    assert sum(row["EffectiveCost"] for row in fees) == 30
    own = [row for row in fees if row["PricingCurrency"] == "EUR"]
    assert {(row["ChargeCategory"], row["PricingCurrencyListUnitPrice"]) for row in own} == {
        ("Purchase", Decimal("0.5")),
        ("Usage", Decimal("0.5")),
        ("Usage", Decimal("0.8")),
    }
    assert own == fees  # the use as well, though the book prices it in USD
    assert sum(row["PricingCurrencyEffectiveCost"] for row in fees) == 24
    [of_use] = [row for row in fees if row["SubAccountId"]]
    assert (of_use["ListUnitPrice"], of_use["PricingCurrencyListUnitPrice"]) == (1, Decimal("0.8"))
    assert of_use["PricingCurrencyEffectiveCost"] == of_use["EffectiveCost"] * Decimal("0.8") > 0


def test_limit_of_a_commitment_is_in_dollars_whatever_it_is_quoted_in(acme: Tenant, fay: User, alice: User, client_for: ClientFor) -> None:
    currencies.rated(fay, alice, (7, "150"), currency="JPY")
    body = {name: str(value) for name, value in SPEND.items()} | {"currency": "JPY"}
    page = client_for(fay)

    taken = page.post(f"{PAGE}new/", {**body, "quantity": "149999999999"})
    refused = page.post(f"{PAGE}new/", {**body, "quantity": "150000000000"})

    assert (taken.status_code, refused.status_code) == (302, 422)
    assert "in USD, are more than 0 and less than 1,000,000,000." in refused.content.decode()
    found = Commitment.objects.get()
    assert (found.quoted, found.quantity) == (Decimal(149_999_999_999), Decimal("999999999.9933"))
    assert "JPY 149,999,999,999" in page.get(PAGE).content.decode()


@pytest.mark.parametrize(
    ("terms", "now", "expected"),
    [
        ({}, {"days": 6}, None),
        ({"last": FIRST + timedelta(days=9)}, {}, None),
        ({}, {"drawn": "40", "used": "20"}, (FIRST + timedelta(days=39), "0")),  # two a day: thirty days for the sixty that are left
        ({}, {"drawn": "99.5", "used": "20"}, (FIRST + timedelta(days=10), "0")),
        ({}, {"drawn": "100", "used": "20"}, (FIRST + timedelta(days=9), "0")),
        ({}, {"drawn": "20", "used": "10"}, (None, "24")),  # fifty days at one a day leave thirty, at 0.8
        ({}, {"drawn": "0", "used": "0"}, (None, "80")),
        ({"is_throughput": True}, {"used": "99", "unused_cost": "30"}, (None, "150")),
    ],
)
def test_outlook_follows_the_pace_of_the_last_days(
    terms: dict[str, Any], now: dict[str, Any], expected: tuple[date | None, str] | None
) -> None:
    given: dict[str, Any] = {"is_throughput": False, "last": FIRST + timedelta(days=59)} | terms
    found = commitments.outlook(
        commitments.Terms(1, given["is_throughput"], "openai", "", Decimal(100), Decimal("0.8"), 0, Decimal(1), FIRST, given["last"]),
        whole=FIRST + timedelta(days=9),
        days=now.get("days", 10),
        **{name: Decimal(now.get(name, "0")) for name in ("drawn", "used", "unused_cost")},
    )

    assert (found and (found.used_up_on, found.unused_cost)) == (expected and (expected[0], Decimal(expected[1])))


def test_money_that_nobody_draws_on_is_expected_to_be_left(acme: Tenant, fay: User, alice: User) -> None:
    found = approved(
        fay, alice, **SPEND | {"quantity": Decimal(14), "model": "", "unit_tokens_per_minute": None, "last_on": FIRST + timedelta(days=99)}
    )
    services.count(at=NOON + timedelta(days=20))
    found.refresh_from_db()
    outlook = commitment_selectors.outlooks([found])[found.pk]
    assert (outlook.used_up_on, float(outlook.unused_cost)) == (None, 11.2)


def test_outlook_stands_on_the_page_and_in_the_api(acme: Tenant, fay: User, alice: User, client_for: ClientFor, api_for: ClientFor) -> None:
    for day in range(10):
        used(acme, at=NOON + timedelta(days=day), millions="1", model="other-chat")
    make.prices(alice, model="other-chat")
    prices.price_unpriced(provider="openai", model="other-chat")
    approved(fay, alice, last_on=FIRST + timedelta(days=19))
    approved(
        fay, alice, **SPEND | {"quantity": Decimal(14), "model": "", "unit_tokens_per_minute": None, "last_on": FIRST + timedelta(days=99)}
    )
    approved(fay, alice, reference="PTU-0", first_on=date(2026, 9, 1), last_on=date(2026, 9, 9))
    services.count(at=NOON + timedelta(days=10))

    page = client_for(fay).get(f"{PAGE}?month=2026-10").content.decode()
    throughput, money = sorted(
        api_for(fay).get(f"{API}utilisation/2026-10/").json(), key=lambda one: one["commitment"]["kind"], reverse=True
    )

    assert money["outlook"] == {"days": 10, "used_up_on": "2026-10-20", "unused_usd": "0"}
    assert throughput["outlook"] == {"days": 10, "used_up_on": None, "unused_usd": "240"}
    assert "Oct 20, 2026, at the pace of the last 10 days" in page
    assert "71.4% drawn" in page
    assert "$240.00</span> more by Oct 26, 2026" in page
    assert ">ended</span>" in page
