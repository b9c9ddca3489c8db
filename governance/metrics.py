"""The metric registry: named figures that gates, SLOs and rollback rules evaluate.

Each app registers its metrics from its own `metrics.py` when it is loaded. A metric is a function of a time window over
the current tenant's data; it returns a reading with its sample and the sufficient statistics behind it, so that a verdict can
be recomputed from the evidence alone. No data is a reading without a value, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class Window:
    """Half-open span of UTC time, [start, end)."""

    start: datetime
    end: datetime
    cohort: str = ""
    """Slug of the cohort that the rollout which asks is over, of which a metric with the scope `programme` may tell; empty: of none."""


@dataclass(frozen=True)
class Reading:
    """What a metric was over a window."""

    value: float | None
    """In the metric's unit; None when there is nothing to judge."""
    sample: int = 0
    """How many observations stand behind the value."""
    low: float | None = None
    high: float | None = None
    """95% interval, where the metric is an estimate; None when it is exact."""
    statistics: Mapping[str, float | int | str] = field(default_factory=dict)
    """Sufficient statistics, kept with the evidence, for example {"attributed": 941, "all": 950}."""


NO_DATA = Reading(None)


@dataclass(frozen=True)
class Metric:
    key: str
    """`<noun>.<name>`, for example `attribution.coverage`."""
    title: str
    unit: Literal["%", "ms", "s", "USD", "count", "pp", "score", "h", "days"]
    better: Literal["higher", "lower"]
    minimum_sample: int
    read: Callable[[Window], Reading]
    description: str
    scope: Literal["organisation", "programme"] = "organisation"
    """`programme`: it is of all organisations of the rollout's cohort together, or of who runs it, and is read once."""


_metrics: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Add a metric; its key must be new."""
    if metric.key in _metrics:
        raise ValueError(f"metric {metric.key} is registered twice")
    _metrics[metric.key] = metric
    return metric


def get(key: str) -> Metric:
    """KeyError when no app offers it."""
    return _metrics[key]


def all_metrics() -> list[Metric]:
    """Every metric, by key."""
    return [_metrics[key] for key in sorted(_metrics)]


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """95% interval of a share, in percent. Source: E. B. Wilson, JASA 22 (1927) 209-212."""
    if trials <= 0:
        raise ValueError("a share of nothing has no interval")
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * ((p * (1 - p) + z * z / (4 * trials)) / trials) ** 0.5 / (1 + z * z / trials)
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)
