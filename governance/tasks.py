"""Celery doors of the ground floor."""

from celery import shared_task
from django.utils import timezone

from governance import config
from governance.celery import PlatformTask
from governance.models import Heartbeat


@shared_task(base=PlatformTask)
def publish_stragglers() -> None:
    """Publish every tenant whose configuration changed without being published, and show that the worker lives."""
    for schema_name in config.behind():
        config.publish(schema_name)
    Heartbeat.objects.update_or_create(name="worker", defaults={"at": timezone.now()})
