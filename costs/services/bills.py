"""Taking over bills: idempotent by file and by row, in little memory, with every row accounted for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import localcontext
from functools import partial
from typing import Any, BinaryIO

from django.core.files import File
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.utils import timezone
from django.utils.text import slugify

from catalog.models import Deployment, Provider
from costs import exchange, focus, parquet, tasks
from costs.errors import BillFormatError, BillStateError, BillTooLargeError, SignatureReasonError
from costs.models import BillAlias, BillDelivery, BillFile, BillRow, DeliveryStyle
from costs.services import bill_deliveries
from governance.access import Permission
from governance.models import Severity, User
from governance.schema import current_schema
from governance.services import alerts, audit

LARGEST_FILE = 512 * 1024 * 1024
CHUNK = 1024 * 1024

_ROW_COLUMNS = (
    "line",
    "fingerprint",
    "provider",
    "provider_name",
    "account",
    "kind",
    "charge_category",
    "charge_class",
    "description",
    "month",
    "day",
    "charge_start",
    "charge_end",
    "model",
    "token_class",
    "tokens",
    "billed_cost",
    "effective_cost",
    "currency",
    "listed_cost",
    "list_cost",
    "pricing_currency",
    "pricing_cost",
    "pricing_listed_cost",
    "pricing_list_cost",
    "invoice_id",
    "sku_id",
    "meter",
    "period",
    "charge_key",
)
_ERROR_COLUMNS = ("error_column", "error_message", "error_text", "is_quarantined")
UNKNOWN = "unknown"
"""The provider of rows that name none."""
AHEAD = timedelta(days=1)
"""Usage that begins later than this after the upload has not happened."""
_STAGING = ", ".join((*_ROW_COLUMNS, *_ERROR_COLUMNS))


@dataclass(frozen=True)
class Imported:
    file: BillFile
    is_new: bool
    """False when the very same file was imported before; nothing was changed then."""


@dataclass(frozen=True)
class Names:
    """How names in a bill become ours."""

    provider: str
    """Chosen at the upload; empty when the file's names decide."""
    providers: dict[str, str]
    """Normalised name in bills to slug."""
    models: dict[str, dict[str, str]]
    """Provider slug to normalised model name to our slug."""

    def provider_of(self, row: focus.Row) -> str:
        if self.provider:
            return self.provider
        name = focus.normal(row.provider_name)
        return self.providers.get(name) or slugify(row.provider_name)[:48] or UNKNOWN

    def model_of(self, row: focus.Row, provider: str) -> str:
        return focus.find_model(row, self.models.get(provider, {}))


def import_bill(
    *,
    file: BinaryIO,
    name: str,
    actor: User,
    provider: str = "",
    style: str = "",
    is_preview: bool = False,
    at: datetime | None = None,
) -> Imported:
    """Take over one FOCUS file, CSV or Parquet; afterwards the months that it touches are reconciled.

    `provider` is the slug that all rows belong to; without it each row's provider name decides by the stored assignments. Choosing
    one stores the assignment for the names in the file. Every row is accepted, a duplicate of an earlier file, rejected as no row of a bill,
    or in quarantine as one that cannot be placed; the last two with their reasons. The file itself is kept. Writes one audit entry.

    `style` says how the file follows those of its accounts before and is remembered once the file is applied; without it, what is remembered
    holds, else the file tells. A file that would replace rows and cannot be trusted to (see `bill_deliveries.doubts`) waits for `apply_bill` with
    nothing of it in force; with `is_preview`, each file that would replace rows does.

    Raises BillFormatError (nothing is stored) or BillTooLargeError.
    """
    digest, size = _digest(file)
    if size == 0:
        raise BillFormatError("The file is empty.", field="file")
    earlier = BillFile.objects.filter(sha256=digest).first()
    if earlier is not None:
        return Imported(earlier, False)
    _check(provider, style)
    buffered = _detachable(file)
    is_parquet = buffered.read(len(parquet.MAGIC)) == parquet.MAGIC
    buffered.seek(0)
    reader = parquet.BillReader(buffered) if is_parquet else focus.Reader(buffered)
    try:
        return _take_over(file, reader, digest, size, name, actor, provider, style, is_preview, at or timezone.now())
    finally:
        reader.detach()


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
    file: BinaryIO,
    reader: focus.Reader,
    digest: str,
    size: int,
    name: str,
    actor: User,
    provider: str,
    style: str,
    is_preview: bool,
    at: datetime,
) -> Imported:
    _lock()
    earlier = BillFile.objects.filter(sha256=digest).first()
    if earlier is not None:
        return Imported(earlier, False)
    path = f"{current_schema()}/bills/{at:%Y-%m}/{digest}.{'parquet' if isinstance(reader, parquet.BillReader) else 'csv'}"
    bill = BillFile.objects.create(
        sha256=digest,
        name=name[:200] or "bill.csv",
        size_bytes=size,
        path=path,
        provider=provider,
        focus_version=reader.version,
        uploaded_by=actor,
        uploaded_at=at,
        rows_in=0,
        rows_accepted=0,
        rows_duplicate=0,
        rows_rejected=0,
        billed_in=0,
        billed_accepted=0,
        billed_duplicate=0,
        billed_rejected=0,
    )
    names, seen = _names(provider), set[str]()
    _stage(bill, _staged(reader, names, seen, at))
    _deliver(bill, bill_deliveries.styles(style), lambda outcome: not outcome.doubts and not (is_preview and outcome.replaces), at)
    if bill.state == BillFile.State.APPLIED:
        _assign(provider, seen)
        bill_deliveries.remember(bill, style, actor=actor, at=at)
    elif not is_preview:
        _tell(bill, at)
    _record("bill.imported" if bill.state == BillFile.State.APPLIED else "bill.previewed", bill, actor, at)
    _keep(file, path)
    _reconcile(bill)
    return Imported(bill, True)


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


def _stage(bill: BillFile, rows: Iterator[tuple[Any, ...]]) -> None:
    """Copy rows to the temporary table `bill_staged`, each with its number among equal ones; tell those that are not taken, and count."""
    columns = ", ".join(_ROW_COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bill_staging, bill_staged")
        cursor.execute(f"""
            CREATE TEMP TABLE bill_staging ON COMMIT DROP AS
            SELECT {columns}, ''::text AS error_column, ''::text AS error_message, ''::text AS error_text, false AS is_quarantined
            FROM bill_row WITH NO DATA
        """)  # noqa: S608  # names and expressions of this module only
        with cursor.copy(f"COPY bill_staging ({_STAGING}) FROM STDIN") as copy:
            for values in rows:
                copy.write_row(values)
        cursor.execute(f"""
            CREATE TEMP TABLE bill_staged ON COMMIT DROP AS
            SELECT row_number() OVER (PARTITION BY fingerprint ORDER BY line)::integer AS occurrence, {columns}
            FROM bill_staging WHERE error_message IS NULL
        """)  # noqa: S608  # names and expressions of this module only
        cursor.execute("ANALYZE bill_staged")
        cursor.execute(
            """
            INSERT INTO bill_error (file_id, line, "column", message, text, is_quarantined)
            SELECT %s, line, error_column, error_message, error_text, is_quarantined FROM bill_staging WHERE error_message IS NOT NULL
            """,
            [bill.pk],
        )
        cursor.execute("""
            SELECT count(*), count(*) FILTER (WHERE error_message IS NOT NULL AND NOT is_quarantined), coalesce(sum(billed_cost), 0),
                coalesce(sum(billed_cost) FILTER (WHERE error_message IS NOT NULL AND NOT is_quarantined), 0),
                count(*) FILTER (WHERE is_quarantined), coalesce(sum(billed_cost) FILTER (WHERE is_quarantined), 0)
            FROM bill_staging
        """)
        bill.rows_in, bill.rows_rejected, bill.billed_in, bill.billed_rejected, bill.rows_quarantined, bill.billed_quarantined = (
            cursor.fetchone()
        )
        cursor.execute("DROP TABLE bill_staging")


def _read_again(bill: BillFile, seen: set[str], at: datetime, lines: set[int] | None = None) -> None:
    """Stage the file as it was kept, or some of its lines. BillFormatError when it is gone."""
    names = _names(bill.provider)
    try:
        with default_storage.open(bill.path) as kept:
            buffered = _detachable(kept)
            reader = parquet.BillReader(buffered) if bill.path.endswith(".parquet") else focus.Reader(buffered)
            try:
                bill.errors.filter(**({} if lines is None else {"line__in": lines})).delete()
                _stage(bill, _staged((row for row in reader if lines is None or row.line in lines), names, seen, at))
            finally:
                reader.detach()
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
    lines = set(found.errors.filter(is_quarantined=True).values_list("line", flat=True))
    chosen, found.provider = found.provider, provider or found.provider
    _read_again(found, seen, at, lines)
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


def _digest(file: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        if size > LARGEST_FILE:
            raise BillTooLargeError(f"One file may have {LARGEST_FILE // 1024**2} MB. Split it by month.", field="file")
    file.seek(0)
    return digest.hexdigest(), size


class _Raw(io.RawIOBase):
    """Any object with read() and seek() as a raw stream; Django's uploads are not quite files."""

    def __init__(self, file: BinaryIO | File[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        chunk = self._file.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _detachable(file: BinaryIO | File[bytes]) -> BinaryIO:
    return io.BufferedReader(_Raw(file), CHUNK)


def _keep(file: BinaryIO, path: str) -> None:
    """Store the file as it came; taken away again when the transaction does not last."""
    file.seek(0)
    if default_storage.exists(path):
        default_storage.delete(path)  # of an import that was rolled back
    default_storage.save(path, File(file))


def _names(provider: str) -> Names:
    providers = {focus.normal(slug): slug for slug in Provider.objects.values_list("slug", flat=True)}
    providers |= {focus.normal(name): slug for slug, name in Provider.objects.values_list("slug", "name")}
    providers |= {focus.normal(alias.theirs): alias.ours for alias in BillAlias.objects.filter(subject=BillAlias.Subject.PROVIDER)}
    models: dict[str, dict[str, str]] = {}
    for slug, upstream, ours in Deployment.objects.values_list("provider__slug", "upstream_model", "model__slug"):
        models.setdefault(slug, {}).update({focus.normal(upstream): ours, focus.normal(ours): ours})
    for alias in BillAlias.objects.filter(subject=BillAlias.Subject.MODEL):
        models.setdefault(alias.provider, {})[focus.normal(alias.theirs)] = alias.ours
    return Names(provider, providers, models)


def why_quarantined(row: focus.Row, provider: str, at: datetime) -> tuple[str, str] | None:
    """Column and reason of a row that is well-formed and cannot be placed; None for all others."""
    if provider == UNKNOWN:
        return "ProviderName", "Names no provider: choose whose bill it is."
    if row.currency not in exchange.CURRENCIES:
        return "BillingCurrency", f"{row.currency} is no currency of ISO 4217, so its amounts are worth nobody knows what."
    if row.category == "Usage" and row.charge_start > at + AHEAD:
        return "ChargePeriodStart", "Has not happened yet."
    return None


def _staged(rows: Iterable[focus.Row | focus.Rejected], names: Names, seen: set[str], at: datetime) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        if isinstance(row, focus.Rejected):
            yield (row.line, *[None] * 15, row.billed_cost, *[None] * 13, row.column[:64], row.message[:300], row.text, False)
            continue
        seen.add(row.provider_name)
        provider = names.provider_of(row)
        if (why := why_quarantined(row, provider, at)) is not None:
            yield (row.line, *[None] * 15, row.billed_cost, *[None] * 13, *why, row.text, True)
            continue
        priced = row.pricing
        pricing = (priced.currency, priced.cost, priced.listed_cost, priced.list_cost) if priced else ("", None, None, None)
        yield (
            row.line,
            row.fingerprint(provider),
            provider,
            row.provider_name,
            row.account,
            kind(row),
            row.category,
            row.charge_class,
            row.values.get("ChargeDescription", ""),
            row.month,
            row.day if row.category == "Usage" else None,
            row.charge_start,
            row.charge_end,
            names.model_of(row, provider) if row.is_ai else "",
            row.token_class,
            row.tokens,
            row.billed_cost,
            row.effective_cost,
            row.currency,
            row.listed_cost,
            row.list_cost,
            *pricing,
            row.values.get("InvoiceId", "")[:160],
            row.values.get("SkuId", "")[:200],
            row.values.get("SkuMeter", "")[:200],
            row.period,
            row.charge_key(provider),
            None,
            None,
            None,
            False,
        )


_KIND_BY_CATEGORY = {
    "Tax": BillRow.Kind.TAX,
    "Credit": BillRow.Kind.CREDIT,
    "Adjustment": BillRow.Kind.ADJUSTMENT,
    "Purchase": BillRow.Kind.PURCHASE,
}


def kind(row: focus.Row) -> str:
    """Whether and how a row is compared; first match wins."""
    if row.category in _KIND_BY_CATEGORY:
        return _KIND_BY_CATEGORY[row.category]
    if row.is_unused:
        return BillRow.Kind.UNUSED
    if not row.is_ai:
        return BillRow.Kind.OTHER_SERVICE
    return BillRow.Kind.COMMITTED if row.is_committed else BillRow.Kind.USAGE


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
