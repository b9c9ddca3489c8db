"""Timing a change on its way to every process of the gateway, and drills that take the same way for practice."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from governance import config
from governance.models import Effect, Severity, Tenant, User
from governance.planes import Reach, planes
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit

PATIENCE = max(Effect.GOALS.values())


def watch(
    what: str, *, scope: str, actor: User | None, at: datetime | None = None, is_drill: bool = False, rto: timedelta = PATIENCE
) -> Effect:
    """Time the change that the current transaction has made and noted by `config.changed`: of the current organisation or, in the public
    schema, of everybody. It has failed after the slowest promise, or a longer `rto`."""
    is_public = current_schema() == get_public_schema_name()
    tenant = None if is_public else Tenant.objects.get(schema_name=current_schema())
    effect = Effect.objects.create(
        tenant=tenant, scope=scope, what=what[:160], actor=actor, is_drill=is_drill, decided_at=at or timezone.now(),
        config_version=tenant.config_version if tenant else None, patience_s=int(max(PATIENCE, rto).total_seconds()),
    )  # fmt: skip
    transaction.on_commit(_measure_soon, robust=True)
    return effect


def _measure_soon() -> None:
    from governance.tasks import measure_effects  # it calls this module

    measure_effects.apply_async(expires=2)  # whoever waited longer leaves it to the half-minutely look


@transaction.atomic
def run_drill(
    *, actor: User | None, at: datetime | None = None, what: str = "Drill", scope: str = Effect.Scope.TENANT, rto: timedelta = PATIENCE
) -> Effect:
    """Publish a version that differs in nothing but the drill's number, and time it. Writes one audit entry. In the public schema
    the scope is everybody, whatever is asked for."""
    is_public = current_schema() == get_public_schema_name()
    scope = Effect.Scope.GLOBAL if is_public else scope
    if is_public:
        config.platform_changed()
    else:
        config.changed()
    effect = watch(what, scope=scope, actor=actor, at=at, is_drill=True, rto=rto)
    audit.record("drill.run", actor=actor, target=effect, scope=str(scope))
    return effect


def measure_waiting(*, at: datetime | None = None) -> int:
    """Look how far the changes that are waited for have come; how many still wait. Runs in the public schema.

    A change holds when every process on the list that serves its organisation has a snapshot that was published after it.
    """
    at, left = at or timezone.now(), 0
    for effect in Effect.objects.filter(effective_at=None, given_up=False).select_related("tenant"):
        reach = planes().reach(effect.tenant)
        if reach is not None and _is_published(effect, reach) and not reach.behind:
            effect.planes, effect.effective_at = reach.planes, max(reach.last_at or reach.published_at, effect.decided_at)
        elif at - effect.decided_at > effect.patience:
            effect.planes, effect.given_up = reach.planes if reach else 0, True
            _tell_late(effect, at)
        else:
            left += 1
            continue
        effect.save(update_fields=["planes", "effective_at", "given_up"])
    return left


def _is_published(effect: Effect, reach: Reach) -> bool:
    """Is the change in the newest snapshot? An organisation counts its changes; the platform's are told apart by time alone."""
    if effect.tenant is None:
        return reach.published_at >= effect.decided_at
    return effect.tenant.published_version >= (effect.config_version or 0)


def _tell_late(effect: Effect, at: datetime) -> None:
    if effect.tenant is None:
        return  # the platform has no alert channels; its page says so
    with schema_context(effect.tenant.schema_name), transaction.atomic():
        alerts.notify(
            topic="switch.not_effective", severity=Severity.CRITICAL, title=f"{effect.what}: not in effect everywhere",
            text=f"After {effect.patience_s // 60} minutes a process of the gateway still serves what was before.", path="operate/switches/",
            permission=Permission.MANAGE_CONSENT, key=f"effect:{effect.pk}", data={"effect": effect.pk}, at=at,
        )  # fmt: skip
