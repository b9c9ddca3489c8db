"""Single calls of months long past: out of the database into one Parquet file a month, or away.

Nothing is lost in between: the file is read back and agrees with the database day by day before the partition is dropped, in one
transaction with the row that says so. Whoever dies before leaves the calls where they were, and the next run begins again.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.files import File
from django.core.files.storage import default_storage
from django.db import OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

from costs import archive_selectors, parquet, set_aside_selectors
from costs.errors import ArchiveError, RetentionError
from costs.models import LONGEST_MONTHS, SHORTEST_MONTHS, ArchivedMonth, EventRetention, PriceProposal
from costs.periods import midnight
from costs.services import ingest
from governance.models import Tenant, User
from governance.schema import current_schema
from governance.services import audit

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 5
"""Dropping a partition waits for whoever reads events, and whoever wants to read them waits behind it."""
_TYPES = {
    "uuid": "UUID",
    "timestamp with time zone": "TIMESTAMPTZ",
    "bigint": "BIGINT",
    "integer": "INTEGER",
    "boolean": "BOOLEAN",
    "numeric(30,14)": "DECIMAL(38, 14)",
}
"""Of columns in PostgreSQL to those of the file; all others are text: JSON as it is, arrays as `{1,NULL}`."""

SUMS = (
    "events",
    "unpriced_events",
    "cost",
    "uncached_input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "duration_us",
    "text_bytes",
)
"""Of one day: what has to be the same in the database and in the file."""
_TEXTS = ("request_id", "key_id", "agent", "model", "error_code", "tags", "steps", "units", "price_ids")
_SUMS = """
SELECT {day} AS day, count(*), count(*) FILTER (WHERE pricing = 'unpriced'), coalesce(sum(cost), 0), {tokens}, sum(duration_us), sum({texts})
FROM {source} GROUP BY 1 ORDER BY 1
"""
_TOKENS = ", ".join(f"coalesce(sum({name}), 0)" for name in SUMS[3:7])


@transaction.atomic
def set_retention(*, actor: User, keep_months: int | None, archives: bool) -> EventRetention:
    """Keep single calls of so many whole months before the present one; None for all. The same again changes nothing.

    Older months leave within the hour, and do not come back when the time is made longer. Writes one audit entry. Raises RetentionError.
    """
    if keep_months is not None and not SHORTEST_MONTHS <= keep_months <= LONGEST_MONTHS:
        raise RetentionError(f"Keep {SHORTEST_MONTHS} to {LONGEST_MONTHS} months, or leave it empty to keep all.", field="keep_months")
    EventRetention.objects.get_or_create(pk=1)
    chosen = EventRetention.objects.select_for_update().get(pk=1)
    before = {"keep_months": chosen.keep_months, "archives": chosen.archives}
    after = {"keep_months": keep_months, "archives": archives}
    if after != before:
        chosen.keep_months, chosen.archives = keep_months, archives
        chosen.save()
        audit.record("event_retention.changed", actor=actor, before=before, after=after)
    return chosen


def archive_due(*, at: datetime) -> list[ArchivedMonth]:
    """Archive or delete every month that is older than the organisation keeps, oldest first. Returns those that left.

    Stops at the first that cannot leave now, so that what is kept has no holes: calls changed meanwhile, a price is still being
    corrected, another worker is at it, or a reader holds the partition.
    """
    done: list[ArchivedMonth] = []
    for month in archive_selectors.due(at):
        try:
            left = archive_month(month=month, at=at)
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            logger.warning("archive.busy", extra={"month": month.isoformat()})
            break
        if left is None:
            logger.warning("archive.postponed", extra={"month": month.isoformat()})
            break
        logger.info("archive.done", extra={"month": month.isoformat(), "events": left.events})
        done.append(left)
    return done


@transaction.atomic
def forget_set_aside(*, at: datetime) -> int:
    """Delete what was set aside and came before the months that are kept; nothing while all are. Returns how many rows. Writes one audit entry."""
    kept = archive_selectors.first_kept(at)
    if kept is None:
        return 0
    tenant = Tenant.objects.get(schema_name=current_schema())
    rows, _ = set_aside_selectors.set_aside(tenant).filter(received_at__lt=midnight(kept)).delete()
    if rows:
        audit.record("calls.set_aside_deleted", actor=None, target_name=f"before {kept:%Y-%m}", rows=rows)
    return rows


@transaction.atomic
def archive_month(*, month: date, at: datetime) -> ArchivedMonth | None:
    """Write, verify and drop one month. Returns None when it has to wait; then nothing has changed.

    Raises ArchiveError when the file does not hold what the database does, and OperationalError when somebody reads the partition for
    longer than LOCK_TIMEOUT_S. A file without its row is of a run that died or had to wait, and goes first.
    """
    partition = archive_selectors.partition_of(month)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('archive:' || current_schema(), 0))")
        if not cursor.fetchone()[0] or partition not in archive_selectors.partitions().values():
            return None
    if _is_being_corrected():
        return None
    before = _sums_in_database(partition)
    path = f"{current_schema()}/events/{month:%Y-%m}.parquet"
    default_storage.delete(path)  # of a run that died or had to wait: without a row nobody would, once files are not wanted any more
    is_filed = bool(before) and archive_selectors.retention().archives
    filed = _file(month, partition, path, before) if is_filed else _Filed()
    if filed is None:
        return None
    ingest.lock_events()  # nothing is attributed or priced from here on
    if _is_being_corrected() or _sums_in_database(partition) != before:
        return None  # also a correction that was approved while the file was written: it would not reach this month any more
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
        cursor.execute(f"DROP TABLE {partition}")
        cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    left = ArchivedMonth.objects.create(
        month=month,
        path=filed.path,
        sha256=filed.sha256,
        size_bytes=filed.size_bytes,
        events=sum(day["events"] for day in before.values()),
        unpriced_events=sum(day["unpriced_events"] for day in before.values()),
        cost=sum((Decimal(day["cost"]) for day in before.values()), Decimal()),
        days=before,
        archived_at=at,
    )
    audit.record(
        "events.archived" if filed.path or not before else "events.deleted",
        actor=None,
        target_name=f"{month:%Y-%m}",
        events=left.events,
        cost_usd=f"{left.cost.normalize():f}",
        sha256=filed.sha256,
    )
    return left


@dataclass(frozen=True)
class _Filed:
    """The file of a month; empty where none is kept."""

    path: str = ""
    sha256: str = ""
    size_bytes: int = 0


def _file(month: date, partition: str, path: str, expected: dict[str, dict[str, Any]]) -> _Filed | None:
    """Store the calls of a partition and read them back. None when a late call came meanwhile, so that they are not `expected` any more.

    Raises ArchiveError when the file does not hold what the database does, or was not stored whole.
    """
    with tempfile.TemporaryDirectory(prefix="archive-") as folder:
        made = _written(partition, Path(folder))
        if _sums_in_file(made) != expected:
            if _sums_in_database(partition) != expected:
                return None
            raise ArchiveError(f"The file of {month:%Y-%m} does not hold what the database does.")
        filed = _Filed(path, archive_selectors.digest(made), made.stat().st_size)
        with made.open("rb") as file:
            default_storage.save(path, File(file))
    with archive_selectors.local(path) as stored:
        if archive_selectors.digest(stored) != filed.sha256:
            raise ArchiveError(f"The file of {month:%Y-%m} was not stored whole.")
    _make_durable(path)
    return filed


def _is_being_corrected() -> bool:
    return PriceProposal.objects.filter(corrects=True, status=PriceProposal.Status.APPROVED, repriced_at=None).exists()


def _make_durable(path: str) -> None:
    """Have a stored file on the disk before the calls in it go; storages that are not on this machine see to that themselves."""
    try:
        stored = Path(default_storage.path(path))
    except NotImplementedError:
        return
    for one in (stored, *stored.parents[:3]):  # the folders may be new: of the events, of the organisation, of all files
        opened = os.open(one, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def download(*, archived: ArchivedMonth, actor: User) -> Iterator[bytes]:
    """The file, byte by byte as it was written. Writes one audit entry before its first. Raises ArchiveError when it is not what was written."""
    with archive_selectors.local(archived.path) as stored:
        archive_selectors.check(archived, stored)
    with transaction.atomic():
        audit.record("events.archive_downloaded", actor=actor, target_name=f"{archived.month:%Y-%m}", sha256=archived.sha256)
    return _bytes_of(archived.path)


def _bytes_of(path: str) -> Iterator[bytes]:
    with default_storage.open(path) as file:
        yield from file.chunks()


def _written(partition: str, folder: Path) -> Path:
    """The calls of a partition as a Parquet file, by time: a day of it is found without reading the others."""
    lines, made = folder / "events.csv", folder / "events.parquet"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped "
            "ORDER BY attnum",
            [partition],
        )
        types = {name: _TYPES.get(kind, "VARCHAR") for name, kind in cursor.fetchall()}
        with (
            lines.open("wb") as file,
            cursor.copy(
                f"COPY (SELECT {', '.join(types)} FROM {partition} ORDER BY started_at, event_id) TO STDOUT (FORMAT csv, NULL '{parquet.NULL}')"  # noqa: S608  # ours
            ) as copy,
        ):
            for data in copy:
                file.write(data)
    parquet.convert(lines, made, types)
    return made


def _sums_in_database(partition: str) -> dict[str, dict[str, Any]]:
    texts = " + ".join(f"coalesce(octet_length({name}::text), 0)" for name in _TEXTS)
    day = "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    with connection.cursor() as cursor:
        cursor.execute(_SUMS.format(day=day, tokens=_TOKENS, texts=texts, source=partition))
        return _by_day(cursor.fetchall())


def _sums_in_file(made: Path) -> dict[str, dict[str, Any]]:
    texts = " + ".join(f"coalesce(strlen({name}), 0)" for name in _TEXTS)
    day = "strftime(CAST(started_at AS TIMESTAMP), '%Y-%m-%d')"
    return _by_day(parquet.read(made, _SUMS.format(day=day, tokens=_TOKENS, texts=texts, source="made")))


def _by_day(rows: list[tuple[Any, ...]]) -> dict[str, dict[str, Any]]:
    return {day: {name: _plain(value, name) for name, value in zip(SUMS, values, strict=True)} for day, *values in rows}


def _plain(value: Any, name: str) -> int | str:
    return f"{Decimal(value).normalize():f}" if name == "cost" else int(value)
