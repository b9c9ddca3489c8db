"""Limits on requests, tokens and calls at once, and of deployments on money."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from catalog.errors import InvalidValueError, NameTakenError
from catalog.models import Deployment, Model, Project, UsageLimit, VirtualKey
from governance import config
from governance.models import User
from governance.services import audit

HIGHEST = 10**15
Scope, Resource = UsageLimit.Scope, UsageLimit.Resource


@transaction.atomic
def create_limit(
    *,
    scope: str,
    resource: str,
    amount: int,
    actor: User,
    ref: str = "",
    window: str = "",
    fail_open: bool = True,
    note: str = "",
) -> UsageLimit:
    """Put a limit in force. Writes one audit entry and tells the gateway. Raises InvalidValueError or NameTakenError."""
    limit = UsageLimit(
        scope=scope, ref=ref.strip(), resource=resource, window=window, amount=amount, fail_open=fail_open, note=note, created_by=actor
    )
    _check(limit)
    try:
        with transaction.atomic():
            limit.save()
    except IntegrityError as error:
        raise NameTakenError(f"There is such a limit for {limit.where} already: change its amount.", field="scope") from error
    audit.record("limit.created", actor=actor, target=limit, **_facts(limit))
    config.changed()
    return limit


@transaction.atomic
def change_limit(*, limit: UsageLimit, actor: User, amount: int, fail_open: bool, is_enabled: bool, note: str = "") -> UsageLimit:
    """Change how much, not of what. Writes one audit entry and tells the gateway. Raises InvalidValueError."""
    limit = UsageLimit.objects.select_for_update().get(pk=limit.pk)
    before = _facts(limit)
    limit.amount, limit.fail_open, limit.is_enabled, limit.note = amount, fail_open, is_enabled, note
    _check(limit)
    if _facts(limit) == before:
        return limit
    limit.save(update_fields=["amount", "fail_open", "is_enabled", "note"])
    audit.record("limit.changed", actor=actor, target=limit, before=before, **_facts(limit))
    config.changed()
    return limit


@transaction.atomic
def delete_limit(*, limit: UsageLimit, actor: User) -> None:
    """Take a limit away. Writes one audit entry and tells the gateway."""
    audit.record("limit.deleted", actor=actor, target=limit, **_facts(limit))
    limit.delete()
    config.changed()


def _check(limit: UsageLimit) -> None:
    if not 0 <= limit.amount <= HIGHEST:
        raise InvalidValueError(f"The amount is 0 to {HIGHEST:,}.", field="amount")
    if limit.resource == Resource.CONCURRENT:
        limit.window = ""
    elif not limit.window:
        raise InvalidValueError("Say per what: minute, hour, day or month.", field="window")
    if limit.resource == Resource.MONEY and limit.scope != Scope.DEPLOYMENT:
        raise InvalidValueError("Money is held by budgets; a limit on it is of a deployment only.", field="resource")
    if limit.scope == Scope.TENANT:
        limit.ref = ""
    elif not limit.ref:
        raise InvalidValueError(f"Name the {limit.get_scope_display().lower()}.", field="ref")
    if not _exists(limit):
        raise InvalidValueError(f"There is no {limit.where}.", field="ref")


def _exists(limit: UsageLimit) -> bool:
    """Agents name themselves, so any name may come."""
    if limit.scope == Scope.PROJECT:
        return Project.objects.filter(slug=limit.ref).exists()
    if limit.scope == Scope.MODEL:
        return Model.objects.filter(slug=limit.ref).exists()
    if limit.scope == Scope.DEPLOYMENT:
        model, _, reference = limit.ref.partition("/")
        return any(
            deployment.reference == reference for deployment in Deployment.objects.filter(model__slug=model).select_related("provider")
        )
    if limit.scope == Scope.KEY:
        return VirtualKey.objects.filter(public_id=limit.ref).exists()
    return True


def _facts(limit: UsageLimit) -> dict[str, Any]:
    return {
        "scope": limit.scope,
        "ref": limit.ref,
        "resource": limit.resource,
        "window": limit.window,
        "amount": limit.amount,
        "fail_open": limit.fail_open,
        "enabled": limit.is_enabled,
        "note": limit.note,
    }
