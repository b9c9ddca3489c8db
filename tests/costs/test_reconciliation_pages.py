"""Uploading a bill and reading why it differs."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command

from costs import bill_selectors, generator, parquet, tasks
from costs.models import BillError, BillFile, BillRow, Inbox, Reconciliation, Revision
from costs.services import bills, reconciliation, signoff
from governance.models import Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor
from tests.factories import costs as make

LIST = "/o/acme/operate/costs/reconciliation/"
PAGE = "/o/acme/operate/costs/reconciliation/openai/prod%20eu/2026-10/"


def upload(content: bytes, name: str = "october.csv") -> dict[str, object]:
    return {"file": SimpleUploadedFile(name, content, content_type="text/csv"), "provider": "openai"}


def test_upload_leads_to_what_became_of_the_rows(acme: Tenant, client_for: ClientFor, made: generator.Generated, fay: User) -> None:
    client = client_for(fay)

    first = client.post(f"{LIST}upload/", upload(generator.to_csv(made.rows) + b"cut off"), follow=True)
    again = client.post(f"{LIST}upload/", upload(generator.to_csv(made.rows) + b"cut off", "copy.csv"), follow=True)
    bill = BillFile.objects.get()
    errors = client.get(f"{LIST}bills/{bill.pk}/errors/").getvalue().decode().splitlines()
    enter_tenant(acme)
    BillError.objects.bulk_create(BillError(file=bill, line=10_000 + n, message="odd") for n in range(60))
    pages = [client.get(f"{LIST}bills/{bill.pk}/").context["page"]]
    pages.append(client.get(f"{LIST}bills/{bill.pk}/?cursor={pages[0].next_cursor}", headers={"HX-Request": "true"}).context["page"])

    assert [len(page.rows) for page in pages] == [50, 11]
    assert f"{len(made.rows):,} accepted" in first.content.decode()
    assert "Nothing was changed" in again.content.decode()
    assert errors[0] == "part,line,state,column,message,row"
    assert errors[1].endswith("cut off")


def test_file_that_is_no_bill_comes_back_with_the_reason(acme: Tenant, client_for: ClientFor, made: generator.Generated, fay: User) -> None:
    answer = client_for(fay).post(f"{LIST}upload/", upload(b"name;age\n1;2"))

    assert answer.status_code == 422
    assert "separated by semicolons" in answer.content.decode()
    assert not BillFile.objects.exists()


def test_upload_by_script_comes_back_as_its_form_or_leads_to_the_bill(
    acme: Tenant, client_for: ClientFor, made: generator.Generated, fay: User
) -> None:
    client, by_script = client_for(fay), {"HX-Request": "true"}

    refused = client.post(f"{LIST}upload/", {**upload(b"name;age\n1;2"), "style": "append"}, headers=by_script)
    taken = client.post(f"{LIST}upload/", {**upload(generator.to_csv(made.rows)), "import_id": "0" * 16}, headers=by_script)

    html = refused.content.decode()
    assert (refused.status_code, html.strip().startswith("<form"), "separated by semicolons" in html) == (422, True, True)
    assert 'value="append" selected' in html
    assert 'hx-preserve="true"' in html, "the files that were chosen would be lost"
    assert taken.headers["HX-Redirect"] == f"{LIST}bills/{BillFile.objects.get().pk}/"


def test_imports_are_a_part_of_the_page(acme: Tenant, client_for: ClientFor, audra: User, bob: User) -> None:
    stop = f"{LIST}imports/{'0' * 16}/stop/"

    ended = client_for(audra).get(f"{LIST}imports/", headers={"HX-Request": "true"})
    again = [client_for(audra).get(f"{LIST}{query}", headers={"HX-Request": "true"}).content.decode() for query in ("", "?files=1")]

    assert (ended.headers["HX-Trigger"], "HX-Refresh" in ended.headers, "data-poll" in ended.content.decode()) == (
        '{"imports-ended": {}}', False, False,
    )  # fmt: skip
    assert ['id="reconciliations"' in html for html in again] == [True, False]
    assert ['id="bill-files"' in html for html in again] == [False, True]
    assert client_for(audra).get(f"{LIST}imports/").headers["Location"] == LIST
    assert [client_for(user).get(f"{LIST}imports/").status_code for user in (bob, None)] == [403, 302]
    assert [client_for(user).post(stop).status_code for user in (audra, bob)] == [403, 403]


def test_only_who_manages_costs_uploads(acme: Tenant, client_for: ClientFor, audra: User, bob: User, charlie: User) -> None:
    assert [client_for(user).post(f"{LIST}upload/", upload(b"x")).status_code for user in (audra, bob, charlie)] == [403, 403, 404]


def test_page_explains_the_difference_to_the_cent(
    acme: Tenant, client_for: ClientFor, compared: Revision, made: generator.Generated, audra: User
) -> None:
    page = client_for(audra).get(PAGE)

    cells, html = page.context["cells"], page.content.decode()
    assert cells["bill"] - cells["telemetry"] == cells["variance"] == sum(row.cents for row in page.context["rows"])
    assert {row.cause: row.exact for row in page.context["rows"]} == made.truth
    assert cells["unexplained"] == 0
    assert "To the cent" in html
    assert "Credits" in html
    assert "Compare again" not in html


@pytest.mark.parametrize("path", ["?by=day", "?revision=1", "csv/"])
def test_other_views_of_a_revision(path: str, acme: Tenant, client_for: ClientFor, compared: Revision, fay: User) -> None:
    assert client_for(fay).get(f"{PAGE}{path}").status_code == 200


@pytest.mark.parametrize("path", ["?revision=9", "?revision=x", "?revision=99999999999999"])
def test_revision_that_does_not_exist(path: str, acme: Tenant, client_for: ClientFor, compared: Revision, fay: User) -> None:
    assert client_for(fay).get(f"{PAGE}{path}").status_code == 404


def test_csv_has_every_line_and_sums_to_the_difference(acme: Tenant, client_for: ClientFor, compared: Revision, fay: User) -> None:
    lines = client_for(fay).get(f"{PAGE}csv/").getvalue().decode().splitlines()

    header = lines[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]
    causes = sum(
        Decimal(row[name] or 0) for row in rows for name in header if name.endswith("_usd") and name not in ("bill_usd", "telemetry_usd")
    )
    assert causes == sum(Decimal(row["bill_usd"]) - Decimal(row["telemetry_usd"]) for row in rows) == compared.variance


def test_parquet_has_the_same_lines_typed(acme: Tenant, client_for: ClientFor, compared: Revision, fay: User, tmp_path: Path) -> None:
    client = client_for(fay)
    text = client.get(f"{PAGE}csv/").getvalue().decode().splitlines()
    made = tmp_path / "lines.parquet"
    made.write_bytes(client.get(f"{PAGE}parquet/").getvalue())

    names = [row[0] for row in parquet.read(made, "SELECT column_name FROM (DESCRIBE SELECT * FROM made)")]
    [[count, bill, ours, kind]] = parquet.read(
        made, "SELECT count(*), sum(bill_usd), sum(telemetry_usd), any_value(typeof(day_utc)) FROM made"
    )

    assert names == text[0].split(",")
    assert (count, bill, ours, kind) == (len(text) - 1, compared.bill, compared.telemetry, "DATE")
    assert len(client.get(f"{PAGE}parquet/?standing=matched").getvalue()) < len(made.read_bytes())


def test_compare_again_says_whether_anything_changed(
    acme: Tenant, client_for: ClientFor, compared: Revision, made: generator.Generated, fay: User
) -> None:
    client = client_for(fay)
    same = client.post(f"{PAGE}run/", follow=True).content.decode()
    bills.import_bill(file=io.BytesIO(generator.to_csv(made.late_rows)), name="late.csv", actor=fay)

    changed = client.post(f"{PAGE}run/", follow=True).content.decode()

    assert "Nothing changed since revision 1" in same
    assert "Revision 2 is new" in changed
    assert Revision.objects.count() == 2


def test_far_apart_shows_the_banner_on_spend(acme: Tenant, client_for: ClientFor, made: generator.Generated, fay: User) -> None:
    month = date.today().replace(day=1)  # noqa: DTZ011  # the page's own period
    recent = [
        {name: value.replace("2026-10", f"{month:%Y-%m}") if "Period" in name else value for name, value in row.items()}
        for row in made.rows[:2]
    ]
    recent = [
        {**row, "BillingPeriodEnd": f"{month.year + 1}-01-01", "ChargePeriodStart": f"{month}", "ChargePeriodEnd": f"{month}T12:00:00Z"}
        for row in recent
    ]
    bills.import_bill(file=io.BytesIO(generator.to_csv(recent)), name="recent.csv", actor=fay, provider="openai")
    reconciliation.reconcile(provider="openai", month=month)

    page, client = "/o/acme/operate/costs/", client_for(fay)
    html = client.get(page).content.decode()
    others = [client.get(f"{page}?{query}").content.decode() for query in ("period=last-month&compare=none", "provider=elsewhere")]
    named = client.get(f"{page}?provider=openai").content.decode()

    assert "Estimates may vary" in html
    assert "the bill is provisional" in html
    assert "Estimates may vary" in named
    assert ["Estimates may vary" in other for other in others] == [False, False], "of another month or provider"


def test_bill_that_does_not_reach_the_end_of_its_month_is_labelled(
    acme: Tenant, client_for: ClientFor, compared: Revision, fay: User
) -> None:
    client, bill = client_for(fay), BillFile.objects.get()
    pages = (LIST, PAGE, f"{LIST}bills/{bill.pk}/")

    whole = [client.get(page).content.decode() for page in pages]
    Revision.objects.update(complete_through=datetime(2026, 10, 21, tzinfo=UTC))
    provisional = [client.get(page).content.decode() for page in pages]

    assert ["Provisional" in html for html in whole] == [False, False, False]
    assert ["complete through Oct 21, 2026 00:00 UTC" in html for html in provisional] == [True, True, True]


def test_months_and_files_are_found_by_provider_account_and_state(
    acme: Tenant, client_for: ClientFor, api_for: ClientFor, compared: Revision, fay: User, alice: User
) -> None:
    client, api, bill = client_for(fay), api_for(fay), BillFile.objects.get()
    asked = ("", "?q=OPEN", "?q=prod eu", "?q=elsewhere", "?month=2026-10", "?month=2026-09", "?show=open")
    files = ("", "?q=octo", "?q=prod eu", f"?q={bill.sha256[:9]}", "?q=elsewhere", "?state=applied", "?state=waiting")

    def found(where: str, query: str) -> int:
        return len(client.get(f"{where}{query}").context["page"].rows)

    assert [found(LIST, query) for query in asked] == [1, 1, 1, 0, 1, 0, 1]
    assert [len(api.get(f"/api/v1/reconciliations/{query}").json()["results"]) for query in asked] == [1, 1, 1, 0, 1, 0, 1]
    assert [found(f"{LIST}bills/", query) for query in files] == [1, 1, 1, 1, 0, 1, 0]
    assert [len(api.get(f"/api/v1/bills/{query}").json()["results"]) for query in files] == [1, 1, 1, 1, 0, 1, 0]
    assert found(LIST, "?month=nonsense") == 0
    assert "Clear all filters" in client.get(f"{LIST}?q=elsewhere").content.decode()

    for person in (fay, alice):
        signoff.sign(revision=compared, digest=compared.digest, comment="Agreed", actor=person)
    assert found(LIST, "?show=open") == 0


def test_list_costs_few_queries(
    acme: Tenant, client_for: ClientFor, compared: Revision, fay: User, django_assert_max_num_queries: Any
) -> None:
    client = client_for(fay)
    client.get(LIST)
    for number in range(3):
        series = Reconciliation.objects.create(provider="other", account=f"a{number}", month=date(2026, 9, 1))
        compared.pk, compared.reconciliation = None, series
        compared.save()
        Reconciliation.objects.filter(pk=series.pk).update(latest=compared)

    with django_assert_max_num_queries(19):
        page = client.get(LIST).context["page"]

    assert len(page.rows) == 4


def test_first_line_says_how_bills_stand(acme: Tenant, client_for: ClientFor, compared: Revision, fay: User) -> None:
    october = date(2026, 10, 1)
    whole = bill_selectors.standing(october, date(2026, 11, 22))
    during = bill_selectors.standing(october, date(2026, 10, 31))
    Revision.objects.update(bill=compared.telemetry * 2)
    apart = bill_selectors.standing(october, date(2026, 11, 22))
    Reconciliation.objects.update(missing_rates=[{"currency": "EUR", "first": "2026-10-01", "last": "2026-10-01"}])
    waiting = bill_selectors.standing(october, date(2026, 11, 22))

    assert (whole.compared, whole.to_sign, during.to_sign) == (1, 1, 0)
    assert (apart.within, apart.doubtful, apart.compared) == (0, 1, 1)
    assert (waiting.compared, waiting.missing_rates) == (0, 1)
    assert "without a rate" in client_for(fay).get(LIST).content.decode()


def test_bill_of_several_accounts_says_what_each_is_billed(
    acme: Tenant, client_for: ClientFor, api_for: ClientFor, compared: Revision, made: generator.Generated, fay: User
) -> None:
    rows = [{**row, "BillingAccountId": "second"} for row in made.rows[:2]] + [
        {**made.rows[0], "BillingAccountId": "third", "BilledCost": "70"}
    ]
    bills.import_bill(file=io.BytesIO(generator.to_csv(rows)), name="others.csv", actor=fay, provider="openai")
    together = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))[0]
    page = f"{LIST}openai/all-accounts/2026-10/"

    shown = client_for(fay).get(f"{page}?by=account")
    alone = client_for(fay).get(f"{PAGE}?by=account")
    told = api_for(fay).get("/api/v1/reconciliations/openai/all-accounts/2026-10/accounts/").json()

    accounts = shown.context["accounts"]
    assert [one.account for one in accounts] == ["third", "prod eu", "second"]
    assert sum(one.bill for one in accounts) == together.bill
    assert sum(one.percent for one in accounts) == pytest.approx(100)
    assert [Decimal(one["bill"]) for one in told] == [one.bill for one in accounts]
    assert "third" in shown.content.decode()
    assert alone.context["by"] == "model", "of one account there is nothing to tell apart"


def test_page_of_a_file_waits_for_its_comparison(acme: Tenant, client_for: ClientFor, made: generator.Generated, fay: User) -> None:
    bill = bills.import_bill(file=io.BytesIO(generator.to_csv(made.rows)), name="october.csv", actor=fay, provider="openai").file
    client, page = client_for(fay), f"{LIST}bills/{bill.pk}/"

    waits = client.get(page).content.decode()
    reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    fragment = client.get(f"{page}?compared=1", headers={"HX-Request": "true"}).content.decode()
    Revision.objects.update(created_at=bill.uploaded_at - timedelta(days=1))
    BillFile.objects.update(applied_at=bill.uploaded_at - timedelta(minutes=3))
    later = client.get(page).content.decode()

    assert ["it is compared now" in html for html in (waits, fragment, later)] == [True, False, False]
    assert ('data-poll="2"' in waits, 'data-poll="2"' in fragment) == (True, False)
    assert fragment.strip().startswith('<div class="gh-list" id="bill-compared"')
    assert '<span id="compared-told" hx-swap-oob="innerHTML">it is compared</span>' in fragment
    assert "Within 2%" in fragment or "May vary" in fragment


def test_poll_of_a_file_goes_on_until_all_its_months_are_compared_and_reads_no_more(
    acme: Tenant, client_for: ClientFor, made: generator.Generated, fay: User, django_assert_max_num_queries: Any
) -> None:
    earlier = {name: value.replace("2026-10-", "2026-09-").replace("2026-11-01", "2026-10-01") for name, value in made.rows[0].items()}
    file = io.BytesIO(generator.to_csv([earlier, *made.rows]))
    bill = bills.import_bill(file=file, name="both.csv", actor=fay, provider="openai").file
    client = client_for(fay)

    def poll() -> str:
        with django_assert_max_num_queries(13):
            return str(client.get(f"{LIST}bills/{bill.pk}/?compared=1", headers={"HX-Request": "true"}).content.decode())

    reconciliation.reconcile(provider="openai", month=date(2026, 9, 1))
    first = poll()
    reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    both = poll()

    assert ("September 2026" in first, 'data-poll="2"' in first) == (True, True)
    assert ("October 2026" in both, 'data-poll="2"' in both) == (True, False)


def test_rows_not_taken_are_counted_by_column(acme: Tenant, client_for: ClientFor, made: generator.Generated, fay: User) -> None:
    rows = [{**row, "BilledCost": "a lot" if n < 3 else "much"} for n, row in enumerate(made.rows[:5])]
    held = [{**made.rows[5], "BillingCurrency": "CREDITS"}]
    content = generator.to_csv([*rows, *held, *made.rows[6:]])
    bill = bills.import_bill(file=io.BytesIO(content), name="october.csv", actor=fay, provider="openai").file

    page = client_for(fay).get(f"{LIST}bills/{bill.pk}/?column=BillingCurrency")

    found = [(one.column, one.is_quarantined, one.rows) for one in page.context["reasons"]]
    assert found == [("BilledCost", False, 5), ("BillingCurrency", True, 1)]
    assert [error.column for error in page.context["page"].rows] == ["BillingCurrency"]


def test_model_is_assigned_from_the_page(
    acme: Tenant, client_for: ClientFor, compared: Revision, made: generator.Generated, fay: User
) -> None:
    rows = [{name: value.replace("gpt-small", "gpt-tiny") for name, value in row.items()} for row in made.late_rows]
    bills.import_bill(file=io.BytesIO(generator.to_csv(rows)), name="renamed.csv", actor=fay)
    reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))

    before = client_for(fay).get(PAGE).context["unknown_models"]
    client_for(fay).post(f"{PAGE}assign/", {"theirs": "gpt-tiny", "ours": "small-chat"})

    assert before == ["gpt-tiny"]
    assert not BillRow.objects.filter(model="gpt-tiny").exists()


def test_scheduled_task_compares_recent_months_again(acme: Tenant, compared: Revision, made: generator.Generated, fay: User) -> None:
    bills.import_bill(file=io.BytesIO(generator.to_csv(made.late_rows)), name="late.csv", actor=fay)

    tasks.reconcile_recent(schema_name=acme.schema_name)
    tasks.reconcile_recent(schema_name=acme.schema_name)

    enter_tenant(acme)
    assert Revision.objects.count() == 2


def test_task_for_a_month_without_a_bill_is_harmless(acme: Tenant) -> None:
    tasks.reconcile(provider="nobody", month="2026-10-01", schema_name=acme.schema_name)

    enter_tenant(acme)
    assert not Revision.objects.exists()


def test_command_writes_a_bill_its_telemetry_and_the_truth(
    acme: Tenant, alice: User, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make.deployment(alice)
    make.prices(alice)

    call_command(
        "generate_bill",
        "--tenant",
        "acme",
        "--provider",
        "openai",
        "--month",
        "2026-09",
        "--missing",
        "2",
        "--late-days",
        "1",
        "--out",
        str(tmp_path),
        "--deliver",
    )

    enter_tenant(acme)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert set(truth["first"]) == {"missing_calls", "telemetry_only"}
    assert set(truth["complete"]) == {"missing_calls"}
    assert Inbox.objects.filter(tenant=acme.public_id).count() == 24 * 30 - 2
    assert (tmp_path / "bill.csv").read_text().startswith("BilledCost,")
    assert "718 delivered" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tenant", "nobody", "--provider", "x"],
        ["--tenant", "acme", "--provider", "nobody"],
        ["--tenant", "acme", "--provider", "x", "--month", "October"],
    ],
)
def test_command_says_what_is_wrong(arguments: list[str], acme: Tenant, tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        call_command("generate_bill", *arguments, "--out", str(tmp_path))
