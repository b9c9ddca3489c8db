"""Parquet by DuckDB, in and out: exact decimals, times in UTC, in little memory. Nothing but the named file is touched."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from costs import focus
from costs.errors import BillFormatError

if TYPE_CHECKING:
    import duckdb

    from costs.export_schema import Column

MAGIC = b"PAR1"
CHUNK = 1024 * 1024
AT_ONCE = 2_000
"""Rows that are in memory at a time."""
MOST_ROWS = 20_000_000
"""A file of half a gigabyte may unpack to far more."""
NULL = "\\N"
_TYPES = {"decimal": "DECIMAL(38, 14)", "exact": "DECIMAL(38, 20)", "date": "DATE", "integer": "BIGINT", "time": "TIMESTAMPTZ"}
"""Of our columns; all others are text. A price per million tokens times whole tokens has 14 decimals at most; bills have 20."""


def connect() -> duckdb.DuckDBPyConnection:
    """An empty database in memory that uses one processor, fetches no extensions and counts in UTC."""
    import duckdb

    limits: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": "384MB",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=limits)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


class BillReader(focus.Reader):
    """Rows of a FOCUS file in Parquet, as `focus.Reader` gives those of a CSV: the same checks, the same rows.

    Values become the text that a CSV would have: decimals without trailing zeros, times in ISO 8601 UTC, maps and lists as JSON.
    """

    def __init__(self, file: BinaryIO) -> None:
        import duckdb

        # DuckDB reads files, and uploads are not always one.
        self._folder = tempfile.TemporaryDirectory(prefix="bill-")
        path = Path(self._folder.name) / "bill.parquet"
        with path.open("wb") as copy:
            while chunk := file.read(CHUNK):
                copy.write(chunk)
        self._connection = connect()
        try:
            rows = self._connection.execute("SELECT count(*) FROM read_parquet($path)", {"path": str(path)}).fetchall()[0][0]
            if rows > MOST_ROWS:
                raise BillFormatError(f"The file has more than {MOST_ROWS:,} rows. Split it by month.", field="file")
            described = self._connection.execute("DESCRIBE SELECT * FROM read_parquet($path)", {"path": str(path)}).fetchall()
            self.columns = [row[0].strip() for row in described]
            self._check_header()
            names = [(row[0].replace('"', '""'), row[1]) for row in described]
            # A time with an offset comes as one in UTC, which needs none.
            wanted = ", ".join(
                f'CAST("{name}" AS TIMESTAMP)' if kind == "TIMESTAMP WITH TIME ZONE" else f'"{name}"' for name, kind in names
            )
            self._rows = self._connection.execute(f"SELECT {wanted} FROM read_parquet($path)", {"path": str(path)})  # noqa: S608  # quoted names
        except duckdb.Error as error:
            self.detach()
            raise BillFormatError("The Parquet file cannot be read: it is damaged or cut off.", field="file") from error
        except BillFormatError:
            self.detach()
            raise
        self.version = focus.version(self.columns)

    def detach(self) -> None:
        """Leave nothing behind."""
        self._connection.close()
        self._folder.cleanup()

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        import duckdb

        line = 0
        try:
            while rows := self._rows.fetchmany(AT_ONCE):
                for row in rows:
                    line += 1
                    yield line, [_text(value) for value in row]
        except duckdb.Error as error:
            raise BillFormatError(f"The Parquet file cannot be read beyond row {line:,}.", field="file") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value.normalize(focus.EXACT):f}"
    if isinstance(value, datetime):
        return f"{value.replace(tzinfo=UTC):%Y-%m-%dT%H:%M:%S}{f'.{value.microsecond:06}' if value.microsecond else ''}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_text)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)


def write(columns: Iterable[Column], rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """The rows as the bytes of a Parquet file (zstd), typed by the columns; made beside them on disk, since its index stands at the end."""
    columns = list(columns)
    with tempfile.TemporaryDirectory(prefix="parquet-") as folder:
        lines, made = Path(folder) / "rows.csv", Path(folder) / "rows.parquet"
        with lines.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            for row in rows:
                writer.writerow([_cell(row[column.name]) for column in columns])
        convert(lines, made, {column.name: _TYPES.get(column.kind, "VARCHAR") for column in columns})
        with made.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


def convert(lines: Path, made: Path, types: Mapping[str, str]) -> None:
    """A CSV without a header, in which NULL stands for null, as a Parquet file with columns of these types."""
    with closing(connect()) as connection:
        connection.execute(
            f"""
            COPY (SELECT * FROM read_csv($lines, header = false, auto_detect = false, delim = ',', quote = '"', escape = '"',
                nullstr = $null, allow_quoted_nulls = false, columns = {_struct(types)}, parallel = false)) TO '{made}' (FORMAT parquet, COMPRESSION zstd)
            """,  # noqa: S608  # names of our own columns, and of a file of our own making
            {"lines": str(lines), "null": NULL},
        )


def read(made: Path, statement: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
    """The rows of a query on the Parquet file `made`, which it calls so."""
    values = {"made": str(made), **(parameters or {})}
    with closing(connect()) as connection:
        return connection.execute(f"WITH made AS (SELECT * FROM read_parquet($made)) {statement}", values).fetchall()  # noqa: S608  # ours


def lines_where(made: Path, lines: Path, condition: str, parameters: Mapping[str, object]) -> list[str]:
    """The rows of a Parquet file that meet the condition, as a CSV without a header in which NULL stands for null. Returns the names of its columns."""
    with closing(connect()) as connection:
        named = connection.execute("DESCRIBE SELECT * FROM read_parquet($made)", {"made": str(made)}).fetchall()
        connection.execute(
            f"COPY (SELECT * FROM read_parquet($made) WHERE {condition}) TO '{lines}' (FORMAT csv, HEADER false, NULLSTR '{NULL}')",  # noqa: S608  # ours
            {"made": str(made), **parameters},
        )
    return [row[0] for row in named]


def _struct(types: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in types.items()) + "}"


def _cell(value: Any) -> str:
    return NULL if value is None else _text(value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value)
