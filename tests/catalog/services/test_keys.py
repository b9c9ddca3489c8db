"""Virtual keys and playground sessions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from catalog import selectors
from catalog.errors import InvalidValueError, KeyEndedError, ProjectOffError
from catalog.models import VirtualKey
from catalog.services import keys, projects
from gateway.contract import keys as contract
from governance.errors import NotAllowedError
from governance.models import AuditEntry, Tenant, User
from governance.selectors import membership_in
from tests.factories.catalog import make_key, make_model, make_project, make_tool_server


def test_text_of_a_key_is_returned_once_and_kept_only_as_digest(acme: Tenant, bob: User) -> None:
    key, text = keys.create_key(name="checkout", project=make_project(owner=bob), owner=bob, actor=bob)

    parsed = contract.parse(text)
    assert (parsed.prefix, parsed.tenant, parsed.id) == ("ghk", acme.public_id, key.public_id)
    assert contract.matches(text, key.digest, settings.KEY_PEPPER)
    assert text not in str(AuditEntry.objects.latest("sequence").details)
    assert timedelta(days=89) < key.expires_at - timezone.now() <= timedelta(days=90)


@pytest.mark.parametrize("days", [0, 91, -1])
def test_key_lives_one_to_ninety_days(acme: Tenant, bob: User, days: int) -> None:
    with pytest.raises(InvalidValueError) as refused:
        keys.create_key(name="x", project=make_project(owner=bob), owner=bob, actor=bob, lifetime_days=days)

    assert refused.value.field == "lifetime_days"


def test_key_is_not_made_for_a_project_that_is_off(acme: Tenant, bob: User) -> None:
    project = make_project(owner=bob, is_enabled=False)

    with pytest.raises(ProjectOffError):
        keys.create_key(name="x", project=project, owner=bob, actor=bob)


def test_scope_must_be_in_the_catalog(acme: Tenant, bob: User, alice: User) -> None:
    make_model(owner=alice, slug="small")
    make_tool_server(owner=alice, namespace="handbook")
    project = make_project(owner=bob)

    key, _ = keys.create_key(name="x", project=project, owner=bob, actor=bob, models=["small"], tools=["handbook"])

    assert (key.models, key.tools) == (["small"], ["handbook"])
    with pytest.raises(InvalidValueError, match="huge"):
        keys.create_key(name="x", project=project, owner=bob, actor=bob, models=["small", "huge"])
    with pytest.raises(InvalidValueError):
        keys.create_key(name="x", project=project, owner=bob, actor=bob, tools=[])


def test_key_for_somebody_else_takes_the_right(acme: Tenant, bob: User, alice: User) -> None:
    project = make_project(owner=alice)

    with pytest.raises(NotAllowedError):
        keys.create_key(name="x", project=project, owner=alice, actor=bob)
    key, _ = keys.create_key(name="x", project=project, owner=bob, actor=alice)

    assert key.owner == bob


def test_key_is_not_made_for_who_may_not_use_the_gateway(acme: Tenant, alice: User, audra: User, charlie: User) -> None:
    for owner in (audra, charlie):
        with pytest.raises(InvalidValueError):
            keys.create_key(name="x", project=make_project(owner=alice), owner=owner, actor=alice)


def test_revoking_twice_is_once(acme: Tenant, bob: User) -> None:
    key, _ = make_key(owner=bob)

    first = keys.revoke_key(key=key, actor=bob)
    second = keys.revoke_key(key=key, actor=bob)

    assert first.revoked_at == second.revoked_at
    assert AuditEntry.objects.filter(event="virtual_key.revoked").count() == 1


def test_each_sees_own_keys_and_managers_see_all(acme: Tenant, bob: User, alice: User, sam: User) -> None:
    own, _ = make_key(owner=bob)
    other, _ = make_key(owner=alice)

    def seen(user: User) -> set[VirtualKey]:
        membership = membership_in(user, acme)
        assert membership is not None
        return set(selectors.keys_visible_to(membership))

    assert seen(bob) == {own}
    assert seen(sam) == seen(alice) == {own, other}


def test_playground_session_is_one_key_per_person_and_project(acme: Tenant, bob: User) -> None:
    project = make_project(owner=bob)

    first = keys.open_playground_session(project=project, person=bob)
    second = keys.open_playground_session(project=project, person=bob)

    assert first.key == second.key
    token = contract.verify_session_token(first.token, settings.KEY_PEPPER)
    assert (token.tenant, token.key_id) == (acme.public_id, first.key.public_id)
    assert timedelta(minutes=59) < first.expires_at - timezone.now() <= timedelta(hours=1)


def test_revoked_playground_key_is_replaced_and_its_tokens_stay_dead(acme: Tenant, bob: User) -> None:
    project = make_project(owner=bob)
    old = keys.open_playground_session(project=project, person=bob)
    keys.revoke_key(key=old.key, actor=bob)

    new = keys.open_playground_session(project=project, person=bob)

    assert new.key != old.key


def test_expiring_playground_key_is_replaced(acme: Tenant, bob: User) -> None:
    project = make_project(owner=bob)
    old = keys.open_playground_session(project=project, person=bob)

    new = keys.open_playground_session(project=project, person=bob, at=timezone.now() + timedelta(days=90))

    old.key.refresh_from_db()
    assert new.key != old.key
    assert old.key.revoked_at is not None


def test_playground_is_refused_for_a_project_that_is_off(acme: Tenant, bob: User, alice: User) -> None:
    project = make_project(owner=bob)
    keys.open_playground_session(project=project, person=bob)
    projects.switch_project(project=project, enabled=False, actor=alice)

    with pytest.raises(ProjectOffError):
        keys.open_playground_session(project=project, person=bob)


def test_rotation_gives_a_new_secret_and_leaves_the_old_one_for_a_while(acme: Tenant, bob: User) -> None:
    made_at = timezone.now()
    key, old = keys.create_key(name="checkout", project=make_project(owner=bob), owner=bob, actor=bob, lifetime_days=30)
    at = made_at + timedelta(days=29)

    rotated, new = keys.rotate_key(key=key, actor=bob, overlap=timedelta(hours=1), at=at)

    assert rotated.public_id == key.public_id
    assert contract.matches(new, rotated.digest, settings.KEY_PEPPER)
    assert contract.matches(old, rotated.previous_digest, settings.KEY_PEPPER)
    assert rotated.previous_until == at + timedelta(hours=1)
    assert abs(rotated.expires_at - at - timedelta(days=30)) < timedelta(seconds=5)
    entry = AuditEntry.objects.get(event="virtual_key.rotated")
    assert new not in str(entry.details)

    again, newest = keys.rotate_key(key=key, actor=bob, overlap=timedelta(), at=at + timedelta(minutes=1))
    assert contract.matches(new, again.previous_digest, settings.KEY_PEPPER)
    assert contract.matches(newest, again.digest, settings.KEY_PEPPER)


def test_what_cannot_be_rotated(acme: Tenant, bob: User) -> None:
    key, _ = make_key(owner=bob)
    playground = keys.open_playground_session(project=key.project, person=bob).key

    with pytest.raises(InvalidValueError):
        keys.rotate_key(key=key, actor=bob, overlap=timedelta(days=8))
    with pytest.raises(NotAllowedError):
        keys.rotate_key(key=playground, actor=bob)
    keys.revoke_key(key=key, actor=bob)
    with pytest.raises(KeyEndedError):
        keys.rotate_key(key=key, actor=bob)
