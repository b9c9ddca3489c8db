"""Imports that are on their way are seen by others, and stopped: each on a connection of its own, as in requests of their own."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from threading import Event

import psycopg
import pytest
from django.db import connection
from django_tenants.utils import schema_context

from costs import bill_imports, generator
from costs.errors import BillStateError, BillStoppedError
from costs.models import BillFile, BillRow, BillSource, BillSourceFile
from costs.services import bill_rows, bill_sources, bills
from governance.models import AuditEntry, Tenant, User
from tests import cast
from tests.conftest import TenantClient
from tests.costs import stores as doubles
from tests.costs.services.test_bill_folders import LATER, azure_source
from tests.factories import costs as make

LIST = "/o/acme/operate/costs/reconciliation/"
ID = "0123456789abcdef"
ROW = dict.fromkeys(generator.COLUMNS, "") | {
    "BilledCost": "2.5",
    "EffectiveCost": "2.5",
    "BillingCurrency": "USD",
    "BillingAccountId": "prod",
    "BillingPeriodStart": "2026-10-01T00:00:00Z",
    "BillingPeriodEnd": "2026-11-01T00:00:00Z",
    "ChargePeriodStart": "2026-10-05T00:00:00Z",
    "ChargePeriodEnd": "2026-10-06T00:00:00Z",
    "ChargeCategory": "Usage",
    "ServiceProviderName": "OpenAI",
    "ServiceName": "OpenAI API",
}
SECONDS = 30


class Held(BytesIO):
    """A file of some megabytes that is held once its rows have begun to be read."""

    def __init__(self) -> None:
        super().__init__(generator.to_csv({**ROW, "ChargeDescription": f"charge {n:0400}"} for n in range(8000)))
        self.is_digested = False
        self.is_reached, self.is_released = Event(), Event()

    def read(self, size: int | None = -1) -> bytes:
        if self.is_digested and self.tell() > bill_rows.CHUNK:
            self.is_reached.set()
            assert self.is_released.wait(SECONDS)
        chunk = super().read(size)
        self.is_digested |= not chunk
        return chunk


def _import(tenant: Tenant, file: Held) -> BillFile:
    try:
        with schema_context(tenant.schema_name):
            fay = User.objects.get(email=cast.email("fay"))
            return bills.import_bill(file=file, name="october.csv", actor=fay, import_id=ID).file
    finally:
        connection.close()


def _seen_reading(file: Held) -> bill_imports.Running:
    """What others see of it while it is held."""
    assert file.is_reached.wait(SECONDS)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:  # the server counts rows a little after they are sent
        [found] = bill_imports.running()
        if found.rows:
            return found
        time.sleep(0.02)
    raise AssertionError("no row was counted")


def test_import_is_seen_while_it_reads_and_stopped_by_somebody_else(committed: Tenant) -> None:
    file, adam = Held(), User.objects.get(email=cast.email("alice"))
    with ThreadPoolExecutor(1) as pool:
        running: Future[BillFile] = pool.submit(_import, committed, file)
        try:
            seen = _seen_reading(file)
            with schema_context("public"):
                elsewhere = bill_imports.running()
            bills.stop_import(import_id=ID, actor=adam)
        finally:
            file.is_released.set()
        with pytest.raises(BillStoppedError):
            running.result(SECONDS)

    assert (seen.id, seen.person, seen.phase, elsewhere) == (ID, "Fay", "reading", [])
    assert seen.said == f"{seen.rows:,} rows are read"
    assert file.tell() < len(file.getvalue()), "it went on reading after it was stopped"
    assert (BillFile.objects.count(), BillRow.objects.count(), bill_imports.running()) == (0, 0, [])
    assert AuditEntry.objects.get(event="bill.stop_asked").actor == adam


def test_import_whose_connection_ends_was_stopped_by_nobody(committed: Tenant) -> None:
    file, again = Held(), Held()
    again.is_released.set()
    with ThreadPoolExecutor(1) as pool:
        running: Future[BillFile] = pool.submit(_import, committed, file)
        try:
            _seen_reading(file)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s", [f"bill:%:{ID}"])
        finally:
            file.is_released.set()
        with pytest.raises(psycopg.OperationalError):
            running.result(SECONDS)

        assert file.tell() < len(file.getvalue()), "it went on reading after the connection had ended"
        assert BillRow.objects.count() == 0
        assert pool.submit(_import, committed, again).result(SECONDS).rows_in == 8000


def test_notice_of_the_server_costs_no_row(acme: Tenant, fay: User) -> None:
    file = Held()
    file.is_released.set()
    with connection.cursor() as cursor:  # what a trigger says is said while rows are copied
        cursor.execute("""
            CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'by the way'; RETURN NULL; END $$;
            CREATE FUNCTION listen() RETURNS event_trigger LANGUAGE plpgsql AS
                $$ BEGIN
                    IF to_regclass('bill_staging') IS NOT NULL THEN
                        CREATE OR REPLACE TRIGGER says BEFORE INSERT ON bill_staging FOR EACH STATEMENT EXECUTE FUNCTION say();
                    END IF;
                END $$;
            CREATE EVENT TRIGGER listens ON ddl_command_end WHEN TAG IN ('CREATE TABLE AS') EXECUTE FUNCTION listen();
        """)

    bill = bills.import_bill(file=file, name="october.csv", actor=fay).file

    assert (bill.rows_in, bill.rows_accepted) == (8000, 8000)


def test_pages_show_an_import_and_stop_it(committed: Tenant) -> None:
    file, client = Held(), TenantClient()
    with schema_context("public"):
        client.force_login(User.objects.get(email=cast.email("alice")))
    with ThreadPoolExecutor(1) as pool:
        running: Future[BillFile] = pool.submit(_import, committed, file)
        try:
            seen = _seen_reading(file)
            page = client.get(LIST).content.decode()
            fragment = client.get(f"{LIST}imports/", headers={"HX-Request": "true"}).content.decode()
            stopped = client.post(f"{LIST}imports/{ID}/stop/", headers={"HX-Request": "true"})
        finally:
            file.is_released.set()
        with pytest.raises(BillStoppedError):
            running.result(SECONDS)
    again = client.post(f"{LIST}imports/{ID}/stop/", headers={"HX-Request": "true"})
    told = client.post(f"{LIST}imports/{ID}/stop/", follow=True)
    over = client.get(f"{LIST}imports/", headers={"HX-Request": "true"})

    for html in (page, fragment):
        assert f'data-import="{ID}">{seen.said}<' in html
        assert 'data-poll="2"' in html
    assert (stopped.status_code, again.status_code) == (204, 409)
    assert "not running any more" in told.content.decode()
    assert "imports-ended" in over.headers["HX-Trigger"], "the lists of the page that waited for it are asked for again"


def test_nothing_runs_that_could_be_stopped(acme: Tenant, fay: User) -> None:
    assert bill_imports.running() == []
    with pytest.raises(BillStateError):
        bills.stop_import(import_id=ID, actor=fay)
    assert not AuditEntry.objects.filter(event="bill.stop_asked").exists()


def _cut_off(tenant: Tenant, is_watching: Event) -> None:
    """End the connection of the next import that begins."""
    deadline, is_done = time.monotonic() + SECONDS, False
    try:
        with schema_context(tenant.schema_name), connection.cursor() as cursor:
            while not is_done and time.monotonic() < deadline:
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_copy WHERE datname = current_database()")
                is_done = cursor.fetchone() is not None
                is_watching.set()
    finally:
        connection.close()
    assert is_done


def test_delivery_whose_import_lost_its_connection_is_tried_again(committed: Tenant) -> None:
    make.deployment(User.objects.get(email=cast.email("alice")))
    with doubles.stores() as stores, ThreadPoolExecutor(1) as pool:
        stores.put("exports/october.csv", Held().getvalue(), datetime.now(UTC) - timedelta(hours=9))
        source = azure_source(User.objects.get(email=cast.email("fay")), stores)
        is_watching = Event()
        cut = pool.submit(_cut_off, committed, is_watching)
        assert is_watching.wait(SECONDS)
        lost = bill_sources.fetch(source=source, at=LATER).folder
        cut.result(SECONDS)
        noted = BillSourceFile.objects.get()
        again = bill_sources.fetch(source=BillSource.objects.get(), at=LATER + timedelta(hours=1)).folder

    assert lost is not None
    assert again is not None
    assert (lost.failed, lost.taken, noted.version, again.taken, again.rows) == (1, 0, "", 1, 8000)
