"""Calls of the last 24 hours on the home page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.utils import timezone

from costs import traffic
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make

NOW = datetime(2026, 11, 21, 15, 40, tzinfo=UTC)


def test_hours_of_the_day_and_the_day_before_are_told_apart(acme: Tenant) -> None:
    assert traffic.last_day(NOW) is None
    make.record(
        acme,
        make.call(acme, started_at=NOW),
        make.call(acme, started_at=NOW.replace(minute=0), status="upstream_error", http_status=502, error_code="upstream_error"),
        make.call(acme, **make.REFUSED | {"started_at": NOW - timedelta(hours=23)}),
        make.call(acme, started_at=NOW - timedelta(hours=24)),
        make.call(acme, started_at=NOW - timedelta(hours=48)),
    )

    found = traffic.last_day(NOW)

    assert found is not None
    assert (found.calls, found.failed, found.refused, found.before, found.most) == (3, 1, 1, 1, 2)
    assert found.by_hour[-1] == 2
    assert found.by_hour[0] == 1
    assert found.failed_percent == 50.0  # of the two that were let through


def test_home_page_tells_of_it(acme: Tenant, client_for: ClientFor, adam: User) -> None:
    quiet = client_for(adam).get("/o/acme/operate/home/").content.decode()
    make.record(acme, make.call(acme, **make.REFUSED | {"started_at": timezone.now() - timedelta(minutes=1)}))

    page = client_for(adam).get("/o/acme/operate/home/").content.decode()

    assert "last 24 hours" not in quiet
    assert "Calls, last 24 hours" in page
    assert "?status=refused" in page
