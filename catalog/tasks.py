"""Celery doors of the catalog. Every task may run twice."""

from __future__ import annotations

from celery import shared_task

from catalog.services import answers, keys, rotation
from governance.celery import PlatformTask, TenantTask
from governance.models import Tenant


@shared_task(base=PlatformTask)
def dispatch_key_figures() -> None:
    note_key_figures.queue_for_all(expires=300)


@shared_task(base=TenantTask)
def note_key_figures() -> None:
    """Note what the keys spent and when they were used, for lists sorted by it."""
    keys.note_figures()


@shared_task(base=PlatformTask)
def dispatch_answer_purge() -> None:
    """Queue one task for each organisation."""
    for schema_name in Tenant.objects.values_list("schema_name", flat=True):
        purge_answers.apply_async(kwargs={"schema_name": schema_name}, expires=3000)


@shared_task(base=TenantTask)
def purge_answers() -> None:
    """Delete answers of the semantic cache whose time is over."""
    answers.purge_answers()


@shared_task(base=PlatformTask)
def dispatch_rotation_warnings() -> None:
    warn_of_rotation.queue_for_all(expires=3000)


@shared_task(base=TenantTask)
def warn_of_rotation() -> None:
    """Tell of keys and credentials that are to be rotated."""
    rotation.warn()
