"""Roles, permissions, and which role holds which: pure facts."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import models


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    DEVELOPER = "developer", "Developer"
    RELEASE_MANAGER = "release_manager", "Release manager"
    FINANCE = "finance", "Finance"
    SECURITY = "security", "Security"
    AUDITOR = "auditor", "Auditor"


class Permission(models.TextChoices):
    """What a person may do. A route names one; the roles below hold them."""

    VIEW = "view", "See the catalog, rollouts and one's own usage"
    VIEW_OPERATE = "view_operate", "See the Operate area"
    MANAGE_CATALOG = "manage_catalog", "Register and change providers, models, tools and projects"
    APPROVE_MODELS = "approve_models", "Approve models, and what makes served ones wider"
    USE_GATEWAY = "use_gateway", "Make keys for oneself, use playground and tools"
    MANAGE_KEYS = "manage_keys", "See and revoke everybody's keys"
    MANAGE_CONSENT = "manage_consent", "Allow and switch off feature classes"
    MANAGE_POLICIES = "manage_policies", "Write policies and guardrails, try them and put them in force"
    MANAGE_PAYLOADS = "manage_payloads", "Decide what is kept of what calls say, and erase it"
    VIEW_PAYLOADS = "view_payloads", "Open what calls said, as far as it is kept"
    VIEW_COSTS = "view_costs", "See spend of the whole organisation"
    MANAGE_COSTS = "manage_costs", "Import bills, reconcile, set prices"
    SIGN_BILLS = "sign_bills", "Sign off a provider's bill, as one of two people"
    MANAGE_ROLLOUTS = "manage_rollouts", "Start, pause and roll back rollouts"
    SIGN_GATES = "sign_gates", "Sign go or no-go, attest and waive, for a role one holds"
    MANAGE_PEOPLE = "manage_people", "Add people and change their roles"
    MANAGE_ALERTS = "manage_alerts", "Set up alert channels and send alerts again"
    VIEW_AUDIT = "view_audit", "Read and verify the audit log"


_EVERYONE = frozenset({Permission.VIEW})
_ADMIN = frozenset(Permission) - {Permission.SIGN_GATES, Permission.VIEW_PAYLOADS}
GRANTS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: _ADMIN | {Permission.SIGN_GATES},
    Role.DEVELOPER: _EVERYONE | {Permission.USE_GATEWAY},
    Role.RELEASE_MANAGER: _EVERYONE | {Permission.MANAGE_ROLLOUTS, Permission.SIGN_GATES},
    Role.FINANCE: _EVERYONE | {Permission.VIEW_OPERATE, Permission.VIEW_COSTS, Permission.MANAGE_COSTS, Permission.SIGN_BILLS},
    Role.SECURITY: _EVERYONE
    | {
        Permission.VIEW_OPERATE,
        Permission.APPROVE_MODELS,
        Permission.MANAGE_KEYS,
        Permission.MANAGE_CONSENT,
        Permission.MANAGE_POLICIES,
        Permission.MANAGE_PAYLOADS,
        Permission.VIEW_PAYLOADS,
        Permission.SIGN_GATES,
        Permission.MANAGE_ALERTS,
        Permission.VIEW_AUDIT,
    },
    Role.AUDITOR: _EVERYONE | {Permission.VIEW_OPERATE, Permission.VIEW_COSTS, Permission.SIGN_GATES, Permission.VIEW_AUDIT},
}


def permissions_of(roles: Iterable[str]) -> frozenset[Permission]:
    """Everything that any of the roles grants."""
    return frozenset().union(*(GRANTS[Role(role)] for role in roles)) if roles else frozenset()
