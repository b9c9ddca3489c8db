"""What leaves for other dashboards: by the rules of FOCUS, exact, and read back by ourselves without a difference."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Sum

from catalog.models import Project
from costs import export_schema, export_selectors, focus, parquet
from costs.models import Revision, UsageHour
from costs.periods import Period
from costs.services import bills, exports, reconciliation, required_tags
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor
from tests.costs import test_currencies as currencies
from tests.costs import test_quotes as quotes
from tests.factories import costs as make

OCTOBER = Period(date(2026, 10, 1), date(2026, 10, 31))
DAY = datetime(2026, 10, 7, 10, tzinfo=UTC)
DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "costs-export.md"
# Columns that FOCUS 1.2 requires of every data set, and those that it allows with a condition that holds for token usage.
MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost",
    "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory",
    "ServiceName",
}  # fmt: skip
CONDITIONAL = {
    "BillingAccountType", "ChargeFrequency", "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "ConsumedQuantity", "ConsumedUnit", "ContractedUnitPrice", "InvoiceId", "ListUnitPrice",
    "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice",
    "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceSubcategory", "SkuId",
    "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "SubAccountType", "Tags",
}  # fmt: skip


@pytest.fixture
def recorded(acme: Tenant, alice: User) -> None:
    """Two days with every token class, a price change between them, and calls that cost nothing or nobody knows what."""
    make.deployment(alice)
    make.key(alice)
    make.price(alice, "input", "1.00", valid_to=datetime(2026, 10, 8, tzinfo=UTC))
    make.price(alice, "input", "1.37", valid_from=datetime(2026, 10, 8, tzinfo=UTC))
    make.price(alice, "output", "4.00")
    make.price(alice, "cached_input", "0.125")
    at = [{"started_at": DAY + timedelta(days=n, seconds=n)} for n in range(2)]
    make.record(
        acme,
        *(make.call(acme, **when, cached_input_tokens=300, cache_write_tokens=100) for when in at),
        make.call(acme, **at[1], agent=None, project=None, region=None),
        make.call(acme, **at[1], agent='=cmd|"/c calc"!A1'),
        make.call(acme, **at[1], model="nameless"),
        make.call(acme, **at[1], **make.REFUSED),
    )


def rows_of(dataset: str, actor: User, file: str = "csv", **chosen: str) -> list[dict[str, Any]]:
    content = b"".join(exports.export(dataset=dataset, file=file, period=OCTOBER, chosen=chosen, actor=actor)).decode()
    return list(csv.DictReader(io.StringIO(content))) if file == "csv" else [json.loads(line) for line in content.splitlines()]


def test_focus_columns_are_those_of_the_specification() -> None:
    names = [column.name for column in export_schema.FOCUS.columns]

    assert set(names) >= MANDATORY
    assert all(name in MANDATORY | CONDITIONAL or name.startswith("x_") for name in names)
    assert names == sorted(names, key=lambda name: (name.startswith("x_"), name))


def test_every_focus_row_keeps_the_rules(recorded: None, fay: User) -> None:
    rows = rows_of("focus", fay)

    assert rows
    nullable = {column.name for column in export_schema.FOCUS.columns if column.nullable}
    for row in rows:
        assert {name for name, value in row.items() if value == ""} <= nullable
        quantity, price = Decimal(row["PricingQuantity"]), Decimal(row["ListUnitPrice"])
        assert quantity * price == Decimal(row["ListCost"]) == Decimal(row["BilledCost"]) == Decimal(row["EffectiveCost"])
        assert Decimal(row["ContractedUnitPrice"]) * quantity == Decimal(row["ContractedCost"])
        assert quantity * 1_000_000 == Decimal(row["ConsumedQuantity"]) == int(row["ConsumedQuantity"])
        assert (row["ChargeCategory"], row["ChargeClass"], row["ChargeFrequency"], row["PricingCategory"]) == (
            "Usage",
            "",
            "Usage-Based",
            "Standard",
        )
        times = [row[f"{what}Period{end}"] for what in ("Billing", "Charge") for end in ("Start", "End")]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", at) for at in times)
        assert times[0] <= times[2] < times[3] <= times[1]
        assert bool(row["SubAccountId"]) == bool(row["SubAccountName"]) == bool(row["SubAccountType"])
        assert bool(row["ResourceId"]) == bool(row["ResourceName"]) == bool(row["ResourceType"])
        assert all(isinstance(value, str) for value in json.loads(row["Tags"]).values())
        assert all(name.startswith("x_") for name in json.loads(row["SkuPriceDetails"]))


def test_focus_has_a_row_for_each_price_and_class_and_all_the_money(recorded: None, fay: User) -> None:
    rows = rows_of("focus", fay)

    known = sum(hour.cost for hour in UsageHour.objects.all())
    assert sum(Decimal(row["BilledCost"]) for row in rows) == known > 0
    assert {(row["ChargePeriodStart"][:10], row["ListUnitPrice"]) for row in rows if row["x_TokenClass"] == "input"} == {
        ("2026-10-07", "1"),
        ("2026-10-08", "1.37"),
    }
    assert {row["SkuMeter"] for row in rows} == {"Input Tokens", "Cached Input Tokens", "Cache Write Input Tokens", "Output Tokens"}
    assert {row["x_Model"] for row in rows} == {"small-chat"}


def test_own_reader_finds_our_export_equal_to_our_telemetry(recorded: None, acme: Tenant, fay: User) -> None:
    content = b"".join(exports.export(dataset="focus", file="csv", period=OCTOBER, chosen={}, actor=fay))

    done = bills.import_bill(file=io.BytesIO(content), name="export.csv", actor=fay)
    revision, _ = reconciliation.reconcile(provider="openai", month=OCTOBER.first)

    assert (done.file.focus_version, done.file.rows_rejected) == ("1.2", 0)
    assert {cause["cause"] for cause in revision.causes} <= {"unpriced"}
    assert revision.variance == 0
    assert revision.bill == done.file.billed_accepted


def test_usage_tells_free_from_unknown(recorded: None, fay: User) -> None:
    rows = rows_of("usage", fay, "jsonl")

    assert sum(row["calls"] for row in rows) == 6
    assert [row["cost_usd"] for row in rows if row["model"] == "nameless"] == [None]
    assert [row["cost_usd"] for row in rows if row["outcome"] == "refused"] == [0]
    assert [row["agent"] for row in rows if row["project"] is None] == [None]
    assert {row["hour"] for row in rows} == {"2026-10-07T10:00:00Z", "2026-10-08T10:00:00Z"}


def test_parquet_has_the_same_rows_exact_and_typed_and_is_read_back(recorded: None, acme: Tenant, fay: User) -> None:
    content = b"".join(exports.export(dataset="focus", file="parquet", period=OCTOBER, chosen={}, actor=fay))
    lines = rows_of("focus", fay, "jsonl")
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, closing(parquet.connect()) as duck:
        file.write(content)
        file.flush()
        source = f"FROM read_parquet('{file.name}')"
        sums = 'sum("BilledCost"), min("ChargePeriodStart")::TIMESTAMP, sum("ConsumedQuantity")'
        [(money, first, tokens)] = duck.execute(f"SELECT {sums} {source}").fetchall()
        types = {row[0]: row[1] for row in duck.execute(f"DESCRIBE SELECT * {source}").fetchall()}

    assert money == sum(hour.cost for hour in UsageHour.objects.all())
    assert (first, tokens) == (datetime(2026, 10, 7), sum(row["ConsumedQuantity"] for row in lines))  # noqa: DTZ001  # DuckDB's in UTC
    assert (types["BilledCost"], types["x_Calls"], types["ChargePeriodStart"], types["Tags"]) == (
        "DECIMAL(38,14)", "BIGINT", "TIMESTAMP WITH TIME ZONE", "VARCHAR",
    )  # fmt: skip
    done = bills.import_bill(file=io.BytesIO(content), name="export.parquet", actor=fay).file
    again = bills.import_bill(
        file=io.BytesIO(b"".join(exports.export(dataset="focus", file="csv", period=OCTOBER, chosen={}, actor=fay))),
        name="export.csv",
        actor=fay,
    )
    assert (done.rows_in, done.rows_rejected, done.billed_accepted) == (len(lines), 0, money)
    # Rows that say the same are the same in both, but for the agent whose name a spreadsheet would run.
    assert (again.file.rows_accepted, again.file.rows_duplicate) == (2, len(lines) - 2)


def test_json_lines_carry_exact_numbers_and_csv_no_formulas(recorded: None, fay: User) -> None:
    content = b"".join(exports.export(dataset="focus", file="jsonl", period=OCTOBER, chosen={}, actor=fay)).decode()

    rows = [json.loads(line, parse_float=Decimal) for line in content.splitlines()]
    assert sum(Decimal(row["BilledCost"]) for row in rows) == sum(hour.cost for hour in UsageHour.objects.all())
    assert all(row["ChargeClass"] is None and isinstance(row["Tags"], dict) for row in rows)
    assert '=cmd|"/c calc"!A1' in {row["x_Agent"] for row in rows}
    assert """'=cmd|"/c calc"!A1""" in {row["x_Agent"] for row in rows_of("focus", fay)}


@pytest.mark.parametrize(
    ("chosen", "agents"),
    [({"agent": "(none)"}, {""}), ({"project": "checkout", "agent": "basket-helper"}, {"basket-helper"}), ({"model": "x"}, set())],
)
def test_exports_are_narrowed(chosen: dict[str, str], agents: set[str], recorded: None, fay: User) -> None:
    assert {row["x_Agent"] for row in rows_of("focus", fay, **chosen)} == agents
    assert {row["agent"] for row in rows_of("usage", fay, **chosen) if row["provider"]} == agents


def test_export_is_audited_before_its_first_byte(recorded: None, fay: User) -> None:
    exports.export(dataset="focus", file="csv", period=OCTOBER, chosen={"model": "small-chat"}, actor=fay)

    entry = AuditEntry.objects.get(event="costs.exported")
    assert (entry.actor_id, entry.details["first_day"], entry.details["filters"]) == (fay.pk, "2026-10-01", {"model": "small-chat"})


def test_page_offers_files_and_says_what_is_missing(recorded: None, acme: Tenant, client_for: ClientFor, audra: User) -> None:
    client, query = client_for(audra), "?from=2026-10-01&to=2026-10-31"

    page = client.get(f"/o/acme/operate/costs/export/{query}")
    file = client.get(f"/o/acme/operate/costs/export/usage.csv{query}")

    assert (page.context["preview"].calls, page.context["preview"].unpriced_calls) == (6, 1)
    assert "not in FOCUS" in page.content.decode()
    assert len(file.getvalue().decode().splitlines()) == 1 + UsageHour.objects.count()
    assert file["Content-Disposition"] == 'attachment; filename="usage-2026-10-01-2026-10-31.csv"'
    assert [client.get(f"/o/acme/operate/costs/export/{name}").status_code for name in ("focus.exe", "bills.csv")] == [404, 404]


def test_export_for_programs(recorded: None, acme: Tenant, api_for: ClientFor, fay: User, bob: User) -> None:
    client = api_for(fay)

    lines = client.get("/api/v1/exports/focus/?file=jsonl&from=2026-10-07&to=2026-10-07").getvalue().decode().splitlines()
    bad = [
        client.get(f"/api/v1/exports/{path}").status_code for path in ("focus/?from=2026-10-09&to=2026-10-01", "focus/?file=xml", "bills/")
    ]

    assert {json.loads(line)["ChargePeriodStart"] for line in lines} == {"2026-10-07T00:00:00Z"}
    assert bad == [400, 400, 404]
    assert api_for(bob).get("/api/v1/exports/focus/").status_code == 403


def test_prometheus_reads_the_present_month(
    acme: Tenant, alice: User, api_for: ClientFor, audra: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme), make.call(acme), make.call(acme, model='odd"name\\', agent=None))

    answer = api_for(audra).get("/api/v1/exports/prometheus/")
    monkeypatch.setattr(export_selectors, "MOST_SERIES", 1)
    short = export_selectors.month_figures()

    lines = answer.content.decode().splitlines()
    labels = 'provider="openai",model="small-chat",project="checkout",cost_centre=""'
    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    assert f"gatehouse_month_spend_usd{{{labels}}} 0.0036" in lines
    assert f'gatehouse_month_tokens{{{labels},token_class="output"}} 400' in lines
    assert 'gatehouse_month_unpriced_calls{provider="openai",model="odd\\"name\\\\",project="checkout",cost_centre=""} 1' in lines
    assert 'gatehouse_month_calls{provider="",model="(other)",project="",cost_centre=""} 1' in short


@pytest.mark.parametrize("file", ["csv", "jsonl"])
def test_each_attribute_has_every_call_once(file: str, recorded: None, acme: Tenant, alice: User, fay: User) -> None:
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=fay)
    Project.objects.filter(slug="checkout").update(environment="production")
    make.record(acme, make.call(acme, started_at=DAY, tags={"team": "=payments"}), make.call(acme, started_at=DAY, tags={"colour": "red"}))

    rows = rows_of("attributes", fay, file)

    known = UsageHour.objects.aggregate(calls=Sum("calls"), cost=Sum("cost"))
    for attribute in ("region", "deployment"):
        own = [row for row in rows if row["attribute"] == attribute]
        assert (sum(int(row["calls"]) for row in own), sum(Decimal(str(row["cost_usd"] or 0)) for row in own)) == (
            known["calls"],
            known["cost"],
        )
    tagged = [row for row in rows if row["attribute"] == "tag:team"]
    assert sorted((row["value"] or "", int(row["calls"])) for row in tagged) == [
        ("", 1),
        ("'=payments" if file == "csv" else "=payments", 1),
    ]
    assert {row["attribute"] for row in rows} == {"region", "deployment", "tag:team"}
    assert {row["environment"] or "" for row in rows} == {"production", ""}
    assert {row["day"] for row in rows} == {"2026-10-07T00:00:00Z", "2026-10-08T00:00:00Z"}
    [unpriced] = [row for row in rows if row["attribute"] == "region" and row["model"] == "nameless"]
    assert (unpriced["cost_usd"] or "", int(unpriced["unpriced_calls"])) == ("", 1)
    assert [row["project"] or "" for row in rows_of("attributes", fay, file, project="(none)")] == ["", ""]


def test_month_by_attribute_is_scraped(acme: Tenant, alice: User, fay: User, monkeypatch: pytest.MonkeyPatch) -> None:
    make.prices(alice)
    make.key(alice)
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=fay)
    make.record(acme, *(make.call(acme, tags={"team": team} if team else {}) for team in ("care", "care", 'a"b', "")))

    lines = export_selectors.month_figures().splitlines()
    monkeypatch.setattr(export_selectors, "MOST_SERIES", 1)
    short = export_selectors.month_figures().splitlines()

    spend = "gatehouse_month_attribute_spend_usd"
    assert f'{spend}{{attribute="environment",value="development"}} 0.0072' in lines
    assert f'{spend}{{attribute="region",value="eu"}} 0.0072' in lines
    assert f'{spend}{{attribute="tag:team",value="care"}} 0.0036' in lines
    assert 'gatehouse_month_attribute_calls{attribute="tag:team",value="a\\"b"} 1' in lines
    assert f'{spend}{{attribute="tag:team",value="(other)"}} 0.0072' in short


def test_every_column_is_documented_as_it_is() -> None:
    text = DOCS.read_text()
    documented = re.findall(r"^\| `(\w+)` \| (\w+) \| (yes|no) \| (.+) \|$", text, re.MULTILINE)

    assert documented == [
        (column.name, column.kind, "yes" if column.nullable else "no", column.meaning)
        for dataset in export_schema.DATASETS.values()
        for column in dataset.columns
    ]


def test_generated_month_is_exported_whole(compared: Revision, fay: User) -> None:
    assert sum(Decimal(row["BilledCost"]) for row in rows_of("focus", fay)) == compared.telemetry
    assert focus.version([column.name for column in export_schema.FOCUS.columns]) == export_schema.FOCUS_VERSION


def test_focus_says_what_a_price_is_quoted_in(recorded: None, acme: Tenant, alice: User, fay: User) -> None:
    at = OCTOBER.start + timedelta(days=20)
    currencies.rated(fay, alice, (21, "0.8"))
    [given] = quotes.agreed(fay, alice, quotes.offer("2.50", at=at))
    make.record(acme, make.call(acme, started_at=at + timedelta(hours=1), input_tokens=1_000_000, output_tokens=0))

    rows = rows_of("focus", fay)

    [quoted] = [row for row in rows if row["SkuPriceId"] == str(given.pk)]
    assert (quoted["PricingCurrency"], quoted["PricingCurrencyListUnitPrice"], quoted["PricingCurrencyContractedUnitPrice"]) == (
        "EUR",
        "2.5",
        "2.5",
    )
    assert (quoted["ListUnitPrice"], quoted["EffectiveCost"], quoted["PricingCurrencyEffectiveCost"]) == ("3.125", "3.125", "2.5")
    others = [row for row in rows if row is not quoted]
    assert {row["PricingCurrency"] for row in others} == {"USD"}
    assert all(row["PricingCurrencyListUnitPrice"] == row["ListUnitPrice"] for row in others)
    assert all(row["PricingCurrencyEffectiveCost"] == row["EffectiveCost"] for row in others)
