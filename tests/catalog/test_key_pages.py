"""Pages of keys: shown once, rotated, revoked, found."""

from __future__ import annotations

import pytest

from catalog.models import VirtualKey
from catalog.services import keys as key_services
from governance.models import Tenant, User
from tests.catalog.pages import HTMX, text_of
from tests.conftest import ClientFor
from tests.factories.catalog import make_key, make_model, make_project


def test_key_is_shown_once(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    project, client = make_project(owner=alice), client_for(bob)
    make_model(owner=alice, slug="small")

    response = client.post("/o/acme/build/keys/new/", {"name": "checkout", "project": project.pk, "lifetime_days": 30})

    key = VirtualKey.objects.get()
    shown = f"ghk_{acme.public_id}_{key.public_id}_"
    assert text_of(response).count(shown) >= 2
    assert response["Cache-Control"] == "no-store"
    later = text_of(client.get(f"/o/acme/keys/{key.public_id}/"))
    assert f"{shown}…" in later
    assert text_of(response).split('id="new-key" tabindex="0">')[1].split("<")[0] not in later


@pytest.mark.parametrize(
    ("field", "value"),
    [("lifetime_days", "91"), ("name", ""), ("project", "999999"), ("requests_per_minute", "99999999999"), ("models", "unknown")],
)
def test_bad_key_form_comes_back_with_422(acme: Tenant, alice: User, bob: User, client_for: ClientFor, field: str, value: str) -> None:
    make_model(owner=alice)
    body = {"name": "x", "project": make_project(owner=alice).pk, "lifetime_days": 30, field: value}

    response = client_for(bob).post("/o/acme/build/keys/new/", body, headers=HTMX)

    assert response.status_code == 422
    assert 'id="key-form"' in text_of(response)
    assert not VirtualKey.objects.exists()


def test_tick_waits_for_the_first_call(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    response = client_for(bob).get(f"/o/acme/{furnished['key']}tick/", headers=HTMX)

    assert "Waiting for the first call" in text_of(response)
    assert 'hx-trigger="every 2s"' in text_of(response)


def test_key_is_revoked_by_its_owner_and_by_security(acme: Tenant, bob: User, sam: User, client_for: ClientFor) -> None:
    own, _ = make_key(owner=bob)
    other, _ = make_key(owner=bob)

    client_for(bob).post(f"/o/acme/keys/{own.public_id}/revoke/")
    client_for(sam).post(f"/o/acme/keys/{other.public_id}/revoke/")

    assert not VirtualKey.objects.filter(revoked_at=None).exists()


def test_key_is_rotated_on_its_page_and_the_new_secret_shown_once(acme: Tenant, bob: User, sam: User, client_for: ClientFor) -> None:
    own, old = make_key(owner=bob)
    foreign, _ = make_key(owner=sam)
    client, digest = client_for(bob), own.digest

    made = client.post(f"/o/acme/keys/{own.public_id}/rotate/", {"overlap": "24"})
    kept = VirtualKey.objects.get(pk=own.pk).previous_digest
    reloaded = client.post(f"/o/acme/keys/{own.public_id}/rotate/", {"overlap": "24"}, follow=True)
    too_long = client.post(f"/o/acme/keys/{own.public_id}/rotate/", {"overlap": "500"}, follow=True)

    assert "Rotated since you looked" in reloaded.content.decode()
    own.refresh_from_db()
    assert own.previous_digest == kept == digest  # what programs have works on
    assert own.rotated_at is not None
    assert f'name="seen" value="{own.rotated_at.isoformat()}"' in reloaded.content.decode()
    text = made.content.decode()
    assert f"ghk_{acme.public_id}_{own.public_id}_" in text
    assert old not in text
    assert made["Cache-Control"] == "no-store"
    assert "works until" in client.get(f"/o/acme/keys/{own.public_id}/").content.decode()
    assert "less than or equal to 168" in too_long.content.decode()
    assert client.post(f"/o/acme/keys/{foreign.public_id}/rotate/", {"overlap": "1"}).status_code == 404


def test_keys_are_found_by_what_is_visible_of_them(acme: Tenant, bob: User, client_for: ClientFor) -> None:
    wanted, text = make_key(owner=bob, name="wanted")
    make_key(owner=bob, name="other")
    client = client_for(bob)

    for query in ("wanted", wanted.public_id[:5], text[:25]):
        found = text_of(client.get("/o/acme/build/keys/", {"q": query}, headers=HTMX))
        assert "wanted" in found
        assert "other</a>" not in found


def test_expired_revoked_and_expiring_keys_have_their_tabs(acme: Tenant, bob: User, client_for: ClientFor) -> None:
    make_key(owner=bob, name="fresh", days=60)
    make_key(owner=bob, name="soon", days=3)
    make_key(owner=bob, name="late", days=-1)
    gone, _ = make_key(owner=bob, name="gone")
    key_services.revoke_key(key=gone, actor=bob)
    client = client_for(bob)

    def found(state: str) -> set[str]:
        text = text_of(client.get(f"/o/acme/build/keys/?state={state}", headers=HTMX))
        return {name for name in ("fresh", "soon", "late", "gone") if f">{name}</a>" in text}

    assert {state: found(state) for state in ("active", "expiring", "expired", "revoked")} == {
        "active": {"fresh", "soon"},
        "expiring": {"soon"},
        "expired": {"late"},
        "revoked": {"gone"},
    }


def test_first_call_gives_a_key_and_the_command(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    project = make_project(owner=alice)
    make_model(owner=alice, slug="small")

    response = client_for(bob).post("/o/acme/build/first-call/", {"project": project.pk, "model": "small"})

    key = VirtualKey.objects.get()
    assert f"Bearer ghk_{acme.public_id}_{key.public_id}_" in text_of(response)
    assert "&quot;model&quot;: &quot;small&quot;" in text_of(response)
    assert "Waiting for the first call" in text_of(response)
