"""One figure for a cohort from a reading of each of its organisations. Pure: the readings stand in the evidence, so that it is recomputed from them.

An organisation whose figure is not known (none was measured, or of too few observations) is not left out: the interval covers whatever it may be,
from `floor` (0 for what can't be negative, None for no bound) upwards, so a gate only passes when it would pass with it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from rollouts.thresholds import side


class Aggregate(StrEnum):
    SHARE = "share"
    """Percent of the organisations that meet `operator threshold`."""
    COUNT = "count"
    """How many of them do."""
    MEDIAN = "median"
    SUM = "sum"


def taken_together(over: Mapping[str, Any] | None, *, metric: str, operator: str, threshold: float | None) -> dict[str, Any]:
    """What `plans.schema.Over` says for a rule, with what it leaves out taken from the rule; without a word every organisation must meet it."""
    given = over or {}
    return {
        "aggregate": given.get("aggregate", str(Aggregate.SHARE)),
        "metric": given.get("metric") or metric,
        "operator": given.get("operator") or operator,
        "threshold": threshold if given.get("threshold") is None else given["threshold"],
        "at_least": given.get("at_least", 100),
        "more_than": given.get("more_than"),
    }


def together(over: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reading of all `members`, each a reading with its `organisation`. Its sample is the number of organisations with a figure;
    of shares and counts, of all of them."""
    known = [member for member in members if _is_known(member, over["minimum_sample"])]
    unknown = len(members) - len(known)
    aggregate = Aggregate(over["aggregate"])
    found: dict[str, Any] = {
        "value": None,
        "sample": len(known),
        "low": None,
        "high": None,
        "statistics": {"organisations": len(members), "unknown": unknown},
        "error": "",
    }
    if not members:
        return found
    if aggregate in (Aggregate.SHARE, Aggregate.COUNT):
        # One whose own interval straddles the threshold is not known either.
        met = [side(over["operator"], over["threshold"], _bound(member, "low"), _bound(member, "high")) for member in known]
        passing, open_ones = met.count(True), met.count(None) + unknown
        found["statistics"]["meeting"] = passing
        low, high = (100 * n / len(members) if aggregate is Aggregate.SHARE else n for n in (passing, passing + open_ones))
        return found | {"value": low, "low": low, "high": high, "sample": len(members)}
    floor = -math.inf if over["floor"] is None else over["floor"]
    lows = [_bound(member, "low") for member in known] + [floor] * unknown
    highs = [_bound(member, "high") for member in known] + [math.inf] * unknown
    fold = statistics.median if aggregate is Aggregate.MEDIAN else math.fsum
    low, high = fold(lows), fold(highs)
    if not known or not math.isfinite(low):
        return found
    found["statistics"]["is_unbounded"] = int(math.isinf(high))  # JSON has no infinity
    return found | {"value": fold([member["value"] for member in known]), "low": low, "high": None if math.isinf(high) else high}


def why_unknown(reading: Mapping[str, Any]) -> str:
    """Of a cohort's reading without a value."""
    all_of_them, unknown = reading["statistics"]["organisations"], reading["statistics"]["unknown"]
    if not all_of_them:
        return "no organisation of the cohort is active"
    return f"{unknown} of {all_of_them} organisations {'has' if unknown == 1 else 'have'} no figure"


def _is_known(member: Mapping[str, Any], minimum: int) -> bool:
    return not member["error"] and member["value"] is not None and member["sample"] >= minimum


def _bound(member: Mapping[str, Any], name: str) -> float:
    bound: float | None = member[name]
    value: float = member["value"]
    return value if bound is None else bound
