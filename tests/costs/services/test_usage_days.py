"""Days stay the sums of hours, whatever writes the hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.db import connection

from costs import usage_days
from costs.models import PriceEntry, UsageDay
from costs.services import prices, rollups
from governance.models import Tenant, User
from tests.factories import costs as make

NOON = datetime(2026, 3, 31, 12, 20, tzinfo=UTC)


def days() -> set[tuple[object, ...]]:
    kept = UsageDay.objects.filter(dimension__in=usage_days.DIMENSIONS)
    return set(kept.values_list(*(field.name for field in UsageDay._meta.fields if field.name != "id")))


def test_days_are_the_sums_of_hours_after_ingest_pricing_and_correction(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    calls = [
        make.call(acme, started_at=NOON),
        make.call(acme, started_at=NOON + timedelta(hours=14), agent=None),
        make.call(acme, started_at=NOON, **make.REFUSED),
        make.call(acme, started_at=NOON, model="new-model", agent=None, project=None),
    ]
    make.record(acme, *calls)
    make.record(acme, *calls, make.call(acme, started_at=NOON, status="error", usage_source="estimated"))
    make.prices(alice, model="new-model")
    prices.price_unpriced(provider="openai", model="new-model")
    PriceEntry.objects.filter(model="small-chat", token_class="input").update(price=Decimal("2.50"))
    entry = PriceEntry.objects.get(model="small-chat", token_class="input")
    prices.reprice(entry=entry)
    kept = days()

    rollups.count_days_again(date(2026, 3, 1), date(2026, 4, 30))

    assert days() == kept
    first = UsageDay.objects.get(dimension="all", day=NOON.date())
    assert (first.calls, first.refused, first.errors, first.unpriced_calls, first.untagged_calls, first.estimated_calls) == (
        4,
        1,
        1,
        0,
        1,
        1,
    )
    assert first.untagged_cost == Decimal("0.0018")
    assert set(UsageDay.objects.filter(dimension="hour").values_list("day", "value")) == {
        (date(2026, 3, 31), "12"),
        (date(2026, 4, 1), "02"),
    }


def test_upgrade_fills_days_from_the_hours_that_are_there(acme: Tenant, alice: User) -> None:
    from importlib import import_module

    make.prices(alice)
    make.record(acme, make.call(acme), make.call(acme, agent=None))
    kept = days()
    UsageDay.objects.all().delete()

    with connection.cursor() as cursor:
        cursor.execute(import_module("costs.migrations.0011_usage_day").FILL)

    assert days() == kept
