"""Asks the portal for a page once a minute, as people do, and keeps what came of it."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

import httpx2
from django.conf import settings
from django.utils import timezone

from governance.models import PortalMinute

logger = logging.getLogger(__name__)

PAGE = "/login/"
"""Open to everybody, and made by all of the portal: middleware, session, template."""
LIMIT_S = 10.0
"""For the whole page: people have given up by then."""
MAX_PAGE_BYTES = 1024 * 1024
KEPT = timedelta(days=100)
"""The longest window of the shipped plans is 90 days."""
MINUTE = timedelta(minutes=1)


def minute_of(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def probe(*, at: datetime | None = None) -> PortalMinute | None:
    """Ask once, and note it under the minute of `at` (aware UTC, now by default). None when the minute has its row: the first one holds."""
    minute = minute_of(at or timezone.now())
    if PortalMinute.objects.filter(pk=minute).exists():
        return None
    began = time.monotonic()
    failure = _ask(deadline=began + LIMIT_S)
    row = PortalMinute(minute=minute, took_ms=round((time.monotonic() - began) * 1000), failure=failure)
    PortalMinute.objects.bulk_create([row], ignore_conflicts=True)  # two workers may ask at once
    if failure:
        logger.warning("portal.down", extra={"failure": failure, "took_ms": row.took_ms})
    _purge(minute - KEPT)
    return row


def _ask(*, deadline: float) -> str:
    """Why the page did not come as it should; empty when it did.

    Not guarded as URLs of people are: the operator set this address, and it is on loopback where everything runs on one machine. An
    unknown session goes along, so that the portal has to ask the database for it.
    """
    headers = {"cookie": f"{settings.SESSION_COOKIE_NAME}=the-probe-has-no-session", "accept-encoding": "identity"}
    page = b""
    try:
        with (
            httpx2.Client(timeout=LIMIT_S, follow_redirects=False, trust_env=False, headers=headers) as client,
            client.stream("GET", settings.BASE_URL + PAGE) as response,
        ):
            if response.status_code != 200:
                return f"answered {response.status_code}"
            for chunk in response.iter_raw():
                page += chunk
                if len(page) > MAX_PAGE_BYTES:
                    return "answered with something else"
                if time.monotonic() > deadline:
                    return "too slow"
    except httpx2.TimeoutException:
        return "too slow"
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return type(error).__name__
    if time.monotonic() > deadline:
        return "too slow"
    # A page of somebody's load balancer that says sorry may come with 200, too.
    return "" if b'name="password"' in page else "answered with something else"


def _purge(before: datetime) -> None:
    """The newest row that old stays: it tells that minutes without a row after it were minutes of this installation."""
    last = PortalMinute.objects.filter(minute__lte=before).order_by("-minute").first()
    if last is not None:
        PortalMinute.objects.filter(minute__lt=last.minute).delete()
