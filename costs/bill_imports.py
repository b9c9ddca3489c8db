"""Bills that are being taken over at this moment: how far each is, and stopping one.

PostgreSQL knows both of a transaction that has a name, so nothing is written meanwhile, and a process that dies leaves nothing of it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from governance.models import User
from governance.schema import current_schema

ID_PATTERN = "[0-9a-f]{16}"
_PHASES = {
    "waiting": "Waits until another file is taken over",
    "reading": "Its rows are read",
    "matching": "All rows are read; they are matched with those that are there",
    "keeping": "The file is put away; this is the last step",
}

PHASE_CHOICES = list(_PHASES.items())


@dataclass(frozen=True)
class Running:
    """An import on its way."""

    id: str
    person: str
    began_at: datetime
    phase: str
    """One of `PHASE_CHOICES`."""
    rows: int | None
    """Read so far, while they are."""

    @property
    def said(self) -> str:
        return f"{self.rows:,} rows are read" if self.rows else _PHASES[self.phase]

    @property
    def is_stoppable(self) -> bool:
        """What puts the file away is over sooner than anybody could stop it."""
        return self.phase != "keeping"


def new_id() -> str:
    return secrets.token_hex(8)


def _mark() -> str:
    """Of the tenant: the name of a transaction has 63 bytes at most, and a schema's alone may be as long."""
    return hashlib.sha256(current_schema().encode()).hexdigest()[:12]


def announce(import_id: str, actor: User) -> None:
    """Name the present transaction, until it ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('application_name', %s, true)", [f"bill:{_mark()}:{actor.pk}:{import_id}"])


def running() -> list[Running]:
    """Imports of the tenant that are on their way, the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT split_part(a.application_name, ':', 4), split_part(a.application_name, ':', 3)::bigint, a.xact_start,
                CASE WHEN p.pid IS NOT NULL THEN 'reading' WHEN a.wait_event_type = 'Lock' THEN 'waiting' WHEN a.state = 'active' THEN 'matching'
                    ELSE 'keeping' END,
                p.tuples_processed
            FROM pg_stat_activity a LEFT JOIN pg_stat_progress_copy p USING (pid)
            WHERE a.datname = current_database() AND a.application_name LIKE %s AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
            ORDER BY a.xact_start, a.pid
            """,
            [f"bill:{_mark()}:%"],
        )
        rows = cursor.fetchall()
    people = User.objects.in_bulk([row[1] for row in rows]) if rows else {}
    return [Running(import_id, str(people.get(person, "")), began_at, phase, count) for import_id, person, began_at, phase, count in rows]


def stop(import_id: str) -> bool:
    """Cancel what the import does; whether there was something to cancel. It then ends as `BillStoppedError`, with nothing taken over."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT pg_cancel_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE %s AND split_part(application_name, ':', 4) = %s
                AND state = 'active' AND pid <> pg_backend_pid()
            """,
            [f"bill:{_mark()}:%", import_id],
        )
        return any(cancelled for (cancelled,) in cursor.fetchall())
