"""Switching pillars off and on again."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name

from governance import config
from governance.errors import NotConfirmedError
from governance.models import Effect, Pillar, Severity, Switch, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit, effects


@transaction.atomic
def set_switch(*, pillar: str, is_off: bool, actor: User, reason: str = "", at: datetime | None = None) -> Switch:
    """Switch a pillar of the current organisation off or on; in the public schema, of every organisation.

    Writes one audit entry and tells the gateway; the same position twice changes nothing. Raises NotConfirmedError (off without a reason).
    """
    at, reason = at or timezone.now(), reason.strip()
    if is_off and not reason:
        raise NotConfirmedError("Say why: callers are told, and it stands in the audit log.", field="reason")
    present = Switch.objects.select_for_update().filter(pillar=pillar).first()
    if (present.is_off if present else False) == is_off:
        return present or Switch(pillar=pillar, is_off=is_off, actor=actor, set_at=at)
    switch, _ = Switch.objects.update_or_create(pillar=pillar, defaults={"is_off": is_off, "reason": reason, "actor": actor, "set_at": at})
    audit.record(f"switch.{'off' if is_off else 'on'}", actor=actor, target=switch, pillar=pillar, reason=reason)
    what = f"{Pillar(pillar).label} {'off' if is_off else 'on'}"
    if current_schema() == get_public_schema_name():
        config.platform_changed()
        effects.watch(what, scope=Effect.Scope.GLOBAL, actor=actor, at=at)
        return switch
    if is_off:
        alerts.notify(
            topic="switch.off", severity=Severity.CRITICAL, title=f"{Pillar(pillar).label} switched off by {actor}", text=reason,
            path="operate/switches/", permission=Permission.VIEW, key=f"switch:{pillar}:{at.isoformat()}", data={"pillar": pillar}, at=at,
        )  # fmt: skip
    config.changed()
    effects.watch(what, scope=Effect.Scope.TENANT, actor=actor, at=at)
    return switch
