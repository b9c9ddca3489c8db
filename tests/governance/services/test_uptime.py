"""The probe of the portal against a web server, and the figure that it makes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.conf import settings as project
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance import celery_settings, metrics, tasks
from governance.metrics import NO_DATA, Window
from governance.models import PortalMinute, Tenant
from governance.services import uptime
from tests.road.product import free_port

AT = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
SIGN_IN = b'<form><input name="password"></form>'
MINUTE = timedelta(minutes=1)


class Portal:
    """Answers with what it is told to, and keeps what was asked."""

    def __init__(self) -> None:
        self.status, self.body, self.asked = 200, SIGN_IN, list[tuple[str, str]]()
        self.gone = threading.Event()
        """Set when a page that never comes may end."""
        portal = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                portal.asked.append((self.path, self.headers["cookie"]))
                if not portal.status:
                    portal.gone.wait(10)
                    return
                self.send_response(portal.status)
                self.send_header("location", "/elsewhere/")
                self.send_header("content-length", str(len(portal.body)))
                self.end_headers()
                self.wfile.write(portal.body)

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def portal(settings: Any) -> Iterator[Portal]:
    running = Portal()
    settings.BASE_URL = f"http://127.0.0.1:{running.server.server_port}"
    yield running
    running.gone.set()
    running.server.shutdown()
    running.server.server_close()


@pytest.mark.django_db
def test_a_minute_is_up_only_when_the_page_comes_whole_in_time_and_is_ours(
    portal: Portal, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(minute: int, status: int = 200, body: bytes = SIGN_IN) -> str:
        portal.status, portal.body = status, body
        row = uptime.probe(at=AT + minute * MINUTE)
        assert row is not None
        return row.failure

    assert told(0) == ""
    assert uptime.probe(at=AT + timedelta(seconds=20)) is None  # the same minute: the first one holds
    assert [told(1, 503), told(2, 302), told(3, body=b"Sorry")] == ["answered 503", "answered 302", "answered with something else"]
    assert told(4, body=b" " * 2 * uptime.MAX_PAGE_BYTES + SIGN_IN) == "answered with something else"
    monkeypatch.setattr(uptime, "LIMIT_S", 0.2)
    assert told(5, 0) == "too slow"
    settings.BASE_URL = f"http://127.0.0.1:{free_port()}"
    assert told(6) == "ConnectError"

    assert {path for path, _ in portal.asked} == {"/login/"}  # the redirect was not followed
    rows = PortalMinute.objects.order_by("minute")
    assert [row.minute for row in rows] == [AT.replace(second=0) + minute * MINUTE for minute in range(7)]
    assert rows[5].took_ms >= 200


@pytest.mark.django_db
def test_the_probe_makes_the_real_sign_in_page_ask_the_database(portal: Portal, client: Client) -> None:
    uptime.probe(at=AT)
    cookie = portal.asked[0][1].partition("=")[2]
    client.cookies[project.SESSION_COOKIE_NAME] = cookie

    with CaptureQueriesContext(connection) as asked:
        page = client.get(uptime.PAGE)

    assert any("django_session" in query["sql"] for query in asked.captured_queries)
    assert (page.status_code, b'name="password"' in page.content) == (200, True)


@pytest.mark.django_db
def test_rows_go_after_their_time_but_the_newest_of_them(portal: Portal) -> None:
    old = AT.replace(second=0) - uptime.KEPT
    PortalMinute.objects.bulk_create([PortalMinute(minute=old + days * timedelta(days=1), took_ms=1) for days in (-3, -2, 1)])

    uptime.probe(at=AT)

    kept = PortalMinute.objects.order_by("minute").values_list("minute", flat=True)
    assert list(kept) == [old - timedelta(days=2), old + timedelta(days=1), AT.replace(second=0)]


def test_uptime_counts_minutes_that_nobody_asked_in_as_down(acme: Tenant) -> None:
    metric = metrics.get("portal.uptime")
    now = timezone.now()
    this = now.replace(second=0, microsecond=0)
    day = Window(now - timedelta(hours=24), now)
    assert metric.read(day) is NO_DATA
    # Half a day of it; the minute under way is no minute yet.
    PortalMinute.objects.bulk_create(
        [PortalMinute(minute=this - back * MINUTE, took_ms=9, failure="answered 503" if back < 10 else "") for back in range(720, 0, -1)]
    )
    PortalMinute.objects.filter(minute__gte=this - 400 * MINUTE, minute__lt=this - 373 * MINUTE).delete()

    half, hour = metric.read(day), metric.read(Window(this - timedelta(hours=7), this - timedelta(hours=6)))
    PortalMinute.objects.create(minute=this - timedelta(days=30), took_ms=9)
    fortnight = metric.read(Window(now - timedelta(hours=336), now))

    assert half.statistics == {"up": 684, "failed": 9, "unknown": 27, "all": 720}
    assert (half.value, half.sample, half.low) == (95.0, 720, None)
    assert (hour.statistics["unknown"], hour.sample) == (27, 60)
    assert (fortnight.sample, fortnight.statistics["up"]) == (14 * 1440, 684)  # from before the window on, it was there
    assert metric.read(Window(now - timedelta(days=60), now - timedelta(days=50))) is NO_DATA  # before the first one
    assert metric.scope == "programme"


@pytest.mark.django_db
def test_the_schedule_asks_each_minute(portal: Portal) -> None:
    entry = celery_settings.beat_schedule["probe-portal"]

    tasks.probe_portal()

    assert entry["task"] == tasks.probe_portal.name
    assert entry["options"]["expires"] + uptime.LIMIT_S < 60
    assert PortalMinute.objects.get().failure == ""
