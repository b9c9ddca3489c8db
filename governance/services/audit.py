"""Writing and verifying the audit log.

Every service records its act in the transaction of the act: without its entry a change cannot exist. Entries of a schema
form a chain: each hash covers the entry and the hash before it, so that a changed, removed or inserted entry is found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, models, transaction
from django.utils import timezone
from django_tenants.utils import schema_context

from governance import selectors
from governance.models import AuditEntry, Tenant, User

GENESIS = "0" * 64
LAST = f'SELECT sequence, hash FROM "{AuditEntry._meta.db_table}" ORDER BY sequence DESC LIMIT 1'  # noqa: S608 - a table of ours
"""Written out: nearly every act asks it, and Django would take several times as long to write it as to run it."""
via: ContextVar[str] = ContextVar("audit_via", default="command")
"""Through which door the act came: web, api, command or task. Set by middleware and the task base."""


@dataclass(frozen=True)
class Verification:
    """Outcome of walking the chain."""

    entries: int
    broken_at: int | None
    """Sequence of the first entry that does not fit, None when the chain holds."""
    reason: str = ""
    checkpoint: str = ""
    """`<sequence>:<hash>` of the last entry that fits: kept elsewhere, it shows later that the log was cut off or written anew."""

    @property
    def is_intact(self) -> bool:
        return self.broken_at is None


def record(
    event: str, *, actor: User | None, target: models.Model | None = None, target_name: str = "", at: datetime | None = None, **details: Any
) -> AuditEntry:
    """Append one entry to the current schema's log. Call it inside the transaction of the act.

    `details` must be plain JSON values and never contain secrets, prompts or completions.
    """
    return _append(event, actor, [(target, target_name, details)], at)[0]


def record_each(event: str, *, actor: User | None, targets: Iterable[tuple[models.Model, dict[str, Any]]]) -> list[AuditEntry]:
    """Append an entry for each target with its details, as `record` does, in a handful of statements however many they are."""
    return _append(event, actor, [(target, "", details) for target, details in targets], None)


def _append(
    event: str, actor: User | None, targets: Sequence[tuple[models.Model | None, str, dict[str, Any]]], at: datetime | None
) -> list[AuditEntry]:
    if not connection.in_atomic_block:
        raise RuntimeError("an audit entry must be written in the transaction of its act")
    with connection.cursor() as cursor:
        # Serialises writers of this schema, so that the chain has no forks; released with the transaction.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('audit:' || current_schema(), 0))")
        # A statement of its own: one that waits for the lock itself would not see what was written meanwhile.
        cursor.execute(LAST)
        sequence, previous = cursor.fetchone() or (0, GENESIS)
    at = at or timezone.now()
    entries = []
    for number, (target, name, details) in enumerate(targets, start=sequence + 1):
        entry = AuditEntry(
            sequence=number,
            at=at,
            actor=actor,
            actor_name=str(actor) if actor else "System",
            via=via.get(),
            event=event,
            target_type=target._meta.model_name or "" if target is not None else "",
            target_id=str(target.pk) if target is not None else "",
            target_name=(name or (str(target) if target is not None else ""))[:160],
            details=json.loads(json.dumps(details, default=str)),
            previous_hash=previous,
        )
        entry.hash = previous = _hash(entry)
        entries.append(entry)
    return AuditEntry.objects.bulk_create(entries, batch_size=1000)


def record_in_both(event: str, *, tenant: Tenant, actor: User | None, **details: Any) -> None:
    """An operator's act on a tenant stands in the platform's log and in the tenant's own."""
    for schema_name in ("public", tenant.schema_name):
        with schema_context(schema_name):
            record(event, actor=actor, target=tenant, **details)


def verify(*, checkpoint: tuple[int, str] | None = None) -> Verification:
    """Walk the current schema's chain from the first entry and recompute every hash.

    A chain alone can't show that its end was cut off, or that all of it was written anew with new hashes. `checkpoint`, sequence
    and hash of an entry as an earlier verification told them, shows both.
    """
    previous, expected = GENESIS, 1
    known_sequence, known_hash = checkpoint or (0, "")

    def broken(at: int, reason: str) -> Verification:
        return Verification(expected - 1, at, reason, _checkpoint(expected - 1, previous))

    for entry in AuditEntry.objects.order_by("sequence").iterator(chunk_size=1000):
        if entry.sequence != expected:
            return broken(expected, f"entry {expected} is missing")
        if entry.previous_hash != previous:
            return broken(entry.sequence, f"entry {entry.sequence} does not follow entry {expected - 1}")
        if entry.hash != _hash(entry):
            return broken(entry.sequence, f"entry {entry.sequence} was changed")
        if entry.sequence == known_sequence and entry.hash != known_hash:
            return broken(entry.sequence, f"entry {entry.sequence} is not the one of the checkpoint: the log was written anew")
        previous, expected = entry.hash, expected + 1
    if expected <= known_sequence:
        return broken(expected, f"entries {expected} to {known_sequence} of the checkpoint are missing at the end")
    return Verification(expected - 1, None, "", _checkpoint(expected - 1, previous))


def _checkpoint(sequence: int, digest: str) -> str:
    return f"{sequence}:{digest}" if sequence else ""


def export(*, filters: dict[str, Any], actor: User) -> Iterator[AuditEntry]:
    """The entries of the filter, newest first, read by the thousand; the export itself stands in the log, and in what it hands out."""
    with transaction.atomic():
        record("audit.exported", actor=actor, filters={name: str(value) for name, value in filters.items() if value})
    return _by_the_thousand(selectors.audit_entries(**filters))


def _by_the_thousand(entries: models.QuerySet[AuditEntry]) -> Iterator[AuditEntry]:
    rows = list(entries[:1000])
    while rows:
        yield from rows
        rows = list(entries.filter(sequence__lt=rows[-1].sequence)[:1000])


def hashed_text(entry: AuditEntry) -> str:
    """What the entry's hash is the SHA-256 of, in UTF-8."""
    fields = {
        "sequence": entry.sequence,
        "at": entry.at.isoformat(),
        "actor": entry.actor_id,
        "actor_name": entry.actor_name,
        "via": entry.via,
        "event": entry.event,
        "target_type": entry.target_type,
        "target_id": entry.target_id,
        "target_name": entry.target_name,
        "details": entry.details,
        "previous": entry.previous_hash,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _hash(entry: AuditEntry) -> str:
    return hashlib.sha256(hashed_text(entry).encode()).hexdigest()
