"""A revision line by line, a line charge by charge, and what a revision changed."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from costs import bill_selectors, generator, reconciliation_selectors
from costs.models import BillRow, PriceEntry, Revision, TokenDay, UsageHour
from costs.services import bills, prices, reconciliation
from governance.models import Tenant, User
from tests.conftest import ClientFor, LayOut
from tests.costs.conftest import compare, make_october
from tests.factories import costs as make
from tests.factories.rollouts import person

PAGE = "/o/acme/operate/costs/reconciliation/openai/prod%20eu/2026-10/"
API = "/api/v1/reconciliations/openai/prod%20eu/2026-10/"


@pytest.fixture(scope="module", autouse=True)
def laid_out(lay_out: LayOut) -> tuple[generator.Generated, Revision]:
    """The month, and what its first comparison found."""

    def build() -> tuple[generator.Generated, Revision]:
        acme = Tenant.objects.get(slug="acme")
        made = make_october(tenant=acme, owner=person("alice"))
        return made, compare(made, tenant=acme, actor=person("fay"))

    found: tuple[generator.Generated, Revision] = lay_out(build)
    return found


@pytest.fixture
def made(laid_out: tuple[generator.Generated, Revision]) -> generator.Generated:
    return laid_out[0]


@pytest.fixture
def compared(acme: Tenant, laid_out: tuple[generator.Generated, Revision]) -> Revision:
    return Revision.objects.get(pk=laid_out[1].pk)


@pytest.fixture
def restated(acme: Tenant, compared: Revision, made: generator.Generated, fay: User) -> Revision:
    """The second revision: the late day has come."""
    bills.import_bill(file=io.BytesIO(generator.to_csv(made.late_rows)), name="late.csv", actor=fay)
    return reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))[0]


def test_every_line_stands_somewhere_and_all_of_them_add_up(acme: Tenant, compared: Revision) -> None:
    sums = reconciliation_selectors.standings(compared, {})

    assert [one.name for one in sums if one.lines] == ["ours_only", "tokens", "price", "matched"]
    assert sum(one.lines for one in sums) == compared.lines.count()
    assert (sum(one.bill for one in sums), sum(one.ours for one in sums)) == (compared.bill, compared.telemetry)
    assert next(one.variance for one in sums if one.name == "matched") == 0


def test_lines_are_narrowed_by_the_url(acme: Tenant, compared: Revision) -> None:
    counts = {
        "": 62,
        "standing=ours_only": 2,
        "standing=matched&class=input": 27,
        "cause=price": 1,
        "model=small-chat&day=2026-10-07": 2,
        "model=other": 0,
        "day=yesterday": 0,
        "standing=nonsense": 0,
    }

    found = {query: reconciliation_selectors.lines(compared, dict(parse_qsl(query))).count() for query in counts}

    assert found == counts


def test_page_shows_the_largest_difference_first_and_goes_on_by_key(
    acme: Tenant, client_for: ClientFor, compared: Revision, audra: User
) -> None:
    client = client_for(audra)
    first = client.get(f"{PAGE}lines/").context["page"]

    second = client.get(f"{PAGE}lines/?cursor={first.next_cursor}").context["page"]
    by_key = client.get(f"{PAGE}lines/?sort=key").context["page"]

    off = [line.off for line in (*first.rows, *second.rows)]
    assert off == sorted(off, reverse=True)
    assert len({line.pk for line in (*first.rows, *second.rows)}) == compared.lines.count() == 62
    assert [line.day.day for line in by_key.rows[:4]] == [1, 1, 2, 2]


def test_line_leads_to_its_charges_calls_and_prices(acme: Tenant, client_for: ClientFor, compared: Revision, audra: User) -> None:
    line = reconciliation_selectors.lines(compared, {"cause": "price"}).get()

    page = client_for(audra).get(f"{PAGE}lines/{line.pk}/")

    context, html = page.context, page.content.decode()
    assert len(context["page"].rows) == context["rows_now"] == line.bill_rows
    assert sum(row.billed_cost for row in context["page"].rows) == line.bill
    assert sum(day.cost for day in context["days"]) == line.telemetry
    assert sum(amount for _, _, amount in context["causes"]) == line.variance
    assert [entry.price for entry in context["prices"]] == [Decimal(1)]
    assert f"from={line.day}&amp;to={line.day}" in html


def test_revision_keeps_its_own_charges_and_files(
    acme: Tenant, client_for: ClientFor, restated: Revision, compared: Revision, fay: User
) -> None:
    late = next(one for one in reconciliation_selectors.lines(compared, {"standing": "ours_only"}))

    assert not reconciliation_selectors.bill_rows(late).exists()
    assert BillRow.objects.filter(day=late.day, model=late.model, token_class=late.token_class).exists()
    files = [[file.name for file in client_for(fay).get(f"{PAGE}?revision={number}").context["files"]] for number in (1, 2)]
    assert files == [["october.csv"], ["late.csv", "october.csv"]]
    Revision.objects.update(file_ids=None)  # as those of before, which did not keep them
    assert files == [[file.name for file in bill_selectors.files_of(revision)] for revision in Revision.objects.order_by("number")]


def test_fragment_csv_and_a_line_without_a_charge(acme: Tenant, client_for: ClientFor, compared: Revision, audra: User) -> None:
    client, line = client_for(audra), reconciliation_selectors.lines(compared, {"standing": "ours_only"})[0]

    fragment = client.get(f"{PAGE}lines/?standing=matched", HTTP_HX_REQUEST="true").content.decode()
    table = client.get(f"{PAGE}csv/?cause=price").getvalue().decode().splitlines()
    one_sided = client.get(f"{PAGE}lines/{line.pk}/").content.decode()

    assert fragment.lstrip().startswith('<div class="gh-stack" id="lines">')
    assert (len(table), table[1].split(",")[3]) == (2, "price")
    assert "Not on the bill" in one_sided


def test_what_a_revision_changed_adds_up(acme: Tenant, restated: Revision, compared: Revision) -> None:
    found = reconciliation_selectors.restatement(restated.reconciliation, compared, restated)

    assert {(one.day, one.token_class) for one in found.lines} == {
        (line.day, line.token_class) for line in compared.lines.filter(bill_rows=0)
    }
    assert sum(one.bill for one in found.lines) == found.bill == restated.bill - compared.bill
    assert sum(one.ours for one in found.lines) == found.ours == found.calls == 0
    assert [file.name for file in found.files] == ["late.csv"]
    assert [title for title, _, after in found.causes if not after] == ["Only in our telemetry"]


def test_changes_page_and_csv(acme: Tenant, client_for: ClientFor, restated: Revision, audra: User) -> None:
    client = client_for(audra)

    page, first = client.get(f"{PAGE}changes/"), client.get(f"{PAGE}changes/?revision=1")
    backwards = client.get(f"{PAGE}changes/?revision=1&against=2")
    table = client.get(f"{PAGE}changes/csv/").getvalue().decode().splitlines()

    assert "late.csv" in page.content.decode()
    assert "Nothing was restated" in first.content.decode()
    assert backwards.context["found"].after.number == 2
    assert len(table) == 1 + len(page.context["found"].lines)
    assert [client.get(f"{PAGE}changes/?against={wanted}").status_code for wanted in ("9", "x")] == [404, 404]
    assert client.get(f"{PAGE}changes/csv/?revision=1").status_code == 404


def test_signing_on_the_page(acme: Tenant, client_for: ClientFor, compared: Revision, fay: User, alice: User, audra: User) -> None:
    Revision.objects.update(complete_through=None)
    body = {"digest": compared.digest, "comment": "The rest comes in November"}
    refused = client_for(audra).post(f"{PAGE}sign/", body)

    without = client_for(fay).post(f"{PAGE}sign/", {"digest": compared.digest}, follow=True).content.decode()
    uncut = client_for(fay).post(f"{PAGE}sign/", {**body, "comment": "c" * 401}, follow=True).content.decode()
    client_for(fay).post(f"{PAGE}sign/", body)
    withdrawn = client_for(fay).post(f"{PAGE}withdraw/", follow=True).content.decode()
    first = client_for(fay).post(f"{PAGE}sign/", body, follow=True).content.decode()
    home = client_for(alice).get("/o/acme/operate/home/").content.decode()
    second = client_for(alice).post(f"{PAGE}sign/", body, follow=True).content.decode()
    listed = client_for(audra).get("/o/acme/operate/costs/reconciliation/").content.decode()

    assert refused.status_code == 403
    assert "Say why it is signed all the same" in without
    assert "at most 400 characters" in uncut
    assert "Your signature is withdrawn" in withdrawn
    assert "Not signed" in withdrawn
    assert "One of two" in first
    assert "Withdraw my signature" in first
    assert "wait for your signature" in home
    assert "Signed off" in second
    assert 'data-l="Signed"><span class="gh-v is-pass">' in listed


def test_page_of_lines_costs_few_queries(
    acme: Tenant, client_for: ClientFor, compared: Revision, fay: User, django_assert_max_num_queries: Any
) -> None:
    client = client_for(fay)

    with django_assert_max_num_queries(17):
        client.get(f"{PAGE}lines/")


def test_lines_changes_and_signatures_for_programs(acme: Tenant, api_for: ClientFor, restated: Revision, fay: User, audra: User) -> None:
    client = api_for(fay)
    lines = client.get(f"{API}lines/?standing=price&revision=1").json()["results"]
    changes = client.get(f"{API}changes/").json()
    signed = client.post(f"{API}sign/", {"digest": restated.digest, "comment": "Missing calls are known"}, content_type="application/json")
    twice = client.post(f"{API}sign/", {"digest": restated.digest, "comment": "Again"}, content_type="application/json")
    withdrawn = client.post(f"{API}withdraw/", {}, content_type="application/json")
    other = api_for(audra).post(f"{API}sign/", {"digest": restated.digest}, content_type="application/json")

    assert [line["standing"] for line in lines] == ["price"]
    assert (changes["before"], changes["after"], Decimal(changes["bill"])) == (
        1,
        2,
        sum(Decimal(one["bill"]) for one in changes["lines"]),
    )
    assert (signed.status_code, signed.json()["sign_off"]["state"]) == (201, "waiting")
    assert (twice.status_code, twice.json()["code"]) == (409, "revision_signed")
    assert withdrawn.json()["sign_off"]["state"] == "unsigned"
    assert other.status_code == 403


def test_bad_queries_and_what_is_not_there(acme: Tenant, api_for: ClientFor, compared: Revision, fay: User) -> None:
    client = api_for(fay)
    bad = ("lines/?standing=nonsense", "lines/?day=yesterday", "changes/?revision=x")
    missing = (f"{API}lines/?revision=9", f"{API}changes/?revision=9", f"{API}changes/", f"{API[:-3]}09/lines/")

    assert [client.get(f"{API}{path}").status_code for path in bad] == [400, 400, 400]
    assert [client.get(path).status_code for path in missing] == [404, 404, 404, 404]


def test_calls_that_came_late_are_told_from_those_valued_anew(
    acme: Tenant, client_for: ClientFor, api_for: ClientFor, compared: Revision, fay: User
) -> None:
    at = datetime(2026, 10, 7, 12, tzinfo=UTC)
    before = UsageHour.objects.aggregate(cost=Sum("cost"))["cost"]
    make.record(acme, make.call(acme, started_at=at, input_tokens=1000, output_tokens=0), make.call(acme, started_at=at, output_tokens=300))
    late = UsageHour.objects.aggregate(cost=Sum("cost"))["cost"] - before
    with CaptureQueriesContext(connection) as asked:
        second, _ = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    assert sum("FROM event e" in query["sql"] for query in asked) == 1  # a month may have millions of them
    wrong = PriceEntry.objects.get(token_class="output")
    corrected = prices.correct_price(
        provider="openai",
        model="small-chat",
        token_class="output",
        price=Decimal(5),
        valid_from=wrong.valid_from,
        actor=fay,
        source="Contract",
    )
    prices.reprice(entry=corrected)
    third, _ = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))

    steps = [
        reconciliation_selectors.restatement(compared.reconciliation, *pair)
        for pair in ((compared, second), (second, third), (compared, third))
    ]

    assert [(one.late_calls, one.late, one.valued_anew == 0) for one in steps] == [(2, late, True), (0, 0, False), (2, late, False)]
    assert {(one.day, one.token_class): one.late for one in steps[0].lines} == {
        (at.date(), "input"): Decimal("0.002"),
        (at.date(), "output"): Decimal("0.0012"),
    }
    page = client_for(fay).get(f"{PAGE}changes/?revision=2").content.decode()
    assert "2 came after revision 1 was made" in page
    answer = api_for(fay).get(f"{API}changes/?revision=3&against=1").json()
    assert (answer["late_calls"], Decimal(answer["late"]), sum(Decimal(line["late"]) for line in answer["lines"])) == (2, late, late)


def test_late_calls_of_every_kind_are_what_the_sums_of_their_day_gained(acme: Tenant, compared: Revision, alice: User) -> None:
    make.price(alice, "audio_input", "40")
    at = datetime(2026, 10, 7, 12, tzinfo=UTC)

    def sums() -> dict[tuple[str, str], list[Decimal]]:
        rows = TokenDay.objects.filter(provider="openai", day=at.date()).values_list("model", "token_class", "tokens", "cost")
        return {(model, token_class): [Decimal(tokens), cost] for model, token_class, tokens, cost in rows}

    before = sums()
    heard = {"input_tokens": 1000, "units": {"audio_input": 300}}
    make.record(acme, *(make.call(acme, started_at=at, **fields) for fields in ({}, {}, heard, heard, {"cached_input_tokens": 100})))
    make.record(acme, make.call(acme, started_at=at, model="new-model"), make.call(acme, started_at=at, **make.REFUSED))

    revision, _ = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))

    gained = {key: [now - was for now, was in zip(sums()[key], before.get(key, [Decimal(), Decimal()]), strict=True)] for key in sums()}
    lines = revision.lines.filter(day=at.date())
    assert {(line.model, line.token_class): [Decimal(line.late_tokens), line.late] for line in lines} == gained
    assert revision.late_calls == 6  # refused ones reached no provider
    assert gained["small-chat", "audio_input"][0] == 600
