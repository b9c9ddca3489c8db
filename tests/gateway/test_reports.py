"""What a plane tells of itself comes back when it was forgotten, and is told bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from gateway.contract.names import PLANE_TABLE, TAKEN_TABLE
from gateway.plane.database import Link
from gateway.plane.reports import Reports
from tests.gateway.conftest import cloned_database

NOWHERE = "postgresql://127.0.0.1:1/nothing"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with cloned_database() as url:
        yield url


async def test_plane_that_was_forgotten_tells_again_what_it_holds(database: str) -> None:
    held = {"acme": 3, "globex": 7}
    reports = Reports(Link(database, "reports"), lambda: (True, 0, 0), lambda: held)

    def told() -> dict[str, int]:
        return dict(connection.execute(f"select tenant, version from {TAKEN_TABLE} where plane = %s", [reports.plane]).fetchall())

    with psycopg.connect(database, autocommit=True) as connection:
        await reports._tell({"acme": (3, 0.0)})
        assert told() == {"acme": 3}  # the first report tells what was noted, not more
        connection.execute(f"delete from {TAKEN_TABLE}")
        connection.execute(f"delete from {PLANE_TABLE}")

        await reports._tell({"acme": (4, 0.0)})

        assert told() == {"acme": 4, "globex": 7}
    await reports.close()


async def test_what_was_told_before_a_failure_is_not_told_again(database: str) -> None:
    reports = Reports(Link(database, "reports"), lambda: (True, 0, 0), dict)
    taken = {"one": (1, 0.0), "two": (2**70, 0.0), "three": (3, 0.0)}  # the second fits no column

    with pytest.raises(psycopg.Error):
        await reports._tell(taken)

    assert list(taken) == ["two", "three"]
    await reports.close()


async def test_notes_do_not_hurry_a_plane_whose_database_is_away() -> None:
    asked = 0

    def facts() -> tuple[bool, int, int]:
        nonlocal asked
        asked += 1
        return True, 0, 0

    reports = Reports(Link(NOWHERE, "reports"), facts, dict)
    reports.start()

    for version in range(20):
        reports.note("acme", version)
        await asyncio.sleep(0.005)

    assert asked == 1
    await reports.close()
