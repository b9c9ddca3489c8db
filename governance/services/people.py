"""People, their memberships and roles."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from governance.errors import AccountNeededError, EscalationError, LastOwnerError
from governance.models import Membership, Tenant, User
from governance.roles import Role, permissions_of
from governance.services import audit


def account_for(*, email: str, password: str | None, name: str = "", missing_field: str = "password") -> User:
    """The account with this address, made when there is none. AccountNeededError when it must be made without a password."""
    email = email.strip().lower()
    user = User.objects.filter(email=email).first()
    if user is None and not password:
        raise AccountNeededError("This address has no account yet: give it a first password.", field=missing_field)
    return user or User.objects.create_user(email, password, name=name or email.split("@")[0].title())


@transaction.atomic
def add_member(
    *, tenant: Tenant, email: str, roles: Sequence[str], actor: User | None, name: str = "", password: str | None = None
) -> Membership:
    """Make the person a member with these roles; a new account is made for an unknown address.

    The actor must hold every permission that the roles grant (EscalationError); None is the system (demo, commands).
    Calling it again sets the roles.
    """
    _check_escalation(tenant, actor, roles)
    user = account_for(email=email, password=password, name=name)
    membership = Membership.objects.filter(user=user, tenant=tenant).first()
    if membership is not None:
        return change_roles(membership=membership, roles=roles, actor=actor)
    membership = Membership.objects.create(user=user, tenant=tenant, roles=sorted(set(roles)))
    audit.record("member.added", actor=actor, target=membership, target_name=user.email, roles=membership.roles)
    return membership


@transaction.atomic
def change_roles(*, membership: Membership, roles: Sequence[str], actor: User | None) -> Membership:
    """Set a member's roles. Raises LastOwnerError when the tenant would be left without an owner."""
    members = list(Membership.objects.select_for_update().filter(tenant=membership.tenant))
    membership = next(member for member in members if member.pk == membership.pk)
    _check_escalation(membership.tenant, actor, roles)
    _check_escalation(membership.tenant, actor, membership.roles)
    before = membership.roles
    membership.roles = sorted(set(roles))
    _check_owner_stays(members)
    if before != membership.roles:
        membership.save(update_fields=["roles"])
        audit.record(
            "member.roles_changed", actor=actor, target=membership, target_name=membership.user.email, before=before, after=membership.roles
        )
    return membership


@transaction.atomic
def remove_member(*, membership: Membership, actor: User) -> None:
    """End the membership; what the person made stays. Raises LastOwnerError, EscalationError."""
    members = list(Membership.objects.select_for_update().filter(tenant=membership.tenant))
    _check_escalation(membership.tenant, actor, membership.roles)
    _check_owner_stays([member for member in members if member.pk != membership.pk])
    audit.record("member.removed", actor=actor, target=membership, target_name=membership.user.email, roles=membership.roles)
    membership.delete()


def _check_owner_stays(members: Sequence[Membership]) -> None:
    if not any(Role.OWNER in member.roles for member in members):
        raise LastOwnerError("An organisation keeps at least one owner. Make somebody else an owner first.", field="roles")


def _check_escalation(tenant: Tenant, actor: User | None, roles: Sequence[str]) -> None:
    if actor is None:
        return
    own = Membership.objects.filter(tenant=tenant, user=actor).first()
    if own is None or not permissions_of(roles) <= permissions_of(own.roles) or (Role.OWNER in roles and Role.OWNER not in own.roles):
        raise EscalationError("Nobody can give or take roles that have more rights than their own.", field="roles")
