"""Who may sign for what. The one table that maps the roles of a gate to the roles that people have in their organisation."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import models

from governance.access import Role


class SigningRole(models.TextChoices):
    PRODUCT = "product", "Product"
    ENGINEERING = "engineering", "Engineering"
    SECURITY = "security", "Security"
    COMPLIANCE = "compliance", "Compliance"


SIGNING_ROLES: dict[SigningRole, frozenset[Role]] = {
    SigningRole.PRODUCT: frozenset({Role.RELEASE_MANAGER, Role.OWNER}),
    SigningRole.ENGINEERING: frozenset({Role.ADMIN, Role.OWNER}),
    SigningRole.SECURITY: frozenset({Role.SECURITY}),
    SigningRole.COMPLIANCE: frozenset({Role.AUDITOR}),
}
"""Security and compliance are not the owner's: who wants to ship is not who checks. An owner can give the roles to somebody."""


def held_by(roles: Iterable[str]) -> list[SigningRole]:
    """The signing roles of a person with these roles, in the order of the table."""
    own = {Role(role) for role in roles}
    return [signing for signing, holders in SIGNING_ROLES.items() if own & holders]


def label(role: str) -> str:
    return str(SigningRole(role).label)


def holders_text(role: str) -> str:
    """`release manager or owner`"""
    return " or ".join(holder.label.lower() for holder in Role if holder in SIGNING_ROLES[SigningRole(role)])
