"""What the floor that keeps the calls (costs) tells this one about them. Filled by `costs.apps` when it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True)
class PastCalls:
    """Calls that agree in all attributes that a policy can look at."""

    attributes: Mapping[str, Any]
    """As `gateway.contract.policies.ATTRIBUTES` lists them, and `tags`."""
    calls: int
    example: str
    """The request id of one of them."""


@dataclass(frozen=True)
class VerdictCount:
    """How often a step of the pipeline gave a verdict."""

    step: str
    """`policy`, `policy:<namespace>.<name>@<version>` or `guardrail:<name>`."""
    verdict: str
    found: str
    """For a guardrail: the entity; for `policy`: `covered`; otherwise empty."""
    calls: int
    hits: int


class CallFigures(Protocol):
    """Implemented by `costs.call_figures`."""

    def past_calls(self, since: datetime, until: datetime, *, by_time: bool) -> Iterable[PastCalls]:
        """Calls that came as far as the policies. `by_time`: apart by weekday and hour too."""

    def verdicts(self, since: datetime) -> list[VerdictCount]:
        """Of policies and guardrails, since the beginning of the hour of `since`."""


_figures: list[CallFigures] = []


def register(figures: CallFigures) -> None:
    """Called once, from `costs.apps`."""
    _figures[:] = [figures]


def call_figures() -> CallFigures:
    """The registered figures; RuntimeError when the costs app is not installed."""
    if not _figures:
        raise RuntimeError("no app offers figures of calls")
    return _figures[0]
