"""Cost APIs: every page, each amount exact and once, restated days as corrections, and a key that never comes back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connections
from django.db.models import Sum

from costs import tasks
from costs.errors import BillSourceError, CostApiError
from costs.models import BillFile, BillRow, BillSource
from costs.services import bill_sources, bills, reconciliation
from governance.models import AuditEntry, Notice, Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor
from tests.factories import costs as make

AT = datetime(2026, 11, 20, 9, tzinfo=UTC)
FIRST = date(2026, 11, 16)
DAYS = [FIRST + timedelta(days=n) for n in range(4)]
PAGE = "/o/acme/operate/costs/reconciliation/sources/"
API = "/api/v1/bills/sources/"
KEY = "sk-admin-secret"
NOVEMBER = date(2026, 11, 1)
TWICE = "Use one of both"
AWS = {"access_key_id": "a", "secret_access_key": "b"}
LATER = datetime(2026, 12, 5, tzinfo=UTC)


class Provider:
    """Both cost APIs, two days to a page; what it says can be changed, and what it was asked is kept."""

    def __init__(self) -> None:
        self.amounts: dict[date, list[dict[str, Any]]] = {}
        self.status, self.asked = 200, list[tuple[str, dict[str, list[str]], dict[str, str]]]()
        self.breaks_at_page = -1
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = parse_qs(url.query)
                provider.asked.append((url.path, query, {name.lower(): value for name, value in self.headers.items()}))
                page = int(query.get("page", ["0"])[0])
                status = 503 if page == provider.breaks_at_page else provider.status
                body = provider.page(url.path, query, page).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def page(self, path: str, query: dict[str, list[str]], page: int) -> str:
        is_openai = path == "/v1/organization/costs"
        if is_openai:
            first, end = (datetime.fromtimestamp(int(query[name][0]), UTC).date() for name in ("start_time", "end_time"))
        else:
            first, end = (datetime.fromisoformat(query[name][0]).date() for name in ("starting_at", "ending_at"))
        days = [day for day in sorted(self.amounts) if first <= day < end]
        shown, more = days[2 * page : 2 * page + 2], len(days) > 2 * page + 2
        data = []
        for day in shown:
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            times = {"start_time": int(start.timestamp())} if is_openai else {"starting_at": f"{day}T00:00:00Z"}
            data.append({**times, "results": self.amounts[day]})
        # Amounts of OpenAI are JSON numbers with all their digits.
        return (
            json.dumps({"data": data, "has_more": more, "next_page": str(page + 1) if more else None}).replace('"#', "").replace('#"', "")
        )


@pytest.fixture
def provider() -> Iterator[Provider]:
    running = Provider()
    yield running
    running.server.shutdown()
    running.server.server_close()


def openai(item: str, amount: str, project: str = "proj_a") -> dict[str, Any]:
    return {"amount": {"value": f"#{amount}#", "currency": "usd"}, "line_item": item, "project_id": project}


def anthropic(token_type: str | None, cents: str, text: str = "Claude usage") -> dict[str, Any]:
    return {"amount": cents, "currency": "USD", "workspace_id": None, "description": text, "token_type": token_type,
            "model": "gpt-small", "service_tier": "standard", "context_window": "0-200k"}  # fmt: skip


def source(provider: Provider, actor: User, kind: str = "openai") -> BillSource:
    make.deployment(actor)
    return bill_sources.set_source(provider="openai", kind=kind, key=KEY, actor=actor, base_url=provider.url, begins_on=FIRST, at=AT)


def uploaded(user: User, *, kind: str) -> BillFile:
    """A file of one row of November, from another account than that of the API."""
    row = {
        "BilledCost": "1.5", "EffectiveCost": "1.5", "BillingAccountId": "prod", "BillingCurrency": "USD", "ChargeCategory": kind,
        "BillingPeriodStart": "2026-11-01T00:00:00Z", "BillingPeriodEnd": "2026-12-01T00:00:00Z", "ProviderName": "OpenAI",
        "ChargePeriodStart": "2026-11-07T00:00:00Z", "ChargePeriodEnd": "2026-11-08T00:00:00Z", "ConsumedQuantity": "30000",
        "ConsumedUnit": "Tokens", "SkuMeter": "gpt-small Input Tokens", "ServiceSubcategory": "Generative AI", "SkuId": "input",
    }  # fmt: skip
    content = f"{','.join(row)}\n{','.join(row.values())}".encode()
    return bills.import_bill(
        file=io.BytesIO(content), name=f"{kind}.csv", actor=user, provider="openai", style="replacement", at=LATER
    ).file


def money() -> dict[tuple[date | None, str], Decimal]:
    sums = BillRow.objects.values("day", "token_class").annotate(n=Sum("billed_cost"))
    return {(row["day"], row["token_class"]): row["n"].normalize() for row in sums}


def test_openai_costs_come_page_by_page_exact_and_once(acme: Tenant, provider: Provider, fay: User) -> None:
    amount = "0.060000000000000012345"  # one decimal more than a bill may have
    provider.amounts = {
        day: [openai("gpt-small, input", amount), openai("gpt-small, cached input", "0.01"), openai("Images", "2")] for day in DAYS
    }

    first = bill_sources.fetch(source=source(provider, fay), at=AT)
    again = bill_sources.fetch(source=BillSource.objects.get(), at=AT + timedelta(hours=12))

    assert (first.first, first.last, first.rows, again.rows) == (FIRST, date(2026, 11, 19), 12, 0)
    assert money()[FIRST, "input"] == Decimal("0.06000000000000001234")
    assert set(BillRow.objects.values_list("model", "token_class", "kind")) == {
        ("small-chat", "input", "usage"),
        ("small-chat", "cached_input", "usage"),
        ("Images", "", "usage"),
    }
    path, query, headers = provider.asked[0]
    assert (path, query["bucket_width"], query["group_by"]) == ("/v1/organization/costs", ["1d"], ["project_id", "line_item"])
    assert headers["authorization"] == f"Bearer {KEY}"
    assert [asked[1].get("page") for asked in provider.asked[:2]] == [None, ["1"]]
    [file] = BillFile.objects.all()
    assert (file.rows_in, file.rows_accepted, file.rows_rejected) == (12, 12, 0)
    assert reconciliation.reconcile(provider="openai", month=date(2026, 11, 1))[0].bill == file.billed_accepted


@pytest.mark.parametrize(("kind", "path"), [("openai", "/v1/organization/costs"), ("anthropic", "/v1/organizations/cost_report")])
@pytest.mark.parametrize("end", ["/v1", "/v1/"])
def test_address_may_end_as_those_of_providers_do(kind: str, path: str, end: str, acme: Tenant, provider: Provider, fay: User) -> None:
    provider.url += end

    bill_sources.fetch(source=source(provider, fay, kind), at=AT)

    assert provider.asked[0][0] == path


def test_month_from_a_cost_api_and_from_a_file_says_that_it_counts_twice(
    acme: Tenant, provider: Provider, client_for: ClientFor, api_for: ClientFor, fay: User
) -> None:
    provider.amounts = {FIRST: [openai("gpt-small, input", "1")]}
    api = source(provider, fay)
    bill_sources.fetch(source=api, at=AT)
    reconciliation.reconcile(provider="openai", month=NOVEMBER)
    by_account = "/o/acme/operate/costs/reconciliation/openai/openai-cost-api/2026-11/"
    alone = [client_for(fay).get(page).text for page in (PAGE, by_account)]

    uploaded(fay, kind="Tax")
    reconciliation.reconcile(provider="openai", month=NOVEMBER)
    beside_tax = client_for(fay).get(PAGE).text
    file = uploaded(fay, kind="Usage")
    run = api_for(fay).post("/api/v1/reconciliations/", {"provider": "openai", "month": "2026-11"}).json()
    month = client_for(fay).get("/o/acme/operate/costs/reconciliation/openai/all-accounts/2026-11/").text
    sources, bill = client_for(fay).get(PAGE).text, client_for(fay).get(f"/o/acme/operate/costs/reconciliation/bills/{file.pk}/").text
    listed = client_for(fay).get("/o/acme/operate/costs/reconciliation/").text
    told = api_for(fay).get(API).json()["results"][0]["months_counted_twice"]
    folder = bill_sources.set_source(
        provider="openai", kind="s3", bucket="exports", region="eu-central-1", credentials=AWS, actor=fay, begins_on=FIRST, at=AT
    )
    of_folder = client_for(fay).get(f"{PAGE}{folder.pk}/").text
    bills.undo_bill(bill=file, actor=fay, reason="The API says it, too.")
    undone = [client_for(fay).get(page).text for page in (PAGE, by_account)]

    assert [TWICE in page for page in (*alone, beside_tax, *undone)] == [False] * 5
    assert "openai counts twice in Nov 2026." in sources
    assert "openai counts twice in Nov 2026." in of_folder
    assert "This month counts twice." in month
    assert [TWICE in page for page in (sources, of_folder, month)] == [True] * 3
    assert "Counts twice</span>" in bill
    assert "Counts twice</span>" in listed
    assert (run["is_counted_twice"], told) == (True, ["2026-11"])


def test_anthropic_cents_become_dollars_by_token_class(acme: Tenant, provider: Provider, fay: User) -> None:
    kinds = ("uncached_input_tokens", "cache_read_input_tokens", "cache_creation.ephemeral_1h_input_tokens", "output_tokens", None)
    provider.amounts = {day: [anthropic(kind, "123.45678", f"Claude {kind}") for kind in kinds] for day in DAYS[:1]}

    bill_sources.fetch(source=source(provider, fay, "anthropic"), at=AT)

    assert money() == {(FIRST, name): Decimal("1.2345678") for name in ("input", "cached_input", "cache_write_1h", "output", "")}
    path, query, headers = provider.asked[0]
    assert (path, query["group_by[]"]) == ("/v1/organizations/cost_report", ["workspace_id", "description"])
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")


def test_long_keys_and_blanks_tell_lines_apart_and_come_once(acme: Tenant, provider: Provider, fay: User) -> None:
    kinds, text = ("uncached_input_tokens", "output_tokens"), "Claude usage " * 30
    provider.amounts = {FIRST: [*(anthropic(kind, "100", text) for kind in kinds), {**anthropic(None, "100", ""), "context_window": "x "}]}

    first = bill_sources.fetch(source=source(provider, fay, "anthropic"), at=AT)
    again = bill_sources.fetch(source=BillSource.objects.get(), at=AT + timedelta(hours=12))

    assert (first.rows, again.rows) == (3, 0)
    assert money() == {(FIRST, "input"): 1, (FIRST, "output"): 1, (FIRST, ""): 1}


def test_restated_days_become_corrections_however_often(acme: Tenant, provider: Provider, fay: User) -> None:
    made = source(provider, fay)
    for hours, amount in enumerate(("1", "1.50", "1", "1.50")):
        provider.amounts = {DAYS[0]: [openai("gpt-small, input", amount)], DAYS[1]: [openai("gpt-small, output", "3")]}
        bill_sources.fetch(source=made, at=AT + timedelta(hours=hours))
        made.refresh_from_db()
        assert money()[DAYS[0], "input"] == Decimal(amount)
    provider.amounts = {DAYS[0]: []}
    bill_sources.fetch(source=made, at=AT + timedelta(hours=9))

    assert sum(money().values()) == 0
    assert set(BillRow.objects.filter(day=DAYS[0]).order_by("pk").values_list("charge_class", flat=True)[1:]) == {"Correction"}
    assert not BillFile.objects.exclude(rows_duplicate=0).exists()


def test_source_that_begins_earlier_is_read_from_there(acme: Tenant, provider: Provider, fay: User) -> None:
    early = FIRST - timedelta(days=60)
    provider.amounts = {early: [openai("gpt-small, input", "7")], FIRST: [openai("gpt-small, input", "1")]}
    values = {"provider": "openai", "kind": "openai", "key": "", "actor": fay, "base_url": provider.url, "at": AT}
    bill_sources.fetch(source=source(provider, fay), at=AT)

    same = bill_sources.set_source(**values, begins_on=FIRST)  # type: ignore[arg-type]  # a mapping of several
    kept = same.fetched_through
    done = bill_sources.fetch(source=bill_sources.set_source(**values, begins_on=early), at=AT + timedelta(hours=1))  # type: ignore[arg-type]

    assert kept == date(2026, 11, 19)
    assert (done.first, done.rows) == (early, 1)
    assert money() == {(early, "input"): 7, (FIRST, "input"): 1}


def test_older_reading_gives_way_to_what_came_meanwhile(acme: Tenant, provider: Provider, fay: User) -> None:
    provider.amounts = {FIRST: [openai("gpt-small, input", "12")]}
    before = source(provider, fay)
    bill_sources.fetch(source=BillSource.objects.get(), at=AT)
    provider.amounts = {FIRST: [openai("gpt-small, input", "10")]}  # what the first one was told

    late = bill_sources.fetch(source=before, at=AT - timedelta(seconds=1))
    before.refresh_from_db()
    bill_sources.set_source(provider="openai", kind="anthropic", key=KEY, actor=fay, base_url=provider.url, begins_on=FIRST, at=AT)
    with pytest.raises(CostApiError, match="changed or removed"):
        bill_sources.fetch(source=before, at=AT + timedelta(hours=1))
    provider.status = 503
    bill_sources.remove_source(source=before, actor=fay)
    bill_sources.remove_source(source=before, actor=fay)
    with pytest.raises(CostApiError, match="answered 503"):
        bill_sources.fetch(source=before, at=AT + timedelta(hours=1))

    assert late.rows == 0
    assert money() == {(FIRST, "input"): 12}
    events = AuditEntry.objects.filter(event__startswith="bill_source.").order_by("sequence").values_list("event", flat=True)
    assert list(events) == ["bill_source.set", "bill_source.fetched", "bill_source.set", "bill_source.removed"]


def test_reading_that_is_not_whole_takes_nothing_and_is_told_once(
    acme: Tenant, provider: Provider, fay: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.amounts = {day: [openai("gpt-small, input", "1")] for day in DAYS}
    made = source(provider, fay)
    provider.breaks_at_page = 1

    for hour in range(2):
        with monkeypatch.context() as outside:
            outside.setattr(connections["default"], "in_atomic_block", False)  # as in a task or a request
            outside.setattr(connections["default"], "savepoint_ids", [])
            with pytest.raises(CostApiError, match="answered 503"):
                bill_sources.fetch(source=BillSource.objects.get(), at=AT + timedelta(hours=hour))

    made.refresh_from_db()
    assert (made.last_error, made.fetched_through) == ("The provider answered 503.", None)
    assert not BillRow.objects.exists()
    assert Notice.objects.filter(topic="bill.source_failed").count() == 1
    assert bill_sources.due(AT + timedelta(hours=1, minutes=30)) == []
    assert bill_sources.due(AT + timedelta(hours=2)) == [made]


@pytest.mark.parametrize(
    ("results", "status", "message"),
    [
        ([{"amount": {"value": "a lot", "currency": "usd"}}], 200, "another form"),
        ([{"amount": None}], 200, "another form"),
        ([{"amount": {"value": "1", "currency": "us-dollar"}}], 200, "1 of its amounts cannot be taken. The first: BillingCurrency"),
        ([], 401, "admin key"),
    ],
)
def test_answer_that_is_not_as_documented(
    acme: Tenant, provider: Provider, fay: User, results: list[Any], status: int, message: str
) -> None:
    provider.amounts, provider.status = {FIRST: results}, status

    with pytest.raises(CostApiError, match=message) as failed:
        bill_sources.fetch(source=source(provider, fay), at=AT)

    assert KEY not in failed.value.message
    assert BillSource.objects.get().last_error == failed.value.message
    assert not BillFile.objects.exists()


def test_key_is_sealed_and_goes_nowhere_else(acme: Tenant, provider: Provider, fay: User) -> None:
    made = source(provider, fay)
    values = {"provider": "openai", "kind": "openai", "key": "", "actor": fay}

    with pytest.raises(BillSourceError, match="another address"):
        bill_sources.set_source(**values, base_url="https://api.example.com")  # type: ignore[arg-type]  # a mapping of several
    with pytest.raises(BillSourceError) as refused:
        bill_sources.set_source(**{**values, "key": "x"}, base_url="http://169.254.169.254")  # type: ignore[arg-type]

    assert refused.value.field == "base_url"
    assert KEY not in made.sealed_key
    assert KEY not in json.dumps(list(AuditEntry.objects.values_list("details", flat=True)))


def test_schedule_fetches_and_pages_and_api_show_it(
    acme: Tenant, provider: Provider, client_for: ClientFor, api_for: ClientFor, fay: User, audra: User
) -> None:
    make.deployment(fay)
    begins_on = datetime.now(UTC).date() - timedelta(days=3)
    empty = client_for(fay).get(PAGE).content.decode()
    body = {"provider": "openai", "kind": "openai", "key": KEY, "base_url": provider.url, "begins_on": begins_on.isoformat()}
    wrong = client_for(fay).post(f"{PAGE}set/", {**body, "begins_on": "2020-01-01"})
    set_up = client_for(fay).post(f"{PAGE}set/", body, follow=True).content.decode()
    provider.amounts = {begins_on: [openai("gpt-small, input", "1")]}

    tasks.fetch_bills(schema_name=acme.schema_name)

    enter_tenant(acme)
    page = client_for(audra).get(PAGE).content.decode()
    [listed] = api_for(audra).get(API).json()["results"]
    pk = listed["id"]
    assert "No bill is fetched" in empty
    assert (wrong.status_code, "400 days" in wrong.content.decode()) == (422, True)
    assert f"are fetched from {begins_on:%b %-d, %Y}" in set_up
    assert BillRow.objects.get().billed_cost == 1
    assert "Done" in page
    assert KEY not in page + json.dumps(listed)
    assert api_for(fay).post(f"{API}{pk}/fetch/").json()["rows"] == 0
    assert api_for(audra).post(f"{API}{pk}/fetch/").status_code == 403
    assert api_for(fay).post(API, {**body, "key": "new"}, content_type="application/json").status_code == 201
    assert api_for(fay).delete(f"{API}{pk}/").status_code == 204
    assert BillRow.objects.exists()
