"""From the spool into the inbox by COPY, in order, at least once: an event id that arrives twice is dropped by its reader."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import psycopg

from gateway.contract import copying
from gateway.contract.events import CIRCUIT_COLUMNS, PAYLOAD_COLUMNS
from gateway.contract.names import CIRCUIT_TABLE, PAYLOAD_TABLE
from gateway.plane.database import Link
from gateway.plane.errors import DatabaseAwayError
from gateway.plane.spool import Spool

logger = logging.getLogger(__name__)

INTERVAL_S = 0.25
BATCH_BYTES = 2 * 1024 * 1024
COPY_TIMEOUT_S = 30.0
ADOPT_S = 30.0
LINES_AT_ONCE = 64
"""Made into rows before calls get their turn: half a millisecond."""

# Circuits change seldom and few tenants keep payloads, so most batches hold only calls and are not asked what their lines are.
_CIRCUIT = b'"circuit":'
_PAYLOAD = b'"sealed":'
_TAKE_CALLS = f"{copying.TAKE_APART} where line ->> 'circuit' is null and line ->> 'sealed' is null"
_CIRCUIT_TYPES = {
    "event_id": "uuid", "at": "double precision", "calls": "integer", "errors": "integer", "cooldown_s": "double precision"
}  # fmt: skip
_TAKE_CIRCUITS = f"""
insert into {CIRCUIT_TABLE} ({", ".join(CIRCUIT_COLUMNS)})
select {", ".join("to_timestamp(at)" if name == "at" else name for name in CIRCUIT_COLUMNS)}
from arriving, json_to_record(line) as event({", ".join(f"{name} {_CIRCUIT_TYPES.get(name, 'text')}" for name in CIRCUIT_COLUMNS)})
where line ->> 'circuit' is not null
on conflict (event_id) do nothing
"""  # noqa: S608 - our own constants
_PAYLOAD_TYPES = {"event_id": "uuid", "at": "double precision", "expires_at": "double precision"}
_TAKE_PAYLOADS = f"""
insert into {PAYLOAD_TABLE} ({", ".join(PAYLOAD_COLUMNS)})
select {", ".join(f"to_timestamp({name})" if name in ("at", "expires_at") else name for name in PAYLOAD_COLUMNS)}
from arriving, json_to_record(line) as event({", ".join(f"{name} {_PAYLOAD_TYPES.get(name, 'text')}" for name in PAYLOAD_COLUMNS)})
where line ->> 'sealed' is not null
on conflict (event_id) do nothing
"""  # noqa: S608 - our own constants


class Shipper:
    """Reads segments from their first unshipped byte, those that nobody writes any more first; deletes these when they are shipped."""

    def __init__(self, spool: Spool, link: Link) -> None:
        self._spool = spool
        self._link = link
        self._positions: dict[str, int] = {}
        """How far segments are shipped, in bytes by name; 0 where nothing is."""
        self._task: asyncio.Task[None] | None = None
        self.shipped = 0

    def start(self) -> None:
        self._positions = self._read_positions()
        self._task = asyncio.create_task(self._ship_always())

    async def close(self) -> None:
        """Stop, after one last attempt to ship what is there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            while await self._ship_some():
                pass
        except DatabaseAwayError:
            logger.warning("spool.left_on_disk", extra={"bytes": self._spool.bytes_on_disk})
        await self._link.close()

    async def _ship_always(self) -> None:
        loop = asyncio.get_running_loop()
        adopt_at = loop.time() + ADOPT_S
        while True:
            try:
                while await self._ship_some():
                    pass
                if loop.time() > adopt_at:
                    adopt_at = loop.time() + ADOPT_S
                    self._spool.adopt()
            except DatabaseAwayError:
                pass
            except Exception:
                logger.exception("spool.shipping_failed")
            await asyncio.sleep(INTERVAL_S)

    async def _ship_some(self) -> bool:
        """Ship up to one batch; true when more is to be shipped at once. A few calls wait for the next look, and for company."""
        segments = sorted((path == self._spool.segment, path) for path in self._spool.directory.glob("*.jsonl"))
        for is_open, segment in segments:
            start = self._positions.get(segment.name, 0)
            data = await asyncio.to_thread(_read_lines, segment, start)
            if data:
                await self._copy(data)
                self._positions[segment.name] = start + len(data)
                await asyncio.to_thread(self._keep_positions)
                return not is_open or len(data) > BATCH_BYTES // 2
            if not is_open:
                # What is left is at most a line torn by a kill, which was never acknowledged.
                self._spool.bytes_on_disk -= segment.stat().st_size
                segment.unlink()
                self._positions.pop(segment.name, None)
        return False

    async def _copy(self, data: bytes) -> None:
        async with self._link.use(COPY_TIMEOUT_S) as connection:
            try:
                await _copy_lines(connection, data)
            except psycopg.DataError:
                # One event that the inbox cannot hold must not keep all others here for ever.
                for line in data.split(b"\n")[:-1]:
                    try:
                        async with connection.transaction(), connection.cursor() as cursor:
                            await _take_apart(cursor, [line])
                    except psycopg.DataError as error:
                        logger.error("spool.unfit_event", extra={"error": str(error).partition("\n")[0], "bytes": len(line)})
        self.shipped += data.count(b"\n")

    def _read_positions(self) -> dict[str, int]:
        try:
            pairs = [line.split(" ") for line in (self._spool.directory / "position").read_text().splitlines()]
            return {name: int(offset) for name, offset in pairs if (self._spool.directory / name).exists()}
        except (FileNotFoundError, ValueError):  # what is shipped twice is dropped by its reader
            return {}

    def _keep_positions(self) -> None:
        temporary = self._spool.directory / "position.new"
        temporary.write_text("\n".join(f"{name} {offset}" for name, offset in self._positions.items()))
        temporary.replace(self._spool.directory / "position")


async def _copy_lines(connection: psycopg.AsyncConnection, data: bytes) -> None:
    made, left = [], []
    lines = data.split(b"\n")[:-1]
    for start in range(0, len(lines), LINES_AT_ONCE):
        rows, others = copying.rows(lines[start : start + LINES_AT_ONCE])
        left += others
        if rows:
            made.append(rows)
        await asyncio.sleep(0)
    async with connection.transaction(), connection.cursor() as cursor:
        if made:
            async with cursor.copy(copying.COPY_ROWS) as copy:
                await copy.write(b"\n".join(made))
        if left:
            await _take_apart(cursor, left)


async def _take_apart(cursor: psycopg.AsyncCursor, lines: list[bytes]) -> None:
    data = copying.staged(lines)
    await cursor.execute(copying.STAGE)
    async with cursor.copy(copying.COPY_LINES) as copy:
        await copy.write(data)
    has_circuits, has_payloads = _CIRCUIT in data, _PAYLOAD in data
    await cursor.execute(_TAKE_CALLS if has_circuits or has_payloads else copying.TAKE_APART)
    if has_circuits:
        await cursor.execute(_TAKE_CIRCUITS)
    if has_payloads:
        await cursor.execute(_TAKE_PAYLOADS)


def _read_lines(segment: Path, start: int) -> bytes:
    """Whole lines from `start` on, about one batch of them."""
    with open(segment, "rb") as file:
        file.seek(start)
        data = file.read(BATCH_BYTES)
    return data[: data.rfind(b"\n") + 1]
