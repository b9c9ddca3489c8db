"""The store of snapshots keeps nothing of tenants that do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from gateway.contract.outbound import AllowList
from gateway.contract.sealing import Sealer
from gateway.plane.errors import DatabaseAwayError
from gateway.plane.snapshots import SnapshotStore
from tests.gateway.conftest import cloned_database

NOWHERE = "postgresql://127.0.0.1:1/nothing"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with cloned_database() as url:
        yield url


def _store(url: str, home: Path) -> SnapshotStore:
    return SnapshotStore(url, home, Sealer([Fernet.generate_key().decode()]), AllowList.parse([]), lambda _: None)


async def test_tenants_that_somebody_made_up_leave_no_lock(database: str, tmp_path: Path) -> None:
    store, away = _store(database, tmp_path), _store(NOWHERE, tmp_path)

    assert [await store.get(f"madeup{each}") for each in range(3)] == [None] * 3
    with pytest.raises(DatabaseAwayError):
        await away.get("madeup")

    assert (store._turns, away._turns) == ({}, {})
    await store.close()
