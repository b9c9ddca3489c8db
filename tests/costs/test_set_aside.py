"""Calls that were set aside: who sees which, what the figures say of them, whom it is told and how long they stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_tenants.utils import tenant_context

from costs import set_aside_selectors
from costs.models import RejectedInbox
from costs.services import archives
from governance import metrics
from governance.metrics import Window
from governance.models import AuditEntry, Notice, Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make

SET_ASIDE = "/o/acme/operate/costs/requests/set-aside/"
API = "/api/v1/requests/set-aside/"
OF_1970 = {"started_at": datetime(1970, 1, 1, tzinfo=UTC)}


@pytest.fixture
def key(alice: User) -> str:
    return make.key(alice).public_id


@pytest.fixture
def calls(acme: Tenant, globex: Tenant, key: str) -> list[dict[str, Any]]:
    """Two of acme's, the second twice; and one of another organisation."""
    made = [
        make.call(acme, request_id="old", key_id=key, **OF_1970),
        make.call(acme, request_id="minus", input_tokens=-5, units={"audio_input": 3}),
    ]
    make.record(acme, *made, make.call(acme))
    make.record(acme, made[1])
    with tenant_context(globex):
        make.record(globex, make.call(globex, request_id="theirs", **OF_1970))
    return made


def test_page_and_endpoint_list_the_organisations_own_newest_first(
    acme: Tenant, calls: list[dict[str, Any]], key: str, fay: User, client_for: ClientFor, api_for: ClientFor
) -> None:
    RejectedInbox.objects.create(
        **{**_of(RejectedInbox.objects.get(request_id="old")), "reason": "unknown_tenant", "request_id": "nobodys"}
    )

    page = client_for(fay).get(SET_ASIDE).content.decode()
    rows = api_for(fay).get(API).json()["results"]

    assert [row["request_id"] for row in rows] == ["minus", "minus", "old"]
    assert [row["reason"] for row in rows] == ["impossible_count", "impossible_count", "impossible_time"]
    assert (rows[0]["input_tokens"], rows[0]["units"], rows[2]["key_id"]) == (-5, {"audio_input": 3}, key)
    assert rows[2]["started_at"] == "1970-01-01T00:00:00Z"
    assert rows[2]["action"].startswith("Set the clock")
    assert page.index('title="minus"') < page.index('title="old"')
    assert "tokens in −5" in page
    assert "audio_input 3" in page
    assert f"({key})" in page
    assert "theirs" not in page
    assert "nobodys" not in page


def _of(row: RejectedInbox) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in row._meta.concrete_fields if field.name != "id"}


@pytest.mark.parametrize("units", [["odd"], {"audio_input": "many"}, {"audio_input": -1.5}])
def test_whatever_its_units_are_the_page_shows_them(units: Any, acme: Tenant, fay: User, client_for: ClientFor, api_for: ClientFor) -> None:
    make.record(acme, make.call(acme, units=units, model=None, agent=None, key_id=None))

    page = client_for(fay).get(SET_ASIDE).content.decode()

    assert str(units["audio_input"] if isinstance(units, dict) else "odd") in page
    assert [row["units"] for row in api_for(fay).get(API).json()["results"]] == [units]


def test_list_is_paged_by_key(acme: Tenant, fay: User, client_for: ClientFor, api_for: ClientFor) -> None:
    make.record(acme, *(make.call(acme, request_id=f"r{n:02}", **OF_1970) for n in range(60)))
    client = client_for(fay)

    first = client.get(SET_ASIDE)
    second = client.get(f"{SET_ASIDE}?cursor={first.context['page'].next_cursor}", headers={"hx-request": "true"})
    by_api = api_for(fay).get(f"{API}?limit=40").json()

    listed = [row[0].request_id for page in (first, second) for row in page.context["rows"]]
    assert sorted(listed) == [f"r{n:02}" for n in range(60)]
    assert b"<html" not in second.content
    assert len(by_api["results"]) == 40
    assert len(api_for(fay).get(by_api["next"]).json()["results"]) == 20


def test_list_asks_the_same_for_any_number(acme: Tenant, alice: User, fay: User, client_for: ClientFor) -> None:
    client = client_for(fay)
    asked = []
    for _ in range(2):
        make.record(acme, *(make.call(acme, key_id=make.key(alice).public_id, **OF_1970) for _ in range(6)))
        client.get(SET_ASIDE)
        with CaptureQueriesContext(connection) as queries:
            client.get(SET_ASIDE)
        asked.append(len(queries))

    assert asked[0] == asked[1]


@pytest.mark.parametrize("path", ["operate/costs/", "operate/costs/requests/"])
def test_figures_say_that_calls_are_missing(path: str, acme: Tenant, fay: User, client_for: ClientFor, globex: Tenant) -> None:
    client = client_for(fay)
    with tenant_context(globex):
        make.record(globex, make.call(globex, **OF_1970))
    before = client.get(f"/o/acme/{path}").content.decode()
    again = make.call(acme, input_tokens=-1)
    make.record(acme, make.call(acme, **OF_1970), make.call(acme, **OF_1970), again)
    make.record(acme, again)

    said = " ".join(client.get(f"/o/acme/{path}").content.decode().split())

    assert "set aside" not in before
    assert "3 calls</b> since" in said
    assert "were set aside and are in no figure: impossible time (2), impossible count (1)." in said
    assert f'href="{SET_ASIDE}"' in said


@pytest.mark.parametrize("path", ["operate/costs/", "operate/costs/requests/"])
def test_figures_of_a_period_lack_what_came_since_it_began(path: str, acme: Tenant, fay: User, client_for: ClientFor) -> None:
    client = client_for(fay)
    make.record(acme, make.call(acme, **OF_1970))
    RejectedInbox.objects.update(received_at=timezone.now() - timedelta(days=20))
    today = timezone.now().date()

    said = {
        days: "in no figure" in client.get(f"/o/acme/{path}?from={today - timedelta(days=days)}&to={today}").content.decode()
        for days in (3, 25)
    }

    assert said == {3: False, 25: True}


def test_summary_counts_no_further_than_it_says(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_aside_selectors, "MOST_COUNTED", 2)
    make.record(acme, *(make.call(acme, **OF_1970) for _ in range(2)))
    exact = set_aside_selectors.summary(acme)
    make.record(acme, *(make.call(acme, **OF_1970) for _ in range(5)))

    more = set_aside_selectors.summary(acme)

    assert exact is not None
    assert more is not None
    assert [(found.calls, found.is_more) for found in (exact, more)] == [(2, False), (2, True)]


def test_it_is_told_once_a_day_to_who_sees_costs(acme: Tenant) -> None:
    make.record(acme, make.call(acme))
    assert not Notice.objects.filter(topic="calls.set_aside").exists()

    make.record(acme, make.call(acme, **OF_1970))
    make.record(acme, make.call(acme, **OF_1970))
    of_today = Notice.objects.get(topic="calls.set_aside")
    Notice.objects.filter(pk=of_today.pk).update(key="calls-set-aside:2026-01-01")
    make.record(acme, make.call(acme, **OF_1970))

    assert Notice.objects.filter(topic="calls.set_aside").count() == 2
    assert (of_today.severity, of_today.permission, f"/o/acme/{of_today.path}") == ("warning", "view_costs", SET_ASIDE)


def test_they_are_kept_as_long_as_single_calls(acme: Tenant, globex: Tenant, calls: list[dict[str, Any]], alice: User) -> None:
    now = datetime(2026, 10, 2, tzinfo=UTC)
    RejectedInbox.objects.exclude(request_id="old").update(received_at=datetime(2026, 6, 30, 23, tzinfo=UTC))
    RejectedInbox.objects.filter(request_id="old").update(received_at=datetime(2026, 7, 1, tzinfo=UTC))
    kept_all = archives.forget_set_aside(at=now)
    archives.set_retention(actor=alice, keep_months=3, archives=True)

    deleted = archives.forget_set_aside(at=now)

    assert (kept_all, deleted) == (0, 2)
    assert set(RejectedInbox.objects.values_list("request_id", flat=True)) == {"old", "theirs"}
    assert AuditEntry.objects.get(event="calls.set_aside_deleted").details["rows"] == 2
    assert archives.forget_set_aside(at=now) == 0
    assert AuditEntry.objects.filter(event="calls.set_aside_deleted").count() == 1


def test_gates_read_how_many_came(acme: Tenant, calls: list[dict[str, Any]]) -> None:
    now = timezone.now()

    reading = metrics.get("attribution.set_aside").read(Window(now - timedelta(hours=2), now + timedelta(minutes=1)))

    assert (reading.value, reading.statistics) == (3.0, {"set_aside": 3, "counted": 1})
