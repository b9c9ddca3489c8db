"""Rows that are well-formed and of nobody we know: counted apart, told one by one, and taken over once they can be placed."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from costs.errors import BillFormatError
from costs.models import BillFile, BillRow
from costs.services import bills
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make

AT = datetime(2026, 11, 2, tzinfo=UTC)
ROW = {
    "BilledCost": "1.5", "EffectiveCost": "1.5", "BillingAccountId": "prod", "BillingCurrency": "USD", "ChargeCategory": "Usage",
    "BillingPeriodStart": "2026-10-01T00:00:00Z", "BillingPeriodEnd": "2026-11-01T00:00:00Z", "ProviderName": "OpenAI",
    "ChargePeriodStart": "2026-10-07T00:00:00Z", "ChargePeriodEnd": "2026-10-08T00:00:00Z", "ConsumedQuantity": "30000",
    "ConsumedUnit": "Tokens", "SkuMeter": "gpt-small Input Tokens", "ServiceSubcategory": "Generative AI", "InvoiceId": "1",
}  # fmt: skip
AHEAD = {"ChargePeriodStart": "2026-12-07T00:00:00Z", "ChargePeriodEnd": "2026-12-08T00:00:00Z"}


@pytest.fixture(autouse=True)
def catalog(acme: Tenant, alice: User) -> None:
    make.deployment(alice)


def imported(user: User, *changes: dict[str, str], at: datetime = AT) -> BillFile:
    rows = [ROW | {"InvoiceId": str(number)} | change for number, change in enumerate(changes)]
    content = "\n".join([",".join(ROW), *(",".join(row.values()) for row in rows)]).encode()
    return bills.import_bill(file=io.BytesIO(content), name="october.csv", actor=user, at=at).file


def counts(bill: BillFile) -> tuple[int, int, int, int]:
    """Accepted, duplicate, rejected, quarantined: rows and money add up to what came in."""
    found = (bill.rows_accepted, bill.rows_duplicate, bill.rows_rejected, bill.rows_quarantined)
    assert sum(found) == bill.rows_in
    assert bill.billed_accepted + bill.billed_duplicate + bill.billed_rejected + bill.billed_quarantined == bill.billed_in
    return found


def test_every_row_is_accepted_known_rejected_or_quarantined(acme: Tenant, fay: User) -> None:
    imported(fay, {})

    bill = imported(
        fay, {}, {"BillingCurrency": "CREDITS"}, {"ProviderName": ""}, AHEAD, {"ChargeCategory": "Gift"}, {"BillingCurrency": "EUR"}
    )

    assert counts(bill) == (1, 1, 1, 3)
    assert bill.billed_quarantined == Decimal("4.5")
    held = list(bill.errors.filter(is_quarantined=True).values_list("line", "column"))
    assert held == [(3, "BillingCurrency"), (4, "ProviderName"), (5, "ChargePeriodStart")]
    assert not BillRow.objects.filter(currency="CREDITS").exists()


@pytest.mark.soak  # the sum over a few rows is held above; this is the size at which it must hold, too
def test_hundred_thousand_malformed_rows_are_each_accounted_for(acme: Tenant, fay: User, client_for: ClientFor) -> None:
    wrong: list[dict[str, str]] = [
        {"BilledCost": "a lot"}, {"ChargeCategory": "Gift"}, {"ChargePeriodStart": "yesterday"}, {"ConsumedQuantity": "many"},
        {"BillingCurrency": "CREDITS"}, {"ProviderName": ""}, AHEAD,
    ]  # fmt: skip

    bill = imported(fay, *(wrong[number % len(wrong)] for number in range(100_000)), {}, {})

    accepted, duplicate, rejected, quarantined = counts(bill)
    assert (accepted + duplicate, rejected, quarantined) == (2, 57_144, 42_856)
    assert bill.errors.filter(is_quarantined=True).count() == quarantined
    answer = client_for(fay).get(f"/o/acme/operate/costs/reconciliation/bills/{bill.pk}/errors/?format=csv")
    told = b"".join(answer.streaming_content if answer.streaming else [answer.content]).splitlines()  # type: ignore[attr-defined]
    assert len(told) == 1 + rejected + quarantined


def test_what_can_be_placed_later_is_taken_over_once(acme: Tenant, fay: User) -> None:
    bill = imported(fay, {}, {"ProviderName": ""}, {"ProviderName": ""}, AHEAD, {"BillingCurrency": "CREDITS"})
    assert counts(bill) == (1, 0, 0, 4)

    with pytest.raises(BillFormatError, match="does not exist"):
        bills.release_quarantine(bill=bill, actor=fay, provider="nobody")
    named = bills.release_quarantine(bill=bill, actor=fay, provider="openai", at=AT)
    assert counts(named) == (3, 0, 0, 2)
    due = bills.release_quarantine(bill=bill, actor=fay, at=datetime(2026, 12, 9, tzinfo=UTC))
    assert counts(due) == (4, 0, 0, 1)
    again = bills.release_quarantine(bill=bill, actor=fay)

    assert counts(again) == (4, 0, 0, 1)
    assert set(BillRow.objects.values_list("provider", flat=True)) == {"openai"}
    assert [error.column for error in again.errors.all()] == ["BillingCurrency"]
    released = AuditEntry.objects.filter(event="bill.released").order_by("sequence")
    assert [entry.details["released"] for entry in released] == [2, 1, 0]
    with pytest.raises(BillFormatError, match="Nothing of it"):
        bills.release_quarantine(bill=imported(fay, {"InvoiceId": "other"}), actor=fay)


def test_file_of_malformed_rows_costs_a_handful_of_statements(acme: Tenant, fay: User, django_assert_max_num_queries: Any) -> None:
    wrong = [{"BilledCost": "much"}, {"BillingCurrency": "CREDITS"}, {"ChargePeriodEnd": "soon"}, {"ProviderName": ""}]

    with django_assert_max_num_queries(42):
        bill = imported(fay, *wrong * 500)

    assert counts(bill) == (0, 0, 1000, 1000)
    assert bill.errors.count() == 2000


def test_page_file_and_api_tell_of_quarantine(acme: Tenant, fay: User, audra: User, client_for: ClientFor, api_for: ClientFor) -> None:
    bill = imported(fay, {}, {"ProviderName": ""}, {"ChargeCategory": "Gift"})
    page = f"/o/acme/operate/costs/reconciliation/bills/{bill.pk}/"

    shown = client_for(fay).get(page).content.decode()
    rows = b"".join(client_for(audra).get(f"{page}errors/")).decode().splitlines()
    told = api_for(fay).get(f"/api/v1/bills/{bill.pk}/").json()
    done = api_for(fay).post(f"/api/v1/bills/{bill.pk}/release/", {"provider": "openai"}, content_type="application/json")

    assert "1 row for" in shown
    assert [row.split(",")[2] for row in rows] == ["state", "quarantined", "rejected"]
    assert (told["rows_quarantined"], told["billed_quarantined"]) == (1, "1.5")
    assert (done.status_code, done.json()["rows_quarantined"], done.json()["rows_accepted"]) == (200, 0, 2)
    assert client_for(fay).post(f"{page}release/", {"provider": ""}).status_code == 302
    assert client_for(audra).post(f"{page}release/", {"provider": ""}).status_code == 403
