"""Classes beside plain tokens: each by its own price, in every figure once, and never for nothing."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.db.models import Sum

from costs import export_schema, export_selectors, price_selectors, selectors
from costs.models import Event, RejectedInbox, SupersededPrice, TokenDay, UsageDay, UsageHour
from costs.periods import Period
from costs.services import bills, prices, reconciliation
from governance.models import Tenant, User
from tests.factories import costs as make

DAY = datetime(2026, 10, 7, 10, tzinfo=UTC)
UNITS = {"audio_input": 200, "cached_audio": 60, "audio_output": 50, "cache_write_1h": 80, "web_search": 2}
PRICES = {"audio_input": "32", "cached_audio": "0.4", "audio_output": "64", "cache_write_1h": "2", "web_search": "10000"}
COST = sum(
    (
        Decimal(tokens) * Decimal(price) / 10**6
        for tokens, price in ((600, "1"), (40, "1"), (60, "0.4"), (200, "32"), (20, "1"), (80, "2"), (150, "4"), (50, "64"), (2, "10000"))
    ),
    Decimal(),
)


def spoken(acme: Tenant, **fields: object) -> dict[str, object]:
    return make.call(
        acme,
        **{
            "started_at": DAY,
            "input_tokens": 1000,
            "cached_input_tokens": 100,
            "cache_write_tokens": 100,
            "output_tokens": 200,
            "units": UNITS,
            **fields,
        },
    )


def unit_prices(user: User, *, without: str = "") -> None:
    for token_class, amount in PRICES.items():
        if token_class != without:
            make.price(user, token_class, amount)


def sums() -> set[Decimal]:
    """What events, hours, days and classes cost together: one figure when they agree."""
    found = (Event.objects, UsageHour.objects, UsageDay.objects.filter(dimension="all"), TokenDay.objects)
    return {each.aggregate(n=Sum("cost"))["n"] for each in found}


def test_each_class_has_its_own_price_and_no_token_counts_twice(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    unit_prices(alice)

    make.record(acme, spoken(acme), make.call(acme, started_at=DAY))

    call = Event.objects.get(units__isnull=False)
    assert call.cost == COST
    assert (call.input_tokens, call.output_tokens) == (1000, 200)
    assert len(call.price_ids) == 13
    assert len(Event.objects.get(units__isnull=True).price_ids) == 4
    days = {row.token_class: row.tokens for row in TokenDay.objects.all()}
    assert days == {"input": 1600, "cached_input": 40, "cache_write": 20, "output": 350, **UNITS}
    assert sum(tokens for name, tokens in days.items() if name != "web_search") == 2 * 1200
    assert UsageDay.objects.get(dimension="all").tokens == 2 * 1200
    assert sums() == {COST + Decimal("0.0018")}
    shown = {label: (tokens, money) for label, tokens, _, money in selectors.prices_of(call)}
    assert shown["Input"] == (600, Decimal("0.0006"))
    assert shown["Audio output"] == (50, Decimal("0.0032"))
    assert sum((money for _, money in shown.values() if money), Decimal()) == COST


@pytest.mark.parametrize("missing", list(PRICES))
def test_class_without_a_price_leaves_the_call_unpriced_until_it_has_one(missing: str, acme: Tenant, alice: User) -> None:
    make.prices(alice)
    unit_prices(alice, without=missing)
    make.record(acme, spoken(acme))

    [waiting] = price_selectors.unpriced()
    before = Event.objects.get()
    priced = make.price(alice, missing, PRICES[missing])
    done = prices.price_unpriced(provider="openai", model="small-chat")

    assert (before.pricing, before.cost) == ("unpriced", None)
    assert sorted(waiting.units) == ["Audio input", "Audio output", "Cache write, 1 hour", "Cached audio input", "Web searches"]
    assert (done, Event.objects.get().cost) == (1, COST)
    assert priced.pk in Event.objects.get().price_ids
    assert sums() == {COST}
    assert price_selectors.unpriced() == []
    assert not TokenDay.objects.exclude(unpriced_tokens=0).exists()


def test_correction_of_one_class_moves_every_figure_by_it(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    unit_prices(alice)
    make.record(acme, spoken(acme), spoken(acme, units={"audio_output": 50}), make.call(acme, started_at=DAY))
    other = Event.objects.get(units={"audio_output": 50})
    Event.objects.filter(pk=other.pk).update(price_ids=other.price_ids[:11])  # as before there was sound from a cache
    before = sums()

    entry = prices.correct_price(
        provider="openai",
        model="small-chat",
        token_class="audio_input",
        price=Decimal(40),
        valid_from=datetime(2025, 1, 1, tzinfo=UTC),
        actor=alice,
        source="Invoice",
    )

    assert prices.reprice(entry=entry) == (1, Decimal("0.0016"))
    assert sums() == {value + Decimal("0.0016") for value in before}
    assert SupersededPrice.objects.get().token_class == "audio_input"


def test_regional_price_of_a_class_comes_first(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    unit_prices(alice)
    make.price(alice, "audio_input", "40", region="eu")

    make.record(acme, spoken(acme), spoken(acme, region="us"))

    assert list(Event.objects.order_by("cost").values_list("cost", flat=True)) == [COST, COST + Decimal("0.0016")]


def test_impossible_units_are_set_aside(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    wrong: list[object] = [
        {"audio_input": 801},  # 800 of the thousand were neither read from the cache nor written to it
        {"cached_audio": 60, "cached_image": 41},
        {"audio_output": 150, "image_output": 51},
        {"cache_write_1h": 101},
        {"web_search": -1},
        {"web_search": "2"},
        {"web_search": 1.5},
        [1],
    ]

    done = make.record(acme, *(spoken(acme, units=units) for units in wrong), spoken(acme, units={"teleport": 1}))

    assert (done.new, done.rejected) == (1, len(wrong))
    assert set(RejectedInbox.objects.values_list("reason", flat=True)) == {"impossible_count"}
    assert Event.objects.get().pricing == "unpriced"  # a newer gateway counts what this code does not know
    assert price_selectors.unpriced()[0].units == ["teleport"]


def test_classes_leave_in_focus_and_come_back_without_a_difference(acme: Tenant, alice: User, fay: User) -> None:
    make.deployment(alice)
    make.prices(alice)
    unit_prices(alice)
    make.record(acme, spoken(acme))

    rows = list(export_selectors.focus_rows(Period(date(2026, 10, 7), date(2026, 10, 7)), {}))

    assert sum((row["BilledCost"] for row in rows), Decimal()) == COST
    [search] = [row for row in rows if row["x_TokenClass"] == "web_search"]
    assert (search["ConsumedUnit"], search["ConsumedQuantity"], search["SkuMeter"]) == ("Requests", 2, "Web Searches")
    content = b"".join(export_schema.to_bytes(export_schema.FOCUS, "csv", rows))
    bills.import_bill(file=io.BytesIO(content), name="export.csv", actor=fay)
    revision, _ = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    assert (revision.bill, revision.variance) == (COST, Decimal())
    assert not revision.causes
    lines = {line.token_class: line.bill_tokens for line in revision.lines.all()}
    assert lines == {"input": 600, "cached_input": 40, "cache_write": 20, "output": 150, **UNITS}
