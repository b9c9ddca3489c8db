"""Answers given before, in the memory of one plane: bounded by bytes, the least recently used go first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway.plane.usage import Usage

MOST_BYTES = 64 * 1024 * 1024
MOST_ANSWER_BYTES = 1024 * 1024
"""A longer answer is not kept."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer as it was sent."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    usage: Usage | None
    """What it cost when it was made."""
    kept_at: float
    """Seconds since the epoch."""
    until: float


class AnswerCache:
    def __init__(self, clock: Callable[[], float] = time.time, most_bytes: int = MOST_BYTES) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._answers: OrderedDict[bytes, Kept] = OrderedDict()
        self.bytes_held = 0

    def get(self, key: bytes) -> Kept | None:
        """The answer, unless its time is over."""
        kept = self._answers.get(key)
        if kept is None:
            return None
        if kept.until <= self._clock():
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return kept

    def keep(self, key: bytes, *, headers: tuple[tuple[bytes, bytes], ...], body: bytes, usage: Usage | None, ttl_s: float) -> None:
        """Keep an answer for `ttl_s`."""
        if key in self._answers:
            self._drop(key)
        now = self._clock()
        self._answers[key] = Kept(headers, body, usage, now, now + ttl_s)
        self.bytes_held += len(body) + len(key)
        while self.bytes_held > self._most_bytes:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: bytes) -> None:
        self.bytes_held -= len(self._answers.pop(key).body) + len(key)
