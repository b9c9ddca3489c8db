"""Prices by four eyes: a sheet or a discount is proposed as a diff, somebody else puts each row in force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from costs import price_sheets, tasks
from costs.errors import PriceProposalStateError, PriceSheetError, PriceValueError
from costs.models import Event, PriceEntry, PriceProposal, PriceSheet
from costs.services import price_proposals, prices
from governance.models import AuditEntry, Notice, Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor
from tests.factories import costs as make

PAGE = "/o/acme/operate/costs/price-book/proposals/"
API = "/api/v1/prices/proposals/"
NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
HEADER = "provider,model,token_class,price_usd_per_million,valid_from,source\n"


@pytest.fixture(autouse=True)
def book(acme: Tenant, alice: User) -> None:
    make.deployment(alice)
    make.prices(alice)


def offer(token_class: str = "input", price: str = "1.25", at: datetime = NOW) -> price_sheets.Offer:
    return price_sheets.Offer("openai", "small-chat", token_class, Decimal(price), at, "Contract 7")


def proposed(fay: User, *offers: price_sheets.Offer) -> list[PriceProposal]:
    sheet = price_proposals.propose(offers=offers or [offer()], name="October", actor=fay, at=NOW)
    return list(sheet.proposals.order_by("pk"))


def read(text: str) -> list[price_sheets.Offer]:
    return price_sheets.read(text.encode(), providers=["openai"], models=["small-chat"], now=NOW)


def test_sheet_is_read_whole() -> None:
    found = read(f"{HEADER}openai,small-chat,input,1.25,,Contract 7\nopenai,small-chat,output,4,2026-12-01,\n")

    assert found[0] == offer()
    assert (found[1].valid_from, found[1].source) == (datetime(2026, 12, 1, tzinfo=UTC), "")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("openai,small-chat,input,cheap,,", "line 2: cheap is no price"),
        ("openai,small-chat,input,-1,,", "between 0 and"),
        ("openai,small-chat,input,NaN,,", "between 0 and"),
        ("openai,small-chat,input,1.123456789,,", "eight decimals"),
        ("openai,small-chat,reasoning,1,,", "token class is one of"),
        ("openai,big-chat,input,1,,", "there is no model big-chat"),
        ("acme,small-chat,input,1,,", "there is no provider acme"),
        ("openai,small-chat,input,1,soon,", "soon is no time"),
        ("openai,small-chat,input,1,1999-01-01,", "out of range"),
        ("openai,small-chat,input,1,,\nopenai,small-chat,input,2,,", "line 3: stands twice"),
        ("", "no row"),
    ],
)
def test_one_wrong_row_and_nothing_is_taken(rows: str, message: str) -> None:
    with pytest.raises(PriceSheetError, match=message):
        read(HEADER + rows)


@pytest.mark.parametrize(
    ("content", "message"), [(b"a,b\n1,2", "does not name provider"), (b"\xff\xfe", "UTF-8"), (b"x" * 3_000_000, "2 MB")]
)
def test_file_that_is_no_sheet(content: bytes, message: str) -> None:
    with pytest.raises(PriceSheetError, match=message):
        price_sheets.read(content, providers=[], models=[], now=NOW)


def test_proposal_is_a_diff_against_the_book(fay: User) -> None:
    rows = proposed(fay, offer(), offer("output", "4.00"), offer("cached_input", "0.1"))

    assert [(row.token_class, row.before, row.change, row.is_large) for row in rows] == [
        ("input", Decimal(1), Decimal(25), False),
        ("cached_input", None, None, False),
    ]
    assert rows[0].sheet.unchanged == 1
    assert PriceEntry.objects.count() == 2
    assert Notice.objects.get(topic="price.proposed").title == "2 prices wait for a decision"


def test_nothing_new_or_proposed_twice_is_refused(fay: User) -> None:
    proposed(fay)

    with pytest.raises(PriceSheetError, match="in force already"):
        proposed(fay, offer(price="1.00"))
    with pytest.raises(PriceSheetError, match="waits for a decision"):
        proposed(fay)
    assert PriceSheet.objects.count() == 1


def test_somebody_else_puts_it_in_force(fay: User, alice: User) -> None:
    [row] = proposed(fay)

    with pytest.raises(PriceProposalStateError, match="their own"):
        price_proposals.approve(proposal=row, actor=fay)
    done = price_proposals.approve(proposal=row, actor=alice)

    now = PriceEntry.objects.get(token_class="input", valid_to=None)
    assert (done.entry, now.price, now.valid_from, now.approved_by, now.source) == (now, Decimal("1.25"), NOW, alice, "Contract 7")
    assert AuditEntry.objects.filter(event__in=["price.proposed", "price.set", "price.proposal_approved"]).count() == 3
    with pytest.raises(PriceProposalStateError, match="approved already"):
        price_proposals.approve(proposal=row, actor=alice)


def test_price_that_changed_meanwhile_is_not_overwritten(fay: User, alice: User) -> None:
    [row] = proposed(fay)
    prices.set_price(
        provider="openai", model="small-chat", token_class="input", price=Decimal(2), valid_from=NOW - timedelta(hours=1), actor=alice
    )

    with pytest.raises(PriceProposalStateError, match="Another price"):
        price_proposals.approve(proposal=row, actor=alice)


def test_rejection_has_a_reason_and_withdrawal_none(fay: User, alice: User) -> None:
    first, second = proposed(fay, offer(), offer("output", "5"))

    with pytest.raises(PriceProposalStateError, match="Say why"):
        price_proposals.reject(proposal=first, actor=alice)
    rejected = price_proposals.reject(proposal=first, actor=alice, reason="Old contract")
    withdrawn = price_proposals.reject(proposal=second, actor=fay)

    assert (rejected.status, rejected.reason, withdrawn.status) == ("rejected", "Old contract", "withdrawn")
    assert PriceEntry.objects.count() == 2


def test_discount_is_proposed_on_what_is_in_force(fay: User) -> None:
    sheet = price_proposals.propose_discount(provider="openai", percent=Decimal("12.5"), valid_from=NOW, actor=fay, note="Contract 7")

    assert {row.token_class: (row.price, row.source) for row in sheet.proposals.all()} == {
        "input": (Decimal("0.875"), "1 less 12.5%: Contract 7"),
        "output": (Decimal("3.5"), "4 less 12.5%: Contract 7"),
    }
    with pytest.raises(PriceSheetError, match="No price"):
        price_proposals.propose_discount(provider="openai", model="none", percent=Decimal(5), valid_from=NOW, actor=fay, note="")
    with pytest.raises(PriceValueError):
        price_proposals.propose_discount(provider="openai", percent=Decimal(100), valid_from=NOW, actor=fay, note="")


def test_approved_price_prices_calls_that_waited(acme: Tenant, fay: User, alice: User) -> None:
    PriceEntry.objects.all().delete()
    make.record(acme, make.call(acme))
    rows = proposed(fay, offer(price="2", at=NOW - timedelta(days=30)), offer("output", "8", at=NOW - timedelta(days=30)))

    for row in rows:
        price_proposals.approve(proposal=row, actor=alice)
    tasks.price_unpriced(provider="openai", model="small-chat", schema_name=acme.schema_name)

    enter_tenant(acme)
    assert Event.objects.get().cost == Decimal("0.0036")


def test_page_takes_a_sheet_and_decides_row_by_row(acme: Tenant, client_for: ClientFor, fay: User, alice: User, audra: User) -> None:
    text = f"{HEADER}openai,small-chat,input,1.25,,Contract 7\nopenai,small-chat,output,40,,Contract 7\n"
    file = {"file": SimpleUploadedFile("sheet.csv", text.encode()), "note": "Contract 7"}
    page = client_for(fay).post(f"{PAGE}upload/", file, follow=True)
    own = client_for(fay).post(
        f"{PAGE}decide/", {"proposal": [row.pk for row in PriceProposal.objects.all()], "decision": "approve"}, follow=True
    )
    cheap, dear = PriceProposal.objects.order_by("pk")

    client_for(alice).post(f"{PAGE}decide/", {"proposal": [cheap.pk], "decision": "approve"})
    client_for(alice).post(f"{PAGE}decide/", {"proposal": [dear.pk], "decision": "reject", "reason": "Ten times too much"})

    html = page.content.decode()
    assert "2 prices are proposed" in html
    assert "+900.0%" in html
    assert "$40.00" in html
    assert "large" in html
    assert "Nobody approves their own price" in own.content.decode()
    assert list(PriceProposal.objects.order_by("pk").values_list("status", flat=True)) == ["approved", "rejected"]
    assert "Ten times too much" in client_for(audra).get(f"{PAGE}?status=rejected").content.decode()
    assert client_for(audra).post(f"{PAGE}decide/", {}).status_code == 403


def test_page_says_what_became_of_the_chosen(acme: Tenant, client_for: ClientFor, fay: User, alice: User) -> None:
    mine, others = proposed(alice, offer()), proposed(fay, offer("output", "5"))
    chosen = {"proposal": [row.pk for row in (*mine, *others)], "decision": "reject", "reason": "Last year's"}

    page = client_for(alice).post(f"{PAGE}decide/", chosen, follow=True).content.decode()

    assert "1 rejected, 1 withdrawn." in page


def test_page_says_how_many_more_were_refused(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    rows = proposed(
        fay,
        *(offer(token_class) for token_class in ("input", "output", "cached_input", "cache_write", "cache_write_1h")),
        offer("input", "2", NOW + timedelta(days=40)),
        offer("output", "2", NOW + timedelta(days=40)),
    )

    page = client_for(fay).post(f"{PAGE}decide/", {"proposal": [row.pk for row in rows], "decision": "approve"}, follow=True)

    told = [str(message) for message in page.context["messages"]]
    assert (len(told), told[-1]) == (6, "And 2 more that can't be decided so.")


def test_page_lists_the_newest_sheet_first_and_its_rows_as_they_were_proposed(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    older = proposed(fay, offer(), offer("output", "5"))
    newer = proposed(fay, offer("cached_input", "0.1"), offer("cache_write", "2"))

    page = client_for(fay).get(PAGE).content.decode()

    places = [page.index(f'value="{row.pk}"') for row in (*newer, *older)]
    assert places == sorted(places)


def test_page_names_what_is_wrong(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    client = client_for(fay)
    sheet = client.post(f"{PAGE}upload/", {"file": SimpleUploadedFile("sheet.csv", f"{HEADER}x,y,z,1,,".encode()), "note": "n"})
    discount = client.post(f"{PAGE}discount/", {"provider": "openai", "percent": "0", "note": "n"})
    fine = client.post(f"{PAGE}discount/", {"provider": "openai", "percent": "10", "note": "Contract"}, follow=True)
    none = client.post(f"{PAGE}decide/", {"decision": "approve"}, follow=True)

    assert (sheet.status_code, discount.status_code) == (422, 422)
    assert "there is no provider x" in sheet.content.decode()
    assert "2 prices are proposed" in fine.content.decode()
    assert "Choose rows first" in none.content.decode()
    assert "Proposals" in client.get("/o/acme/operate/costs/price-book/").content.decode()


def test_book_leaves_as_a_sheet_that_changes_nothing(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    text = client_for(fay).get("/o/acme/operate/costs/price-book/csv/").getvalue().decode()

    with pytest.raises(PriceSheetError, match="in force already"):
        price_proposals.propose(offers=read(text), name="same", actor=fay)


def test_proposals_for_programs(acme: Tenant, api_for: ClientFor, fay: User, alice: User, audra: User) -> None:
    def post(person: User, path: str, body: Any) -> Any:
        return api_for(person).post(f"{API}{path}", body, content_type="application/json")

    row = {"provider": "openai", "model": "small-chat", "token_class": "input", "price": "1.25"}
    made = post(fay, "", {"name": "October", "prices": [row]}).json()
    wrong = post(fay, "", {"name": "October", "prices": [row | {"model": "none"}]})
    pk = made["proposals"][0]["id"]
    own, other = post(fay, f"{pk}/approve/", {}), post(alice, f"{pk}/approve/", {})
    again = post(alice, f"{pk}/reject/", {"reason": "late"})

    assert (made["proposals"][0]["before"], made["proposals"][0]["decided_by"]) == ("1", None)
    assert wrong.status_code == 400
    assert "there is no model none" in wrong.content.decode()
    assert (own.status_code, own.json()["code"]) == (409, "price_proposal_state")
    assert (other.json()["status"], other.json()["decided_by"]) == ("approved", alice.email)
    assert again.status_code == 409
    assert [found["id"] for found in api_for(audra).get(f"{API}?status=approved").json()["results"]] == [pk]
    assert api_for(audra).get(f"{API}?status=odd").status_code == 400
    assert post(alice, "999/reject/", {}).status_code == 404
