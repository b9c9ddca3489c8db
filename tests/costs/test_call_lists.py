"""Lists of calls go on into the archive: the same calls in the same order as before they left, whatever the filter and the direction."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.files.storage import default_storage

from costs import archived_calls, call_filters, call_lists
from costs.archived_calls import Position
from costs.call_lists import Cursor
from costs.models import ArchivedMonth, Event
from costs.models.event import DATED_ID
from costs.periods import Period
from costs.services import archives
from governance.models import Membership, Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor
from tests.factories import costs as make

NOW = datetime(2026, 11, 21, 9, 40, tzinfo=UTC)
SEAM = datetime(2026, 7, 1, tzinfo=UTC)
SUMMER = Period(date(2026, 5, 20), date(2026, 7, 2))
JUNE_ON = Period(date(2026, 6, 1), date(2026, 7, 2))
LACKING = [["tags:required", "would_refuse", 3, "team=ok cost.centre=missing owner=ok"]]
FALSE = [["identify", "pass", 4, '["tags:required", "pass", 3, "cost.centre=missing"]']]


@pytest.fixture
def before(acme: Tenant, alice: User) -> Iterator[list[UUID]]:
    """Ids of calls around two ends of months, as they were listed when all were in the database."""
    make.prices(alice)
    key = make.key(alice)
    made = []
    for end in (datetime(2026, 6, 1, tzinfo=UTC), SEAM):
        for n in range(-9, 9):
            # Three calls share each moment: their order is that of their ids.
            at = end + timedelta(hours=5 * (n // 3)) - timedelta(microseconds=1 if n < 0 else 0)
            of_some = {"key_id": key.public_id, "steps": LACKING, "tags": {"cost.centre": "c1"}} if n % 4 == 0 else {"steps": FALSE}
            made.append(make.call(acme, started_at=at, project="shop" if n % 2 else None, request_id=f"r{n}", **of_some))
    at = SEAM - timedelta(days=3)
    dated = UUID(int=int(at.timestamp() * 1000) << 80 | DATED_ID << 76 | 2 << 62)
    made.append(make.call(acme, event_id=dated, started_at=at, **make.REFUSED))
    make.record(acme, *made)
    yield listed({})
    for month in ("2026-05", "2026-06"):
        default_storage.delete(f"{acme.schema_name}/events/{month}.parquet")


def listed(chosen: dict[str, str], period: Period | None = None) -> list[UUID]:
    return list(call_filters.filter_events(Event.objects.order_by(*call_lists.ORDER), chosen, period).values_list("event_id", flat=True))


def archive(actor: User) -> None:
    archives.set_retention(actor=actor, keep_months=3, archives=True)
    archives.archive_due(at=datetime(2026, 10, 2, tzinfo=UTC))


def forward(membership: Membership, chosen: dict[str, str], period: Period | None = None, *, size: int = 50) -> list[UUID]:
    """All pages to the end."""
    found, cursor = list[UUID](), None
    while True:
        page = call_lists.calls_page(membership=membership, own=False, chosen=chosen, period=period, cursor=cursor, size=size)
        assert all(row.is_archived == page.is_archived == (row.started_at < SEAM) for row in page.rows)
        found += [row.event_id for row in page.rows]
        if page.next_cursor is None:
            return found
        cursor = Cursor.read(page.next_cursor)


def backward(membership: Membership, chosen: dict[str, str], *, size: int) -> list[UUID]:
    """All pages from before the oldest call to the newest."""
    found, cursor = list[UUID](), Cursor(Position(datetime(2026, 1, 1, tzinfo=UTC)), is_newer=True)
    while True:
        page = page_at(membership, chosen, cursor, size=size)
        found = [row.event_id for row in page.rows] + found
        if page.previous_cursor is None:
            return found
        before = Cursor.read(page.previous_cursor)
        assert before is not None
        cursor = before


def page_at(membership: Membership, chosen: dict[str, str], cursor: Cursor | None, *, size: int) -> call_lists.Calls:
    return call_lists.calls_page(membership=membership, own=False, chosen=chosen, period=None, cursor=cursor, size=size)


def turned(membership: Membership, chosen: dict[str, str], *, size: int) -> list[call_lists.Calls]:
    """The last page of the database, the first of files, back again, and on again."""
    pages = [page_at(membership, chosen, None, size=size)]
    for name in ("next_cursor", "previous_cursor", "next_cursor"):
        pages.append(page_at(membership, chosen, Cursor.read(getattr(pages[-1], name)), size=size))
    return pages


def test_archived_calls_follow_in_the_same_order_in_both_directions(
    acme: Tenant, alice: User, fay: User, before: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[dict[str, str], Period | None]] = [
        ({"project": "shop"}, SUMMER), ({"project": "(none)", "status": "ok"}, None), ({"status": "refused"}, None), ({"status": "errors"}, None),
        ({"tag": "cost.centre"}, None), ({"tag": "(any)"}, Period(date(2026, 5, 1), date(2026, 6, 1))), ({"tag": "costXcentre"}, None),
        ({"tag": "%"}, None), ({"q": "r-3"}, None), ({"code": "budget_exceeded", "pricing": "unpriced"}, None), ({"status": "failed"}, SUMMER),
        ({"tag:cost.centre": "c1"}, None), ({"tag:cost.centre": "(none)", "region": "eu"}, SUMMER),
    ]  # fmt: skip
    expected, since_june = [listed(*one) for one in asked], listed({}, JUNE_ON)
    own = list(Event.objects.filter(key_id=Event.objects.get(request_id="r0", started_at=SEAM).key_id).values_list("event_id", flat=True))
    archive(alice)
    membership, owner = (Membership.objects.get(user=user) for user in (fay, alice))

    assert ArchivedMonth.objects.count() == 2
    assert len(before) == 37
    # Pages of nine end among the calls that began when June did, and the last of the database is full.
    assert forward(membership, {}, size=9) == backward(membership, {}, size=8) == before
    assert forward(membership, {}, JUNE_ON, size=9) == since_june
    assert [forward(membership, *one) for one in asked] == expected
    for chosen in ({}, {"status": "refused"}):  # of the second kind none is in the database
        pages = turned(membership, chosen, size=9)
        assert [[row.event_id for row in page.rows] for page in pages[2:]] == [[row.event_id for row in page.rows] for page in pages[:2]]
        assert [page.goes_on for page in pages] == [True, False, True, False]
    # Nothing is newer than the newest of the files: it is the first again from there.
    newest = pages[1].rows[0]
    nothing = Cursor(Position(newest.started_at, newest.event_id), is_newer=True)
    empty = page_at(membership, chosen, nothing, size=9)
    again = page_at(membership, chosen, Cursor.read(empty.next_cursor or ""), size=9)
    assert ([*empty.rows], [row.event_id for row in again.rows]) == ([], [newest.event_id])
    assert len(expected[0]) > 10
    own_page = call_lists.calls_page(membership=owner, own=True, chosen={}, period=Period(date(2026, 5, 1), date(2026, 6, 30)))
    assert [row.event_id for row in own_page.rows] == own[-len(own_page.rows) :]
    assert len(own_page.rows) > 5
    # Looking at few calls at a time: pages are short or empty, and nothing is lost.
    monkeypatch.setattr(archived_calls, "STEP_ROWS", 2)
    monkeypatch.setattr(archived_calls, "MOST_ROWS", 12)
    assert forward(membership, {"q": "r-3"}) == backward(membership, {"q": "r-3"}, size=3) == expected[8]


def test_page_and_endpoint_say_what_is_from_the_archive(
    acme: Tenant, alice: User, fay: User, before: list[UUID], client_for: ClientFor, api_for: ClientFor, django_assert_max_num_queries: Any
) -> None:
    archive(alice)
    page, by_fay, program = "/o/acme/operate/costs/requests/", client_for(fay), api_for(fay)

    first = by_fay.get(page)
    following = f"{page}?cursor={first.context['page'].next_cursor}"
    by_fay.get(following)  # what is asked once of a file
    with django_assert_max_num_queries(30):
        second = by_fay.get(following).content.decode()
    nothing = by_fay.get(f"{page}?q=nowhere")
    no_more = by_fay.get(f"{page}?q=nowhere&cursor={nothing.context['page'].next_cursor}").content.decode()
    may = program.get("/api/v1/requests/?from=2026-05-01&to=2026-05-31&limit=5").json()
    rest = program.get(may["next"]).json()
    open_ended = [program.get(f"/api/v1/requests/?{end}&limit=200").json()["results"] for end in ("to=2026-06-30", "from=2024-01-01")]
    dated = next(one for one in before if one.version == DATED_ID)

    assert "They follow behind the last of these" in first.content.decode()
    assert second.count('<td class="full') > 20
    assert "From the archive" in second
    assert "None in the database" in nothing.content.decode()
    assert "No more in the archive" in no_more
    assert "Previous</a>" in no_more
    assert "No request matches" in by_fay.get(f"{page}?q=nowhere&from=2026-05-01&to=2026-05-02").content.decode()
    assert [len(may["results"]), len(rest["results"]), rest["next"]] == [5, 4, None]
    assert {row["is_archived"] for row in may["results"] + rest["results"]} == {True}
    assert [row["event_id"] for row in may["results"] + rest["results"]] == [str(one) for one in before[-9:]]
    assert [[row["event_id"] for row in rows] for rows in open_ended] == [
        [str(one) for one in before[9:]],
        [str(one) for one in before[:9]],
    ]
    # Only the ids of the gateway say when it was.
    assert f'/requests/{dated}/"' in second
    assert f'/requests/{before[-1]}/"' not in second
    assert [program.get(f"/api/v1/requests/{one}/").status_code for one in (dated, before[-1])] == [200, 404]
    assert program.get("/api/v1/requests/?cursor=ours").status_code == 404
    assert program.get("/api/v1/requests/?from=2026-06-02&to=2026-06-01").status_code == 400
    enter_tenant(acme)
    path = f"{acme.schema_name}/events/2026-05.parquet"
    Path(default_storage.path(path)).write_bytes(b"PAR1 something else")
    assert by_fay.get(f"{page}?from=2026-05-01&to=2026-05-31").status_code == 302
    assert program.get("/api/v1/requests/?from=2026-05-01&to=2026-05-31").json()["code"] == "archive_unreadable"
    enter_tenant(acme)
    ArchivedMonth.objects.filter(month=date(2026, 5, 1)).update(path="", sha256="")
    assert "single calls of May 2026" in by_fay.get(f"{page}?from=2026-05-01&to=2026-07-01").content.decode()
