"""A month of telemetry with the bill that belongs to it, and what a comparison finds."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal

import pytest

from costs import generator
from costs.models import Revision
from costs.services import bills, ingest, reconciliation
from governance.models import Tenant, User
from tests.factories import costs as make

OFFERS = [generator.Offer("small-chat", "gpt-small", {"input": Decimal("1.00"), "output": Decimal("4.00")})]


def make_october(*, tenant: Tenant, owner: User) -> generator.Generated:
    make.deployment(owner)
    make.prices(owner)
    return generator.generate(
        tenant=tenant.public_id,
        provider="openai",
        provider_name="OpenAI",
        account="prod eu",
        month=date(2026, 10, 1),
        offers=OFFERS,
        seed=3,
        calls_per_day=6,
        faults=generator.Faults(missing_calls=2, duplicate_calls=1, price_drift_percent=Decimal(20), late_days=1),
    )


def compare(made: generator.Generated, *, tenant: Tenant, actor: User) -> Revision:
    ingest.deliver(made.calls)
    ingest.ingest(tenant=tenant)
    bills.import_bill(
        file=io.BytesIO(generator.to_csv([*made.rows, {**made.rows[0], "ChargeCategory": "Credit", "BilledCost": "-3"}])),
        name="october.csv",
        actor=actor,
        provider="openai",
    )
    return reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))[0]


@pytest.fixture
def made(acme: Tenant, alice: User) -> generator.Generated:
    return make_october(tenant=acme, owner=alice)


@pytest.fixture
def compared(acme: Tenant, made: generator.Generated, fay: User) -> Revision:
    return compare(made, tenant=acme, actor=fay)
