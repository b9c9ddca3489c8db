"""Bills: every row accounted for, nothing twice; and the causes found are the causes put in."""

from __future__ import annotations

import io
import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db.models import F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costs import bill_selectors, focus, generator, parquet, showback_selectors
from costs.errors import BillFormatError, NothingToReconcileError, RevisionReplacedError
from costs.models import BillAlias, BillFile, BillRow, PriceEntry, Reconciliation, Revision
from costs.services import bills, ingest, prices, reconciliation, signoff
from governance.models import AuditEntry, Notice, Tenant, User
from tests.factories import costs as make

MONTH = date(2026, 10, 1)
OFFERS = [
    generator.Offer(
        "small-chat",
        "gpt-small",
        {"input": Decimal("0.15"), "cached_input": Decimal("0.075"), "cache_write": Decimal("0.1875"), "output": Decimal("0.60")},
    ),
    generator.Offer("big-chat", "gpt-big", {"input": Decimal("3.00"), "output": Decimal("15.00")}),
]
FOCUS_DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "focus"


@pytest.fixture
def offers(acme: Tenant, alice: User) -> list[generator.Offer]:
    for offer in OFFERS:
        make.deployment(alice, provider="openai", model=offer.slug, upstream=offer.upstream)
        for token_class, amount in offer.prices.items():
            make.price(alice, token_class, str(amount), model=offer.slug)
    return OFFERS


def made(acme: Tenant, seed: int = 7, **faults: object) -> generator.Generated:
    return generator.generate(
        tenant=acme.public_id,
        provider="openai",
        provider_name="OpenAI",
        account="acct-1",
        month=MONTH,
        offers=OFFERS,
        seed=seed,
        calls_per_day=10,
        faults=generator.Faults(**faults),  # type: ignore[arg-type]  # test shorthand
    )


def upload(user: User, rows: list[dict[str, str]], name: str = "bill.csv", style: str = "") -> bills.Imported:
    return bills.import_bill(file=io.BytesIO(generator.to_csv(rows)), name=name, actor=user, provider="openai", style=style)


def causes(revision: Revision) -> dict[str, Decimal]:
    return {cause["cause"]: Decimal(cause["amount"]) for cause in revision.causes}


def test_every_row_is_accounted_for(acme: Tenant, offers: object, fay: User) -> None:
    generated = made(acme)
    broken = [{**generated.rows[0], "BilledCost": "a lot"}, {**generated.rows[1], "ChargeCategory": "Gift"}]

    bill = upload(fay, generated.rows + broken).file

    assert (bill.rows_in, bill.rows_accepted, bill.rows_duplicate, bill.rows_rejected) == (
        len(generated.rows) + 2,
        len(generated.rows),
        0,
        2,
    )
    assert bill.billed_in == bill.billed_accepted + bill.billed_duplicate + bill.billed_rejected
    assert bill.billed_accepted == sum(Decimal(row["BilledCost"]) for row in generated.rows)
    assert bill.billed_rejected == Decimal(generated.rows[1]["BilledCost"])
    assert [(error.column, error.line) for error in bill.errors.all()] == [
        ("BilledCost", bill.rows_in),
        ("ChargeCategory", bill.rows_in + 1),
    ]
    with default_storage.open(bill.path) as kept:
        assert kept.read() == generator.to_csv(generated.rows + broken)
    assert bill.path.startswith(f"{acme.schema_name}/")
    assert AuditEntry.objects.get(event="bill.imported").details["accepted"] == len(generated.rows)


def test_same_file_again_changes_nothing(acme: Tenant, offers: object, fay: User, alice: User) -> None:
    rows = made(acme).rows
    first = upload(fay, rows)

    second = upload(alice, rows, name="copy.csv")

    assert (first.is_new, second.is_new, second.file.pk) == (True, False, first.file.pk)
    assert BillFile.objects.count() == 1
    assert AuditEntry.objects.filter(event="bill.imported").count() == 1


def test_rows_known_from_an_earlier_file_are_duplicates_but_equal_rows_in_one_file_are_not(acme: Tenant, offers: object, fay: User) -> None:
    rows = made(acme).rows
    upload(fay, rows[:10] + rows[:1])

    bill = upload(fay, rows[:1] * 3 + rows[5:20]).file

    assert (bill.rows_in, bill.rows_duplicate, bill.rows_accepted) == (18, 2 + 5, 1 + 10)
    assert BillRow.objects.count() == 10 + 1 + 1 + 10


def test_file_that_is_no_bill_stores_nothing(acme: Tenant, fay: User) -> None:
    for content in (b"", b"name;age\n1;2", b"\x00\x01\x02"):
        with pytest.raises(BillFormatError):
            bills.import_bill(file=io.BytesIO(content), name="x.csv", actor=fay)

    assert not BillFile.objects.exists()


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    """With the types that clouds write."""
    typed = {
        **dict.fromkeys(("BilledCost", "EffectiveCost"), "DOUBLE"),
        **dict.fromkeys(("ChargePeriodStart", "ChargePeriodEnd"), "TIMESTAMPTZ"),
        **dict.fromkeys(("BillingPeriodStart", "BillingPeriodEnd"), "TIMESTAMP"),
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), "DECIMAL(38, 10)"),
    }
    with tempfile.TemporaryDirectory() as folder:
        lines, file = Path(folder) / "bill.csv", Path(folder) / "bill.parquet"
        lines.write_bytes(generator.to_csv(rows).split(b"\n", 1)[1])
        parquet.convert(lines, file, {name: typed.get(name, "VARCHAR") for name in rows[0]})
        return file.read_bytes()


def test_revision_names_its_files_also_after_one_of_them_was_undone(acme: Tenant, offers: object, fay: User) -> None:
    rows = made(acme).rows
    upload(fay, rows, name="first.csv")
    again = [row | {"BilledCost": str(Decimal(row["BilledCost"]) * 2)} for row in rows]
    second = upload(fay, again, name="second.csv", style="replacement").file
    revision, _ = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))

    bills.undo_bill(bill=second, actor=fay)

    assert [file.name for file in bill_selectors.files_of(revision)] == ["second.csv"]
    restored, is_new = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    assert ([file.name for file in bill_selectors.files_of(restored)], is_new) == (["first.csv"], True)


@pytest.mark.parametrize("depth", [300, 8000])
@pytest.mark.parametrize("column", ["ChargeDescription", "SkuPriceDetails"])
def test_cell_that_nests_deeper_than_json_is_read_or_written_costs_no_bill(
    acme: Tenant, offers: object, fay: User, column: str, depth: int
) -> None:
    rows = [row | {column: '{"ModelId":' * depth + "1" + "}" * depth} for row in made(acme).rows[:3]]

    bill = upload(fay, rows).file

    assert (bill.rows_in, bill.rows_accepted + bill.rows_rejected) == (3, 3)


def test_rows_are_known_again_in_whatever_form_they_come(acme: Tenant, offers: object, fay: User) -> None:
    rows = [row | {"BilledCost": f"{Decimal(row['BilledCost']):.12f}"} for row in made(acme).rows[:40]]
    upload(fay, rows, style="append")

    bill = bills.import_bill(file=io.BytesIO(as_parquet(rows)), name="bill.parquet", actor=fay, provider="openai", style="append").file
    assert (bill.rows_in, bill.rows_duplicate, bill.rows_accepted) == (40, 40, 0)

    # Rows of before are known by how they were written.
    for row in focus.Reader(io.BytesIO(generator.to_csv(rows))):
        assert isinstance(row, focus.Row)
        assert BillRow.objects.filter(line=row.line).update(fingerprint=row.literal_fingerprint("openai"))
    bill = upload(fay, rows[10:], style="append").file
    assert (bill.rows_in, bill.rows_duplicate, bill.rows_accepted) == (30, 30, 0)


def test_parquet_becomes_the_same_rows_as_csv(acme: Tenant, offers: object, fay: User) -> None:
    rows = made(acme).rows[:40]

    bill = bills.import_bill(file=io.BytesIO(as_parquet(rows)), name="bill.parquet", actor=fay, provider="openai").file
    from_parquet = list(
        bill.rows.order_by("line").values("day", "model", "token_class", "tokens", "billed_cost", "listed_cost", "month", "kind")
    )
    BillRow.objects.all().delete()
    upload(fay, rows)

    assert (bill.rows_in, bill.rows_accepted, bill.focus_version) == (40, 40, BillFile.objects.order_by("pk").last().focus_version)  # type: ignore[union-attr]  # it exists
    from_csv = BillRow.objects.order_by("line").values(
        "day", "model", "token_class", "tokens", "billed_cost", "listed_cost", "month", "kind"
    )
    assert from_parquet == list(from_csv)


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + bytes(64) + b"PAR1"])
def test_damaged_parquet_stores_nothing(acme: Tenant, fay: User, content: bytes) -> None:
    with pytest.raises(BillFormatError, match="damaged"):
        bills.import_bill(file=io.BytesIO(content), name="bill.parquet", actor=fay)

    assert not BillFile.objects.exists()


def test_provider_chosen_once_is_remembered(acme: Tenant, offers: object, fay: User) -> None:
    rows = [{**row, "ServiceProviderName": "Contoso Intelligence"} for row in made(acme).rows]
    upload(fay, rows[:5])

    bill = bills.import_bill(file=io.BytesIO(generator.to_csv(rows[5:9])), name="next.csv", actor=fay).file

    assert BillAlias.objects.get(subject="provider").ours == "openai"
    assert set(bill.rows.values_list("provider", flat=True)) == {"openai"}


def test_kinds_of_rows_that_are_not_compared(acme: Tenant, offers: object, fay: User) -> None:
    row = made(acme).rows[0]
    no_ai = {
        "SkuMeter": "",
        "SkuPriceDetails": "",
        "ServiceSubcategory": "",
        "ConsumedUnit": "Hours",
        "PricingUnit": "Hours",
        "ChargeDescription": "Storage",
        "SkuId": "x",
        "SkuPriceId": "x",
    }
    upload(
        fay,
        [
            row,
            {**row, "ChargeCategory": "Tax"},
            {**row, "ChargeCategory": "Credit", "BilledCost": "-5"},
            {**row, "ChargeCategory": "Purchase"},
            {**row, "ChargeCategory": "Adjustment"},
            {**row, "BillingCurrency": "EUR"},
            {**row, **no_ai},
            {**row, "PricingCategory": "Committed"},
        ],
    )

    kinds = sorted(BillRow.objects.values_list("kind", flat=True))

    assert kinds == ["adjustment", "committed", "credit", "other_service", "purchase", "tax", "usage", "usage"]


def test_bill_that_agrees(acme: Tenant, offers: object, fay: User) -> None:
    generated = made(acme, replayed_calls=20)
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    upload(fay, generated.rows)

    revision, is_new = reconciliation.reconcile(provider="openai", month=MONTH)

    assert is_new
    assert revision.bill == revision.telemetry != 0
    assert revision.causes == []
    assert not revision.is_doubtful


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_causes_found_are_the_causes_put_in(acme: Tenant, offers: object, fay: User, seed: int) -> None:
    generated = made(
        acme,
        seed,
        missing_calls=3,
        duplicate_calls=2,
        price_drift_percent=Decimal(10),
        late_days=2,
        late_calls=2,
        bypass_tokens=123_457,
        replayed_calls=15,
    )
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    upload(fay, generated.rows)

    first, _ = reconciliation.reconcile(provider="openai", month=MONTH)
    ingest.deliver(generated.late_calls)
    ingest.ingest(tenant=acme)
    upload(fay, generated.late_rows, name="late.csv")
    second, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    assert causes(first) == generated.truth
    assert causes(second) == generated.truth_complete
    assert sum(causes(second).values()) == second.variance
    assert sum(Decimal(cause["cents"]) for cause in second.causes) == second.variance_cents
    assert (first.number, second.number) == (1, 2)
    assert set(causes(second)) == {"missing_calls", "extra_calls", "price", "bill_only"}


def test_rounding_of_rows_is_told_apart_from_prices(acme: Tenant, offers: object, fay: User) -> None:
    generated = made(acme, price_drift_percent=Decimal(400), round_to_cents=True)
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    upload(fay, generated.rows)

    found = causes(reconciliation.reconcile(provider="openai", month=MONTH)[0])

    assert found["price"] == generated.truth["price"]
    assert abs(found["rounding"]) < 1
    assert set(found) == {"price", "rounding"}


def test_same_inputs_make_no_new_revision(acme: Tenant, offers: object, fay: User) -> None:
    generated = made(acme, missing_calls=2)
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    upload(fay, generated.rows)
    first, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    ingest.deliver(generated.calls)  # replayed: nothing changes
    ingest.ingest(tenant=acme)
    again, is_new = reconciliation.reconcile(provider="openai", month=MONTH)

    assert (again.pk, is_new) == (first.pk, False)
    assert Revision.objects.count() == 1


def test_unpriced_calls_are_a_cause_until_they_are_priced(acme: Tenant, offers: object, fay: User, alice: User) -> None:
    PriceEntry.objects.filter(model="big-chat", token_class="output").delete()
    generated = made(acme)
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    upload(fay, generated.rows)
    first, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    prices.set_price(
        provider="openai",
        model="big-chat",
        token_class="output",
        price=Decimal(15),
        actor=alice,
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        agreed=True,
    )
    priced = prices.price_unpriced(provider="openai", model="big-chat")
    second, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    assert set(causes(first)) == {"unpriced"}
    assert sum(causes(first).values()) == first.variance
    assert priced == 5 * 31
    assert second.causes == []


def test_price_corrected_afterwards_explains_the_difference(acme: Tenant, offers: object, fay: User, alice: User) -> None:
    generated = made(acme)
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    prices.set_price(
        provider="openai",
        model="big-chat",
        token_class="input",
        price=Decimal(4),
        actor=alice,
        valid_from=datetime(2026, 10, 15, tzinfo=UTC),
        agreed=True,
    )
    dearer = [
        {**row, "BilledCost": str(Decimal(row["ConsumedQuantity"]) * 4 / 1_000_000), "ContractedUnitPrice": "4", "ListUnitPrice": "4"}
        if row["SkuId"] == "gpt-big-input" and row["ChargePeriodStart"] >= "2026-10-15"
        else row
        for row in generated.rows
    ]
    upload(fay, dearer)

    revision, _ = reconciliation.reconcile(provider="openai", month=MONTH)
    prices.reprice(entry=PriceEntry.objects.get(price=4))
    BillRow.objects.filter(day__gte=date(2026, 10, 15), sku_id="gpt-big-input").update(listed_cost=F("list_cost") * 3 / 4)
    BillRow.objects.filter(day__gte=date(2026, 10, 15), sku_id="gpt-big-input").update(billed_cost=F("listed_cost"))
    negotiated, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    BillRow.objects.update(list_cost=F("listed_cost"))
    make.price(alice, "input", "3", model="big-chat", service_tier="batch")
    at_batch, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    assert causes(revision) == {"book_drift": revision.variance}
    assert causes(at_batch) == {"price_band": negotiated.variance}
    assert causes(negotiated) == {"negotiated": negotiated.variance}
    assert revision.variance == -negotiated.variance > 0


def test_tokens_that_the_bill_counts_in_another_class_are_mix_and_not_missing(acme: Tenant, offers: object, fay: User) -> None:
    generated = made(acme, missing_calls=2, duplicate_calls=1)
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    moved, used = Decimal(), set()
    for row in generated.rows:  # a provider that does not know the cache: every second day of it is plain input
        day = row["ChargePeriodStart"]
        if row["SkuId"] == "gpt-small-cached_input" and int(day[8:10]) % 2:
            tokens = Decimal(row["ConsumedQuantity"])
            moved += tokens * (OFFERS[0].prices["input"] - OFFERS[0].prices["cached_input"]) / 1_000_000
            plain = next(one for one in generated.rows if one["SkuId"] == "gpt-small-input" and one["ChargePeriodStart"] == day)
            used.add(day)
            row.update(
                {
                    name: plain[name]
                    for name in ("SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "ContractedUnitPrice", "ListUnitPrice")
                }
            )
            row.update(dict.fromkeys(("BilledCost", "EffectiveCost"), str(tokens * OFFERS[0].prices["input"] / 1_000_000)))
    faulty = {"missing_calls", "extra_calls"}
    upload(fay, generated.rows)

    revision, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    assert len(used) > 5
    assert revision.variance == moved + sum(generated.truth.values())
    mixed = revision.lines.filter(causes__has_key="mix")
    clean = mixed.exclude(causes__has_any_keys=faulty)
    assert {line.token_class for line in mixed} == {"input", "cached_input"}
    assert {f"{line.day}T00:00:00Z" for line in clean} <= used
    assert len(clean) >= 2 * (len(used) - 2)
    assert sum(causes(revision).values()) == revision.variance


def test_monthly_bill_is_compared_by_month(acme: Tenant, offers: object, fay: User) -> None:
    generated = made(acme, missing_calls=2)
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    totals: dict[tuple[str, str], list[Decimal]] = {}
    for row in generated.rows:
        entry = totals.setdefault((row["SkuId"], row["ContractedUnitPrice"]), [Decimal(), Decimal()])
        entry[0] += Decimal(row["BilledCost"])
        entry[1] += Decimal(row["ConsumedQuantity"])
    example = {row["SkuId"]: row for row in generated.rows}
    monthly = [
        {
            **example[sku],
            "BilledCost": f"{cost:f}",
            "EffectiveCost": f"{cost:f}",
            "ConsumedQuantity": f"{tokens:f}",
            "PricingQuantity": f"{tokens / 1_000_000:f}",
            "ChargePeriodStart": "2026-10-01",
            "ChargePeriodEnd": "2026-11-01",
        }
        for (sku, _), (cost, tokens) in totals.items()
    ]
    upload(fay, monthly)

    revision, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    assert sum(causes(revision).values()) == sum(generated.truth.values()) == revision.variance
    assert set(causes(revision)) == {"missing_calls"}
    assert {line.day for line in revision.lines.all()} == {None}


def test_days_after_the_end_of_the_bill_are_late_and_a_day_that_it_left_out_is_not(acme: Tenant, offers: object, fay: User) -> None:
    generated = made(acme)
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    so_far = [row for row in generated.rows if row["ChargePeriodStart"] < "2026-10-20"]
    left_out = [row for row in so_far if row["ChargePeriodStart"][:10] == "2026-10-07"]
    upload(fay, [row for row in so_far if row not in left_out])
    daily, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    BillRow.objects.all().delete()
    monthly = {"ChargePeriodStart": "2026-10-01", "ChargePeriodEnd": "2026-10-19T23:59:59Z"}
    upload(fay, [{**row, **monthly} for row in so_far])
    at_once, _ = reconciliation.reconcile(provider="openai", month=MONTH)
    BillRow.objects.all().delete()
    upload(fay, generated.rows, name="final.csv")
    final, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    cost = {
        name: sum(Decimal(row["BilledCost"]) for row in rows)
        for name, rows in (("all", generated.rows), ("so far", so_far), ("out", left_out))
    }
    assert causes(daily) == {"late": cost["so far"] - cost["all"], "telemetry_only": -cost["out"]}
    assert causes(at_once) == {"late": cost["so far"] - cost["all"]}
    assert (final.number, final.causes) == (3, [])


def test_far_from_the_bill_is_doubtful_and_audited(acme: Tenant, offers: object, fay: User) -> None:
    upload(fay, made(acme).rows)

    revision, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    assert revision.is_doubtful
    assert set(causes(revision)) == {"bill_only"}
    assert AuditEntry.objects.filter(event="reconciliation.variance_exceeded").count() == 1


def test_no_bill_nothing_to_compare(acme: Tenant) -> None:
    with pytest.raises(NothingToReconcileError):
        reconciliation.reconcile(provider="openai", month=MONTH)


def test_model_assigned_by_hand_moves_its_rows(acme: Tenant, offers: object, fay: User) -> None:
    generated = made(acme)
    ingest.deliver(generated.calls)
    ingest.ingest(tenant=acme)
    upload(fay, [{name: value.replace("gpt-big", "gpt-9000") for name, value in row.items()} for row in generated.rows])
    before, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    changed = bills.assign_model(provider="openai", theirs="gpt-9000", ours="big-chat", actor=fay)
    after, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    assert set(causes(before)) == {"bill_only", "telemetry_only"}
    assert changed == 2 * 31
    assert after.causes == []


@pytest.mark.skipif(not FOCUS_DATA.exists(), reason="the FOCUS examples are not on this machine")
@pytest.mark.parametrize(
    ("name", "rows", "version"),
    [
        ("focus_sample.csv", 1000, "1.0"),
        ("ai_prompt_caching_a.csv", 4, "1.4"),
        ("drawdown_via_prepayment_ai_model_api.csv", 3, "1.5 draft"),
        ("multi_model_usage.csv", 4, "1.5 draft"),
    ],
)
def test_files_that_nobody_here_wrote(acme: Tenant, fay: User, name: str, rows: int, version: str) -> None:
    import csv

    path = FOCUS_DATA / name
    with path.open(encoding="utf-8-sig", newline="") as file:
        total = sum(Decimal(row["BilledCost"]) for row in csv.DictReader(file))

    with path.open("rb") as file:
        bill = bills.import_bill(file=file, name=name, actor=fay).file

    assert (bill.rows_in, bill.rows_accepted, bill.rows_rejected, bill.focus_version) == (rows, rows, 0, version)
    assert bill.billed_accepted == bill.billed_in == total
    if name == "multi_model_usage.csv":
        assert {(row.model, row.token_class, row.tokens) for row in bill.rows.all()} == {
            ("solora-atlas-5.5", "input", Decimal(10_000_000)),
            ("solora-atlas-5.5", "output", Decimal(2_000_000)),
            ("solora-atlas-5.4-mini", "input", Decimal(3_000_000)),
            ("solora-atlas-5.4-mini", "output", Decimal(500_000)),
        }
        revision, _ = reconciliation.reconcile(provider="solora-ai", month=date(2025, 5, 1))
        assert causes(revision) == {"bill_only": Decimal("104.5")}
    if name == "drawdown_via_prepayment_ai_model_api.csv":
        assert sorted(bill.rows.values_list("kind", flat=True)) == ["committed", "committed", "purchase"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), missing=st.integers(0, 4), duplicates=st.integers(0, 4), drift=st.integers(-50, 200))
def test_any_mix_of_faults_is_recovered_exactly(
    acme: Tenant, offers: object, fay: User, seed: int, missing: int, duplicates: int, drift: int
) -> None:
    from django.db import transaction

    with transaction.atomic():
        generated = generator.generate(
            tenant=acme.public_id,
            provider="openai",
            provider_name="OpenAI",
            account="acct-1",
            month=MONTH,
            offers=OFFERS,
            seed=seed,
            calls_per_day=10,
            days=6,
            faults=generator.Faults(missing_calls=missing, duplicate_calls=duplicates, price_drift_percent=Decimal(drift)),
        )
        ingest.deliver(generated.calls)
        ingest.ingest(tenant=acme)
        upload(fay, generated.rows)
        revision, _ = reconciliation.reconcile(provider="openai", month=MONTH)
        found = causes(revision)
        transaction.set_rollback(True)

    assert found == generated.truth


def test_reconciliation_series_is_one_per_account_and_month(acme: Tenant, offers: object, fay: User) -> None:
    rows = made(acme).rows
    upload(fay, rows[:4])
    reconciliation.reconcile(provider="openai", month=MONTH)

    upload(fay, [{**row, "BillingAccountId": "acct-2"} for row in rows[4:8]])
    reconciliation.reconcile(provider="openai", month=MONTH)

    assert set(Reconciliation.objects.values_list("account", flat=True)) == {"acct-1", Reconciliation.ALL_ACCOUNTS}


def test_second_account_replaces_the_comparison_of_the_first(acme: Tenant, offers: object, fay: User, alice: User) -> None:
    rows = made(acme).rows
    later: dict[str, Any] = {"comment": "Doubtful", "at": datetime(2026, 11, 20, tzinfo=UTC)}
    upload(fay, rows[:4])
    alone, _ = reconciliation.reconcile(provider="openai", month=MONTH)
    signoff.sign(revision=alone, digest=alone.digest, actor=fay, **later)

    upload(fay, [{**row, "BillingAccountId": "acct-2"} for row in rows[4:8]])
    together, _ = reconciliation.reconcile(provider="openai", month=MONTH)

    [notice], voided = Notice.objects.filter(topic="bill.restated"), alone.signatures.get()
    assert voided.void_reason == "all-accounts, revision 1 replaced it"
    assert notice.path == signoff.path_of(together.reconciliation)
    with pytest.raises(RevisionReplacedError, match="other accounts"):
        signoff.sign(revision=alone, digest=alone.digest, actor=alice, **later)
    assert [bill.reconciliation.latest for bill in showback_selectors.showback(MONTH).bills] == [together]
    assert {series.account: series.is_replaced for series in bill_selectors.reconciliations()} == {"acct-1": True, "all-accounts": False}
    assert bill_selectors.doubtful_revisions(MONTH, MONTH) == [together]
    assert bill_selectors.latest_matched() == together

    BillRow.objects.filter(account="acct-2").delete()
    again, is_new = reconciliation.reconcile(provider="openai", month=MONTH)
    assert (again.reconciliation, again.number, is_new) == (alone.reconciliation, 2, True)
