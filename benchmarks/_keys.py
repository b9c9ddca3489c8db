"""The measured half of `benchmarks.keys`, in a process of its own with the settings of the throw-away server."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from catalog.models import VirtualKey
    from governance.models import Tenant, User

KEYS, OWNERS, HOURS, ROUNDS = 10_000, 200, 60, 5
VISITS = (
    "?sort=newest",
    "?sort=owner",
    "?sort=spend",
    "?sort=expiry",
    "?sort=used",
    "?sort=-used",
    "?q=service-77",
    "?q=person+42",
    "?sort=spend&q=service",
)


def main() -> None:
    django.setup()
    from django.test import override_settings

    plain = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}  # nothing is collected here
    with override_settings(STORAGES=plain):
        print(json.dumps(measure()))


def measure() -> dict[str, float]:
    """The page with its table as a browser asks for it, database and template included, fourth page too; then every key is ended."""
    from django.test import Client

    from catalog.models import VirtualKey
    from catalog.services import keys
    from governance.schema import enter_tenant

    tenant, owner = _make()
    began = time.perf_counter()
    noted = keys.note_figures()
    noted_s = time.perf_counter() - began
    if noted != KEYS:
        raise RuntimeError(f"{noted} of {KEYS} keys have figures")
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(owner)
    page = f"/o/{tenant.slug}/operate/keys/"
    slowest = max(_median_ms(client, page + visit) for visit in VISITS)
    slowest = max(slowest, *(_median_ms(client, _fourth_page(client, page + visit)) for visit in VISITS[:5]))
    enter_tenant(tenant)
    began = time.perf_counter()
    keys.revoke_keys(chosen=VirtualKey.objects.all(), actor=owner, expected=KEYS)
    revoked_s = time.perf_counter() - began
    return {"keys_page_ms": round(slowest, 1), "keys_noted_s": round(noted_s, 2), "keys_revoked_10k_s": round(revoked_s, 2)}


def _get(client: Any, url: str) -> str:
    response = client.get(url)
    if response.status_code != 200 or "service-" not in response.content.decode():
        raise RuntimeError(f"{url} answered {response.status_code} without a key")
    return str(response.content.decode())


def _median_ms(client: Any, url: str) -> float:
    def took(act: Callable[[], object]) -> float:
        began = time.perf_counter()
        act()
        return (time.perf_counter() - began) * 1000

    _get(client, url)
    return statistics.median(took(lambda: _get(client, url)) for _ in range(ROUNDS))


def _fourth_page(client: Any, url: str) -> str:
    for _ in range(3):
        found = _get(client, url)
        query = found.split('aria-label="Pages"')[1].rsplit('href="?', 1)[1].split('"')[0]
        url = f"{url.partition('?')[0]}?{query.replace('&amp;', '&')}"
    return url


def _make() -> tuple[Tenant, User]:
    from django.utils import timezone

    from catalog.models import Project, VirtualKey
    from governance.models import Membership, User
    from governance.schema import enter_tenant
    from governance.services import tenants

    owner = User.objects.create_user("bench@example.com", None, name="Bench")
    tenant = tenants.create_tenant(slug="bench", name="Bench", owner_email=owner.email, actor=None)
    people = User.objects.bulk_create(User(email=f"person-{n}@example.com", name=f"Person {n}") for n in range(OWNERS))
    Membership.objects.bulk_create(Membership(tenant=tenant, user=person, roles=["developer"]) for person in people)
    enter_tenant(tenant)
    projects = Project.objects.bulk_create(Project(slug=f"team-{n}", name=f"Team {n}", owner=owner) for n in range(100))
    now = timezone.now()
    made = VirtualKey.objects.bulk_create(
        VirtualKey(
            name=f"service-{n}",
            project=projects[n % 100],
            owner=people[n % OWNERS],
            digest="0" * 64,
            expires_at=now + timedelta(days=1 + n % 89),
        )
        for n in range(KEYS)
    )
    _use(made)
    return tenant, owner


def _use(made: list[VirtualKey]) -> None:
    """Sixty hours with calls for each key over 30 days, by one statement."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO usage_hour (hour, project, cost_centre, agent, model, provider, key_id, kind, outcome, calls, uncached_input_tokens,
                cached_input_tokens, cache_write_tokens, output_tokens, cost, unpriced_calls, untagged_calls, estimated_calls, duration_us, last_event_at)
            SELECT date_trunc('hour', now()) - make_interval(hours => 12 * h), 'team', '', 'a', 'm', 'p', k, 'chat', 'ok', 5, 100, 0, 0, 100,
                (h + length(k)) * 0.01, 0, 0, 0, 1, now() - make_interval(hours => 12 * h, secs => n)
            FROM unnest(%s::text[]) WITH ORDINALITY AS keys (k, n), generate_series(0, %s) h
            """,
            [[key.public_id for key in made], HOURS - 1],
        )
        cursor.execute("ANALYZE")


if __name__ == "__main__":
    main()
