"""What the demo did before its first start is whole, and is made once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from catalog.models import VirtualKey
from costs.models import Anomaly, Baseline, Budget, Event, Reconciliation, UsageHour
from governance.models import Tenant, User
from operations.services import demo_history
from tests.factories import costs
from tests.factories.catalog import make_key, make_model, make_project, make_provider

OFFERS = {"large": {"input": Decimal("2.50"), "output": Decimal(10)}, "small": {"input": Decimal("0.15"), "output": Decimal("0.60")}}


@pytest.fixture
def key_id(acme: Tenant, alice: User) -> str:
    provider = make_provider(slug="sandbox")
    for slug in OFFERS:
        make_model(owner=alice, slug=slug, provider=provider, upstream_model=slug)
    first, _ = (make_project(owner=alice, slug=slug) for slug in ("checkout", "tools"))
    return make_key(owner=alice, project=first)[0].public_id


@pytest.mark.parametrize("is_first_of_month", [False, True])
def test_history_is_priced_explained_and_made_once(acme: Tenant, alice: User, bob: User, key_id: str, is_first_of_month: bool) -> None:
    today = timezone.now().date()
    today = today.replace(day=1) if is_first_of_month else today

    def make() -> int:
        demo_history.set_prices("sandbox", OFFERS, actor=alice, today=today)
        return demo_history.make_history(
            tenant=acme, provider="sandbox", offers=OFFERS, key_id=key_id, finance=bob, owner=alice, today=today
        )

    made = make()

    assert made == sum(UsageHour.objects.values_list("calls", flat=True)) == Event.objects.count() > 5000
    assert not Event.objects.exclude(pricing="priced").exists()
    assert max(Event.objects.dates("started_at", "day")) == today - timedelta(days=1)
    assert key_id in (used := set(Event.objects.values_list("key_id", flat=True)))
    assert used == set(VirtualKey.objects.values_list("public_id", flat=True))
    last_month = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    assert [one.month for one in Reconciliation.objects.all()] in ([], [last_month])  # a worker compares
    assert Budget.objects.get().state == Budget.State.ENFORCED
    assert Baseline.objects.get().signed_by == alice
    assert Anomaly.objects.filter(first_at__date=today - timedelta(days=1)).exists()
    assert make() == 0
    assert Event.objects.count() == made


def test_organisation_that_had_calls_keeps_its_own_past(acme: Tenant, alice: User, key_id: str) -> None:
    costs.record(acme, costs.call(acme))

    demo_history.set_prices("sandbox", OFFERS, actor=alice)
    assert demo_history.make_history(tenant=acme, provider="sandbox", offers=OFFERS, key_id=key_id, finance=alice, owner=alice) == 0
    assert Event.objects.count() == 1
