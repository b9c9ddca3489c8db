"""Thousands of keys: sorted, paged by key, rotated and revoked many at a time."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from catalog import selectors
from catalog.errors import InvalidValueError
from catalog.models import VirtualKey
from catalog.services import keys
from catalog.tasks import note_key_figures
from gateway.contract import keys as contract
from governance.models import AuditEntry, Tenant, User
from governance.pages import keyset_page
from governance.services import audit
from tests.conftest import ClientFor
from tests.factories import costs
from tests.factories.catalog import make_key, make_project

HTMX = {"HX-Request": "true"}


@pytest.fixture
def many(acme: Tenant, alice: User, bob: User) -> list[VirtualKey]:
    """120 keys of two people; spend and last use of most are the same, as in life."""
    project, now = make_project(owner=alice, slug="checkout"), timezone.now()
    return VirtualKey.objects.bulk_create(
        VirtualKey(
            name=f"many-{n:03}",
            project=project,
            owner=(alice, bob)[n % 2],
            digest="0" * 64,
            expires_at=now + timedelta(days=1 + n % 60),
            spend_30d_usd=Decimal(n // 40),
            last_used_at=now - timedelta(hours=n) if n % 3 else None,
        )
        for n in range(120)
    )


@pytest.mark.parametrize("sort", [f"{way}{name}" for name in selectors.KEY_ORDERS for way in ("", "-")])
def test_every_order_is_paged_by_key_there_and_back(many: list[VirtualKey], sort: str) -> None:
    ranked, order = selectors.ranked_keys(VirtualKey.objects.select_related("owner")), selectors.key_order(sort)

    first = keyset_page(ranked, order=order)
    second = keyset_page(ranked, order=order, cursor=first.next_cursor or "")
    third = keyset_page(ranked, order=order, cursor=second.next_cursor or "")
    back = keyset_page(ranked, order=order, cursor=third.previous_cursor or "")

    walked = [*first.rows, *second.rows, *third.rows]
    assert walked == list(ranked.order_by(*order))
    assert len(walked) == 120
    assert third.next_cursor is None
    assert back.rows == second.rows


def test_page_sorts_by_its_heads_and_asks_as_much_for_many_as_for_few(
    many: list[VirtualKey], sam: User, client_for: ClientFor, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = client_for(sam)

    with django_assert_max_num_queries(18):
        dearest = client.get("/o/acme/operate/keys/?sort=spend", headers=HTMX).content.decode()
    cheapest = client.get("/o/acme/operate/keys/?sort=-spend", headers=HTMX).content.decode()
    odd = client.get("/o/acme/operate/keys/?sort=secret&cursor=nonsense", headers=HTMX).content.decode()

    assert "many-119" in dearest
    assert "many-000" not in dearest
    assert "many-000" in cheapest
    assert 'aria-sort="descending"' in dearest
    assert "sort=-spend" in dearest
    assert "many-119" in odd


def test_figures_are_noted_for_sorting(acme: Tenant, alice: User, bob: User) -> None:
    used, idle = costs.key(bob), costs.key(bob)
    costs.prices(alice)
    costs.record(acme, costs.call(acme, key_id=used.public_id, model="small-chat", provider="openai"))

    note_key_figures(schema_name=acme.schema_name)

    used.refresh_from_db()
    idle.refresh_from_db()
    assert used.spend_30d_usd > 0
    assert used.last_used_at is not None
    assert (idle.spend_30d_usd, idle.last_used_at) == (Decimal(), None)
    assert keys.note_figures() == 0


def test_many_are_rotated_together_and_each_is_audited(acme: Tenant, bob: User) -> None:
    (one, old), (two, _), (ended, _) = (make_key(owner=bob) for _ in range(3))
    keys.revoke_key(key=ended, actor=bob)
    version = Tenant.objects.get(pk=acme.pk).config_version

    made = keys.rotate_keys(chosen=VirtualKey.objects.all(), actor=bob, expected=2, overlap=timedelta(hours=1))

    assert [key for key, _ in made] == [one, two]
    one.refresh_from_db()
    assert contract.matches(made[0][1], one.digest, settings.KEY_PEPPER)
    assert contract.matches(old, one.previous_digest, settings.KEY_PEPPER)
    written = AuditEntry.objects.filter(event="virtual_key.rotated")
    assert {entry.details["key_id"] for entry in written} == {one.public_id, two.public_id}
    assert made[0][1] not in str([entry.details for entry in written])
    assert audit.verify().is_intact
    assert Tenant.objects.get(pk=acme.pk).config_version == version + 1


def test_nothing_happens_when_the_number_is_another_one(many: list[VirtualKey], sam: User) -> None:
    for act in (keys.rotate_keys, keys.revoke_keys):
        with pytest.raises(InvalidValueError) as refused:
            act(chosen=VirtualKey.objects.all(), actor=sam, expected=119)
        assert refused.value.field == "expected"
    with pytest.raises(InvalidValueError):
        keys.rotate_keys(chosen=VirtualKey.objects.all(), actor=sam, expected=keys.MOST_ROTATED + 1)

    assert not VirtualKey.objects.exclude(revoked_at=None, rotated_at=None).exists()


def test_page_confirms_with_the_number_and_revokes_what_matches(
    many: list[VirtualKey], bob: User, sam: User, client_for: ClientFor, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    listed = {"q": "many-00", "project": "checkout", "state": "active", "sort": "name"}
    asked = {"of": "all", "act": "revoke", "every": "1", **listed}

    shown = client_for(sam).get("/o/acme/keys/bulk/", asked).content.decode()
    stale = client_for(sam).post("/o/acme/keys/bulk/", {**asked, "expected": "9"})
    own = client_for(bob).post("/o/acme/keys/bulk/", {**asked, "expected": "10"})
    with django_assert_max_num_queries(22):
        done = client_for(sam).post("/o/acme/keys/bulk/", {**asked, "expected": "10"})

    assert "Revoke 10 keys?" in shown
    assert stale.status_code == own.status_code == 422  # bob sees five of them
    assert (done.status_code, done["Location"]) == (302, f"/o/acme/operate/keys/?{urlencode(listed)}")  # the list as it was
    assert VirtualKey.objects.exclude(revoked_at=None).count() == 10


def test_page_rotates_what_was_ticked_and_shows_the_secrets_once(acme: Tenant, bob: User, sam: User, client_for: ClientFor) -> None:
    own, _ = make_key(owner=bob, name="mine")
    foreign, _ = make_key(owner=sam)
    asked = {"of": "all", "act": "rotate", "id": [own.public_id, foreign.public_id], "state": "expiring"}

    shown = client_for(bob).get("/o/acme/keys/bulk/", asked).content.decode()
    done = client_for(bob).post("/o/acme/keys/bulk/", {**asked, "expected": "1", "overlap": "0"})
    reloaded = client_for(bob).post("/o/acme/keys/bulk/", {**asked, "expected": "1", "overlap": "0"})

    assert reloaded.status_code == 422
    assert "Rotated since you looked, so nothing was done now." in reloaded.content.decode()
    assert f"_{own.public_id}_" not in reloaded.content.decode()
    assert "Rotate 1 key?" in shown
    assert 'name="state" value="expiring"' in shown
    assert 'href="/o/acme/operate/keys/?state=expiring"' in done.content.decode()
    own.refresh_from_db()
    foreign.refresh_from_db()
    assert f"_{own.public_id}_" in done.content.decode()
    assert done["Cache-Control"] == "no-store"
    assert own.previous_until is not None
    assert not own.has_two_secrets  # they leaked
    assert foreign.rotated_at is None
    assert "No live key is chosen" in client_for(bob).get("/o/acme/keys/bulk/?act=revoke").content.decode()


def test_lists_by_api_are_sorted_and_paged(acme: Tenant, alice: User, bob: User, sam: User, api_for: ClientFor) -> None:
    keys = [make_key(owner=owner)[0] for owner in (sam, alice, bob, alice)]
    for key, spend in zip(keys, (3, 1, 2, 1), strict=True):
        VirtualKey.objects.filter(pk=key.pk).update(spend_30d_usd=spend, last_used_at=timezone.now() if spend == 2 else None)
    api = api_for(sam)

    def all_pages(sort: str) -> list[str]:
        answer, found = api.get(f"/api/v1/keys/?limit=1&sort={sort}").json(), []
        while True:
            found += [row["id"] for row in answer["results"]]
            if answer["next"] is None:
                return found
            answer = api.get(answer["next"]).json()

    first, second, third, fourth = [key.public_id for key in keys]
    assert all_pages("spend") == [first, third, fourth, second]
    assert all_pages("-spend") == [second, fourth, third, first]
    assert all_pages("owner")[:2] == [second, fourth]
    assert all_pages("used") == [third, fourth, second, first]
    assert len(all_pages("expiry")) == len(all_pages("newest")) == 4
    odd = api.get("/api/v1/keys/?sort=secret")
    assert (odd.status_code, list(odd.json()["fields"])) == (422, ["sort"])
    for sort in ("newest", "spend", "used", "expiry"):  # a cursor of another order
        assert api.get(f"/api/v1/keys/?sort={sort}&cursor={b64encode(b'p=Alice').decode()}").status_code == 400


def test_many_by_api(acme: Tenant, bob: User, sam: User, api_for: ClientFor) -> None:
    (one, _), (two, _) = make_key(owner=bob), make_key(owner=bob)
    api, other = api_for(sam), api_for(bob)

    made = other.post("/api/v1/keys/bulk/rotate/", {"ids": [one.public_id], "expected": 1}, "application/json")
    both = api.post("/api/v1/keys/bulk/revoke/", {"ids": [one.public_id], "q": "x", "expected": 1}, "application/json")
    stale = api.post("/api/v1/keys/bulk/revoke/", {"state": "active", "expected": 3}, "application/json")
    done = api.post("/api/v1/keys/bulk/revoke/", {"state": "active", "expected": 2}, "application/json")

    assert made.json()["keys"][0]["secret"].startswith(f"ghk_{acme.public_id}_{one.public_id}_")
    assert (both.status_code, stale.status_code) == (400, 422)
    assert stale.json()["fields"].keys() == {"expected"}
    assert done.json() == {"revoked": 2}
    two.refresh_from_db()
    assert two.revoked_at is not None
