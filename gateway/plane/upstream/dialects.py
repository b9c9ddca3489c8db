"""What is between a surface that callers use and a protocol that an upstream speaks.

The exchange (`exchange.py`, `answers.py`, `failures.py`) walks, sends and passes on, and knows no protocol. What it must ask is a `Pair`: one object for each
surface and upstream protocol that go together. Where both are the same the bytes pass through untouched; where they differ a file in
`gateway.plane.translate` holds the pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.plane.call import Call
from gateway.plane.served import Target
from gateway.plane.usage import Usage


class Tap(Protocol):
    """Reads along a stream: takes the upstream's bytes, gives the caller's."""

    @property
    def usage(self) -> Usage | None:
        """As far as the upstream has said; None before it has said anything."""

    @property
    def text_bytes(self) -> int:
        """Bytes of generated text so far; for an estimate when the upstream reports nothing."""

    @property
    def is_failed(self) -> bool:
        """The upstream itself said in the middle of its stream that it failed."""

    @property
    def is_done(self) -> bool:
        """The last event of the caller's protocol has been given out: whoever hangs up now has the whole answer."""

    def feed(self, data: bytes) -> bytes:
        """What may be sent now. Refusal when the stream cannot be understood."""

    def flush(self) -> bytes:
        """What is left when the upstream has ended. Refusal when it ended in the middle."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One surface on one upstream protocol."""

    path: str
    """Below the deployment's base URL."""
    forwarded: tuple[tuple[bytes, str], ...]
    """Headers of the caller that the upstream gets: the caller's name, the upstream's name."""
    body: Callable[[Call, Target], dict[str, Any]]
    """The request's fields. Refusal when the request cannot be said in the upstream's protocol."""
    whole: Callable[[Call, bytes], tuple[bytes, Usage | None]]
    """The answer's bytes for the caller, and the usage. ValueError or msgspec.DecodeError when it is not what it should be."""
    tap: Callable[[Call], Tap]
    error: Callable[[int, dict[str, Any]], tuple[int, dict[str, Any]]]
    """Status and body of an upstream's refusal, in the caller's shape. The body given holds an object named `error`."""


TRACE = ((b"traceparent", "traceparent"), (b"tracestate", "tracestate"))


def same(status: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """An upstream's refusal that is in the caller's shape already."""
    return status, body
