"""Telling people that the gateway stopped sending calls somewhere, and that it does so again."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from gateway.publish.models import CircuitChange
from governance.models import Severity, Tenant
from governance.services import alerts

KEPT = timedelta(days=30)


def tenants_waiting() -> list[Tenant]:
    """Those with changes that nobody was told of."""
    return list(Tenant.objects.filter(public_id__in=CircuitChange.objects.filter(is_told=False).values("tenant")))


@transaction.atomic
def tell(*, tenant: Tenant) -> int:
    """One notice for each deployment that opened or closed, at most one of each kind in an hour: every plane judges for itself,
    and an ill deployment opens again after each probe. Runs in the tenant's schema. Returns how many changes were looked at.
    """
    waiting = list(CircuitChange.objects.select_for_update().filter(tenant=tenant.public_id, is_told=False).order_by("at"))
    for change in waiting:
        if change.circuit != "half_open":
            _notify(change)
    CircuitChange.objects.filter(pk__in=[change.pk for change in waiting]).update(is_told=True)
    return len(waiting)


def _notify(change: CircuitChange) -> None:
    is_open = change.circuit == "open"
    text = f"{change.errors} of its last {change.calls} calls failed, the last one with {change.reason}." if is_open else ""
    alerts.notify(
        topic=f"circuit.{change.circuit}",
        severity=Severity.WARNING if is_open else Severity.INFO,
        title=f"{change.provider} {'fails calls' if is_open else 'answers again'}: {change.model}",
        text=text,
        path=f"operate/models/{change.model}/",
        key=f"circuit:{change.deployment}:{change.circuit}:{change.at:%Y-%m-%dT%H}",
        data={
            "model": change.model,
            "provider": change.provider,
            "deployment": change.deployment,
            "calls": change.calls,
            "errors": change.errors,
        },
        at=change.at,
    )


def forget_old(*, at: datetime) -> None:
    """Drop changes that are older than KEPT."""
    CircuitChange.objects.filter(at__lt=at - KEPT).delete()
