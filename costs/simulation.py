"""What a budget would have done to traffic that has already been: hour by hour over one past period. Pure.

An hour's calls are taken as evenly spread and equally dear; what was refused is not tried again. Within an hour the slowing curve
is followed exactly: with u the way from where slowing begins to the amount, du/dt = k (1 - u), so 1 - u falls by exp(-k).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

CENT = Decimal("0.01")


@dataclass(frozen=True)
class Hour:
    start: datetime
    cost: Decimal
    """USD."""
    calls: int
    """Served calls of the scope that have a price."""


@dataclass
class Outcome:
    """Money in USD; calls rounded to whole ones."""

    first: datetime
    """Start of the period."""
    last: datetime
    """Its end."""
    action: str
    """What the simulated budget did at its amount: alert, throttle or block."""
    calls: int = 0
    cost: Decimal = Decimal()
    """Spent in reality."""
    unpriced_calls: int = 0
    """Served calls without a price: they would have been refused, since money limits cannot cover them."""
    crossed: list[tuple[int, datetime]] = field(default_factory=list)
    """Threshold in percent, and the hour in which it would have been reached."""
    throttled_from: datetime | None = None
    throttled_calls: int = 0
    throttled_cost: Decimal = Decimal()
    blocked_from: datetime | None = None
    blocked_calls: int = 0
    blocked_cost: Decimal = Decimal()

    @property
    def is_empty(self) -> bool:
        return self.calls == 0 and self.unpriced_calls == 0

    @property
    def refused_calls(self) -> int:
        return self.throttled_calls + self.blocked_calls

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Outcome:
        """What `as_json` wrote; money is in whole cents since."""

        def at(name: str) -> datetime | None:
            return datetime.fromisoformat(stored[name]) if stored[name] else None

        return cls(
            first=datetime.fromisoformat(stored["first"]),
            last=datetime.fromisoformat(stored["last"]),
            action=stored["action"],
            calls=stored["calls"],
            cost=Decimal(stored["cost_usd"]),
            unpriced_calls=stored["unpriced_calls"],
            crossed=[(one["threshold"], datetime.fromisoformat(one["at"])) for one in stored["crossed"]],
            throttled_from=at("throttled_from"),
            throttled_calls=stored["throttled_calls"],
            throttled_cost=Decimal(stored["throttled_cost_usd"]),
            blocked_from=at("blocked_from"),
            blocked_calls=stored["blocked_calls"],
            blocked_cost=Decimal(stored["blocked_cost_usd"]),
        )

    def as_json(self) -> dict[str, Any]:
        def text(at: datetime | None) -> str | None:
            return at.isoformat() if at else None

        return {
            "first": text(self.first),
            "last": text(self.last),
            "action": self.action,
            "calls": self.calls,
            "cost_usd": str(self.cost.quantize(CENT)),
            "unpriced_calls": self.unpriced_calls,
            "crossed": [{"threshold": threshold, "at": at.isoformat()} for threshold, at in self.crossed],
            "throttled_from": text(self.throttled_from),
            "throttled_calls": self.throttled_calls,
            "throttled_cost_usd": str(self.throttled_cost.quantize(CENT)),
            "blocked_from": text(self.blocked_from),
            "blocked_calls": self.blocked_calls,
            "blocked_cost_usd": str(self.blocked_cost.quantize(CENT)),
        }


def simulate(
    hours: Iterable[Hour],
    *,
    first: datetime,
    last: datetime,
    amount: Decimal,
    action: str,
    thresholds: Sequence[int],
    throttle_from: int,
    unpriced_calls: int = 0,
) -> Outcome:
    """Play the hours of one period, in order, against a budget. Shares of thresholds and `throttle_from` are percent."""
    done = Outcome(first, last, action, unpriced_calls=unpriced_calls)
    spent = Decimal()
    refused_calls = {"throttled": Decimal(), "blocked": Decimal()}
    for hour in hours:
        done.calls += hour.calls
        done.cost += hour.cost
        before = spent
        slowed, stopped = _refused(before, hour.cost, amount, action, throttle_from)
        spent += hour.cost - slowed - stopped
        for threshold in thresholds:
            mark = amount * threshold / 100
            if before < mark <= spent:
                done.crossed.append((threshold, _moment(hour, (mark - before) / hour.cost)))
        per_dollar = Decimal(hour.calls) / hour.cost if hour.cost else Decimal()
        if slowed:
            done.throttled_from = done.throttled_from or _moment(hour, max(Decimal(), amount * throttle_from / 100 - before) / hour.cost)
            done.throttled_cost += slowed
            refused_calls["throttled"] += slowed * per_dollar
        if stopped:
            done.blocked_from = done.blocked_from or _moment(hour, (amount - before) / hour.cost)
            done.blocked_cost += stopped
            refused_calls["blocked"] += stopped * per_dollar
    done.throttled_calls, done.blocked_calls = round(refused_calls["throttled"]), round(refused_calls["blocked"])
    return done


def _refused(spent: Decimal, cost: Decimal, amount: Decimal, action: str, throttle_from: int) -> tuple[Decimal, Decimal]:
    """Money of one hour that is slowed away and that is blocked."""
    if action == "alert" or not cost:
        return Decimal(), Decimal()
    if action == "block":
        return Decimal(), max(Decimal(), spent + cost - max(amount, spent))
    mark = amount * throttle_from / 100
    freely = min(cost, max(Decimal(), mark - spent))
    rest, reached, width = cost - freely, spent + freely, amount - mark
    if not rest:
        return Decimal(), Decimal()
    left = max(Decimal(), (amount - reached) / width)
    through = width * left * (1 - (-rest / width).exp())
    return rest - through, Decimal()


def _moment(hour: Hour, fraction: Decimal) -> datetime:
    return hour.start + timedelta(hours=float(min(max(fraction, Decimal()), Decimal(1))))
