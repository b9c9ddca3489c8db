"""Celery doors of the ground floor."""

from celery import shared_task
from django.utils import timezone
from django_tenants.utils import schema_context

from governance import config, selectors
from governance.celery import PlatformTask, TenantTask
from governance.models import Heartbeat, Tenant


@shared_task(base=PlatformTask)
def publish_stragglers() -> None:
    """Publish what changed without being published, of tenants and of the platform, and show that the worker lives."""
    for schema_name in config.behind():
        config.publish(schema_name)
    config.publish_platform()
    Heartbeat.objects.update_or_create(name="worker", defaults={"at": timezone.now()})


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

    while alerts.deliver_due():
        pass
