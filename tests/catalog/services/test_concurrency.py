"""Several at once, on connections of their own whose work is really committed: locks decide, not luck."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from django.db import connection
from django_tenants.utils import schema_context

from catalog.models import VirtualKey
from catalog.services import keys
from governance.models import Tenant, User
from tests import cast
from tests.factories.catalog import make_project

THREADS = 6


def test_sessions_opened_at_once_share_one_live_key(committed: Tenant) -> None:
    bob = User.objects.get(email=cast.email("bob"))
    project, together = make_project(owner=bob), Barrier(THREADS)

    def open_session(_: int) -> str:
        try:
            with schema_context(committed.schema_name):
                together.wait(timeout=10)
                return keys.open_playground_session(project=project, person=bob).key.public_id
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        opened = set(pool.map(open_session, range(THREADS)))

    assert len(opened) == 1
    assert list(VirtualKey.objects.values_list("public_id", "revoked_at")) == [(opened.pop(), None)]
