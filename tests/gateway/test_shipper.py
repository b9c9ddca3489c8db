"""From segments into the inbox: each line once, also those of a process that is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psycopg
import pytest

from gateway.contract.names import INBOX_TABLE
from gateway.plane.database import Link
from gateway.plane.shipper import Shipper
from gateway.plane.spool import Spool
from tests.clock import allowed
from tests.gateway.conftest import cloned_database
from tests.gateway.test_records import event


def _in_inbox(url: str) -> list[str]:
    with psycopg.connect(url) as database:
        return sorted(row[0] for row in database.execute(f"select request_id from {INBOX_TABLE}"))


def _leave_behind(root: Path, numbers: list[int]) -> None:
    """A segment that sorts behind every one that is there, of a process that is gone."""
    folder = root / str(numbers[0])
    folder.mkdir()
    (folder / "lock").touch()
    lines = [msgspec.json.encode(event(number)) + b"\n" for number in numbers]
    (folder / f"{time.time_ns()}-9-1.jsonl").write_bytes(b"".join(lines))


@pytest.mark.parametrize("is_busy", [False, True])
async def test_segments_that_are_taken_over_beside_an_open_one_are_shipped_once(tmp_path: Path, is_busy: bool) -> None:
    with cloned_database() as url:
        spool = Spool(tmp_path)
        spool.start()
        shipper = Shipper(spool, Link(url, "shipper"))
        spool.append(event(0))
        await _until(lambda: spool.segment is not None)
        shipper.start()
        _leave_behind(tmp_path, [100, 101])

        spool.adopt()

        own = 1
        end = time.monotonic() + allowed(10)
        while len(list(spool.directory.glob("*.jsonl"))) > 1:
            assert time.monotonic() < end, "the segment that was taken over is still there"
            if is_busy:
                spool.append(event(own))
                own += 1
            await asyncio.sleep(0.05)
        await _until(lambda: shipper.shipped >= own + 2)
        await asyncio.sleep(0.6)  # two more looks, at nothing new
        shipped = shipper.shipped
        await spool.close()
        await shipper.close()
        spool.release()

        assert shipped == own + 2
        assert _in_inbox(url) == sorted(map(str, [*range(own), 100, 101]))


async def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + allowed(10)
    while not is_so():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
