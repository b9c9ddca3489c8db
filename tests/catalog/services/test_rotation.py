"""Keys and credentials are told of before they are due, once each."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.metrics import credentials_in_time
from catalog.models import Provider, VirtualKey
from catalog.services import keys, rotation
from governance.metrics import NO_DATA, Window
from governance.models import Notice, Tenant, User
from tests.conftest import ClientFor
from tests.factories import catalog as make


def test_keys_are_told_of_together_by_day_and_once(acme: Tenant, adam: User, bob: User) -> None:
    at = timezone.now()
    for days in (14, 14, 14, 3, 10):
        make.make_key(owner=bob, days=days)
    gone, _ = make.make_key(owner=bob, days=14)
    keys.revoke_key(key=gone, actor=adam)

    told = rotation.warn(at=at), rotation.warn(at=at)

    notices = list(Notice.objects.filter(topic="key.expiring").order_by("-severity", "title"))
    assert told == (2, 2)
    assert [(notice.title, notice.severity) for notice in notices] == [
        ("1 virtual key expires in 3 days", "warning"),
        ("3 virtual keys expire in 14 days", "info"),
    ]
    assert gone.name not in notices[1].text
    assert VirtualKey.objects.get(pk=gone.pk).revoked_at is not None


@pytest.mark.parametrize(("age", "severity"), [(75, None), (77, "info"), (88, "warning"), (140, "warning")])
def test_old_credential_is_told_of_by_its_age(acme: Tenant, age: int, severity: str | None) -> None:
    at = timezone.now()
    provider = make.make_provider(secret="sk-upstream")
    Provider.objects.filter(pk=provider.pk).update(secret_set_at=at - timedelta(days=age, hours=1))

    rotation.warn(at=at)
    rotation.warn(at=at + timedelta(hours=1))

    assert list(Notice.objects.filter(topic="credential.due").values_list("severity", flat=True)) == ([severity] if severity else [])


def test_pages_and_metric_say_which_are_due(acme: Tenant, adam: User, client_for: ClientFor) -> None:
    now = timezone.now()
    week = Window(now - timedelta(days=7), now)
    assert credentials_in_time(week) is NO_DATA
    old, fresh = make.make_provider(secret="sk-one"), make.make_provider(secret="sk-two")
    Provider.objects.filter(pk=old.pk).update(secret_set_at=now - timedelta(days=100))
    Provider.objects.filter(pk=fresh.pk).update(secret_set_at=now - timedelta(days=5))
    client = client_for(adam)
    client.get("/o/acme/operate/home/")

    with CaptureQueriesContext(connection) as asked:
        home = client.get("/o/acme/operate/home/").content.decode()
    page = client.get(f"/o/acme/operate/providers/{old.slug}/").content.decode()

    assert credentials_in_time(week).value == 50.0
    assert f"providers/{old.slug}/" in home
    assert f"providers/{fresh.slug}/" not in home
    assert "to be replaced by" in page
    assert len(asked) < 60
