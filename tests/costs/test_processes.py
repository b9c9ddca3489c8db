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
