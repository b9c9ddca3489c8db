"""Taking over bills: idempotent by file and by row, in little memory, with every row accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from decimal import localcontext
from functools import partial
from typing import Any, BinaryIO

import psycopg
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from catalog.models import Provider
from costs import bill_imports, focus, tasks
from costs.errors import BillFormatError, BillStateError, BillStoppedError, SignatureReasonError
from costs.models import BillAlias, BillDelivery, BillFile, BillRow, DeliveryStyle
from costs.services import bill_deliveries, bill_rows
from governance.access import Permission
from governance.models import Severity, User
from governance.schema import current_schema
from governance.services import alerts, audit

MOST_PARTS = 50


@dataclass(frozen=True)
class Upload:
    """A file as it came."""

    file: BinaryIO
    name: str
    written_at: datetime | None = None
    """Where it was fetched from, as that says."""


@dataclass(frozen=True)
class Imported:
    file: BillFile
    is_new: bool
    """False when the very same file was imported before; nothing was changed then."""


def import_bill(
    *,
    file: BinaryIO,
    name: str,
    actor: User,
    provider: str = "",
    style: str = "",
    is_preview: bool = False,
    more: Sequence[Upload] = (),
    written_at: datetime | None = None,
    import_id: str = "",
    at: datetime | None = None,
) -> Imported:
    """Take over one FOCUS file, CSV or Parquet, plain or by gzip; afterwards the months that it touches are reconciled.

    `more` are further parts of the same export: all of them are one delivery, which is shown, applied and undone as a whole.

    `provider` is the slug that all rows belong to; without it each row's provider name decides by the stored assignments. Choosing
    one stores the assignment for the names in the file. Every row is accepted, a duplicate of an earlier file, rejected as no row of a bill,
    or in quarantine as one that cannot be placed; the last two with their reasons. The file itself is kept. Writes one audit entry.

    `style` says how the file follows those of its accounts before and is remembered once the file is applied; without it, what is remembered
    holds, else the file tells. A file that would replace rows and cannot be trusted to (see `bill_deliveries.doubts`) waits for `apply_bill` with
    nothing of it in force; with `is_preview`, each file that would replace rows does.

    Under `import_id` (16 hexadecimal digits, default a new one) `bill_imports.running` tells how far it is, and `stop_import` stops it.

    Raises BillFormatError (nothing is stored), BillTooLargeError, or BillStoppedError (nothing is stored).
    """
    uploads = [Upload(file, name, written_at), *more]
    check_parts(len(uploads))
    parts: list[dict[str, Any]] = [{"name": one.name[:200] or "bill.csv", **_measured(one)} for one in uploads]
    for part, one in zip(parts, uploads, strict=True):
        if one.written_at is not None:
            part["written_at"] = one.written_at.isoformat()
    digests = sorted(str(part["sha256"]) for part in parts)
    _check_once(uploads, [str(part["sha256"]) for part in parts])
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    earlier = BillFile.objects.filter(sha256=digest).first()
    if earlier is not None:
        return Imported(earlier, False)
    _check(provider, style)
    try:
        return _take_over(
            [one.file for one in uploads],
            parts,
            digest,
            actor,
            provider,
            style,
            is_preview,
            import_id or bill_imports.new_id(),
            at or timezone.now(),
        )
    except (OperationalError, psycopg.errors.QueryCanceled) as error:  # Django does not wrap what a COPY raises
        if isinstance(error.__cause__ or error, psycopg.errors.QueryCanceled):
            raise BillStoppedError(bill_rows.STOPPED) from error
        raise


def check_parts(count: int) -> None:
    """BillFormatError for an export of more files than one may have."""
    if count > MOST_PARTS:
        raise BillFormatError(f"An export may have {MOST_PARTS} parts.", field="file")


def _measured(one: Upload) -> dict[str, str | int]:
    digest, size = bill_rows.digest_of(one.file)
    if size == 0:
        raise BillFormatError(f"{one.name or 'The file'} is empty.", field="file")
    return {"sha256": digest, "size_bytes": size}


def _check_once(uploads: Sequence[Upload], digests: Sequence[str]) -> None:
    """BillFormatError where a part is there twice. Parts of nothing but a header are all alike: an export may have several."""
    for number, upload in enumerate(uploads):
        if digests[number] in digests[:number]:
            with bill_rows.reading(upload.file) as reader:
                if any(True for _ in reader):
                    raise BillFormatError("One of the parts is there twice.", field="file")
            upload.file.seek(0)


def _check(provider: str, style: str) -> None:
    if provider and not Provider.objects.filter(slug=provider).exists():
        raise BillFormatError("This provider does not exist.", field="provider")
    if style and style not in DeliveryStyle.values:
        raise BillFormatError("There is no such style of delivery.", field="style")


def _lock() -> None:
    """One at a time in a tenant, until the transaction ends: two files with the same rows must see each other."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('bills:' || current_schema(), 0))")


@transaction.atomic
def _take_over(
    files: Sequence[BinaryIO],
    parts: list[dict[str, Any]],
    digest: str,
    actor: User,
    provider: str,
    style: str,
    is_preview: bool,
    import_id: str,
    at: datetime,
) -> Imported:
    bill_imports.announce(import_id, actor)
    _lock()
    earlier = BillFile.objects.filter(sha256=digest).first()
    if earlier is not None:
        return Imported(earlier, False)
    for part in parts:
        part["path"] = f"{current_schema()}/bills/{at:%Y-%m}/{part['sha256']}"
    others = len(parts) - 1
    bill = BillFile.objects.create(
        sha256=digest,
        name=parts[0]["name"] if not others else f"{parts[0]['name'][:180]} and {others} more",
        size_bytes=sum(part["size_bytes"] for part in parts),
        path="" if others else parts[0]["path"],
        parts=parts if others else [],
        provider=provider,
        focus_version="",
        uploaded_by=actor,
        uploaded_at=at,
        written_at=max((datetime.fromisoformat(part["written_at"]) for part in parts if "written_at" in part), default=None),
        rows_in=0,
        rows_accepted=0,
        rows_duplicate=0,
        rows_rejected=0,
        billed_in=0,
        billed_accepted=0,
        billed_duplicate=0,
        billed_rejected=0,
    )
    seen = set[str]()
    bill_rows.stage(bill, _rows(bill, files, bill_rows.names_for(provider), seen, at))
    _deliver(bill, bill_deliveries.styles(style), lambda outcome: not outcome.doubts and not (is_preview and outcome.replaces), at)
    if bill.state == BillFile.State.APPLIED:
        _assign(provider, seen)
        bill_deliveries.remember(bill, style, actor=actor, at=at)
    elif not is_preview:
        _tell(bill, at)
    _record("bill.imported" if bill.state == BillFile.State.APPLIED else "bill.previewed", bill, actor, at)
    for file, part in zip(files, parts, strict=True):
        _keep(file, part["path"], part["size_bytes"])
    _reconcile(bill)
    return Imported(bill, True)


def _rows(
    bill: BillFile,
    files: Iterable[BinaryIO | File[bytes]],
    names: bill_rows.Names,
    seen: set[str],
    at: datetime,
    wanted: Container[tuple[int, int]] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Rows of all parts to be staged, or those at `wanted` parts and lines. Notes the version of FOCUS. BillFormatError when parts differ in it.

    Read while the connection copies, so nothing here may ask the database.
    """
    for part, file in enumerate(files, 1):
        with bill_rows.reading(file) as reader:
            if part > 1 and reader.version != bill.focus_version:
                raise BillFormatError(
                    f"One part is of FOCUS {bill.focus_version}, another of {reader.version}: they are not of one export.", field="file"
                )
            bill.focus_version = reader.version
            rows = (row for row in reader if wanted is None or (part, row.line) in wanted)
            yield from bill_rows.placed(rows, names, seen, at, part)


def _tell(bill: BillFile, at: datetime) -> None:
    """That a file waits which nobody asked to look at first: an export that is uploaded by itself would stop without a word. Once per file."""
    alerts.notify(
        topic="bill.waiting",
        severity=Severity.WARNING,
        title=f"The bill {bill.name[:80]} waits to be applied",
        text=" ".join(doubt["message"] for doubt in bill.doubts) + " Nothing of it counts until somebody applies it.",
        path=f"operate/costs/reconciliation/bills/{bill.pk}/",
        permission=Permission.MANAGE_COSTS,
        key=f"bill-file:{bill.pk}:waiting",
        data={"file": bill.pk, "sha256": bill.sha256, "doubts": [doubt["code"] for doubt in bill.doubts]},
        at=at,
    )


def _deliver(bill: BillFile, styles: bill_deliveries.Styles, is_applied: Callable[[bill_deliveries.Outcome], bool], at: datetime) -> None:
    """Put the staged rows in force and those that they replace out of it, or only say what that would change."""
    before = transaction.savepoint()
    outcome = bill_deliveries.deliver(bill, styles)
    _account(bill)
    if is_applied(outcome):
        transaction.savepoint_commit(before)
        bill.state, bill.applied_at = BillFile.State.APPLIED, at
    else:
        transaction.savepoint_rollback(before)
        bill.state, bill.applied_at = BillFile.State.WAITING, None
    bill.doubts, bill.changes = outcome.doubts, outcome.changes
    bill.save()
    bill.deliveries.all().delete()
    BillDelivery.objects.bulk_create(outcome.deliveries)


def _record(event: str, bill: BillFile, actor: User, at: datetime, **details: Any) -> None:
    audit.record(
        event,
        actor=actor,
        target=bill,
        at=at,
        sha256=bill.sha256,
        focus_version=bill.focus_version,
        rows_in=bill.rows_in,
        accepted=bill.rows_accepted,
        duplicate=bill.rows_duplicate,
        rejected=bill.rows_rejected,
        quarantined=bill.rows_quarantined,
        replaced=sum(one.rows_gone for one in bill.deliveries.all()),
        billed=f"{bill.billed_accepted.normalize():f}",
        doubts=[doubt["code"] for doubt in bill.doubts],
        **details,
    )


@transaction.atomic
def stop_import(*, import_id: str, actor: User, at: datetime | None = None) -> None:
    """Ask for the end of an import that is on its way, whoever began it. Writes one audit entry. Raises BillStateError.

    The import hears of it at its next row or query, raises BillStoppedError and takes nothing over; one that was done in that moment stays.
    """
    if not bill_imports.stop(import_id):
        raise BillStateError("It is not running any more, or in its last step, which is over in a moment.")
    audit.record("bill.stop_asked", actor=actor, target_name=import_id, at=at)


@transaction.atomic
def preview_bill(*, bill: BillFile, actor: User, style: str = "", at: datetime | None = None) -> BillFile:
    """Say anew what a file that is not applied would change, in this style; it waits afterwards. Writes one audit entry.

    Raises BillStateError (it is applied) or BillFormatError.
    """
    at = at or timezone.now()
    _lock()
    found = BillFile.objects.select_for_update().get(pk=bill.pk)
    if found.state == BillFile.State.APPLIED:
        raise BillStateError("The file is applied.")
    _check("", style)
    _read_again(found, set(), at)
    _deliver(found, bill_deliveries.styles(style), lambda _: False, at)
    _record("bill.previewed", found, actor, at)
    return found


def apply_bill(*, bill: BillFile, actor: User, digest: str, reason: str = "", at: datetime | None = None) -> BillFile:
    """Put a file that waits in force, as its preview says; its months are reconciled. Remembers the style for its accounts.

    `digest` is that of the preview which the person saw. Writes one audit entry.

    Raises BillStateError (it does not wait, or would change something else by now: then the preview is made anew) or SignatureReasonError (a
    month that is signed off changes, and no reason is given).
    """
    at = at or timezone.now()
    try:
        return _apply(bill, actor, digest, reason.strip(), at)
    except _OtherChangesError as error:
        preview_bill(bill=bill, actor=actor, style=error.style, at=at)
        raise BillStateError("What it would change is not what you saw. Look at it again, then apply it.", field="digest") from error


class _OtherChangesError(Exception):
    def __init__(self, style: str) -> None:
        super().__init__(style)
        self.style = style


@transaction.atomic
def _apply(bill: BillFile, actor: User, digest: str, reason: str, at: datetime) -> BillFile:
    _lock()
    found = BillFile.objects.select_for_update().get(pk=bill.pk)
    if found.state != BillFile.State.WAITING:
        raise BillStateError(f"The file does not wait to be applied: it is {found.get_state_display().lower()}.")
    chosen = {(one.provider, one.account): one.style for one in found.deliveries.all()}
    only = next(iter(set(chosen.values()))) if len(set(chosen.values())) == 1 else ""
    if digest != found.digest:
        raise _OtherChangesError(only)
    if any(doubt["code"] == bill_deliveries.SIGNED for doubt in found.doubts) and not reason:
        raise SignatureReasonError("A month that is signed off changes. Say why.", field="reason")
    seen = set[str]()
    _read_again(found, seen, at)
    _deliver(found, bill_deliveries.styles("", chosen), lambda _: True, at)
    if found.digest != digest:
        raise _OtherChangesError(only)
    for doubt in found.doubts:
        if doubt["code"] == bill_deliveries.EMPTY:
            raise BillStateError(f"{doubt['message']} It cannot be applied.")
    _assign(found.provider, seen)
    bill_deliveries.remember(found, only, actor=actor, at=at)
    _record("bill.applied", found, actor, at, reason=reason)
    _reconcile(found)
    return found


@transaction.atomic
def dismiss_bill(*, bill: BillFile, actor: User, at: datetime | None = None) -> BillFile:
    """Do not apply a file that waits; it stays and can be looked at again. Writes one audit entry. Raises BillStateError."""
    found = BillFile.objects.select_for_update().get(pk=bill.pk)
    if found.state != BillFile.State.WAITING:
        raise BillStateError(f"The file does not wait to be applied: it is {found.get_state_display().lower()}.")
    found.state = BillFile.State.DISMISSED
    found.save(update_fields=["state"])
    audit.record("bill.dismissed", actor=actor, target=found, at=at, sha256=found.sha256)
    return found


@transaction.atomic
def undo_bill(*, bill: BillFile, actor: User, reason: str = "", at: datetime | None = None) -> BillFile:
    """Take a replacement back: its rows no longer count, and those that it replaced do again. Its months are reconciled.

    Writes one audit entry. Raises BillStateError (not a replacement in force, a later file delivered one of its periods, or a compared month would
    be left without a bill) or SignatureReasonError (a month that is signed off changes, and no reason is given).
    """
    at, reason = at or timezone.now(), reason.strip()
    _lock()
    found = BillFile.objects.select_for_update().get(pk=bill.pk)
    if not found.is_undoable:
        raise BillStateError("Only a file that replaced what came before, and is applied, can be undone.")
    later = bill_deliveries.later_files(found).first()
    if later is not None:
        raise BillStateError(f"{later.name} delivered one of its periods after it. Undo that one first.")
    if bill_deliveries.signed_months(found) and not reason:
        raise SignatureReasonError("A month that is signed off changes. Say why.", field="reason")
    months = bill_deliveries.months_touched(found)
    back = bill_deliveries.take_back(found)
    if gone := bill_deliveries.left_without(months):
        raise BillStateError(f"Nothing would be left to compare of {', '.join(gone)}. Upload the right file: it replaces this one.")
    found.state = BillFile.State.UNDONE
    found.save(update_fields=["state"])
    audit.record("bill.undone", actor=actor, target=found, at=at, sha256=found.sha256, reason=reason, restored=back)
    _reconcile_months(months)
    return found


def _read_again(bill: BillFile, seen: set[str], at: datetime, *, quarantined_only: bool = False) -> None:
    """Stage the file as it was kept, or its rows that are in quarantine. BillFormatError when it is gone."""
    errors = bill.errors.filter(is_quarantined=True) if quarantined_only else bill.errors.all()
    wanted = set(errors.values_list("part", "line")) if quarantined_only else None
    errors.delete()
    try:
        with ExitStack() as opened:
            kept = [opened.enter_context(default_storage.open(path)) for path in bill.paths]
            bill_rows.stage(bill, _rows(bill, kept, bill_rows.names_for(bill.provider), seen, at, wanted))
    except FileNotFoundError as error:
        raise BillFormatError("The file is not kept any more: upload it again.") from error


def _account(bill: BillFile) -> None:
    """Count what is in the book of the file's rows; the rest that is neither rejected nor in quarantine was known before."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*), coalesce(sum(billed_cost), 0) FROM bill_row
            WHERE file_id = %s AND (is_in_force OR replaced_by_id IS NOT NULL)""",
            [bill.pk],
        )
        bill.rows_accepted, bill.billed_accepted = cursor.fetchone()
    bill.rows_duplicate = bill.rows_in - bill.rows_accepted - bill.rows_rejected - bill.rows_quarantined
    with localcontext(focus.EXACT):
        bill.billed_duplicate = bill.billed_in - bill.billed_accepted - bill.billed_rejected - bill.billed_quarantined


def _assign(provider: str, seen: set[str]) -> None:
    """Remember whose names those are, where somebody chose the provider; a row without a name tells nothing about the next one."""
    if provider:
        for theirs in sorted(seen - {""}):
            BillAlias.objects.get_or_create(subject=BillAlias.Subject.PROVIDER, provider="", theirs=theirs, defaults={"ours": provider})


def _reconcile(bill: BillFile) -> None:
    if bill.state == BillFile.State.APPLIED:
        _reconcile_months(bill_deliveries.months_touched(bill))


def _reconcile_months(months: Iterable[tuple[str, date]]) -> None:
    for slug, month in months:
        # Robust: when the broker is away the bill is imported all the same; the hourly task compares it.
        transaction.on_commit(
            partial(tasks.reconcile.delay, provider=slug, month=month.isoformat(), schema_name=current_schema()), robust=True
        )


@transaction.atomic
def release_quarantine(*, bill: BillFile, actor: User, provider: str = "", at: datetime | None = None) -> BillFile:
    """Try to place the rows that are in quarantine again, from the file as it was kept; with `provider`, as rows of that one.

    What can be placed now is accepted, or a duplicate; the rest stays with its reason. In a period that this file delivered, the rows are added
    to it; in any other they follow what is in force there like those of a new file. Where that is in doubt, a file of which nothing counts yet
    waits for `apply_bill`. Writes one audit entry.

    Raises BillFormatError (no such provider, nothing in quarantine, or the file is gone) or BillStateError (not applied, a later file replaced
    their period, or there is a doubt about a part of a file whose other rows count).
    """
    at = at or timezone.now()
    _lock()
    found = BillFile.objects.select_for_update().get(pk=bill.pk)
    before = found.rows_quarantined
    _check(provider, "")
    if not before:
        raise BillFormatError("Nothing of it is in quarantine.")
    if found.state != BillFile.State.APPLIED:
        raise BillStateError("The file is not applied.")
    seen = set[str]()
    if found.rows_accepted or found.rows_duplicate:
        _release_part(found, provider, seen, at)
    else:
        _release_whole(found, provider, seen, at)
    if found.state == BillFile.State.APPLIED:
        _assign(provider, seen)
    else:
        _tell(found, at)
    audit.record(
        "bill.released",
        actor=actor,
        target=found,
        at=at,
        provider=provider,
        released=before - found.rows_quarantined,
        quarantined=found.rows_quarantined,
        accepted=found.rows_accepted,
        state=found.state,
        doubts=[doubt["code"] for doubt in found.doubts],
    )
    _reconcile(found)
    return found


def _release_whole(found: BillFile, provider: str, seen: set[str], at: datetime) -> None:
    """A file of which nothing was placed: what can be is a delivery like any other, and waits where that is in doubt."""
    found.provider = provider or found.provider  # for whoever reads it again: all of its rows are released as that one's
    _read_again(found, seen, at)
    _check_not_replaced(found)
    _deliver(found, bill_deliveries.styles(""), lambda outcome: not outcome.doubts, at)


def _release_part(found: BillFile, provider: str, seen: set[str], at: datetime) -> None:
    whole = {name: getattr(found, name) for name in ("rows_in", "billed_in", "rows_rejected", "billed_rejected")}
    chosen, found.provider = found.provider, provider or found.provider
    _read_again(found, seen, at, quarantined_only=True)
    found.provider = chosen
    for name, value in whole.items():
        setattr(found, name, value)  # of the whole file, not of these lines
    _check_not_replaced(found)
    outcome = bill_deliveries.deliver(found, bill_deliveries.styles("", own=bill_deliveries.periods_of(found)))
    for doubt in outcome.doubts:
        raise BillStateError(f"{doubt['message']} Upload these rows as a file of their own, and look at what it changes.")
    for one in outcome.deliveries:
        figures = {name: value for name, value in vars(one).items() if name.startswith(("rows_", "billed_"))}
        place = {name: getattr(one, name) for name in ("file", "provider", "account", "period", "currency")}
        BillDelivery.objects.update_or_create(**place, defaults=figures, create_defaults={**figures, "style": one.style})
    _account(found)
    found.save()


def _check_not_replaced(found: BillFile) -> None:
    if newer := bill_deliveries.replaced_since(found):
        raise BillStateError(f"{newer.name} replaced their period since: what counts is what it says of them.")


def _keep(file: BinaryIO, path: str, size: int) -> None:
    """Store the file as it came. It stays when the transaction does not last: whoever uploads it again finds it.

    One that is there stays as well, for another delivery may have the same part: its path ends with its digest.
    """
    if default_storage.exists(path):
        if default_storage.size(path) == size:
            return
        default_storage.delete(path)  # of a process that ended while it wrote
    file.seek(0)
    default_storage.save(path, File(file))


@transaction.atomic
def assign_model(*, provider: str, theirs: str, ours: str, actor: User) -> int:
    """Say which of our models a bill means; rows imported before are assigned too and their months reconciled. Returns how many rows."""
    BillAlias.objects.update_or_create(subject=BillAlias.Subject.MODEL, provider=provider, theirs=theirs, defaults={"ours": ours})
    rows = BillRow.ever.filter(provider=provider, model=theirs)  # also those that count again when a file is undone
    months = list(rows.order_by("month").values_list("month", flat=True).distinct())
    changed = rows.update(model=ours)
    audit.record("bill_alias.set", actor=actor, target_name=f"{provider}: {theirs}", ours=ours, rows=changed)
    for month in months:
        transaction.on_commit(
            partial(tasks.reconcile.delay, provider=provider, month=month.isoformat(), schema_name=current_schema()), robust=True
        )
    return changed
