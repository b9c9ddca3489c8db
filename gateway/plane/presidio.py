"""Presidio beside the plane: one worker process, started when a snapshot first needs it, asked without waiting on the loop.

What it does not answer in time, or at all, is an error here; what follows from it is each guardrail's own rule (`gateway.plane.guarding`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.contract import presidio
from gateway.contract.guardrails import Hit
from gateway.contract.presidio import Ask, PresidioError, Told
from gateway.contract.snapshot import Presidio

logger = logging.getLogger(__name__)

READY_S = 20.0
"""How long a first call waits until the worker has loaded what it needs; counted apart from the time limits of guardrails."""
STUCK_S = 5.0
"""A worker that says nothing for this long after a question's time is over is killed."""
RESTART_S = 2.0
"""Between two starts of a worker that ends."""
MOST_CALLS = 64
"""Calls that wait for an answer at the same time; more are told at once that there is none."""
MOST_ASKED_BYTES = presidio.MOST_FRAME_BYTES
"""Of all questions that wait or are at the worker."""

State = Literal["off", "missing", "starting", "ok", "failed"]
Key = tuple[str, str]
"""Language and model: what is loaded once."""


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    number: int
    body: bytes
    patience_s: float
    """How long the worker may take for it before it is killed."""
    answer: asyncio.Future[Told]


class PresidioWorker:
    """One process's worker. All methods run on the loop; `find` may be called at any time and by many.

    The worker does one thing after the other, so it is given one question at a time and the others wait here: what nobody waits for any more
    is never asked. The shortest is next, and the newest of equals: above the worker's capacity those that it can answer in time are answered,
    and a few long texts hold nobody up.
    """

    def __init__(self, command: Sequence[str] = presidio.COMMAND, is_installed: Callable[[], bool] = presidio.is_installed) -> None:
        self._command = command
        self._is_installed = is_installed
        self._numbers = itertools.count()
        self._calls = 0
        """That wait for an answer, or for the worker to be ready."""
        self._waiting: dict[int, _Question] = {}
        self._owed: _Question | None = None
        """What the worker was given and has not answered, whether or not somebody still waits for it."""
        self._patience: asyncio.TimerHandle | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._ready: dict[Key, asyncio.Task[None]] = {}
        self._started_at = 0.0
        self.state: State = "off"
        self.failures = 0
        """Times that it was asked and there was no answer, since the start."""

    def prepare(self, settings: Presidio) -> None:
        """Begin to load what such a guardrail needs, behind the calls."""
        if not self._is_installed():
            self.state = "missing"
            return
        self._loading(settings)

    async def find(self, settings: Presidio, texts: Sequence[str]) -> dict[int, list[Hit]]:
        """What it finds, by place of the text where there is any, within the guardrail's time limit. Raises PresidioError, which is no verdict."""
        try:
            return await self._find(settings, texts)
        except PresidioError:
            self.failures += 1
            raise

    async def _find(self, settings: Presidio, texts: Sequence[str]) -> dict[int, list[Hit]]:
        if not self._is_installed():
            self.state = "missing"
            raise PresidioError("not installed")
        if self._calls >= MOST_CALLS:
            raise PresidioError("too many calls wait")
        self._calls += 1
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.shield(self._loading(settings))
            async with asyncio.timeout(settings.time_limit_ms / 1000):
                told = await self._ask(settings, texts)
        except TimeoutError as error:
            raise PresidioError("no answer in time") from error
        finally:
            self._calls -= 1
        return presidio.hits_of(told, texts)

    def _loading(self, settings: Presidio) -> asyncio.Task[None]:
        """The task that loads what such a guardrail needs, made anew when the last one failed or the worker has ended."""
        key = (settings.language, settings.spacy_model)
        task = self._ready.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._ready[key] = asyncio.create_task(self._load(settings))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever asks next is told
        return task

    async def _load(self, settings: Presidio) -> None:
        if self._writer is None:
            if self._starting is None or self._starting.done():
                self._starting = asyncio.create_task(self._start())
            await asyncio.shield(self._starting)
        try:
            presidio.hits_of(await self._ask(settings, ()), ())
        except PresidioError as error:
            self.state = "failed"
            logger.error("presidio.not_loaded", extra={"language": settings.language, "model": settings.spacy_model, "error": str(error)})
            raise
        self.state = "ok"

    async def _start(self) -> None:
        if self._started_at:
            await asyncio.sleep(max(0.0, self._started_at + RESTART_S - time.monotonic()))
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)  # the one before, which is killed
        self._started_at, self.state = time.monotonic(), "starting"
        ours, theirs = socket.socketpair()
        try:
            # A plain process, so that whatever loop or thread the server runs us in makes no difference.
            self._process = await asyncio.to_thread(
                lambda: subprocess.Popen(
                    self._command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    cwd=presidio.ROOT,
                    env=presidio.environment(),
                )
            )
        except OSError as error:
            ours.close()
            self.state = "failed"
            raise PresidioError("its worker does not start") from error
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read_always(reader))
        logger.info("presidio.started")

    async def _ask(self, settings: Presidio, texts: Sequence[str]) -> Told:
        if self._writer is None:
            raise PresidioError("its worker has ended")
        number = next(self._numbers)
        body = presidio.frame(Ask(number, settings, list(texts)))
        if len(body) > presidio.MOST_FRAME_BYTES:
            raise PresidioError("too long")
        owed = [*self._waiting.values(), *([self._owed] if self._owed is not None else [])]
        if sum(len(question.body) for question in owed) + len(body) > MOST_ASKED_BYTES:
            raise PresidioError("too many calls wait")
        patience_s = STUCK_S + (settings.time_limit_ms / 1000 if texts else READY_S)
        question = _Question(number, body, patience_s, asyncio.get_running_loop().create_future())
        self._waiting[number] = question
        self._give_next()
        try:
            return await question.answer
        finally:
            self._waiting.pop(number, None)

    def _give_next(self) -> None:
        """Give the worker its next question, when it owes no answer."""
        if self._owed is not None or not self._waiting or self._writer is None or self._process is None:
            return
        number = min(self._waiting, key=lambda number: (len(self._waiting[number].body), -number))
        self._owed = question = self._waiting.pop(number)
        self._writer.write(question.body)
        # Killed even if nobody waits by then: its end is read, and noted there.
        self._patience = asyncio.get_running_loop().call_later(question.patience_s, self._process.kill)

    def _taken(self) -> _Question | None:
        """What the worker was at, which it is no more."""
        if self._patience is not None:
            self._patience.cancel()
        question, self._owed, self._patience = self._owed, None, None
        return question

    async def _read_always(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4))
                if size > presidio.MOST_FRAME_BYTES:
                    break
                told = presidio.read_told(await reader.readexactly(size))
                question = self._taken()
                if question is None or question.number != told.number:
                    break
                if not question.answer.done():
                    question.answer.set_result(told)
                self._give_next()
        except (asyncio.IncompleteReadError, ConnectionError, PresidioError):
            pass  # it has ended, or says what it should not: either way a new one is started when it is next asked
        finally:
            self._ended()

    def _ended(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self._ready.clear()
        if self._process is not None:
            self._process.kill()
        for question in (self._taken(), *self._waiting.values()):
            if question is not None and not question.answer.done():
                question.answer.set_exception(PresidioError("its worker has ended"))
        self._waiting.clear()
        if self.state != "off":
            self.state = "failed"
            logger.warning("presidio.ended")

    async def close(self) -> None:
        self.state = "off"
        tasks = [task for task in (self._starting, self._reading, *self._ready.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
