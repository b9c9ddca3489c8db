"""Events on their way: appended to segment files, so that they survive the database and this process.

A call's event is in a segment within FLUSH_S of its end. Until then it stands in `records`, and so does a call from the moment on that its
upstream is asked: a plane that is killed loses neither. Each process has its own numbered folder, held by a lock that dies with it; the folders
of processes that are gone are taken over by those that live.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from gateway.contract.events import CallEvent, CircuitEvent, PayloadEvent
from gateway.plane.records import Records, left_in, read

logger = logging.getLogger(__name__)

FLUSH_S = 0.05
SEGMENT_BYTES = 4 * 1024 * 1024
MAX_BYTES = 1024 * 1024 * 1024
"""Above this much on disk the plane refuses calls: it serves nothing that it cannot account for."""
RECORD_BYTES = 4096
"""Of a call in `records`. What is longer is in a segment only, within FLUSH_S."""
FSYNC = False
"""A write survives the process without it. Only a crash of the machine can then lose what its kernel had not written."""


class Spool:
    """The append side. `shipper.Shipper` reads the segments and deletes them.

    `on_taken_over` is given each folder of a process that is gone, under its lock.
    """

    def __init__(self, root: Path, max_bytes: int = MAX_BYTES, on_taken_over: Callable[[Path], None] | None = None) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._on_taken_over = on_taken_over
        self._pending: list[bytes] = []
        self._open: dict[str, int] = {}
        """Event ids to their places in `_records`, until their events are in a segment."""
        self._recorded: list[str] = []
        """Those in `_pending`."""
        self._records: Records
        self._encoder = msgspec.json.Encoder()
        self._file: IO[bytes] | None = None
        self._lock_file: IO[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._sequence = 0
        self.directory = root
        self.segment: Path | None = None
        """The one that is being written."""
        self.bytes_on_disk = 0
        self.failed = False
        """The last write did not succeed; what it held is kept in memory and tried again."""

    @property
    def is_full(self) -> bool:
        return self.failed or self.bytes_on_disk > self._max_bytes

    @property
    def share_used(self) -> float:
        """Of the room on disk; above 1 the spool is full."""
        return self.bytes_on_disk / self._max_bytes

    @property
    def pending(self) -> int:
        return len(self._pending)

    def start(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory, self._lock_file = self._claim()
        self._take_over(self.directory)
        self._records = Records(self.directory, "calls", RECORD_BYTES)
        self.adopt()
        self.bytes_on_disk = sum(path.stat().st_size for path in self.directory.glob("*.jsonl"))
        self._task = asyncio.create_task(self._write_always())

    def opened(self, event: CallEvent) -> None:
        """What is to be recorded of a call if this process does not come to its end."""
        try:
            place = self._records.add(self._encoder.encode(event))
            if place is None:
                place = self._records.add(self._encoder.encode(_shortened(event)))
        except OSError as error:
            self.failed = True
            self._wake.set()
            logger.error("spool.record_failed", extra={"error": error.strerror})
            return
        if place is not None:
            self._open[event.event_id] = place

    def append(self, event: CallEvent | CircuitEvent | PayloadEvent) -> None:
        """Accept one event; it is in a segment within FLUSH_S. Never blocks."""
        line = self._encoder.encode(event)
        if type(event) is CallEvent and (place := self._open.get(event.event_id)) is not None:
            if not self._records.change(place, line):
                self._records.change(place, self._encoder.encode(_shortened(event)))
            self._recorded.append(event.event_id)
        self._pend(line)

    def _pend(self, line: bytes) -> None:
        self._pending.append(line)
        if len(self._pending) == 1:
            self._wake.set()

    async def close(self) -> None:
        """Write what is left. The lock is kept until `release`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._flush()
        if self._file is not None:
            self._file.close()
            self._file = self.segment = None
        self._records.close(keep=bool(self._open))

    def release(self) -> None:
        if self._lock_file is not None:
            self._lock_file.close()

    def _claim(self) -> tuple[Path, IO[bytes]]:
        number = 0
        while True:
            directory = self._root / str(number)
            directory.mkdir(exist_ok=True, mode=0o700)
            lock = open(directory / "lock", "wb")  # noqa: SIM115 - open as long as the process lives
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                number += 1
                continue
            return directory, lock

    def adopt(self) -> None:
        """Take over the segments of processes that are gone."""
        for lock_path in self._root.glob("*/lock"):
            if lock_path.parent == self.directory:
                continue
            with open(lock_path, "wb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                for segment in lock_path.parent.glob("*.jsonl"):
                    size = segment.stat().st_size
                    segment.rename(self.directory / segment.name)
                    self.bytes_on_disk += size
                self._take_over(lock_path.parent)

    def _take_over(self, folder: Path) -> None:
        """Calls whose end their process did not record, into a segment. Some may stand in another one, too; the inbox takes one of each."""
        for path in left_in(folder, "calls"):
            calls = read(path, RECORD_BYTES)
            if calls:
                logger.warning("spool.calls_taken_over", extra={"calls": len(calls)})
                whole = self.directory / f"{time.time_ns()}-{os.getpid()}-taken.new"
                try:
                    whole.write_bytes(b"\n".join([*calls, b""]))
                except OSError as error:
                    logger.error("spool.write_failed", extra={"error": error.strerror})
                    whole.unlink(missing_ok=True)
                    continue  # they stay where they are, for the next start
                self.bytes_on_disk += whole.stat().st_size
                whole.rename(whole.with_suffix(".jsonl"))
            path.unlink()
        if self._on_taken_over is not None:
            self._on_taken_over(folder)

    async def _write_always(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_S)
            self._wake.clear()
            await self._flush()
            if self.failed:
                await asyncio.sleep(1.0)
                self._wake.set()

    async def _flush(self) -> None:
        lines, self._pending = self._pending, []
        recorded, self._recorded = self._recorded, []
        if not lines:
            if self.failed:  # a record could not be made; calls are refused until one can
                with contextlib.suppress(OSError):
                    self._records.make_room()
                    self.failed = False
            return
        data = b"\n".join([*lines, b""])
        try:
            await asyncio.shield(asyncio.to_thread(self._write, data))
            self.bytes_on_disk += len(data)
            self.failed = False
        except OSError as error:
            self._pending = lines + self._pending
            self._recorded = recorded + self._recorded
            self.failed = True
            logger.error("spool.write_failed", extra={"error": error.strerror})
        else:
            for event_id in recorded:
                self._records.remove(self._open.pop(event_id))

    def _write(self, data: bytes) -> None:
        if self._file is not None and self._file.tell() >= SEGMENT_BYTES:
            self._file.close()
            self._file = None
        if self._file is None:
            self._sequence += 1
            self.segment = self.directory / f"{time.time_ns()}-{os.getpid()}-{self._sequence}.jsonl"
            descriptor = os.open(self.segment, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = open(descriptor, "ab", buffering=0)  # noqa: SIM115 - open until the segment is full
        start = self._file.tell()
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(28, "No space left on device")
            if FSYNC:
                os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)  # no torn line in the middle of a segment
            raise


def _shortened(event: CallEvent) -> CallEvent:
    """What fits into a record: tags and steps may be as long as they like."""
    return msgspec.structs.replace(event, tags={}, steps=[])
