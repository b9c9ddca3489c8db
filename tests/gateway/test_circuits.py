"""What people are told of circuits that planes have opened and closed."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from gateway.publish import circuits
from gateway.publish.models import CircuitChange
from gateway.publish.publisher import forget_tenant
from governance.models import Notice, Tenant

AT = datetime(2026, 11, 21, 8, 10, tzinfo=UTC)


def _changed(tenant: Tenant, circuit: str, at: datetime = AT, deployment: str = "7") -> None:
    CircuitChange.objects.create(
        event_id=uuid.uuid4(), tenant=tenant.public_id, at=at, circuit=circuit, model="small", provider="openai", deployment=deployment,
        calls=20, errors=3, cooldown_s=5, reason="HTTP 500",
    )  # fmt: skip


def test_people_are_told_once_an_hour_that_a_provider_fails_and_that_it_is_back(acme: Tenant) -> None:
    for minute, circuit in enumerate(("open", "half_open", "open", "half_open", "closed")):
        _changed(acme, circuit, AT + timedelta(minutes=minute))
    _changed(acme, "open", AT + timedelta(hours=1))

    told = circuits.tell(tenant=acme)
    again = circuits.tell(tenant=acme)

    assert (told, again) == (6, 0)
    notices = list(Notice.objects.order_by("at").values_list("topic", "severity", "title", "text", "path"))
    assert notices[0] == (
        "circuit.open", "warning", "openai fails calls: small", "3 of its last 20 calls failed, the last one with HTTP 500.",
        "operate/models/small/",
    )  # fmt: skip
    assert [notice[0] for notice in notices] == ["circuit.open", "circuit.closed", "circuit.open"]


def test_each_tenant_is_told_of_its_own(acme: Tenant, globex: Tenant) -> None:
    _changed(globex, "open")

    circuits.tell(tenant=acme)

    assert not Notice.objects.exists()
    assert circuits.tenants_waiting() == [globex]


@pytest.mark.parametrize(("days", "kept"), [(29, 1), (31, 0)])
def test_old_changes_are_dropped(acme: Tenant, days: int, kept: int) -> None:
    _changed(acme, "open")

    circuits.forget_old(at=AT + timedelta(days=days))

    assert CircuitChange.objects.count() == kept


def test_changes_leave_with_their_tenant(acme: Tenant) -> None:
    _changed(acme, "open")

    forget_tenant(acme)

    assert not CircuitChange.objects.exists()
