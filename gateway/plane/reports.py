"""What a plane tells of itself: that it lives, and which version of each snapshot it serves since when.

So the portal can say how long a change took to reach every process. Nothing is decided by it: a plane that can't tell serves all the same.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import uuid
from collections.abc import Callable, Mapping

from gateway.contract.names import PLANE_TABLE, TAKEN_TABLE
from gateway.plane.database import Link
from gateway.plane.errors import DatabaseAwayError

logger = logging.getLogger(__name__)

REPORT_S = 5.0
RETRY_S = 1.0
"""After a failure nothing is told for so long, whatever there is to tell."""
FORGET = "5 minutes"
"""A plane that was killed is taken off the list after so long. Until then it counts as one that serves what it served last."""
_ALIVE = f"""
insert into {PLANE_TABLE} (plane, host, started_at, seen_at, is_listening, open_streams, spool_bytes)
values (%(plane)s, %(host)s, clock_timestamp(), clock_timestamp(), %(is_listening)s, %(open_streams)s, %(spool_bytes)s)
on conflict (plane) do update set seen_at = excluded.seen_at, is_listening = excluded.is_listening,
    open_streams = excluded.open_streams, spool_bytes = excluded.spool_bytes
returning xmax = 0
"""  # noqa: S608 - our own constants
_TAKEN = f"""
insert into {TAKEN_TABLE} (tenant, plane, version, taken_at)
values (%s, %s, %s, clock_timestamp() - make_interval(secs => %s))
on conflict (tenant, plane) do update set version = excluded.version, taken_at = excluded.taken_at
"""  # noqa: S608
_LEAVE = f"with gone as (delete from {TAKEN_TABLE} where plane = %(plane)s) delete from {PLANE_TABLE} where plane = %(plane)s"  # noqa: S608
_FORGET = f"""
with dead as (delete from {PLANE_TABLE} where seen_at < clock_timestamp() - interval '{FORGET}' returning plane)
delete from {TAKEN_TABLE} where plane in (select plane from dead)
"""  # noqa: S608


class Reports:
    """`facts` gives whether it listens, its open streams, and the bytes in its spool; `held` the version served per tenant."""

    def __init__(self, link: Link, facts: Callable[[], tuple[bool, int, int]], held: Callable[[], Mapping[str, int]]) -> None:
        self.plane = uuid.uuid4().hex
        self._link = link
        self._facts = facts
        self._held = held
        self._is_listed = False
        """It told of itself before; so if its row is new, what it had told was forgotten."""
        self._taken: dict[str, tuple[int, float]] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._tell_always())

    def note(self, tenant: str, version: int) -> None:
        """From now on this version is served."""
        self._taken[tenant] = (version, time.monotonic())
        self._news.set()

    async def close(self) -> None:
        """Leave the list."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with self._link.use() as connection:
                await connection.execute(_LEAVE, {"plane": self.plane})
        except DatabaseAwayError:
            pass  # it is forgotten after FORGET
        await self._link.close()

    async def _tell_always(self) -> None:
        while True:
            self._news.clear()
            taken, self._taken = self._taken, {}
            try:
                await self._tell(taken)
            except DatabaseAwayError:
                self._taken = taken | self._taken
                await asyncio.sleep(RETRY_S)
            except Exception:
                self._taken = taken | self._taken
                logger.exception("plane.report_failed")
                await asyncio.sleep(RETRY_S)
            try:
                async with asyncio.timeout(REPORT_S):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _tell(self, taken: dict[str, tuple[int, float]]) -> None:
        """What was told leaves `taken` one by one, so that a batch too long for one turn is not begun again from its start."""
        is_listening, open_streams, spool_bytes = self._facts()
        async with self._link.use() as connection:
            cursor = await connection.execute(
                _ALIVE,
                {
                    "plane": self.plane, "host": socket.gethostname(), "is_listening": is_listening, "open_streams": open_streams,
                    "spool_bytes": spool_bytes,
                },
            )  # fmt: skip
            row = await cursor.fetchone()
            if self._is_listed and row is not None and row[0]:
                now = time.monotonic()
                for tenant, version in self._held().items():
                    taken.setdefault(tenant, (version, now))
            self._is_listed = True
            for tenant, (version, at) in list(taken.items()):
                await connection.execute(_TAKEN, [tenant, self.plane, version, time.monotonic() - at])
                del taken[tenant]
            await connection.execute(_FORGET)
