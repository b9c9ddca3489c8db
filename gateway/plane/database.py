"""A connection to PostgreSQL that may be away: never waited for long, opened again when it is back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from gateway.plane.errors import DatabaseAwayError

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2
STATEMENT_TIMEOUT_S = 5.0
AWAY_S = 0.5
"""After a failure nobody asks again for so long, so that calls fail fast instead of queueing behind a dead server."""


class Link:
    """One connection, used by one caller at a time, in autocommit."""

    def __init__(self, database_url: str, name: str) -> None:
        self._url = database_url
        self._name = name
        self._connection: psycopg.AsyncConnection | None = None
        self._lock = asyncio.Lock()
        self._away_until = 0.0
        self.is_away = False

    @asynccontextmanager
    async def use(self, timeout_s: float = STATEMENT_TIMEOUT_S, *, turn_s: float | None = None) -> AsyncIterator[psycopg.AsyncConnection]:
        """The open connection, alone. DatabaseAwayError when it cannot be had, breaks while in use, or others use it longer than `turn_s`."""
        async with self._turn(turn_s):
            connection = await self._open()
            finished = False
            try:
                async with asyncio.timeout(timeout_s):
                    yield connection
                finished = True
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                self._note_away(error)
                raise DatabaseAwayError("the database went away", certain=False) from error
            finally:
                if not finished:  # whatever happened in between, the connection's state is no longer known
                    await self.close()

    @asynccontextmanager
    async def _turn(self, turn_s: float | None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(turn_s):
                await self._lock.acquire()
        except TimeoutError as error:
            raise DatabaseAwayError("the connection is busy", certain=True) from error
        try:
            yield
        finally:
            self._lock.release()

    async def _open(self) -> psycopg.AsyncConnection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if time.monotonic() < self._away_until:
            raise DatabaseAwayError("the database is away", certain=True)
        try:
            self._connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name=f"gatehouse-{self._name}"
            )
        except psycopg.OperationalError as error:
            self._note_away(error)
            raise DatabaseAwayError("the database is away", certain=True) from error
        if self.is_away:
            logger.info("database.back", extra={"link": self._name})
        self.is_away = False
        return self._connection

    def _note_away(self, error: Exception) -> None:
        if not self.is_away:
            logger.warning("database.away", extra={"link": self._name, "error": type(error).__name__})
        self.is_away = True
        self._away_until = time.monotonic() + AWAY_S

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
