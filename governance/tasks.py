"""Celery doors of the ground floor."""

import time

from celery import shared_task
from django.db import connection
from django.utils import timezone
from django_tenants.utils import schema_context

from governance import config, selectors
from governance.celery import PlatformTask, TenantTask
from governance.models import Heartbeat, Tenant
from governance.schema import current_schema


@shared_task(base=PlatformTask)
def publish_stragglers() -> None:
    """Publish what changed without being published, of tenants and of the platform, and show that the worker lives."""
    for schema_name in config.behind():
        config.publish(schema_name)
    config.publish_platform()
    Heartbeat.objects.update_or_create(name="worker", defaults={"at": timezone.now()})


@shared_task(base=PlatformTask)
def probe_portal() -> None:
    """Once a minute: whether people get a page of the portal."""
    from governance.services import uptime

    uptime.probe()


@shared_task(base=PlatformTask)
def measure_effects() -> None:
    """Time what was just changed, for as long as a change usually takes; `measure_slow_effects` waits for the rest. One at a time is enough."""
    from governance.services import drills, effects  # they queue this task

    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(hashtext('governance.measure_effects'))")
        if cursor.fetchone() != (True,):
            return
        try:
            for _ in range(15):
                if not effects.measure_waiting() + drills.advance():
                    return
                time.sleep(0.2)
        finally:
            cursor.execute("select pg_advisory_unlock(hashtext('governance.measure_effects'))")


@shared_task(base=PlatformTask)
def dispatch_drills() -> None:
    """Once a week: time the way to the gateway, of everybody at once and of every organisation."""
    from governance.services import effects

    effects.run_drill(actor=None)
    run_drill.queue_for_all(expires=3600)


@shared_task(base=TenantTask)
def run_drill() -> None:
    """Time the way to the gateway of one organisation, and tell it which of its own drills are overdue."""
    from governance.services import drills, effects

    effects.run_drill(actor=None)
    drills.remind(tenant=Tenant.objects.get(schema_name=current_schema()))


@shared_task(base=PlatformTask)
def measure_slow_effects() -> None:
    """One look at what is still waited for."""
    from governance.services import drills, effects

    effects.measure_waiting()
    drills.advance()


@shared_task(base=PlatformTask)
def dispatch_alerts() -> None:
    """Queue one task for each tenant that has something to tell."""
    for tenant in Tenant.objects.filter(suspended_at=None):
        with schema_context(tenant.schema_name):
            due = selectors.has_deliveries_due(timezone.now())
        if due:
            deliver_alerts.delay(schema_name=tenant.schema_name)


@shared_task(base=TenantTask)
def deliver_alerts() -> None:
    """Send what is due, until nothing is."""
    from governance.services import alerts  # it queues this task

    alerts.deliver_due()


@shared_task(base=PlatformTask)
def dispatch_payload_purge() -> None:
    """Queue one task for each organisation, suspended ones too: what has expired goes."""
    for schema_name in Tenant.objects.values_list("schema_name", flat=True):
        purge_payloads.apply_async(kwargs={"schema_name": schema_name}, expires=3000)


@shared_task(base=TenantTask)
def purge_payloads() -> None:
    """Delete payloads that have expired or are not allowed any more."""
    from governance.services import payloads  # it queues this task

    payloads.purge()
