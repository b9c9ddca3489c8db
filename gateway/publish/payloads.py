"""What planes delivered of what calls said: into the store of its organisation."""

from __future__ import annotations

from datetime import datetime

from django.db import connection, transaction

from gateway.contract.events import PAYLOAD_COLUMNS
from gateway.publish.models import ArrivedPayload
from governance.models import CallPayload, Tenant

BATCH = 200
_COLUMNS = ", ".join(name for name in PAYLOAD_COLUMNS if name != "tenant")
_MOVE = f"""
WITH gone AS (
    DELETE FROM public.gateway_payload WHERE event_id IN (
        SELECT event_id FROM public.gateway_payload WHERE tenant = %s LIMIT {BATCH} FOR UPDATE SKIP LOCKED
    ) RETURNING *
), stored AS (
    INSERT INTO {CallPayload._meta.db_table} ({_COLUMNS}) SELECT {_COLUMNS} FROM gone ON CONFLICT (event_id) DO NOTHING
)
SELECT count(*) FROM gone
"""  # noqa: S608  # names of this project only


def tenants_waiting() -> list[Tenant]:
    """Those whose payloads have arrived."""
    return list(Tenant.objects.filter(public_id__in=ArrivedPayload.objects.values("tenant").distinct()))


def collect(*, tenant: Tenant) -> int:
    """Move what waits for the tenant, whose schema must be entered, batch by batch. What its rules allow no more is moved too: it can't
    be read, and goes with the next purge. Returns how many.
    """
    moved = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_MOVE, [tenant.public_id])
            count: int = cursor.fetchone()[0]
        moved += count
        if count < BATCH:
            return moved


def drop_expired(*, at: datetime) -> None:
    """What has expired where work stands still, and what planes delivered for organisations that are no more: nobody else could erase it."""
    ArrivedPayload.objects.filter(expires_at__lte=at).delete()
    ArrivedPayload.objects.exclude(tenant__in=Tenant.objects.values("public_id")).delete()
