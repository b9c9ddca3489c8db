"""Which configuration a tenant has now: loaded on first use, swapped when it is published anew, kept on disk.

NOTIFY makes a change fast, a slow poll behind it makes a lost notification harmless, and the last good snapshot on disk
lets a plane start and serve while the database is away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from gateway.contract.names import PLATFORM, SNAPSHOT_CHANNEL, SNAPSHOT_TABLE
from gateway.contract.outbound import AllowList
from gateway.contract.sealing import Sealer
from gateway.contract.snapshot import SnapshotError, decode
from gateway.plane.database import CONNECT_TIMEOUT_S, Link
from gateway.plane.errors import DatabaseAwayError
from gateway.plane.served import Served

logger = logging.getLogger(__name__)

POLL_S = 2.0
UNKNOWN_S = 1.0
"""How long the answer "there is no such tenant" is believed."""
MAX_UNKNOWN = 10_000
_READ = f"select body from {SNAPSHOT_TABLE} where tenant = %s"  # noqa: S608 - our own constant
_VERSIONS = f"select tenant, version from {SNAPSHOT_TABLE} where tenant = any(%s)"  # noqa: S608
LISTEN_BACKOFF_S = (0.1, 0.5, 1.0, 2.0)


class SnapshotStore:
    """The served snapshots of all tenants that this process has met."""

    def __init__(
        self,
        database_url: str,
        directory: Path,
        sealer: Sealer,
        allow: AllowList,
        on_swap: Callable[[Served], None],
    ) -> None:
        self._url = database_url
        self._link = Link(database_url, "snapshots")
        self._directory = directory
        self._sealer = sealer
        self._allow = allow
        self._on_swap = on_swap
        self._served: dict[str, Served] = {}
        self._unknown: dict[str, float] = {}
        self._loading: dict[str, asyncio.Task[Served | None]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.listening = False

    def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        platform = self._from_disk(PLATFORM)  # what holds for everybody must hold without the database too
        if platform is not None:
            self._served[PLATFORM] = platform
            self._on_swap(platform)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._poll())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.close()

    @property
    def versions(self) -> dict[str, int]:
        """Version served per tenant."""
        return {tenant: served.version for tenant, served in self._served.items()}

    @property
    def is_away(self) -> bool:
        return self._link.is_away

    def current(self, tenant: str) -> Served | None:
        """What is in memory; for the hot path."""
        return self._served.get(tenant)

    async def get(self, tenant: str) -> Served | None:
        """The tenant's snapshot, or None when there is no such tenant.

        DatabaseAwayError when the database is away and nothing is on disk either.
        """
        served = self._served.get(tenant)
        if served is not None:
            return served
        if self._unknown.get(tenant, 0.0) > time.monotonic():
            return None
        loading = self._loading.get(tenant)
        if loading is None:
            loading = self._loading[tenant] = asyncio.create_task(self._first(tenant))
            loading.add_done_callback(lambda _: self._loading.pop(tenant, None))
        return await asyncio.shield(loading)

    async def _first(self, tenant: str) -> Served | None:
        try:
            taken = await self._read_and_take(tenant)
        except DatabaseAwayError:
            served = await asyncio.to_thread(self._from_disk, tenant)
            if served is None:
                raise
            logger.warning("snapshot.from_disk", extra={"tenant": tenant, "version": served.version})
            self._served[tenant] = served
            self._on_swap(served)
            return served
        if taken is None:
            if len(self._unknown) >= MAX_UNKNOWN:
                self._unknown.clear()
            self._unknown[tenant] = time.monotonic() + UNKNOWN_S
            return None
        if not taken:
            # The stored snapshot is damaged; the previous one may still be on disk.
            served = await asyncio.to_thread(self._from_disk, tenant)
            if served is None:
                raise DatabaseAwayError("the tenant's snapshot cannot be read", certain=True)
            self._served[tenant] = served
            self._on_swap(served)
        return self._served[tenant]

    async def _read_and_take(self, tenant: str) -> bool | None:
        """None when there is no such tenant, false when its snapshot is damaged."""
        try:
            async with self._turns.setdefault(tenant, asyncio.Lock()):  # so that nobody swaps back to what was read before
                body = await self._read(tenant)
                return None if body is None else await self._take(tenant, body)
        finally:
            if tenant not in self._served:  # anybody can make up the name of a tenant
                self._turns.pop(tenant, None)

    async def _read(self, tenant: str) -> bytes | None:
        async with self._link.use() as connection:
            cursor = await connection.execute(_READ, [tenant], binary=True)  # as text it would have to be taken apart
            row = await cursor.fetchone()
        return row[0] if row else None

    async def _take(self, tenant: str, body: bytes) -> bool:
        """Swap to an encoded snapshot and keep it on disk; false when it is damaged, and then nothing changes."""
        try:
            snapshot = await asyncio.to_thread(decode, body)  # calls go on meanwhile
            served = Served(snapshot, self._sealer, self._allow)
        except (SnapshotError, KeyError, ValueError) as error:
            logger.error("snapshot.damaged", extra={"tenant": tenant, "error": str(error)})
            return False
        if served.tenant != tenant:
            logger.error("snapshot.foreign", extra={"tenant": tenant})
            return False
        self._served[tenant] = served
        self._unknown.pop(tenant, None)
        self._on_swap(served)
        try:
            await asyncio.to_thread(self._to_disk, tenant, body)
        except OSError as error:
            logger.error("snapshot.not_kept", extra={"tenant": tenant, "error": error.strerror})
        return True

    def _path(self, tenant: str) -> Path:
        return self._directory / f"{tenant}.snapshot"  # safe: `keys.parse` admits letters and digits only

    def _to_disk(self, tenant: str, body: bytes) -> None:
        temporary = self._path(tenant).with_suffix(f".{os.getpid()}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path(tenant))

    def _from_disk(self, tenant: str) -> Served | None:
        try:
            return Served(decode(self._path(tenant).read_bytes()), self._sealer, self._allow)
        except FileNotFoundError:
            return None
        except (OSError, SnapshotError, KeyError, ValueError) as error:
            logger.error("snapshot.damaged_on_disk", extra={"tenant": tenant, "error": str(error)})
            return None

    async def _refresh(self, tenants: list[str]) -> None:
        """Take whatever the database has under another version."""
        async with self._link.use() as connection:
            cursor = await connection.execute(_VERSIONS, [tenants])
            stored = await cursor.fetchall()
        for tenant, version in stored:
            held = self._served.get(tenant)
            if held is None or held.version != version:
                await self._read_and_take(tenant)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._refresh([*self._served, PLATFORM])
            except DatabaseAwayError:
                continue
            except Exception:
                logger.exception("snapshot.poll_failed")

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="gatehouse-listen"
                )
                async with connection:
                    await connection.execute(f"listen {SNAPSHOT_CHANNEL}")
                    self.listening = True
                    failures = 0
                    await self._refresh([*self._served, PLATFORM])  # something may have been said while nobody listened
                    async for notice in connection.notifies():
                        tenant = notice.payload.partition(":")[0]
                        self._unknown.pop(tenant, None)
                        if tenant in self._served or tenant == PLATFORM:
                            await self._refresh([tenant])
            except (psycopg.OperationalError, DatabaseAwayError):
                pass
            except Exception:
                logger.exception("snapshot.listen_failed")
            self.listening = False
            await asyncio.sleep(LISTEN_BACKOFF_S[min(failures, len(LISTEN_BACKOFF_S) - 1)])
            failures += 1
