"""What makes one deployment better than another for a call, when its model has objectives. Pure, and the same for planes and previews.

Each objective gives a candidate a part between 0 and 1, its share of the best one: half as good as the best is 0.5. Shares keep a difference of
1% small, where a scale from worst to best would make it everything. What is not known counts `NEUTRAL`: never as good as the best one, and
known to be unknown. The utility is the mean of the parts by weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import msgspec

NEUTRAL = 0.5
"""The part of what is not known."""
NAMES = ("cost", "latency", "quality")
Parts = tuple[list[float], list[float], list[float]]
"""In the order of NAMES, by candidate."""


class Objectives(msgspec.Struct, frozen=True, kw_only=True):
    """Weights, 0 to 100 each, at least one above 0."""

    cost: int = 0
    latency: int = 0
    quality: int = 0
    explore: float = 0.05
    """Share of the calls, 0 to 1, that go where they would not have gone, so that figures do not grow old."""


def parts_of(costs: Sequence[float | None], latencies: Sequence[float | None], qualities: Sequence[float | None]) -> Parts:
    """Of at least one candidate. The units do not matter: only shares do."""
    return _lower(costs), _lower(latencies), _higher(qualities)


def utilities(objectives: Objectives, parts: Parts) -> list[float]:
    """Between 0 and 1, by candidate."""
    whole = objectives.cost + objectives.latency + objectives.quality
    cost, latency, quality = objectives.cost / whole, objectives.latency / whole, objectives.quality / whole
    costs, latencies, qualities = parts
    return [cost * money + latency * time + quality * good for money, time, good in zip(costs, latencies, qualities, strict=True)]


def _lower(values: Sequence[float | None]) -> list[float]:
    if _are_known(values):
        best = min(values)
        if best > 0:
            return [best / value for value in values]
    best = min([value for value in values if value is not None], default=0.0)
    return [NEUTRAL if value is None else best / value if value > 0 else 1.0 for value in values]


def _higher(values: Sequence[float | None]) -> list[float]:
    if _are_known(values):
        best = max(values)
        if best > 0:
            return [value / best for value in values]
    best = max([value for value in values if value is not None], default=0.0)
    return [NEUTRAL if value is None else value / best if best > 0 else 1.0 for value in values]


def _are_known(values: Sequence[float | None]) -> TypeGuard[Sequence[float]]:
    return None not in values
