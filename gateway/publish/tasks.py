"""Celery doors of the gateway's portal side. Every task may run twice."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from gateway.publish import circuits, payloads
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


@shared_task(base=PlatformTask)
def dispatch_payloads() -> None:
    """Queue one task per tenant whose calls said something that is kept; drop what belongs to nobody."""
    tenants = payloads.tenants_waiting()
    for tenant in tenants:
        collect_payloads.apply_async(kwargs={"schema_name": tenant.schema_name}, expires=60)
    payloads.drop_expired(at=timezone.now())


@shared_task(base=TenantTask)
def collect_payloads() -> None:
    """Give the tenant what waits for it."""
    payloads.collect(tenant=Tenant.objects.get(schema_name=current_schema()))
