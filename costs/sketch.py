"""A mergeable histogram of durations: buckets that grow by 4%, so that a percentile is right within 2%.

Merging is adding counts, in SQL or here. Source: DDSketch, C. Masson and others, VLDB 12 (2019) 2195-2205.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

GAMMA = 1.04
BUCKET_SQL = f"ceil(ln(greatest({{us}}, 1)::float8) / ln({GAMMA}::float8))::smallint"
"""The bucket of a duration in microseconds, as PostgreSQL computes it; `str.format(us=column)`."""


def bucket(us: int) -> int:
    """The bucket of a duration in microseconds."""
    return math.ceil(math.log(max(us, 1)) / math.log(GAMMA))


def middle(index: int) -> float:
    """The value in microseconds that stands for a bucket: at most 2% from everything in it."""
    return 2 * GAMMA**index / (1 + GAMMA)


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """The q-quantile (0 to 1) in microseconds; None without observations."""
    total = sum(counts.values())
    if total == 0:
        return None
    rank, seen = q * (total - 1), 0
    for index in sorted(counts):
        seen += counts[index]
        if seen > rank:
            return middle(index)
    raise AssertionError("ranks end within the counts")


def quantile_ms(counts: Mapping[int, int], q: float) -> float | None:
    """The same in milliseconds."""
    us = quantile(counts, q)
    return None if us is None else us / 1000
