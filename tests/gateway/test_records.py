"""What stands in a mapped file when its process is killed, and what becomes of it."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import msgspec
import pytest

from gateway.contract.events import CallEvent, Step
from gateway.plane import records
from gateway.plane.records import Records, left_in, read
from gateway.plane.spool import RECORD_BYTES, Spool


def event(number: int, **fields: object) -> CallEvent:
    facts = {
        "event_id": f"0190{number:028x}", "tenant": "t", "kind": "chat", "started_at": time.time(), "duration_us": 1, "overhead_us": 1,
        "status": "ok", "http_status": 200, "stream": False, "usage_source": "none", "snapshot_version": 1, "tags": {}, "steps": [],
        "request_id": str(number),
    }  # fmt: skip
    unknown = dict.fromkeys(name for name in CallEvent.__struct_fields__ if name not in facts)
    return msgspec.convert({**unknown, **facts, **fields}, CallEvent)


def told(spool: Spool) -> list[str]:
    lines = b"".join(path.read_bytes() for path in sorted(spool.directory.glob("*.jsonl"))).splitlines()
    return [f"{one['request_id']} {one['status']}" for one in map(msgspec.json.decode, lines)]


def test_records_grow_are_changed_and_go(tmp_path: Path) -> None:
    found = Records(tmp_path, "calls", 64)
    places = [found.add(b"%d" % number) for number in range(200)]
    assert all(places)
    assert len(set(places)) == 200
    for number in range(0, 200, 2):
        found.remove(places[number] or 0)
    assert found.change(places[1] or 0, b"changed")
    assert not found.change(places[3] or 0, b"x" * 64)
    assert found.add(b"x" * 64) is None

    [path] = left_in(tmp_path, "calls")

    assert sorted(read(path, 64)) == sorted([b"changed", *[b"%d" % number for number in range(3, 200, 2)]])


def test_records_of_another_boot_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Records(tmp_path, "calls", 64).add(b"old")
    monkeypatch.setattr(records, "boot", lambda: "another")

    assert read(left_in(tmp_path, "calls")[0], 64) == []


async def test_calls_of_a_killed_process_are_in_a_segment_before_their_records_go(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    first.start()
    for number in range(3):
        first.opened(event(number, status="error"))
    first.append(event(1, steps=[Step("policy", "pass", 1, "x" * RECORD_BYTES)]))  # ended, with more than a record holds
    assert first._task is not None
    first._task.cancel()  # killed: nothing of it was written
    first.release()
    second = Spool(tmp_path)

    second.start()

    assert sorted(told(second)) == ["0 error", "1 ok", "2 error"]
    assert len(left_in(tmp_path / "0", "calls")) == 0
    await second.close()
    second.release()


async def test_full_disk_refuses_calls_and_kills_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    spool = Spool(tmp_path)
    spool.start()

    spool.opened(event(1))

    assert (spool.is_full, spool.failed) == (True, True)
    await spool._flush()
    assert (spool.is_full, spool.failed) == (True, True)
    monkeypatch.undo()
    await spool._flush()
    assert (spool.is_full, spool.failed) == (False, False)
    await spool.close()
    spool.release()
