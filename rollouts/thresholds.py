"""On which side of a threshold a figure lies: the comparisons of gates, cohorts and rollback rules."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

COMPARE: Mapping[str, Callable[[float, float], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def side(sign: str, threshold: float, low: float, high: float) -> bool | None:
    """Whether the whole interval from `low` to `high` is on the good side (True) or on the bad one (False); None when it straddles.

    KeyError for a sign that is neither in COMPARE nor `=`.
    """
    if sign == "=":
        if low == high == threshold:
            return True
        return None if low <= threshold <= high else False
    compare = COMPARE[sign]
    good_low, good_high = compare(low, threshold), compare(high, threshold)
    return good_low if good_low == good_high else None
