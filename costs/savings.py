"""What calls cost less than they did, raw and at today's mix of models. Pure.

A call's cost changes because models are used otherwise (mix) and because the same model costs another sum per call (its price, its tokens,
its cache). With n calls and unit cost u, by model m, 0 the baseline and 1 now:

    raw       = (C0 / N0) * N1 - C1                      everything together
    adjusted  = sum over m known to both of (u0_m - u1_m) * n1_m     as if today's mix had been that of the baseline
    mix       = raw - adjusted - new                      moving between models known to both
    new       = sum over models without a baseline of (C0 / N0 - u1_m) * n1_m

so raw = adjusted + mix + new to the last digit. Today's calls are the weights (a Paasche index), because the money that is saved is today's.
Projected is the percentage that the baseline was signed with, of what today's calls would have cost at C0 / N0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class Unit:
    """Calls of one model that were let through and do not wait for a price, failed ones included, and what they cost together, USD."""

    calls: int
    cost: Decimal

    @property
    def per_call(self) -> Decimal | None:
        return self.cost / self.calls if self.calls else None

    @property
    def per_thousand(self) -> Decimal | None:
        """USD per 1,000 calls, as pages say it."""
        return None if self.per_call is None else self.per_call * 1000


@dataclass(frozen=True)
class ModelSaving:
    """One model then and now; `saved` is None where there is no baseline to save against."""

    model: str
    before: Unit | None
    now: Unit

    @property
    def saved(self) -> Decimal | None:
        unit = self.before.per_call if self.before else None
        return None if unit is None else unit * self.now.calls - self.now.cost

    @property
    def percent(self) -> Decimal | None:
        return None if self.saved is None or not (self.saved + self.now.cost) else self.saved / (self.saved + self.now.cost) * 100


@dataclass(frozen=True)
class Savings:
    """USD over the calls of now. Negative where calls became dearer."""

    before: Unit
    now: Unit
    expected: Decimal
    """What the calls of now would have cost at the baseline's cost of a call."""
    adjusted: Decimal
    mix: Decimal
    new: Decimal
    projected: Decimal
    models: list[ModelSaving]
    """Those called now, costly ones first."""

    @property
    def raw(self) -> Decimal:
        return self.expected - self.now.cost

    @property
    def raw_percent(self) -> Decimal:
        return self.raw / self.expected * 100

    @property
    def adjusted_percent(self) -> Decimal | None:
        """Of what the calls to models known to both would have cost; None when there is no such call."""
        whole = sum((one.saved + one.now.cost for one in self.models if one.saved is not None), Decimal())
        return self.adjusted / whole * 100 if whole else None

    @property
    def known_percent(self) -> Decimal:
        """Share of the calls of now that went to models with a baseline."""
        return Decimal(100 * sum(one.now.calls for one in self.models if one.saved is not None)) / self.now.calls

    @property
    def is_on_course(self) -> bool:
        return self.raw >= self.projected


def savings(before: Mapping[str, Unit], now: Mapping[str, Unit], projected_percent: Decimal) -> Savings | None:
    """None when one of the two has no priced call, or the baseline cost nothing: there is nothing to compare."""
    then, today = total(before), total(now)
    unit = then.per_call
    if not unit or not today.calls:
        return None
    models = [
        ModelSaving(model, before[model] if model in before and before[model].calls else None, own)
        for model, own in now.items()
        if own.calls
    ]
    adjusted = sum((one.saved for one in models if one.saved is not None), Decimal())
    new = sum((unit * one.now.calls - one.now.cost for one in models if one.saved is None), Decimal())
    expected = unit * today.calls
    return Savings(
        before=then,
        now=today,
        expected=expected,
        adjusted=adjusted,
        mix=expected - today.cost - adjusted - new,
        new=new,
        projected=expected * projected_percent / 100,
        models=sorted(models, key=lambda one: (-one.now.cost, one.model)),
    )


def total(units: Mapping[str, Unit]) -> Unit:
    return Unit(sum(one.calls for one in units.values()), sum((one.cost for one in units.values()), Decimal()))


def stored(units: Mapping[str, Unit]) -> list[dict[str, Any]]:
    """As a baseline keeps them."""
    return [{"model": model, "calls": one.calls, "cost_usd": f"{one.cost.normalize():f}"} for model, one in sorted(units.items())]


def restored(figures: Sequence[Mapping[str, Any]]) -> dict[str, Unit]:
    return {row["model"]: Unit(row["calls"], Decimal(row["cost_usd"])) for row in figures}


def digest(*, first: date, last: date, figures: Sequence[Mapping[str, Any]], projected_percent: Decimal) -> str:
    """SHA-256 over what a baseline says, so that a change of it shows."""
    said = {"first": first.isoformat(), "last": last.isoformat(), "figures": figures, "projected_percent": f"{projected_percent:.2f}"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
