"""A price that was wrong: the past is valued anew, what it was valued at before is kept, and every figure follows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum

from costs import export_selectors, price_sheets, selectors, tasks
from costs.errors import PriceSheetError, PriceValueError
from costs.models import (
    BillFile,
    Event,
    PriceEntry,
    PriceProposal,
    Reconciliation,
    Revision,
    RevisionSignature,
    SupersededPrice,
    TokenDay,
    UsageHour,
    Valuation,
)
from costs.periods import Period
from costs.services import price_proposals, prices, reconciliation, signoff
from governance.models import AuditEntry, Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor
from tests.factories import costs as make

START = datetime(2026, 10, 1, tzinfo=UTC)
CHANGE = datetime(2026, 10, 15, tzinfo=UTC)
OCTOBER = Period(START.date(), datetime(2026, 10, 31, tzinfo=UTC).date())


@pytest.fixture
def recorded(acme: Tenant, alice: User) -> None:
    """Calls before, within and after the period of an input price; with cached tokens that are charged as input."""
    make.price(alice, "input", "1.00", valid_from=datetime(2026, 1, 1, tzinfo=UTC), valid_to=START)
    make.price(alice, "input", "2.00", valid_from=START, valid_to=CHANGE)
    make.price(alice, "input", "3.00", valid_from=CHANGE)
    make.price(alice, "output", "4.00", valid_from=datetime(2026, 1, 1, tzinfo=UTC))
    days = (START - timedelta(hours=1), START, START + timedelta(days=9), CHANGE)
    make.record(acme, *(make.call(acme, started_at=at, cached_input_tokens=300) for at in days))


def correct(actor: User, price: str = "2.50", at: datetime = START, **fields: Any) -> PriceEntry:
    values = {"provider": "openai", "model": "small-chat", "token_class": "input"} | fields
    return prices.correct_price(price=Decimal(price), valid_from=at, actor=actor, source="Invoice", **values)


def approve_correction(fay: User, alice: User) -> PriceProposal:
    """An input price of October was wrong; two people say so."""
    offer = price_sheets.Offer("openai", "small-chat", "input", Decimal("2.50"), START, "Invoice", corrects=True)
    [proposal] = price_proposals.propose(offers=[offer], name="October", actor=fay).proposals.all()
    return price_proposals.approve(proposal=proposal, actor=alice)


def figures() -> tuple[Decimal, Decimal, Decimal]:
    """The money of events, of the hours and of the days: they must agree."""
    return (
        Event.objects.aggregate(n=Sum("cost"))["n"],
        UsageHour.objects.aggregate(n=Sum("cost"))["n"],
        TokenDay.objects.aggregate(n=Sum("cost"))["n"],
    )


def test_past_is_valued_anew_and_every_figure_follows(recorded: None, alice: User) -> None:
    before = figures()
    entry = correct(alice)

    done = prices.reprice(entry=entry)
    again = prices.reprice(entry=entry)

    costs = list(Event.objects.order_by("started_at").values_list("cost", flat=True))
    assert costs == [Decimal("0.0018"), Decimal("0.0033"), Decimal("0.0033"), Decimal("0.0038")]
    assert done == (2, Decimal("0.001"))
    assert again == (0, Decimal())
    assert len(set(before)) == len(set(figures())) == 1
    assert figures()[0] == before[0] + Decimal("0.001")


def test_correction_values_calls_by_what_two_people_approved_only(recorded: None, acme: Tenant, alice: User) -> None:
    # Set by one person: calls before had no price, and calls that came late are valued by it; it changes no other call.
    make.price(alice, "cached_input", "0.10", valid_from=START)
    PriceEntry.objects.filter(token_class="output").update(valid_to=START)
    make.price(alice, "output", "90", valid_from=START)
    entry = correct(alice)

    prices.reprice(entry=entry)

    costs = list(Event.objects.order_by("started_at").values_list("cost", flat=True))
    assert costs == [Decimal("0.0018"), Decimal("0.0033"), Decimal("0.0033"), Decimal("0.0038")]
    correct(alice, "0.50", token_class="cached_input")
    assert prices.reprice(entry=PriceEntry.objects.get(token_class="cached_input")) == (3, Decimal("-0.00195"))
    assert len(set(figures())) == 1


def test_earlier_values_are_kept_with_the_price_they_came_from(recorded: None, alice: User) -> None:
    wrong = PriceEntry.objects.get(valid_from=START)
    entry = correct(alice)
    prices.reprice(entry=entry)

    call = Event.objects.get(started_at=START)
    [kept] = selectors.earlier_values(call)
    superseded = SupersededPrice.objects.get()

    assert (kept.cost, kept.price_ids[0]) == (Decimal("0.0028"), wrong.pk)
    assert (superseded.pk, superseded.price, superseded.superseded_by, superseded.created_at) == (
        wrong.pk,
        Decimal(2),
        alice,
        wrong.created_at,
    )
    assert call.price_ids[0] == entry.pk
    assert Valuation.objects.count() == 2
    assert AuditEntry.objects.get(event="price.corrected").details["before"] == "2.00000000"


def test_second_correction_keeps_both_values(recorded: None, alice: User) -> None:
    for price in ("2.50", "2.25"):
        entry = correct(alice, price)
        prices.reprice(entry=entry)

    call = Event.objects.get(started_at=START)
    assert [value.cost for value in selectors.earlier_values(call)] == [Decimal("0.0028"), Decimal("0.0033")]
    assert call.cost == Decimal("0.00305")
    assert len(set(figures())) == 1


def test_correction_within_a_period_splits_it(recorded: None, alice: User) -> None:
    at = START + timedelta(days=5)
    entry = correct(alice, at=at)

    changed, _ = prices.reprice(entry=entry)

    assert (entry.valid_from, entry.valid_to, changed) == (at, CHANGE, 1)
    assert not SupersededPrice.objects.exists()


def test_work_goes_on_behind_a_full_batch(recorded: None, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "PRICING_BATCH", 1)
    monkeypatch.setattr(prices, "BATCH_PAUSE", 0)
    entry = correct(alice)

    assert prices.reprice(entry=entry)[0] == 2


def test_impossible_price_corrects_nothing(recorded: None, alice: User) -> None:
    with pytest.raises(PriceValueError):
        correct(alice, "-1")

    assert not SupersededPrice.objects.exists()


def test_export_has_every_call_while_the_past_is_being_valued(recorded: None, alice: User) -> None:
    correct(alice)

    rows = list(export_selectors.focus_rows(OCTOBER, {}))

    known = UsageHour.objects.filter(hour__gte=START).aggregate(n=Sum("cost"))["n"]
    assert sum(row["BilledCost"] for row in rows) == known
    assert next(price.price for _, _, price, _ in selectors.prices_of(Event.objects.get(started_at=START)) if price) == 2


def test_correction_takes_two_people_and_says_what_it_did(
    recorded: None, acme: Tenant, fay: User, alice: User, client_for: ClientFor
) -> None:
    offer = price_sheets.Offer("openai", "small-chat", "input", Decimal("2.50"), START, "Invoice", corrects=True)
    [proposal] = price_proposals.propose(offers=[offer], name="October", actor=fay).proposals.all()
    price_proposals.approve(proposal=proposal, actor=alice)
    waiting = client_for(fay).get("/o/acme/operate/costs/price-book/proposals/?status=approved").content.decode()

    tasks.finish_corrections(schema_name=acme.schema_name)
    tasks.finish_corrections(schema_name=acme.schema_name)

    enter_tenant(acme)
    done = PriceProposal.objects.get()
    page = client_for(fay).get("/o/acme/operate/costs/price-book/proposals/?status=approved").content.decode()
    call = client_for(fay).get(f"/o/acme/requests/{Event.objects.get(started_at=START).event_id}/").content.decode()
    assert (done.repriced_calls, done.repriced_by) == (2, Decimal("0.001"))
    assert "being priced anew" in waiting
    assert "2 calls cost" in page
    assert "Was valued at" in call
    assert AuditEntry.objects.filter(event="price.repriced").count() == 1


def test_entry_of_a_proposal_can_be_corrected_itself(recorded: None, fay: User, alice: User) -> None:
    offers = [
        price_sheets.Offer("openai", "small-chat", "input", Decimal(price), START, "Invoice", corrects=True) for price in ("2.5", "2.4")
    ]
    for offer in offers:
        [proposal] = price_proposals.propose(offers=[offer], name="October", actor=fay).proposals.all()
        price_proposals.approve(proposal=proposal, actor=alice)

    assert prices.finish_corrections() == 2
    assert SupersededPrice.objects.count() == 2
    assert len(set(figures())) == 1


def test_correction_voids_signatures_of_months_long_ago(acme: Tenant, compared: Revision, fay: User, alice: User) -> None:
    for person in (fay, alice):
        signoff.sign(revision=compared, digest=compared.digest, actor=person, comment="Late rows", at=datetime(2026, 11, 3, tzinfo=UTC))
    approve_correction(fay, alice)

    prices.finish_corrections()

    latest = Reconciliation.objects.get().latest
    assert latest is not None
    assert latest.number == 2
    assert not RevisionSignature.objects.filter(voided_at=None).exists()


def test_months_long_ago_are_due_when_their_calls_have_another_value(acme: Tenant, compared: Revision) -> None:
    later = date(2027, 6, 1)
    BillFile.objects.update(uploaded_at=datetime(2026, 11, 3, tzinfo=UTC))
    before = reconciliation.due(later)
    make.record(acme, make.call(acme, started_at=datetime(2026, 10, 9, tzinfo=UTC)))

    assert (before, reconciliation.due(later)) == ([], [("openai", date(2026, 10, 1))])
    reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    assert reconciliation.due(later) == []


def test_first_price_of_calls_long_ago_compares_their_month_again(acme: Tenant, compared: Revision, fay: User) -> None:
    PriceEntry.objects.filter(token_class="output").update(valid_from=datetime(2026, 10, 20, tzinfo=UTC))
    make.record(acme, make.call(acme, started_at=datetime(2026, 10, 9, tzinfo=UTC)))
    offer = price_sheets.Offer("openai", "small-chat", "output", Decimal(4), datetime(2026, 10, 1, tzinfo=UTC), "Contract")
    [proposal] = price_proposals.propose(offers=[offer], name="October", actor=fay).proposals.all()
    price_proposals.approve(proposal=proposal, actor=User.objects.exclude(pk=fay.pk).get(email__startswith="alice"))

    assert prices.price_unpriced(provider="openai", model="small-chat") == 1

    assert Reconciliation.objects.get().revisions.count() == 2


@pytest.mark.parametrize(
    ("row", "message"), [("2026-10-01,Invoice,perhaps", "corrects is"), ("2036-10-01,Invoice,yes", "begins in the past")]
)
def test_sheet_says_what_corrects(row: str, message: str) -> None:
    header = ",".join(price_sheets.COLUMNS)

    with pytest.raises(PriceSheetError, match=message):
        price_sheets.read(f"{header}\no,m,input,1,{row}".encode(), providers=["o"], models=["m"], now=CHANGE)


def test_work_that_is_cut_off_and_done_by_two_is_counted_once(
    recorded: None, fay: User, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve_correction(fay, alice)
    monkeypatch.setattr(prices, "PRICING_BATCH", 1)
    pauses: list[float] = []
    others: list[int] = []

    def paused(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            raise SystemExit  # killed behind the first batch
        if len(pauses) == 2:
            others.append(prices.finish_corrections())  # by another worker meanwhile

    monkeypatch.setattr("costs.services.prices.time.sleep", paused)
    with pytest.raises(SystemExit):
        prices.finish_corrections()
    own = prices.finish_corrections()

    done = PriceProposal.objects.get()
    assert (done.repriced_calls, done.repriced_by) == (2, Decimal("0.001"))
    assert (own, others) == (0, [1])
    assert AuditEntry.objects.filter(event="price.repriced").count() == 1
    assert min(pauses) > 1
