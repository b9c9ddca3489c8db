"""Months leave the database without a cent or a call lost, and are read back as they were."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, transaction

from costs import archive_selectors, export_selectors, price_sheets
from costs.errors import ArchiveError, PriceValueError
from costs.models import ArchivedMonth, Event, RejectedInbox, UsageHour
from costs.periods import Period
from costs.services import archives, exports, price_proposals, prices
from governance import metrics
from governance.metrics import NO_DATA, Window
from governance.models import AuditEntry, Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor
from tests.factories import costs as make

NOW = datetime(2026, 11, 21, 9, 40, tzinfo=UTC)
MAY = datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
SPAN = Period(date(2026, 5, 30), date(2026, 6, 2))


def seventh(at: datetime) -> uuid.UUID:
    """An id as the gateway makes it."""
    return uuid.UUID(int=(int(at.timestamp() * 1000) << 80) | (uuid.uuid4().int & ((1 << 80) - 1)) & ~(0xF << 76) | (7 << 76))


@pytest.fixture
def calls(acme: Tenant, alice: User) -> Iterator[list[dict[str, Any]]]:
    """Two months to leave and one to stay; with texts that a careless CSV would change."""
    make.deployment(alice)
    make.prices(alice, input="0.15", output="0.60")
    made = [
        make.call(acme, event_id=seventh(MAY), started_at=MAY, request_id="\\N", agent='a "b",\nc', cached_input_tokens=300),
        make.call(acme, event_id=seventh(JUNE), started_at=JUNE, tags={"NULL": "ä — \\N"}, units={"audio_input": 12}),
        make.call(acme, event_id=seventh(JUNE + timedelta(days=1)), started_at=JUNE + timedelta(days=1), agent="NULL", region=None),
        make.call(acme, event_id=seventh(JUNE), started_at=JUNE, **make.REFUSED),
        make.call(acme, started_at=JUNE, model="nameless"),
        make.call(acme, started_at=NOW - timedelta(days=80)),
    ]
    make.record(acme, *made)
    yield made
    for path in ("2026-05", "2026-06"):
        default_storage.delete(f"{acme.schema_name}/events/{path}.parquet")


def keep_three(actor: User, *, archives_too: bool = True) -> None:
    archives.set_retention(actor=actor, keep_months=3, archives=archives_too)


@transaction.atomic
def archive_and_die(month: date) -> None:
    """Everything but the commit."""
    archives.archive_month(month=month, at=NOW)
    raise KeyboardInterrupt


def test_months_leave_whole_and_no_figure_changes(
    acme: Tenant, alice: User, calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = set[int]()
    monkeypatch.setattr(os, "fsync", lambda opened: flushed.add(os.fstat(opened).st_ino))
    events = {row["event_id"]: row for row in Event.objects.values()}
    hours = list(UsageHour.objects.order_by("pk").values())
    assert archives.archive_due(at=NOW) == []  # nobody asked for it
    keep_three(alice)

    done = archives.archive_due(at=NOW)

    assert [(one.month, one.events, one.unpriced_events) for one in done] == [(date(2026, 5, 1), 1, 0), (date(2026, 6, 1), 4, 2)]
    assert sum(one.cost for one in done) == sum(
        row["cost"] or 0 for row in events.values() if row["started_at"] < datetime(2026, 7, 1, tzinfo=UTC)
    )
    assert done[1].days["2026-06-02"]["cost"] == "0.00027"
    assert done[0].path == f"{acme.schema_name}/events/2026-05.parquet"
    file = Path(default_storage.path(done[0].path))
    assert {file.stat().st_ino, file.parent.stat().st_ino} <= flushed
    assert Event.objects.get().event_id == calls[-1]["event_id"]
    assert list(UsageHour.objects.order_by("pk").values()) == hours
    for event_id in (calls[0]["event_id"], calls[1]["event_id"], calls[3]["event_id"]):
        read = archive_selectors.event(event_id)
        assert {name: getattr(read, name) for name in events[event_id]} == events[event_id]
    assert archive_selectors.event(calls[4]["event_id"]) is None  # an id that does not say when
    assert archives.archive_due(at=NOW) == []
    assert AuditEntry.objects.filter(event="events.archived").count() == 2
    # Only the file that has a call that may be seen is checked whole.
    ArchivedMonth.objects.update(sha256="another")
    assert archive_selectors.event(seventh(MAY)) is None
    assert archive_selectors.event(uuid.UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")) is None
    assert archive_selectors.event(calls[0]["event_id"], keys=["another"]) is None
    with pytest.raises(ArchiveError, match="checksum"):
        archive_selectors.event(calls[0]["event_id"], keys=[events[calls[0]["event_id"]]["key_id"]])


def test_export_reads_the_archive_as_they_read_events(alice: User, calls: list[dict[str, Any]]) -> None:
    def exported() -> bytes:
        return b"".join(exports.export(dataset="focus", file="csv", period=SPAN, chosen={}, actor=alice))

    waiting = [NOW]

    def archiving_meanwhile(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if "FROM event e" in sql and params[0].day == MAY.day and waiting:
            archives.archive_due(at=waiting.pop())
        return execute(sql, params, many, context)

    before = exported()
    assert before.count(b"\n") > 5
    keep_three(alice)
    with connection.execute_wrapper(archiving_meanwhile):
        assert exported() == before
    assert (waiting, ArchivedMonth.objects.count()) == ([], 2)

    assert exported() == before


def test_late_call_of_a_month_that_left_is_set_aside(acme: Tenant, alice: User, calls: list[dict[str, Any]]) -> None:
    keep_three(alice)
    archives.archive_due(at=NOW)
    before = UsageHour.objects.count()

    done = make.record(acme, calls[0], make.call(acme, started_at=JUNE), make.call(acme, started_at=datetime(2026, 7, 1, tzinfo=UTC)))

    assert (done.taken, done.new, done.rejected) == (3, 1, 2)
    assert set(RejectedInbox.objects.values_list("reason", flat=True)) == {"archived_month"}
    assert UsageHour.objects.count() == before + 1


def test_a_run_that_dies_leaves_the_calls_and_is_done_again(acme: Tenant, alice: User, calls: list[dict[str, Any]]) -> None:
    keep_three(alice)
    default_storage.save(f"{acme.schema_name}/events/2026-06.parquet", ContentFile(b"half of a file"))
    with pytest.raises(KeyboardInterrupt):
        archive_and_die(date(2026, 5, 1))
    assert (Event.objects.count(), ArchivedMonth.objects.count()) == (6, 0)

    done = archives.archive_due(at=NOW)

    assert [one.events for one in done] == [1, 4]
    archive_selectors.check_readable(SPAN)
    assert sorted(default_storage.listdir(f"{acme.schema_name}/events")[1]) == ["2026-05.parquet", "2026-06.parquet"]


def test_months_wait_for_a_correction_and_take_two_people_for_a_price_afterwards(
    alice: User, fay: User, calls: list[dict[str, Any]]
) -> None:
    keep_three(alice)
    offer = price_sheets.Offer("openai", "small-chat", "input", Decimal("0.20"), datetime(2025, 1, 1, tzinfo=UTC), "Invoice", corrects=True)
    [proposal] = price_proposals.propose(offers=[offer], name="2025", actor=fay).proposals.all()
    waiting = [proposal]

    def approving_meanwhile(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql == "SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))" and waiting:
            price_proposals.approve(proposal=waiting.pop(), actor=alice)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(approving_meanwhile):
        assert archives.archive_due(at=NOW) == []
    assert waiting == []
    assert archives.archive_due(at=NOW) == []
    assert Event.objects.count() == 6
    prices.finish_corrections()
    assert [one.events for one in archives.archive_due(at=NOW)] == [1, 4]

    series: dict[str, Any] = {"provider": "openai", "model": "small-chat", "token_class": "output", "actor": fay}
    prices.set_price(**series, price=Decimal(8), valid_from=datetime(2026, 7, 1, tzinfo=UTC), agreed=True)
    with pytest.raises(PriceValueError, match="propose it"):  # for calls that only the rollup knows
        prices.set_price(**series, price=Decimal(9), valid_from=JUNE)


def test_damaged_or_deleted_months_are_said_never_guessed(
    acme: Tenant, alice: User, fay: User, calls: list[dict[str, Any]], client_for: ClientFor
) -> None:
    keep_three(alice)
    archives.archive_month(month=date(2026, 5, 1), at=NOW)
    path = f"{acme.schema_name}/events/2026-05.parquet"
    Path(default_storage.path(path)).write_bytes(b"PAR1 something else")
    keep_three(alice, archives_too=False)
    written = default_storage.save(f"{acme.schema_name}/events/2026-06.parquet", ContentFile(b"of a run that had to wait"))
    june = archives.archive_month(month=date(2026, 6, 1), at=NOW)
    assert june is not None
    assert (june.path, june.events, default_storage.exists(written)) == ("", 4, False)
    assert AuditEntry.objects.filter(event="events.deleted").count() == 1
    client = client_for(fay)

    with pytest.raises(ArchiveError, match="checksum"):
        archives.download(archived=ArchivedMonth.objects.get(month=date(2026, 5, 1)), actor=alice)
    with pytest.raises(ArchiveError, match="were deleted"):
        list(export_selectors.focus_rows(Period(date(2026, 6, 1), date(2026, 6, 1)), {}))
    for url in (
        "operate/costs/archive/2026-05.parquet",
        "operate/costs/export/focus.csv?from=2026-06-01&to=2026-06-02",
        f"requests/{calls[0]['event_id']}/",
    ):
        assert client.get(f"/o/acme/{url}").status_code == 302
    enter_tenant(acme)
    default_storage.delete(path)
    with pytest.raises(ArchiveError, match="is gone"):
        archive_selectors.check_readable(SPAN)


def test_archived_call_has_its_page_for_who_may_see_it(
    acme: Tenant, alice: User, fay: User, rita: User, calls: list[dict[str, Any]], client_for: ClientFor, api_for: ClientFor
) -> None:
    keep_three(alice)
    archives.archive_due(at=NOW)
    url = f"/requests/{calls[2]['event_id']}/"

    assert "NULL" in client_for(fay).get(f"/o/acme{url}").content.decode()
    assert client_for(rita).get(f"/o/acme{url}").status_code == 404
    assert api_for(fay).get(f"/api/v1{url}").json()["cost_usd"] == "0.00027"
    assert client_for(fay).get(f"/o/acme/requests/{uuid.uuid4()}/").status_code == 404
    assert "Calls before Jul 1, 2026" in client_for(fay).get("/o/acme/operate/costs/requests/").content.decode()


def test_page_and_endpoints(
    acme: Tenant, alice: User, fay: User, audra: User, calls: list[dict[str, Any]], client_for: ClientFor, api_for: ClientFor,
    django_assert_max_num_queries: Any,
) -> None:  # fmt: skip
    owner, program = client_for(alice), api_for(alice)
    page = "/o/acme/operate/costs/archive/"
    assert "Every single call stays" in owner.get(page).content.decode()
    assert owner.post(f"{page}retention/", {"keep_months": "2"}).status_code == 422
    assert program.put("/api/v1/archive/retention/", {"keep_months": 2, "archives": True}, "application/json").status_code == 400
    assert owner.post(f"{page}retention/", {"keep_months": "3", "archives": "on"}).status_code == 302
    assert program.get("/api/v1/archive/retention/").json() == {"keep_months": 3, "archives": True}
    enter_tenant(acme)
    assert AuditEntry.objects.filter(event="event_retention.changed").count() == 1
    archives.archive_due(at=NOW)

    with django_assert_max_num_queries(18):
        shown = owner.get(page).content.decode()
    assert "May 2026" in shown
    listed = program.get("/api/v1/archive/").json()["results"]
    assert [one["month"] for one in listed] == ["2026-06-01", "2026-05-01"]
    file = b"".join(program.get("/api/v1/archive/2026-06/file/"))
    assert hashlib.sha256(file).hexdigest() == listed[0]["sha256"]
    assert program.get("/api/v1/archive/2026-07/file/").status_code == 404


def test_metric_says_what_is_overdue(alice: User, calls: list[dict[str, Any]]) -> None:
    metric, window = metrics.get("archive.overdue_months"), Window(NOW - timedelta(days=1), NOW)
    assert metric.read(window) == NO_DATA
    keep_three(alice)
    assert metric.read(window).value == 2
    archives.archive_due(at=NOW)
    assert metric.read(window).value == 0
