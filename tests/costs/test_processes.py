"""Whole processes on a database of their own: several workers at once, and one that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.bootstrap import ROOT

pytestmark = pytest.mark.process

CALLS = 3000
_SETUP = """
import django
django.setup()
from governance.models import Tenant
from governance.schema import enter_tenant
tenant = Tenant.objects.get(slug="acme")
enter_tenant(tenant)
"""
_DELIVER = (
    _SETUP
    + f"""
from datetime import timedelta
from django.utils import timezone
from governance.models import User
from tests.factories import costs as make
make.prices(User.objects.get(email="alice@example.com"))
start = timezone.now() - timedelta(hours=3)
make.deliver(*[make.call(tenant, started_at=start + timedelta(seconds=n), input_tokens=n, agent=f"agent-{{n % 7}}") for n in range({CALLS})], times=2)
"""
)
_WORK = (
    _SETUP
    + """
from costs.models import Inbox
from costs.services import ingest
while Inbox.objects.exists():
    ingest.ingest(tenant=tenant, batch_size=40)
"""
)


@contextmanager
def process(script: str, url: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "DATABASE_URL": url})
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait(timeout=10)


def test_workers_at_once_and_one_killed_change_no_total(fresh_database: str) -> None:
    with process(_DELIVER, fresh_database) as delivering:
        assert delivering.wait(timeout=60) == 0

    with (
        psycopg.connect(fresh_database, autocommit=True) as database,
        process(_WORK, fresh_database) as first,
        process(_WORK, fresh_database) as second,
    ):
        deadline = time.monotonic() + 60
        while database.execute("SELECT count(*) FROM t_acme.event").fetchone()[0] < 100:  # type: ignore[index]  # count always answers
            assert time.monotonic() < deadline
            time.sleep(0.02)  # until the first batches are through
        second.kill()
        with process(_WORK, fresh_database) as third:
            assert first.wait(timeout=60) == 0
            assert third.wait(timeout=60) == 0
        events, cost = database.execute("SELECT count(*), sum(cost) FROM t_acme.event").fetchone()  # type: ignore[misc]
        rolled = database.execute("SELECT sum(calls), sum(cost) FROM t_acme.usage_hour").fetchone()
        by_class = database.execute("SELECT sum(tokens), sum(cost) FROM t_acme.token_day").fetchone()
        waiting = database.execute("SELECT count(*) FROM public.inbox").fetchone()

    tokens = sum(range(CALLS)) + 200 * CALLS
    assert events == CALLS
    assert rolled == (CALLS, cost)
    assert by_class == (tokens, cost)
    assert waiting == (0,)
