"""Membership, roles, and who may give them."""

import pytest

from governance.access import Role
from governance.errors import EscalationError, LastOwnerError
from governance.models import AuditEntry, Membership, Tenant, User
from governance.selectors import membership_in
from governance.services import people


def membership(user: User, tenant: Tenant) -> Membership:
    found = membership_in(user, tenant)
    assert found is not None
    return found


def test_owner_adds_a_new_person(acme: Tenant, alice: User) -> None:
    member = people.add_member(tenant=acme, email="New@Example.com", roles=["finance", "auditor"], actor=alice, password="a long password")

    assert member.user.email == "new@example.com"
    assert member.roles == ["auditor", "finance"]
    assert member.user.check_password("a long password")
    assert AuditEntry.objects.get(event="member.added", target_name="new@example.com").details == {"roles": ["auditor", "finance"]}


def test_admin_cannot_make_an_owner(acme: Tenant, adam: User, bob: User) -> None:
    with pytest.raises(EscalationError):
        people.change_roles(membership=membership(bob, acme), roles=[Role.OWNER], actor=adam)


def test_admin_cannot_take_an_owners_roles(acme: Tenant, adam: User, alice: User) -> None:
    with pytest.raises((EscalationError, LastOwnerError)):
        people.change_roles(membership=membership(alice, acme), roles=[Role.DEVELOPER], actor=adam)


def test_last_owner_stays(acme: Tenant, alice: User) -> None:
    with pytest.raises(LastOwnerError):
        people.change_roles(membership=membership(alice, acme), roles=[Role.ADMIN], actor=alice)
    with pytest.raises(LastOwnerError):
        people.remove_member(membership=membership(alice, acme), actor=alice)


def test_stranger_changes_nothing(acme: Tenant, charlie: User, bob: User) -> None:
    with pytest.raises(EscalationError):
        people.change_roles(membership=membership(bob, acme), roles=[Role.DEVELOPER], actor=charlie)


def test_same_roles_again_write_no_entry(acme: Tenant, alice: User, bob: User) -> None:
    people.change_roles(membership=membership(bob, acme), roles=[Role.DEVELOPER], actor=alice)

    assert not AuditEntry.objects.filter(event="member.roles_changed").exists()
