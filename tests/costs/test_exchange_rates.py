"""Exchange rates: read exactly, held by four eyes, unknown rather than old, and fetched from reference rates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from hypothesis import given
from hypothesis import strategies as st

from costs import exchange, exchange_selectors, tasks
from costs.errors import ExchangeRateError, ExchangeRateStateError
from costs.models import ExchangeRate, RateSheet
from costs.services import exchange_rates
from governance.models import AuditEntry, Notice, Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor

PAGE = "/o/acme/operate/costs/exchange-rates/"
API = "/api/v1/exchange-rates/"
AT = datetime(2026, 11, 20, 9, tzinfo=UTC)
MONDAY = date(2026, 11, 16)
HEADER = "day,currency,per_usd\n"
REFERENCE = b"""<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
<gesmes:subject>Reference rates</gesmes:subject><gesmes:Sender><gesmes:name>European Central Bank</gesmes:name></gesmes:Sender>
<Cube><Cube time='2026-11-19'><Cube currency='USD' rate='1.25'/><Cube currency='GBP' rate='0.85'/><Cube currency='JPY' rate='170.10'/></Cube>
<Cube time='2026-11-18'><Cube currency='GBP' rate='0.85'/></Cube></Cube></gesmes:Envelope>"""


def rate(per_usd: str = "0.92", currency: str = "EUR", day: date = MONDAY) -> exchange.Rate:
    return exchange.Rate(currency, day, Decimal(per_usd))


def held(fay: User, alice: User, *rates: exchange.Rate) -> RateSheet:
    sheet = exchange_rates.propose_rates(rates=rates or [rate()], source="Bank", actor=fay, at=AT)
    return exchange_rates.approve_rates(sheet=sheet, actor=alice, at=AT)


@given(st.sets(st.integers(0, 40), max_size=12), st.integers(0, 60))
def test_day_has_the_last_rate_of_the_week_before_it_and_else_none(days: set[int], asked: int) -> None:
    known = exchange.Rates(rate(str(n + 1), day=MONDAY + timedelta(days=n)) for n in days)

    found = known.of("EUR", MONDAY + timedelta(days=asked))

    near = [n for n in days if asked - 7 <= n <= asked]
    assert (None if found is None else found.per_usd) == (Decimal(max(near) + 1) if near else None)
    assert known.of("GBP", MONDAY) is None
    assert known.of("USD", MONDAY) == exchange.Rate("USD", MONDAY, Decimal(1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("2026-11-16,EUR,dear", "line 2: dear is no rate"),
        ("soon,EUR,1", "soon is no day"),
        ("2026-11-16,EUR,0", "more than 0"),
        ("2026-11-16,EUR,NaN", "more than 0"),
        ("2026-11-16,USD,1", "USD needs no rate"),
        ("2026-11-16,TOKENS,1", "no currency of ISO 4217"),
        ("2026-12-24,EUR,1", "to today"),
        ("2026-11-16,EUR,1\n2026-11-16,eur,2", "line 3: stands twice"),
        ("", "no row"),
    ],
)
def test_one_wrong_row_and_nothing_is_taken(rows: str, message: str) -> None:
    with pytest.raises(ExchangeRateError, match=message):
        exchange.read((HEADER + rows).encode(), AT.date())


def test_reference_rates_are_turned_into_rates_of_the_dollar() -> None:
    found = exchange.read_reference(REFERENCE)

    day = date(2026, 11, 19)  # the day before names no dollar
    assert found == [rate("0.8", "EUR", day), rate("0.68", "GBP", day), rate("136.08", "JPY", day)]
    for content, message in ((b"<html/>", "no rate of the dollar"), (b"{}", "not the reference rates"), (b"<!DOCTYPE x><x/>", "entities")):
        with pytest.raises(ExchangeRateError, match=message):
            exchange.read_reference(content)


def test_rate_holds_once_a_second_person_approves_it_and_a_later_one_takes_its_place(acme: Tenant, fay: User, alice: User) -> None:
    sheet = exchange_rates.propose_rates(rates=[rate(), rate("0.79", "GBP")], source="Bank", actor=fay, at=AT)
    assert exchange_selectors.rate_of("EUR", MONDAY) is None
    with pytest.raises(ExchangeRateStateError, match="their own"):
        exchange_rates.approve_rates(sheet=sheet, actor=fay)
    with pytest.raises(ExchangeRateStateError, match="Say why"):
        exchange_rates.reject_rates(sheet=sheet, actor=alice)
    exchange_rates.approve_rates(sheet=sheet, actor=alice, at=AT)

    later = exchange_rates.propose_rates(rates=[rate("0.93"), rate("0.79", "GBP")], source="Bank", actor=fay, at=AT)
    exchange_rates.approve_rates(sheet=later, actor=alice, at=AT)

    assert (later.count, later.unchanged) == (1, 1)
    assert exchange_selectors.rate_of("EUR", MONDAY + timedelta(days=7)) == rate("0.93")
    assert [one.per_usd for one in ExchangeRate.objects.filter(currency="EUR", replaced_at=AT)] == [Decimal("0.92")]
    with pytest.raises(ExchangeRateError, match="hold already"):
        exchange_rates.propose_rates(rates=[rate("0.93")], source="Bank", actor=fay, at=AT)
    with pytest.raises(ExchangeRateStateError, match="approved already"):
        exchange_rates.approve_rates(sheet=later, actor=alice)
    assert Notice.objects.filter(topic="exchange_rates.proposed").count() == 2
    events = AuditEntry.objects.filter(event__startswith="exchange_rates.").order_by("pk").values_list("event", flat=True)
    assert list(events) == ["exchange_rates.proposed", "exchange_rates.approved"] * 2


@pytest.fixture
def bank(settings: Any) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.startswith("/daily.xml") else 503)
            self.send_header("Content-Length", str(len(REFERENCE)))
            self.end_headers()
            self.wfile.write(REFERENCE)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    settings.EXCHANGE_RATES_URL = f"http://127.0.0.1:{server.server_port}/daily.xml"
    settings.OUTBOUND_ALLOW = ["127.0.0.1"]
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


def test_reference_rates_hold_at_once_but_not_over_what_people_entered(
    acme: Tenant, fay: User, alice: User, client_for: ClientFor, bank: None, settings: Any, caplog: Any
) -> None:
    settings.EXCHANGE_RATES_URL += "?token=secret"
    held(fay, alice, rate("0.81", day=date(2026, 11, 19)))

    rates = exchange_rates.fetch_reference(at=AT)
    sheet = exchange_rates.take_reference(rates=rates, at=AT)

    assert sheet is not None
    assert (sheet.kind, sheet.status, sheet.currencies, sheet.proposed_by) == ("feed", "approved", ["GBP", "JPY"], None)
    assert exchange_selectors.rate_of("EUR", AT.date()) == rate("0.81", day=date(2026, 11, 19))
    assert exchange_rates.take_reference(rates=rates, at=AT) is None
    # Whoever may see rates sees whose they are, and not how the operator reads them.
    assert sheet.source == "ECB reference rates, 127.0.0.1"
    assert "secret" not in client_for(fay).get(PAGE).content.decode()
    settings.EXCHANGE_RATES_URL = settings.EXCHANGE_RATES_URL.replace("daily", "gone")
    tasks.dispatch_exchange_rates()
    enter_tenant(acme)
    assert "exchange_rates.failed" in caplog.text
    failed = next(record for record in caplog.records if record.message == "exchange_rates.failed")
    assert failed.error == "The reference rates could not be fetched: 127.0.0.1 answered 503."
    tasks.take_exchange_rates(rates=[["CHF", "2026-11-19", "0.8"]], schema_name=acme.schema_name)
    enter_tenant(acme)
    assert exchange_selectors.rate_of("CHF", AT.date()) == rate("0.8", "CHF", date(2026, 11, 19))


def test_page(acme: Tenant, fay: User, alice: User, client_for: ClientFor, django_assert_max_num_queries: Any) -> None:
    page = client_for(fay)
    empty = page.get(PAGE).content.decode()
    page.post(f"{PAGE}new/", {"currency": "eur", "day": "2026-11-16", "per_usd": "0.92", "source": "Bank"})
    wrong = page.post(f"{PAGE}new/", {"currency": "XYZ", "day": "2026-11-16", "per_usd": "0.92", "source": "Bank"})
    file = SimpleUploadedFile("rates.csv", f"{HEADER}2026-11-17,EUR,9.2\n2026-11-17,GBP,0.79\n".encode())
    page.post(f"{PAGE}upload/", {"file": file, "source": "Bank"})
    first, second = RateSheet.objects.order_by("pk")
    client_for(alice).post(f"{PAGE}{first.pk}/decide/", {"act": "approve"})
    with django_assert_max_num_queries(24):
        waiting = client_for(alice).get(PAGE).content.decode()
    client_for(alice).post(f"{PAGE}{second.pk}/decide/", {"act": "reject", "reason": "Dollars per euro"})
    narrowed = page.get(f"{PAGE}?currency=EUR&month=2026-11").content.decode()

    assert "No exchange rate yet" in empty
    assert (wrong.status_code, "no currency of ISO 4217" in wrong.content.decode()) == (422, True)
    assert "+900.00%" in waiting
    assert "Nov 16, 2026" in narrowed
    assert "Nov 17, 2026" not in narrowed
    assert "No rate matches" in page.get(f"{PAGE}?currency=CHF&month=2026-13").content.decode()
    assert page.get(f"{PAGE}csv/").getvalue().decode().splitlines()[1].startswith("2026-11-16,EUR,0.92")
    second.refresh_from_db()
    assert (second.status, second.reason) == ("rejected", "Dollars per euro")
    assert page.post(f"{PAGE}{second.pk}/decide/", {"act": "sell"}).status_code == 404


def test_api(acme: Tenant, fay: User, alice: User, api_for: ClientFor) -> None:
    rates = [{"currency": "EUR", "day": "2026-11-16", "per_usd": "0.92"}]
    body = {"source": "Bank", "rates": rates}
    made = api_for(fay).post(f"{API}sheets/", body, content_type="application/json")
    own = api_for(fay).post(f"{API}sheets/{made.json()['id']}/approve/")
    agreed = api_for(alice).post(f"{API}sheets/{made.json()['id']}/approve/")
    twice = api_for(fay).post(f"{API}sheets/", {**body, "rates": rates * 2}, content_type="application/json")

    assert (made.status_code, own.status_code, own.json()["code"], agreed.json()["status"]) == (201, 409, "exchange_rate_state", "approved")
    assert twice.status_code == 400
    assert api_for(fay).get(f"{API}?currency=EUR").json()["results"] == [
        {"currency": "EUR", "day": "2026-11-16", "per_usd": "0.92", "source": "Bank", "sheet": made.json()["id"]}
    ]
    assert api_for(fay).get(f"{API}sheets/?status=waiting").json()["results"] == []
