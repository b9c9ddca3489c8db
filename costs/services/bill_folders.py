"""Exports that are fetched from the folder that a cloud delivers them to, and taken over as if somebody had uploaded them.

The files of one folder whose names differ in nothing but the number of the part are one delivery. One is read when a file of it is new or
another one than was read before, and nothing of it was written just now: a cloud puts the parts of a delivery there one by one. What cannot be
taken stands with its reason beside the file and stops no other; a file that could not be fetched is tried again by the next reading,
one that is no bill when it changes, or when somebody asks.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import BinaryIO

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from costs.errors import BillFormatError, BillStoppedError, BillTooLargeError, CostApiError, SourceChangedError
from costs.export_folders import LONGEST_S, ExportFolderFailure, Folder, Place, StoredObject
from costs.models import BillFile, BillSource, BillSourceFile
from costs.services import bill_rows, bills
from gateway.contract import credentials
from gateway.contract.credentials import CredentialError
from gateway.contract.sealing import Sealer, UnsealError
from governance.services import audit

logger = logging.getLogger(__name__)

SETTLED = timedelta(minutes=10)
"""After the last write, a delivery is whole."""
MOST_DELIVERIES = 20
"""Of one reading; the next one follows within half an hour."""
LARGEST_DELIVERY = 2 * bill_rows.LARGEST_FILE
"""All of its parts lie on our disk at once while it is read."""
READING_S, LOOK_S = LONGEST_S, 30.0
"""For all of a reading but its last import, and for a look, which somebody waits for."""
SHOWN = 20
"""Files that a look tells of."""
MOST_TOLD = 300
"""Characters of an error."""
_BILL = re.compile(r"[^\0]+\.(csv|csv\.gz|parquet)", re.IGNORECASE)
_NUMBER = re.compile(r"(part_\d+_\d{4,}|(^|(?<=[-_.]))00\d{3,})(?=\.)")
"""Of a part: AWS `-00001.csv.gz`, Azure `part_0_0001.csv`, BigQuery `-000000000001.csv`. No day (`_0925`, `-01112026`) begins with 00."""

_CHANGED = "The source was changed or removed while it was read, or another reading took over; what is left was not taken."

NEW, CHANGED, AGAIN, READ, FAILED, UNSETTLED, EARLIER, NO_BILL = (
    "new",
    "changed",
    "again",
    "read",
    "failed",
    "unsettled",
    "earlier",
    "no_bill",
)
TAKEN = (NEW, CHANGED, AGAIN)
WORDS = {
    NEW: "would be taken: new",
    CHANGED: "would be taken: changed",
    AGAIN: "would be tried again",
    READ: "is taken",
    FAILED: "failed, and is as it was",
    UNSETTLED: "waits: written in the last ten minutes",
    EARLIER: "passed over: from before the first day",
    NO_BILL: "passed over: no CSV or Parquet",
}
_FIRST_SHOWN = (*TAKEN, UNSETTLED, FAILED, READ, EARLIER, NO_BILL)


@dataclass(frozen=True)
class Reading:
    """What one reading found and did, in files."""

    taken: int
    failed: int
    left: int
    """For the next reading; without what was tried before and failed."""
    unsettled: int
    """Written just now."""
    passed_over: int
    """No bills, or from before the first day."""
    known: int
    """Read before, and the same."""
    rows: int
    """That were accepted."""


@dataclass(frozen=True)
class Seen:
    """A file as a look tells of it."""

    name: str
    size_bytes: int
    changed_at: datetime
    standing: str
    """A key of WORDS."""

    @property
    def words(self) -> str:
        return WORDS[self.standing]


@dataclass(frozen=True)
class Look:
    files: list[Seen]
    """At most SHOWN, first those that would be taken, and of these the newest."""
    counts: dict[str, int]
    """All files by standing."""

    @property
    def told(self) -> list[tuple[str, int]]:
        return [(WORDS[standing], self.counts[standing]) for standing in _FIRST_SHOWN if self.counts.get(standing)]


def look(source: BillSource, at: datetime) -> Look:
    """What a reading would do, without doing it. CostApiError when the folder cannot be listed."""
    found = _listed(_folder(source, LOOK_S))
    standings = _standings(source, found, at, again=False)
    order = {standing: place for place, standing in enumerate(_FIRST_SHOWN)}
    shown = sorted(found, key=lambda one: (order[standings[one.name]], -one.changed_at.timestamp(), one.name))[:SHOWN]
    counts: dict[str, int] = defaultdict(int)
    for standing in standings.values():
        counts[standing] += 1
    return Look([Seen(one.name, one.size_bytes, one.changed_at, standings[one.name]) for one in shown], dict(counts))


def read(source: BillSource, at: datetime, *, again: bool = False) -> Reading:
    """Take over what is new or changed; with `again` also what failed and has not changed. Notes what became of each file.

    In the second half of its time it begins no other delivery. Its lease (`begun_at`, see `bill_sources.fetch`) is renewed before each.
    CostApiError when the folder cannot be listed, or the source was changed meanwhile; what was taken until then stays.
    """
    folder = _folder(source, READING_S)
    found = _listed(folder)
    standings = _standings(source, found, at, again=again)
    _forget_gone(source, found)
    due = [parts for parts in _deliveries(found) if standings[parts[0].name] in TAKEN]
    tried_at = dict(source.files.exclude(error="").values_list("name", "read_at"))

    def tried(parts: Sequence[StoredObject]) -> datetime:
        """When the delivery failed last, else before all times."""
        times = [tried_at[one.name] for one in parts if standings[one.name] == AGAIN]
        return max(times, default=datetime.min.replace(tzinfo=UTC))

    # As they came, since a later one replaces an earlier one; what failed before comes last, and in turns: it must not keep new ones out.
    due.sort(key=lambda parts: (tried(parts), _written_at(parts), parts[0].name))
    taken = failed = rows = begun = 0
    for parts in due[:MOST_DELIVERIES]:
        if begun and folder.left_s < READING_S / 2:
            break
        begun += 1
        renew(source)
        imported = _take(source, folder, parts, at)
        if imported is None:
            failed += len(parts)
            continue
        taken += len(parts)
        if imported.is_new and imported.file.state == BillFile.State.APPLIED:
            rows += imported.file.rows_accepted
    of = list(standings.values())
    return Reading(
        taken=taken,
        failed=failed,
        left=sum(standings[one.name] != AGAIN for parts in due[begun:] for one in parts),
        unsettled=of.count(UNSETTLED),
        passed_over=of.count(NO_BILL) + of.count(EARLIER),
        known=of.count(READ) + of.count(FAILED),
        rows=rows,
    )


def _folder(source: BillSource, total_s: float = LONGEST_S) -> Folder:
    try:
        credential = credentials.read(source.credential, Sealer(settings.SEALING_KEYS).open(source.sealed_key))
    except (UnsealError, CredentialError) as error:
        raise CostApiError("The credential cannot be used: enter it again.") from error
    return Folder(Place(source.kind, source.base_url, source.bucket, source.prefix, source.region), credential, total_s)


def _listed(folder: Folder) -> list[StoredObject]:
    try:
        return folder.listed()
    except ExportFolderFailure as error:
        raise CostApiError(str(error)) from error


def _is_bill(one: StoredObject) -> bool:
    return one.size_bytes > 0 and _BILL.fullmatch(one.name) is not None


def _deliveries(found: Iterable[StoredObject]) -> list[list[StoredObject]]:
    """Parts that belong together, each by name."""
    together: dict[str, list[StoredObject]] = defaultdict(list)
    for one in found:
        if _is_bill(one):
            folder, _, name = one.name.rpartition("/")
            together[f"{folder}/{_NUMBER.sub('', name)}"].append(one)
    return [sorted(parts, key=lambda one: one.name) for parts in together.values()]


def _written_at(parts: Sequence[StoredObject]) -> datetime:
    return max(one.changed_at for one in parts)


def _standings(source: BillSource, found: Sequence[StoredObject], at: datetime, *, again: bool) -> dict[str, str]:
    """Name to what is to be done with it."""
    known = {one.name: one for one in source.files.all()}
    begins_at = datetime.combine(source.begins_on, time(), UTC)
    standings = {one.name: NO_BILL for one in found}
    for parts in _deliveries(found):
        written_at = _written_at(parts)
        own = {one.name: EARLIER if written_at < begins_at else _standing(one, known.get(one.name), again=again) for one in parts}
        if any(standing in TAKEN for standing in own.values()):  # with a part of it, all of it
            own = {name: UNSETTLED if written_at > at - SETTLED else it if it in TAKEN else CHANGED for name, it in own.items()}
        standings |= own
    return standings


def _standing(one: StoredObject, known: BillSourceFile | None, *, again: bool) -> str:
    if known is None:
        return NEW
    if not known.version:
        return AGAIN
    if known.version != one.version:
        return CHANGED
    if known.error:
        return AGAIN if again else FAILED
    return READ


def _take(source: BillSource, folder: Folder, parts: Sequence[StoredObject], at: datetime) -> bills.Imported | None:
    """What the delivery was imported as; None where it failed, for whatever reason, which is noted. SourceChangedError."""
    with ExitStack() as opened:
        try:
            bills.check_parts(len(parts))
            for one in parts:
                bill_rows.check_size(one.size_bytes)
            if sum(one.size_bytes for one in parts) > LARGEST_DELIVERY:
                raise BillTooLargeError(
                    f"All parts of one export may have {LARGEST_DELIVERY // 1024**2:,} MB. Split it by month.", field="file"
                )
            uploads = [bills.Upload(_copied(folder, one, opened), one.name[-200:], one.changed_at) for one in parts]
            return _import(source, parts, uploads, at)
        except ExportFolderFailure as error:
            _failed(source, parts, str(error), at, is_final=False)
        except (BillFormatError, BillTooLargeError, BillStoppedError) as error:
            _failed(source, parts, error.message, at, is_final=True)
        except SourceChangedError:
            raise
        except Exception as error:  # a full disk, a defect of ours: the other deliveries and sources must not pay for it
            logger.exception("bill_source.file_broke", extra={"provider": source.provider, "file": parts[0].name})
            _failed(source, parts, unexpected(error), at, is_final=False)
    return None


def unexpected(error: Exception) -> str:
    """What people are told of an error that nobody foresaw; its text may name what is none of theirs."""
    return f"An unexpected error ({type(error).__name__}); the log of the worker says where. It is tried again."


def _copied(folder: Folder, one: StoredObject, opened: ExitStack) -> BinaryIO:
    file: BinaryIO = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the caller's stack closes it
    try:
        folder.copy(one, file, bill_rows.LARGEST_FILE)
    except ExportFolderFailure as error:
        raise ExportFolderFailure(f"{one.name.rpartition('/')[2]}: {error}") from error
    return file


@transaction.atomic
def _import(source: BillSource, parts: Sequence[StoredObject], uploads: Sequence[bills.Upload], at: datetime) -> bills.Imported:
    first, *more = uploads
    imported = bills.import_bill(
        file=first.file,
        name=first.name,
        actor=source.set_by,
        provider=source.provider,
        style=source.style,
        more=more,
        written_at=first.written_at,
        at=at,
    )
    locked(source)  # not before: whoever changes or removes the source would wait until all rows are read
    _note(source, parts, at, bill=imported.file)
    return imported


@transaction.atomic
def _failed(source: BillSource, parts: Sequence[StoredObject], message: str, at: datetime, *, is_final: bool) -> None:
    locked(source)
    known = source.files.filter(name=parts[0].name).values_list("error", flat=True).first()
    _note(source, parts, at, error=message, is_final=is_final)
    if known != message[:MOST_TOLD]:
        audit.record("bill_source.file_failed", actor=None, target=source, at=at, file=parts[0].name, parts=len(parts), error=message)


def locked(source: BillSource) -> None:
    """Hold the source until the transaction ends. SourceChangedError when it is not what was read by."""
    now = BillSource.objects.select_for_update().filter(pk=source.pk).first()
    if now is None or now.terms != source.terms:
        raise SourceChangedError(_CHANGED)


def renew(source: BillSource) -> None:
    """Say that the reading goes on. SourceChangedError when another one has the lease.

    Not asked once a delivery is imported: one of many rows may take longer than the lease lasts, and the other reading then knows it.
    """
    now = timezone.now()
    if not BillSource.objects.filter(pk=source.pk, begun_at=source.begun_at).update(begun_at=now):
        raise SourceChangedError(_CHANGED)
    source.begun_at = now


def _note(
    source: BillSource,
    parts: Iterable[StoredObject],
    at: datetime,
    *,
    bill: BillFile | None = None,
    error: str = "",
    is_final: bool = True,
) -> None:
    BillSourceFile.objects.bulk_create(
        [
            BillSourceFile(
                source=source,
                name=one.name,
                version=one.version[:200] if is_final else "",
                size_bytes=one.size_bytes,
                changed_at=one.changed_at,
                read_at=at,
                bill=bill,
                error=error[:MOST_TOLD],
            )
            for one in parts
        ],
        update_conflicts=True,
        unique_fields=["source", "name"],
        update_fields=["version", "size_bytes", "changed_at", "read_at", "bill", "error"],
    )


def _forget_gone(source: BillSource, found: Iterable[StoredObject]) -> None:
    """What lies there no more is no business of the source; what it was imported as stays."""
    there = {one.name for one in found}
    gone = [pk for pk, name in source.files.values_list("pk", "name") if name not in there]
    BillSourceFile.objects.filter(pk__in=gone).delete()
