"""Secrets that are to be rotated: virtual keys before they expire, credentials of providers before they are 90 days old."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from catalog import selectors
from catalog.models import VirtualKey
from governance.models import Severity
from governance.roles import Permission
from governance.services import alerts

WARN_DAYS = (14, 3, 0)
"""Before the day, and on it. A key that expires is refused by the gateway; an old credential goes on working."""
NAMED = 5


@transaction.atomic
def warn(*, at: datetime | None = None) -> int:
    """Tell of each key and credential once for each of `WARN_DAYS`, keys together by day. May run as often as one likes.

    Returns how many notices stand for today.
    """
    at = at or timezone.now()
    return _keys(at) + _credentials(at)


def _keys(at: datetime) -> int:
    today, told = at.date(), 0
    for days in WARN_DAYS:
        due = VirtualKey.objects.filter(purpose=VirtualKey.Purpose.STANDARD, expires_at__date=today + timedelta(days=days), revoked_at=None)
        names = list(due.order_by("expires_at", "pk").values_list("name", flat=True)[: NAMED + 1])
        if not names:
            continue
        count = due.count()
        when = f"in {days} days" if days else "today"
        alerts.notify(
            topic="key.expiring",
            severity=Severity.INFO if days > 3 else Severity.WARNING,
            title=f"{count:,} virtual key{'s expire' if count > 1 else ' expires'} {when}",
            text=", ".join(names[:NAMED]) + (f" and {count - NAMED:,} more" if count > NAMED else "") + ". Rotate with an overlap.",
            path="operate/keys/?sort=expiry",
            permission=Permission.MANAGE_KEYS,
            key=f"key_expiring:{today}:{days}",
            data={"keys": count, "days": days},
            at=at,
        )
        told += 1
    return told


def _credentials(at: datetime) -> int:
    told = 0
    for provider in selectors.credentials_due(at):
        assert provider.secret_set_at is not None  # or it would not be due
        assert provider.replace_by is not None
        left = (provider.replace_by - at).days
        stage = min((days for days in WARN_DAYS if left <= days), default=None)
        if stage is None:
            continue
        age = (at - provider.secret_set_at).days
        alerts.notify(
            topic="credential.due",
            severity=Severity.INFO if stage > 3 else Severity.WARNING,
            title=f"The credential of {provider.name} is {age} days old",
            text=f"Replace it by {provider.replace_by:%B %-d, %Y}, and withdraw the old one at the provider.",
            path=f"operate/providers/{provider.slug}/",
            key=f"credential_old:{provider.pk}:{provider.secret_set_at:%Y-%m-%dT%H:%M}:{stage}",
            data={"provider": provider.slug, "age_days": age},
            at=at,
        )
        told += 1
    return told
