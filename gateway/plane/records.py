"""Small records in a file mapped into memory: written without a system call, and still there when the process was killed.

Whoever takes the folder of a process that is gone over reads them, see `left_in`. A crash of the machine may leave an older state
in the file, so records of another boot are not read.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

_LENGTH = struct.Struct("<I")
_AMOUNT = struct.Struct("<q")
MOST = 2**63 - 1
FIRST_PLACES = 64


class Records:
    """Records of one kind of this process, each in a place of `size` bytes. A place that is free has the length 0.

    The file is made with the first record.
    """

    def __init__(self, folder: Path, kind: str, size: int) -> None:
        self._path = folder / f"{kind}-{time.time_ns()}-{os.getpid()}.records"
        self._size = size
        self._places = 0
        self._free: list[int] = []
        self._map: mmap.mmap | None = None

    def add(self, data: bytes) -> int | None:
        """The place where it stands now; None when it is too long for one. OSError when the disk has no room."""
        if len(data) + _LENGTH.size > self._size:
            return None
        self.make_room()
        place = self._free.pop()
        self._write(place, data)
        return place

    def make_room(self) -> None:
        """For one more. OSError when the disk has none."""
        if not self._free:
            self._grow(2 * self._places or FIRST_PLACES)

    def change(self, place: int, data: bytes) -> bool:
        """Put `data` in the place of what stands there; False, and nothing done, when it is too long."""
        if len(data) + _LENGTH.size > self._size:
            return False
        assert self._map is not None
        _LENGTH.pack_into(self._map, place * self._size, 0)  # half of one and half of the other is neither
        self._write(place, data)
        return True

    def set_amount(self, place: int, amount: int) -> None:
        """Change the first eight bytes of a record, which are a signed number, at once."""
        assert self._map is not None
        _AMOUNT.pack_into(self._map, place * self._size + _LENGTH.size, max(-MOST, min(amount, MOST)))

    def remove(self, place: int) -> None:
        assert self._map is not None
        _LENGTH.pack_into(self._map, place * self._size, 0)
        self._free.append(place)

    def close(self, *, keep: bool) -> None:
        """Delete the file, unless what is in it is to be taken over."""
        if not keep:
            self._path.unlink(missing_ok=True)
        if self._map is not None:
            self._map.close()
            self._map = None

    def _write(self, place: int, data: bytes) -> None:
        assert self._map is not None
        start = place * self._size
        body = start + _LENGTH.size
        self._map[body : body + len(data)] = data
        _LENGTH.pack_into(self._map, start, len(data))

    def _grow(self, places: int) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _reserve(descriptor, places * self._size)
            self._map = mmap.mmap(descriptor, places * self._size)
        finally:
            os.close(descriptor)
        if not self._places:
            self._write(0, boot().encode())  # the first place is the file's own
        # Low places first: as few pages as possible are ever touched.
        self._free.extend(range(places - 1, max(self._places, 1) - 1, -1))
        self._places = places


def _reserve(descriptor: int, size: int) -> None:
    """Room on the disk, now: writing into a hole of a mapped file when the disk is full kills the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def with_amount(amount: int, name: bytes) -> bytes:
    """A record for `Records.set_amount`."""
    return _AMOUNT.pack(max(-MOST, min(amount, MOST))) + name


def amount_and_name(record: bytes) -> tuple[int, bytes]:
    return _AMOUNT.unpack_from(record)[0], record[_AMOUNT.size :]


def left_in(folder: Path, kind: str) -> list[Path]:
    """Files of records of processes that are gone; this process has none in the folder yet, or it is another's folder."""
    return sorted(folder.glob(f"{kind}-*.records"))


def read(path: Path, size: int) -> list[bytes]:
    """The records in a file that a process of this boot has left; of an earlier boot none, since what is there may be older than what was."""
    data = path.read_bytes()
    records = [_record(data, start) for start in range(0, len(data), size)]
    return [record for record in records[1:] if record] if records and records[0] == boot().encode() != b"" else []


def _record(data: bytes, start: int) -> bytes:
    (length,) = _LENGTH.unpack_from(data, start)
    return data[start + _LENGTH.size : start + _LENGTH.size + length]


def boot() -> str:
    """Names this start of the machine; empty where the system does not say, and then nothing is taken over."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
