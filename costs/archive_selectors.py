"""What left the database, and reading it as if it had not: rows of a file become a table of the transaction, shaped like `event`."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from costs import parquet
from costs.errors import ArchiveError
from costs.models import ArchivedMonth, Event, EventRetention
from costs.models.event import DATED_ID
from costs.periods import Period, first_of_month

CHUNK = 1024 * 1024
_READ = "archived_event"


def retention() -> EventRetention:
    """What was chosen, or that everything is kept."""
    return EventRetention.objects.filter(pk=1).first() or EventRetention()


def months() -> QuerySet[ArchivedMonth]:
    """Newest first."""
    return ArchivedMonth.objects.all()


def months_in(period: Period) -> list[ArchivedMonth]:
    """Of a period those that left the database, oldest first."""
    return list(ArchivedMonth.objects.filter(month__gte=period.first.replace(day=1), month__lte=period.last).order_by("month"))


def partition_of(month: date) -> str:
    return f"event_{month:%Y_%m}"


def partitions() -> dict[date, str]:
    """The months with a partition in this schema, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'event'::regclass ORDER BY 1"
        )
        return {datetime.strptime(name, "event_%Y_%m").replace(tzinfo=UTC).date(): name for (name,) in cursor.fetchall()}


def first_kept(at: datetime) -> date | None:
    """The oldest month whose single calls the organisation keeps in the database; None when it keeps all."""
    keep = retention().keep_months
    return None if keep is None else first_of_month(at.astimezone(UTC).date(), -keep)


def due(at: datetime) -> list[date]:
    """Months in the database that are older than the organisation keeps them, oldest first."""
    kept = first_kept(at)
    return [] if kept is None else [month for month in partitions() if month < kept]


@contextmanager
def local(path: str) -> Iterator[Path]:
    """A stored file where DuckDB can read it. Raises ArchiveError when it is gone."""
    if not default_storage.exists(path):
        raise ArchiveError("The file of this month is gone from the storage. Its sums stay; single calls cannot be read.")
    try:
        where = Path(default_storage.path(path))
    except NotImplementedError:  # not on this machine
        with tempfile.TemporaryDirectory(prefix="archive-") as folder:
            copied = Path(folder) / "events.parquet"
            with default_storage.open(path) as source, copied.open("wb") as target:
                for chunk in source.chunks():
                    target.write(chunk)
            yield copied
        return
    yield where


def digest(file: Path) -> str:
    """SHA-256 of the file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check(archived: ArchivedMonth, file: Path) -> None:
    """Raises ArchiveError unless the file is what was written."""
    if digest(file) != archived.sha256:
        raise _damaged(archived)


def check_once(archived: ArchivedMonth, file: Path) -> None:
    """The same, but a file on this machine that this process has looked at and that did not change since is not read again."""
    now = file.stat()
    if _digest_of(str(file), now.st_ino, now.st_mtime_ns, now.st_size) != archived.sha256:
        raise _damaged(archived)


@lru_cache(maxsize=256)
def _digest_of(file: str, inode: int, changed_ns: int, size_bytes: int) -> str:
    return digest(Path(file))


def check_readable(period: Period) -> None:
    """Raises ArchiveError unless every call of the period can be read, from the database or from a file that is whole."""
    for archived in months_in(period):
        if archived.events and not archived.path:
            raise _deleted(archived)
        if archived.path:
            with local(archived.path) as stored:
                check(archived, stored)


def _damaged(archived: ArchivedMonth) -> ArchiveError:
    return ArchiveError(f"The file of {archived.month:%Y-%m} is not what was written: its checksum differs.")


def _deleted(archived: ArchivedMonth) -> ArchiveError:
    return ArchiveError(f"Single calls of {archived.month:%B %Y} were deleted, as your organisation chose. Their sums by the hour stay.")


@contextmanager
def events_of(day: date) -> Iterator[str]:
    """The table that holds the calls of a UTC day, within a transaction: `event`, or one made of the archive.

    Raises ArchiveError when the day is in neither, or its file is damaged.
    """
    archived = ArchivedMonth.objects.filter(month=day.replace(day=1)).first()
    if archived is None or not archived.events:
        yield "event"
        return
    if not archived.path:
        raise _deleted(archived)
    start = Period(day, day).start
    with local(archived.path) as stored:
        check(archived, stored)
        span = {"start": start, "end": start + timedelta(days=1)}
        with _table_of(stored, "started_at >= $start AND started_at < $end", span) as table:
            yield table


def has_left(day: date) -> bool:
    """Whether calls of a UTC day were in a month that left the database."""
    return ArchivedMonth.objects.filter(month=day.replace(day=1), events__gt=0).exists()


def event(event_id: UUID, *, keys: Collection[str] | None = None) -> Event | None:
    """One archived call, with `keys` of these keys only; None when no archive has it, or its id does not say when it was.

    Ids made by the gateway do: of most, a day or two of one file are looked at, and only the file that has the call is checked whole.
    Other ids would take reading every month, for whoever asks. Raises ArchiveError when the file is damaged.
    """
    milliseconds = event_id.int >> 80
    if event_id.version != DATED_ID or milliseconds > timezone.now().timestamp() * 1000:  # of the future, or of no year at all
        return None
    began = datetime.fromtimestamp(milliseconds / 1000, UTC)
    first, last = began - timedelta(days=1), began + timedelta(days=1)
    condition = "event_id = $event_id AND started_at BETWEEN $first AND $last"
    parameters: dict[str, object] = {"event_id": str(event_id), "first": first, "last": last}
    if keys is not None:
        condition, parameters = f"{condition} AND list_contains($keys, key_id)", {**parameters, "keys": list(keys)}
    span = {at.date().replace(day=1) for at in (first, began, last)}
    for archived in ArchivedMonth.objects.filter(month__in=span).exclude(path=""):
        if not _has(archived, condition, parameters):
            continue
        with local(archived.path) as stored:
            check(archived, stored)
            return calls_where(stored, condition, parameters)[0]
    return None


def _has(archived: ArchivedMonth, condition: str, parameters: dict[str, object]) -> bool:
    """Whether a row of the file meets the condition, by its index, without reading it whole."""
    import duckdb

    with local(archived.path) as stored:
        try:
            return bool(parquet.read(stored, f"SELECT 1 FROM made WHERE {condition} LIMIT 1", parameters))  # noqa: S608  # ours
        except duckdb.Error:
            check(archived, stored)
            raise


def calls_where(stored: Path, condition: str, parameters: Mapping[str, object]) -> list[Event]:
    """The calls of a file that meet a condition of DuckDB, newest first. Who asks has checked the file."""
    with _table_of(stored, condition, parameters) as table:
        found = list(Event.objects.raw(f"SELECT * FROM {table} ORDER BY started_at DESC, event_id DESC"))  # noqa: S608  # a constant
    for one in found:
        one.is_archived = True
    return found


@contextmanager
def _table_of(stored: Path, condition: str, parameters: Mapping[str, object]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="archive-") as folder, transaction.atomic():
        lines = Path(folder) / "events.csv"
        names = ", ".join(parquet.lines_where(stored, lines, condition, parameters))
        with connection.cursor() as cursor:
            # Without the constraints of `event`: a file that is older than a column has none in it.
            cursor.execute(f"CREATE TEMPORARY TABLE {_READ} ON COMMIT DROP AS SELECT * FROM event WITH NO DATA")  # noqa: S608  # a constant
            with lines.open("rb") as file, cursor.copy(f"COPY {_READ} ({names}) FROM STDIN (FORMAT csv, NULL '{parquet.NULL}')") as copy:
                while chunk := file.read(CHUNK):
                    copy.write(chunk)
            yield _READ
            cursor.execute(f"DROP TABLE {_READ}")
