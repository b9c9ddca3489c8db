"""What people are told of circuits that planes have opened and closed."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gateway.publish import circuits
from gateway.publish.health import Circuits
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


def _history(tenant: Tenant, *told: tuple[int, str], deployment: str = "7") -> datetime:
    """Changes so many minutes before now, which is returned; those of several planes are told in one list."""
    now = timezone.now()
    for minutes, circuit in told:
        _changed(tenant, circuit, now - timedelta(minutes=minutes), deployment)
    return now


@pytest.mark.parametrize(
    ("told", "newest", "ill_since"),
    [
        ([(9, "open")], "open", 9),
        ([(9, "open"), (8, "open"), (7, "half_open"), (6, "open")], "open", 9),  # two planes, one of which has probed
        ([(9, "open"), (8, "open"), (7, "closed")], "closed", None),  # the other one is heard of with its next probe
        ([(9, "open"), (8, "open"), (7, "closed"), (6, "half_open"), (5, "open")], "open", 5),
        ([(9, "open"), (8, "half_open"), (7, "closed"), (6, "closed")], "closed", None),
        ([(9, "open"), (8, "closed"), (3, "open"), (2, "half_open")], "half_open", 3),
    ],
)
def test_newest_word_of_any_plane_counts_and_illness_began_after_the_last_closing(
    acme: Tenant, told: list[tuple[int, str]], newest: str, ill_since: int | None
) -> None:
    now = _history(acme, *told)

    found = Circuits().circuits(["7"])["7"]

    assert (found.newest.circuit, found.ill_since) == (newest, now - timedelta(minutes=ill_since) if ill_since else None)
    assert found.opening is not None
    assert found.opening.at == now - timedelta(minutes=min(minutes for minutes, circuit in told if circuit == "open"))


def test_circuits_are_of_the_tenant_and_the_last_thirty_days(acme: Tenant, globex: Tenant) -> None:
    _history(globex, (5, "open"))
    _history(acme, (60 * 24 * 31, "open"), deployment="8")
    _history(acme, (5, "open"), deployment="9")

    assert Circuits().circuits(["7", "8", "9"]).keys() == {"9"}
    assert Circuits().circuits(["7", "8"]) == {}
    assert [change.deployment for change in Circuits().changes("small", [], limit=9)] == ["9"]
    assert Circuits().changes("other", ["7", "8"], limit=9) == []


def test_changes_are_newest_first_and_no_more_than_asked(acme: Tenant) -> None:
    now = _history(acme, (9, "open"), (8, "half_open"), (7, "closed"))

    found = Circuits().changes("small", ["7"], limit=2)

    assert [(change.circuit, change.at) for change in found] == [
        ("closed", now - timedelta(minutes=7)),
        ("half_open", now - timedelta(minutes=8)),
    ]


def test_circuits_take_three_queries_however_many(acme: Tenant) -> None:
    for deployment in range(5):
        _history(acme, *((minute, "open") for minute in range(5)), deployment=str(deployment))

    with CaptureQueriesContext(connection) as captured:
        assert len(Circuits().circuits(str(n) for n in range(9))) == 5

    assert len(captured) == 3


def test_changes_of_a_deployment_are_looked_up_by_an_index_of_the_public_schema_only(acme: Tenant) -> None:
    with connection.cursor() as cursor:
        cursor.execute("select schemaname from pg_indexes where indexname = 'gateway_circuit_of'")
        assert cursor.fetchall() == [("public",)]
