"""Lists of calls read what they show, and not months of calls: by an index, or the hours that the rollup names. The same calls either way."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Project
from costs import call_filters, call_lists, call_spans, selectors
from costs.archived_calls import Position
from costs.call_lists import Cursor
from costs.models import Event, UsageDay
from governance.models import Membership, Tenant, User
from tests.conftest import LayOut
from tests.factories import costs as make
from tests.factories.rollouts import person

FIRST = datetime(2026, 10, 3, 22, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def calls(lay_out: LayOut) -> str:
    """A common agent in every hour of two days, a rare one at times, some of Bob's key and some refused; the id of that key."""
    own: str = lay_out(_make_calls)
    return own


def _make_calls() -> str:
    acme = Tenant.objects.get(slug="acme")
    make.key(person("alice"))
    own = make.key(person("bob"), project="shop").public_id
    Project.objects.filter(slug="shop").update(environment="production")
    chance = random.Random(4)
    made = []
    for n in range(400):
        at = FIRST + timedelta(minutes=7 * (n // 2))  # two share each moment
        rare = {"agent": "rare", "project": "shop"} if chance.random() < 0.06 else {}
        mine = {"key_id": own} if chance.random() < 0.1 else {}
        refused = make.REFUSED if chance.random() < 0.2 else {}
        made.append(make.call(acme, started_at=at, **{**refused, **rare, **mine}))
    make.record(acme, *made)
    return own


def pages(membership: Membership, chosen: dict[str, str], *, own: bool, size: int, is_newer: bool) -> list[UUID]:
    """All pages from one end to the other, as one list with the newest first."""
    found, cursor = list[UUID](), Cursor(Position(FIRST - timedelta(days=9)), is_newer=True) if is_newer else None
    while True:
        page = call_lists.calls_page(membership=membership, own=own, chosen=chosen, period=None, cursor=cursor, size=size)
        ids = [row.event_id for row in page.rows]
        found = [*ids, *found] if is_newer else [*found, *ids]
        following = page.previous_cursor if is_newer else page.next_cursor
        if following is None:
            return found
        cursor = Cursor.read(following)


@pytest.mark.parametrize("is_newer", [False, True])
@pytest.mark.parametrize(
    ("chosen", "own"),
    [
        ({"agent": "rare"}, False),
        ({"agent": "rare", "status": "failed"}, False),
        ({"agent": "rare", "status": "client_gone"}, False),
        ({"agent": "rare", "project": "shop", "region": "eu"}, False),
        ({"environment": "production"}, False),
        ({"environment": selectors.NONE, "model": "small-chat"}, False),
        ({"agent": "nobody"}, False),
        ({}, True),
        ({"agent": "rare"}, True),
        ({"status": "refused"}, True),
    ],
)
def test_pages_have_the_same_calls(
    chosen: dict[str, str], own: bool, is_newer: bool, calls: str, acme: Tenant, fay: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    membership = Membership.objects.get(user=bob if own else fay)
    every = call_filters.filter_events(selectors.events_visible_to(membership, own=own), chosen).order_by(*call_lists.ORDER)
    expected = list(every.values_list("event_id", flat=True))
    monkeypatch.setattr(call_spans, "FREQUENT", 1)  # also what is frequent

    assert pages(membership, chosen, own=own, size=3, is_newer=is_newer) == expected
    monkeypatch.setattr(call_spans, "MOST_SPANS", 4)
    assert pages(membership, chosen, own=own, size=3, is_newer=is_newer) == expected


def test_rare_value_is_looked_for_in_its_hours_only(calls: str, acme: Tenant, fay: User, monkeypatch: pytest.MonkeyPatch) -> None:
    membership = Membership.objects.get(user=fay)
    monkeypatch.setattr(call_spans, "FREQUENT", 5)

    def statements(chosen: dict[str, str]) -> list[str]:
        with CaptureQueriesContext(connection) as asked:
            call_lists.calls_page(membership=membership, own=False, chosen=chosen, period=None, size=3)
        return [one["sql"] for one in asked if 'FROM "event"' in one["sql"]]

    [rare] = statements({"agent": "rare"})
    [frequent] = statements({"agent": "basket-helper"})

    assert statements({"agent": "nobody"}) == []
    assert 1 <= rare.count('"started_at" >=') <= 4  # the newest hours with four of them
    assert '"started_at" >=' not in frequent
    assert len(statements({"environment": "nowhere"})) == 0


@pytest.mark.parametrize(
    ("chosen", "index"),
    [
        ({}, "started_at_event_id"),
        ({"key": "of-nobody"}, "key_id_started_at"),
        ({"q": "req-1"}, "request_id"),
        ({"code": "budget_exceeded"}, "started_at_idx"),
        ({"pricing": "unpriced", "provider": "none", "model": "none"}, "provider_model_started_at"),
    ],
)
def test_list_has_an_index(chosen: dict[str, str], index: str, calls: str, acme: Tenant) -> None:
    """Also by the partial ones: what is asked must say what they are limited to. Of few rows the planner reads all, unless it is told not to."""
    events: Any = call_filters.filter_events(Event.objects.all(), chosen).order_by(*call_lists.ORDER)[:51]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("ANALYZE event")

    plan = events.explain()

    assert f"event_2026_10_{index}" in plan
    assert "Seq Scan" not in plan


def test_what_is_narrowed_by_is_counted_by_day(acme: Tenant) -> None:
    assert set(selectors.FILTERS) <= set(UsageDay.Dimension.values)
