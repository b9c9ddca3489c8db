"""From spool lines to rows that COPY takes, which costs a third of what it costs PostgreSQL to take JSON apart.

Plain calls only. Whatever is anything else, or has a character that needs care, is given back for the database to take apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from gateway.contract.events import INBOX_COLUMNS, CallEvent
from gateway.contract.names import INBOX_TABLE

COPY_ROWS = f"COPY {INBOX_TABLE} ({', '.join(INBOX_COLUMNS)}) FROM STDIN (FORMAT csv, NULL 'null', ESCAPE E'\\\\')"
"""Takes what `rows` gives."""
STAGE = "create temporary table if not exists arriving (line json not null) on commit delete rows"
COPY_LINES = "copy arriving (line) from stdin"
_TYPES = {
    "event_id": "uuid", "started_at": "double precision", "stream": "boolean", "tags": "jsonb", "units": "jsonb", "steps": "jsonb", "http_status": "integer",
    **dict.fromkeys(
        ("duration_us", "overhead_us", "ttft_us", "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens",
         "reasoning_tokens", "snapshot_version"), "bigint",
    ),
}  # fmt: skip
TAKE_APART = f"""
insert into {INBOX_TABLE} ({", ".join(INBOX_COLUMNS)})
select {", ".join("to_timestamp(started_at)" if name == "started_at" else name for name in INBOX_COLUMNS)}
from arriving, json_to_record(line) as event({", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in INBOX_COLUMNS)})
"""  # noqa: S608 - our own constants
"""Calls staged line by line into the inbox: for lines that `rows` leaves."""
_JSON = ("units", "tags", "steps")
"""Columns that are stored as JSON: passed on as they stand in the line."""
_AT = INBOX_COLUMNS.index("started_at")
_OF_JSON = [INBOX_COLUMNS.index(name) for name in _JSON]
_NULL = msgspec.Raw(b"null")
_ENCODER = msgspec.json.Encoder()
_UNFIT = (msgspec.DecodeError, ValueError, OverflowError, OSError)
"""No call, no text, or no moment, of which the C library says any of the last three."""
_POSTGRES_EPOCH = 946_684_800
"""2000-01-01 UTC in seconds since 1970."""
_Line = msgspec.defstruct(
    "_Line",
    [
        (each.name, msgspec.Raw if each.name in _JSON else each.type, *([] if each.required else [msgspec.field(default=each.default)]))
        for each in msgspec.structs.fields(CallEvent)
    ],
    kw_only=True,
    gc=False,
)
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Line)


def rows(lines: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """Rows of the calls in `lines`, and the lines that the database has to take apart: it may refuse them."""
    decode, values_of = _DECODER.decode, msgspec.structs.astuple
    made, left = [], []
    for line in lines:
        if b"\\" in line:  # COPY's CSV knows only two escapes, of a quote and of itself
            left.append(line)
            continue
        try:
            values = list(values_of(decode(line)))
            values[_AT] = _moment(values[_AT])
            for place in _OF_JSON:
                if (raw := values[place]) is not None:
                    values[place] = None if raw == _NULL else str(raw, "utf-8")
        except _UNFIT:
            left.append(line)
            continue
        made.append(values)
    return _ENCODER.encode_lines(made)[1:-2].replace(b"]\n[", b"\n"), left


def staged(lines: Iterable[bytes]) -> bytes:
    """`lines` as COPY_LINES takes them."""
    return b"\n".join([*lines, b""]).replace(b"\\", b"\\\\")  # COPY's text format; JSON escapes all else that it minds


def _moment(seconds: float) -> str:
    """As `to_timestamp` rounds it, to the bit: a call that comes again, the other way, must have the same moment."""
    whole, micros = divmod(round((seconds - _POSTGRES_EPOCH) * 1_000_000), 1_000_000)
    return f"{_second(whole)}.{micros:06d}+00"


@lru_cache(maxsize=4096)
def _second(since_2000: int) -> str:
    return f"{datetime.fromtimestamp(since_2000 + _POSTGRES_EPOCH, UTC):%Y-%m-%d %H:%M:%S}"
