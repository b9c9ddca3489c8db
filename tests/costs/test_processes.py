"""Whole processes on a database of their own: several workers at once, and one that is killed."""

from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest

from tests.bootstrap import ROOT

pytestmark = pytest.mark.process

CALLS = 1500
_SCRIPT = f"""
import os, signal, time, traceback
from datetime import timedelta
import django
django.setup()
from django.db import connection
from django.utils import timezone
from costs.models import Event, Inbox
from costs.services import ingest
from governance.models import Tenant, User
from governance.schema import enter_tenant
from tests.factories import costs as make

def work():
    while Inbox.objects.exists():
        ingest.ingest(tenant=tenant, batch_size=40)

def start(act):
    # A process of its own, killed as any other; it only spares the start of Django. Nobody holds a connection when it forks.
    connection.close()
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid

tenant = Tenant.objects.get(slug="acme")
enter_tenant(tenant)
make.prices(User.objects.get(email="alice@example.com"))
began = timezone.now() - timedelta(hours=3)
make.deliver(*[make.call(tenant, started_at=began + timedelta(seconds=n), input_tokens=n, agent=f"agent-{{n % 7}}") for n in range({CALLS})], times=2)
first, second = start(work), start(work)
while Event.objects.count() < 100:  # until the first batches are through
    time.sleep(0.02)
assert Event.objects.count() < {CALLS}, "they were done before one could be killed"
os.kill(second, signal.SIGKILL)
assert os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]) == -signal.SIGKILL
third = start(work)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (first, third)] == [0, 0]
"""


def test_workers_at_once_and_one_killed_change_no_total(fresh_database: str) -> None:
    subprocess.run([sys.executable, "-c", _SCRIPT], cwd=ROOT, env={**os.environ, "DATABASE_URL": fresh_database}, check=True, timeout=120)

    with psycopg.connect(fresh_database, autocommit=True) as database:
        events, cost = database.execute("SELECT count(*), sum(cost) FROM t_acme.event").fetchone()  # type: ignore[misc]
        rolled = database.execute("SELECT sum(calls), sum(cost) FROM t_acme.usage_hour").fetchone()
        by_class = database.execute("SELECT sum(tokens), sum(cost) FROM t_acme.token_day").fetchone()
        waiting = database.execute("SELECT count(*) FROM public.inbox").fetchone()
    tokens = sum(range(CALLS)) + 200 * CALLS
    assert events == CALLS
    assert rolled == (CALLS, cost)
    assert by_class == (tokens, cost)
    assert waiting == (0,)


_BILL_SCRIPT = """
import io, os, signal, time, traceback
from datetime import date
from decimal import Decimal
import django
django.setup()
import psycopg
from django.db import connection
from costs import generator
from costs.models import BillFile, BillRow, Reconciliation, ReconciliationLine, Revision
from costs.services import bills, ingest, reconciliation
from governance.models import AuditEntry, Tenant, User
from governance.schema import enter_tenant
from tests.factories import costs as make

MONTH, HELD = date(2026, 10, 1), 4711
tenant, alice = Tenant.objects.get(slug="acme"), User.objects.get(email="alice@example.com")
enter_tenant(tenant)
make.deployment(alice)
make.prices(alice)
offers = [generator.Offer("small-chat", "gpt-small", {"input": Decimal("1.00"), "output": Decimal("4.00")})]
made = generator.generate(
    tenant=tenant.public_id, provider="openai", provider_name="OpenAI", account="prod", month=MONTH, offers=offers, seed=3, calls_per_day=4,
    faults=generator.Faults(missing_calls=2),
)
ingest.deliver(made.calls)
ingest.ingest(tenant=tenant)
dearer = [row | {"BilledCost": "1", "EffectiveCost": "1"} for row in made.rows[:3]] + made.rows[3:]

def upload(rows):
    return bills.import_bill(file=io.BytesIO(generator.to_csv(rows)), name="bill.csv", actor=alice, provider="openai", style="replacement")

def compare():
    return reconciliation.reconcile(provider="openai", month=MONTH)

def stand():
    kinds = (BillFile, BillRow, Reconciliation, Revision, ReconciliationLine, AuditEntry)
    return [kind.objects.count() for kind in kinds] + sorted(BillRow.objects.values_list("fingerprint", "file_id"))

watcher = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)

def ask(query):
    return watcher.execute(query).fetchone()[0]

def killed_at(model, act):
    # A trigger holds the worker once it has written rows of the model; there it is killed.
    with connection.cursor() as cursor:
        cursor.execute("CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(%d); RETURN NULL; END $$" % HELD)
        cursor.execute("CREATE TRIGGER hold AFTER INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION hold()" % model._meta.db_table)
    before = stand()
    ask("SELECT pg_advisory_lock(%d)" % HELD)
    connection.close()
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    while not ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %d AND NOT granted" % HELD):
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it was done before it could be killed"
        time.sleep(0.02)
    enter_tenant(tenant)
    assert stand() == before, "a half result was seen"
    connection.close()
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    ask("SELECT pg_advisory_unlock(%d)" % HELD)
    while ask("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"):
        time.sleep(0.02)
    enter_tenant(tenant)
    assert stand() == before, "a half result stayed"
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION hold() CASCADE")

killed_at(BillRow, lambda: upload(made.rows))
killed_at(AuditEntry, lambda: upload(made.rows))
first = upload(made.rows)
assert (first.is_new, first.file.rows_accepted, upload(made.rows).is_new) == (True, len(made.rows), False)
killed_at(Revision, compare)
killed_at(ReconciliationLine, compare)
killed_at(AuditEntry, compare)
revision, is_new = compare()
found = {cause["cause"]: Decimal(cause["amount"]) for cause in revision.causes}
assert (revision.number, is_new, found, compare()) == (1, True, made.truth, (revision, False)), found
killed_at(BillRow, lambda: upload(dearer))
killed_at(AuditEntry, lambda: upload(dearer))
[delivery] = upload(dearer).file.deliveries.all()
assert (delivery.rows_gone, delivery.rows_new, delivery.rows_changed, delivery.rows_kept) == (3, 3, 3, len(made.rows) - 3)
assert compare()[0].number == 2
print("as if nobody had killed anything")
"""


@pytest.mark.soak  # some seconds; that one transaction makes it so is plain from the code
def test_killed_imports_and_comparisons_leave_nothing_half_and_end_the_same(fresh_database: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _BILL_SCRIPT],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": fresh_database},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "as if nobody had killed anything"
