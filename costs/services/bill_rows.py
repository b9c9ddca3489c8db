"""Reading the rows of a bill for a take-over: whose each is, which cannot be placed, and the table that they wait in."""

from __future__ import annotations

import gzip
import hashlib
import io
import select
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, BinaryIO, cast

from django.core.files import File
from django.db import connection
from django.utils.text import slugify
from psycopg import Copy

from catalog.models import Deployment, Provider
from costs import exchange, focus, parquet
from costs.errors import BillFormatError, BillTooLargeError
from costs.models import BillAlias, BillFile, BillRow

LARGEST_FILE = 512 * 1024 * 1024
LARGEST_INFLATED = 8 * LARGEST_FILE
"""Of a compressed file, what comes out of it."""
_GZIP = b"\x1f\x8b"
CHUNK = 1024 * 1024
_ROW_COLUMNS = (
    "part",
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
STOPPED = "Stopped: nothing of it was taken over."
_LISTEN_EVERY = 1000
UNKNOWN = "unknown"
"""The provider of rows that name none."""
AHEAD = timedelta(days=1)
"""Usage that begins later than this after the upload has not happened."""
_STAGING = ", ".join((*_ROW_COLUMNS, *_ERROR_COLUMNS, "literal_fingerprint"))


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


def stage(bill: BillFile, rows: Iterator[tuple[Any, ...]]) -> None:
    """Copy rows to the temporary table `bill_staged`, each with its number among equal ones; tell those that are not taken, and count.

    Ends early with the driver's own error when the server gives up or is told to: it does not wait for the last row.
    """
    columns = ", ".join(_ROW_COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bill_staging, bill_staged")
        cursor.execute(f"""
            CREATE TEMP TABLE bill_staging ON COMMIT DROP AS
            SELECT {columns}, ''::text AS error_column, ''::text AS error_message, ''::text AS error_text, false AS is_quarantined,
                ''::text AS literal_fingerprint
            FROM bill_row WITH NO DATA
        """)  # noqa: S608  # names and expressions of this module only
        heard = select.poll()
        heard.register(cast(Any, connection).connection.fileno(), select.POLLIN)
        is_done = False
        while not is_done:
            with cursor.copy(f"COPY bill_staging ({_STAGING}) FROM STDIN") as copy:
                is_done = _write(copy, rows, heard)
        # Rows in force that were kept by how they were written are known again by that.
        cursor.execute("""
            UPDATE bill_staging s SET fingerprint = s.literal_fingerprint
            WHERE s.literal_fingerprint <> s.fingerprint
                AND EXISTS (SELECT 1 FROM bill_row b WHERE b.fingerprint = s.literal_fingerprint AND b.is_in_force)
        """)
        cursor.execute(f"""
            CREATE TEMP TABLE bill_staged ON COMMIT DROP AS
            SELECT row_number() OVER (PARTITION BY fingerprint ORDER BY part, line)::integer AS occurrence, {columns}
            FROM bill_staging WHERE error_message IS NULL
        """)  # noqa: S608  # names and expressions of this module only
        cursor.execute("ANALYZE bill_staged")
        cursor.execute(
            """
            INSERT INTO bill_error (file_id, part, line, "column", message, text, is_quarantined)
            SELECT %s, part, line, error_column, error_message, error_text, is_quarantined FROM bill_staging WHERE error_message IS NOT NULL
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


def _write(copy: Copy, rows: Iterator[tuple[Any, ...]], heard: select.poll) -> bool:
    """Whether all rows were written, or the server said something before.

    While it is copied to, it hardly says anything but that it gave up. The driver hears what at the end of the copying: an error is raised
    there, and after a mere notice the rows that are left go on in another one.
    """
    for number, values in enumerate(rows, 1):
        copy.write_row(values)
        if number % _LISTEN_EVERY == 0 and heard.poll(0):
            return False
    return True


def digest_of(file: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        check_size(size)
    file.seek(0)
    return digest.hexdigest(), size


def check_size(size: int) -> None:
    """BillTooLargeError for a file of more bytes than one may have."""
    if size > LARGEST_FILE:
        raise BillTooLargeError(f"One file may have {LARGEST_FILE // 1024**2} MB. Split it by month.", field="file")


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


class _Inflated(io.RawIOBase):
    """What a gzip file holds; as much as is allowed of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._gzip = gzip.GzipFile(fileobj=file, mode="rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._gzip.seek(offset, whence)

    def tell(self) -> int:
        return self._gzip.tell()

    def readinto(self, buffer: Any) -> int:
        try:
            size = self._gzip.readinto(buffer)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BillFormatError("The compressed file cannot be read: it is damaged or cut off.", field="file") from error
        if self._gzip.tell() > LARGEST_INFLATED:
            raise BillTooLargeError(f"One file may unpack to {LARGEST_INFLATED // 1024**3} GB. Split it by month.", field="file")
        return size


@contextmanager
def reading(file: BinaryIO | File[bytes]) -> Iterator[focus.Reader]:
    """Its rows, whichever form it has: CSV or Parquet, also by gzip. The file stays open. BillFormatError, BillTooLargeError."""
    buffered: io.BufferedReader[Any] = io.BufferedReader(_Raw(file), CHUNK)
    if buffered.peek(len(_GZIP)).startswith(_GZIP):
        buffered = io.BufferedReader(_Inflated(buffered), CHUNK)
    is_parquet = buffered.peek(len(parquet.MAGIC)).startswith(parquet.MAGIC)
    reader = parquet.BillReader(buffered) if is_parquet else focus.Reader(buffered)
    try:
        yield reader
    finally:
        reader.detach()


def names_for(provider: str) -> Names:
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


def placed(
    rows: Iterable[focus.Row | focus.Rejected], names: Names, seen: set[str], at: datetime, part: int = 1
) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        if isinstance(row, focus.Rejected):
            yield (part, row.line, *[None] * 15, row.billed_cost, *[None] * 13, row.column[:64], row.message[:300], row.text, False, None)
            continue
        seen.add(row.provider_name)
        provider = names.provider_of(row)
        if (why := why_quarantined(row, provider, at)) is not None:
            yield (part, row.line, *[None] * 15, row.billed_cost, *[None] * 13, *why, row.text, True, None)
            continue
        priced = row.pricing
        pricing = (priced.currency, priced.cost, priced.listed_cost, priced.list_cost) if priced else ("", None, None, None)
        yield (
            part,
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
            row.literal_fingerprint(provider),
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
