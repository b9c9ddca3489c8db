"""Celery doors of the gateway's portal side. Every task may run twice."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from gateway.publish import circuits
from governance.celery import PlatformTask, TenantTask
from governance.models import Tenant
from governance.schema import current_schema


@shared_task(base=PlatformTask)
def dispatch_circuits() -> None:
    """Queue one task per tenant with circuits that changed; forget old changes."""
    for tenant in circuits.tenants_waiting():
        tell_circuits.apply_async(kwargs={"schema_name": tenant.schema_name}, expires=60)
    circuits.forget_old(at=timezone.now())


@shared_task(base=TenantTask)
def tell_circuits() -> None:
    """Tell people of circuits that changed."""
    circuits.tell(tenant=Tenant.objects.get(schema_name=current_schema()))
