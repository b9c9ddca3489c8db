"""The Celery app. Tasks are idempotent and take their lease in the database: the broker is only a hint.

A task of a tenant is called with `schema_name` as its first argument and enters that schema itself; the base class refuses
to run it without one. (tenant-schemas-celery passes the schema in a header; an argument is visible in logs and tests and
cannot be lost on the way.)
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

from celery import Celery, Task
from celery.signals import worker_process_init

_PR_SET_PDEATHSIG = 1

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "governance.settings")


class TenantTask(Task):  # type: ignore[misc]  # Celery ships no types
    """Runs inside the schema named by the keyword argument `schema_name`."""

    abstract = True
    typing = False  # the check at the caller's side doesn't know `schema_name`, which is taken off before the function runs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from django_tenants.utils import schema_context

        from governance.errors import TenantMissingError
        from governance.models import Tenant
        from governance.services import audit

        schema_name = kwargs.pop("schema_name", None)
        if not schema_name:
            raise TenantMissingError(f"{self.name} was called without a tenant")
        token = audit.via.set("task")
        try:
            with schema_context("public"):
                if not Tenant.objects.filter(schema_name=schema_name).exists():
                    return None  # removed since the task was queued
            with schema_context(schema_name):
                return super().__call__(*args, **kwargs)
        finally:
            audit.via.reset(token)

    def queue_for_all(self, *, expires: int | None = None, **arguments: Any) -> None:
        """Queue one run for each organisation that is not suspended: what breaks in one stays there.

        A run that has not begun after `expires` seconds is dropped: the next one does its work.
        """
        from governance.models import Tenant

        for schema_name in Tenant.objects.filter(suspended_at=None).values_list("schema_name", flat=True):
            self.apply_async(kwargs={**arguments, "schema_name": schema_name}, expires=expires)


class PlatformTask(Task):  # type: ignore[misc]
    """Runs in the public schema: dispatchers over all tenants, platform housekeeping."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from django_tenants.utils import schema_context

        from governance.services import audit

        token = audit.via.set("task")
        try:
            with schema_context("public"):
                return super().__call__(*args, **kwargs)
        finally:
            audit.via.reset(token)


@worker_process_init.connect
def _end_with_worker(**_: Any) -> None:
    """A pool process ends with its worker, even by kill -9: an orphan would go on taking tasks with old code."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


app = Celery("gatehouse")
app.config_from_object("governance.celery_settings")
app.autodiscover_tasks(["governance", "catalog", "costs", "rollouts", "gateway.publish"])
