"""What use a commitment covers, and what each part of the fee was for: exact sums, hour by hour.

Throughput is paid by the hour, used or not. With capacity C tokens an hour (units x tokens a minute x 60) and demand D, of which an
output token weighs `output_weight` and a token read from the cache nothing, it covers min(1, C/D) of the hour's use and min(1, D/C) of
the fee is used; the rest is unused. What it does not cover, and the use of other models, draws down spend commitments and credits, until
they are drawn; what is left of them when their term ends is unused. Several serve in the order of `Terms.order`.
Source: FinOps FOCUS 1.2, commitment discounts (amortised cost), and Azure's documentation of provisioned throughput.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
FINEST = Decimal(1).scaleb(-20)
"""As amounts are stored."""
HOURS = 24


@dataclass(frozen=True)
class Terms:
    """Of one commitment; see `costs.models.Commitment` for the units."""

    pk: int
    is_throughput: bool
    provider: str
    model: str
    quantity: Decimal
    unit_price: Decimal
    tokens_per_minute: int
    output_weight: Decimal
    first: date
    last: date

    @property
    def order(self) -> tuple[bool, bool, date, int]:
        """Throughput before money, one model before all, and what ends first."""
        return (not self.is_throughput, not self.model, self.last, self.pk)

    def takes(self, use: Use) -> bool:
        return self.provider == use.provider and self.model in ("", use.model)


@dataclass(frozen=True)
class Use:
    """Of one model in one hour."""

    hour: int
    provider: str
    model: str
    input_tokens: int
    """Without those read from the cache."""
    output_tokens: int
    cost: Decimal
    """By the price book, USD."""


@dataclass(frozen=True)
class Part:
    """What a model, or nobody (""), had of a commitment on a day."""

    quantity: Decimal
    list_cost: Decimal
    cost: Decimal


def day_of(
    terms: Sequence[Terms], uses: Iterable[Use], day: date, drawn: Mapping[int, Decimal], hours: int = HOURS
) -> dict[tuple[int, str], Part]:
    """(commitment, model) to its part of a day on which all of `terms` run. `drawn` is what each had been used for before, USD.

    Only the first `hours` of the day count, those that are over. For throughput, quantities sum to units x hours and costs to their fee
    exactly; what is left of money is unused once its last day is over.
    """
    sums: dict[tuple[int, str], list[Decimal]] = defaultdict(lambda: [Decimal(), Decimal(), Decimal()])
    left = {one: one.cost for one in uses if one.hour < hours}
    share_left = dict.fromkeys(left, Decimal(1))
    with localcontext(EXACT):
        for found in sorted(terms, key=lambda one: one.order):
            if found.is_throughput:
                _throughput(found, left, share_left, sums, hours)
            else:
                _drawdown(found, left, sums, found.quantity - drawn.get(found.pk, Decimal()), ends=day == found.last and hours == HOURS)
    return {key: Part(*values) for key, values in sums.items() if any(values)}


def _throughput(
    found: Terms, left: dict[Use, Decimal], share_left: dict[Use, Decimal], sums: dict[tuple[int, str], list[Decimal]], hours: int
) -> None:
    by_hour: dict[int, list[Use]] = defaultdict(list)
    for use in left:
        if found.takes(use):
            by_hour[use.hour].append(use)
    capacity = found.quantity * found.tokens_per_minute * 60
    idle = found.quantity * hours
    fee = _finest(idle * found.unit_price)
    paid = Decimal()
    for uses in by_hour.values():
        demand = {use: (use.input_tokens + use.output_tokens * found.output_weight) * share_left[use] for use in uses}
        whole = sum(demand.values(), Decimal())
        if not whole:
            continue
        covered = min(Decimal(1), capacity / whole)
        for use, weight in demand.items():
            quantity = _finest(weight * covered / capacity * found.quantity)
            cost, value = _finest(quantity * found.unit_price), _finest(left[use] * covered)
            _add(sums[found.pk, use.model], quantity, value, cost)
            idle, paid = idle - quantity, paid + cost
            left[use] -= value
            share_left[use] *= 1 - covered
    _add(sums[found.pk, ""], max(idle, Decimal()), Decimal(), fee - paid)


def _drawdown(found: Terms, left: dict[Use, Decimal], sums: dict[tuple[int, str], list[Decimal]], rest: Decimal, *, ends: bool) -> None:
    for use in sorted((use for use in left if found.takes(use)), key=lambda use: (use.hour, use.model)):
        value = min(left[use], rest)
        if value > 0:
            _add(sums[found.pk, use.model], value, value, _finest(value * found.unit_price))
            left[use] -= value
            rest -= value
    if ends and rest > 0:
        _add(sums[found.pk, ""], rest, Decimal(), _finest(rest * found.unit_price))


def _add(sums: list[Decimal], *values: Decimal) -> None:
    for index, value in enumerate(values):
        sums[index] += value


def _finest(value: Decimal) -> Decimal:
    return value.quantize(FINEST, context=EXACT)


@dataclass(frozen=True)
class Figures:
    """One commitment over a period, up to what is counted."""

    used: Decimal
    """Unit hours, or USD of use at the price book's prices."""
    unused: Decimal
    """Unit hours; of money only once its term is over."""
    list_cost: Decimal
    cost: Decimal
    """Of what was used, USD."""
    unused_cost: Decimal
    eligible: Decimal
    """What all use that it may cover would have cost by the price book, USD."""
    quantity: Decimal
    """Of the term: see `Commitment`."""
    unit_price: Decimal
    drawn: Decimal
    """Since the term began, USD of use; nothing of throughput."""
    elapsed: Decimal
    """Of its term, 0 to 1, in whole counted days at the end of the period."""
    is_throughput: bool

    @property
    def utilisation(self) -> Decimal | None:
        """Percent. Of throughput: unit hours used of those paid. Of money: what was drawn of what the part of the term that is over stands for."""
        of = self.used + self.unused if self.is_throughput else self.quantity * self.elapsed
        return (self.used if self.is_throughput else self.drawn) / of * 100 if of else None

    @property
    def drawn_share(self) -> Decimal:
        """Percent of the whole amount; of money only."""
        return self.drawn / self.quantity * 100

    @property
    def coverage(self) -> Decimal | None:
        """Percent of the use that it may cover, by value."""
        return min(self.list_cost / self.eligible * 100, Decimal(100)) if self.eligible else None

    @property
    def is_over(self) -> bool:
        """What is left of money is known then."""
        return self.elapsed >= 1

    @property
    def paid(self) -> Decimal:
        """Used and unused together."""
        return self.used + self.unused

    @property
    def bar(self) -> Decimal:
        """The headline as the length of a bar, 0 to 100."""
        return min((self.utilisation if self.is_throughput else self.drawn_share) or Decimal(), Decimal(100))

    @property
    def fee(self) -> Decimal:
        return self.cost + self.unused_cost

    @property
    def saved(self) -> Decimal:
        """USD less than by the price book; negative when it does not pay off."""
        return self.list_cost - self.fee

    @property
    def break_even(self) -> Decimal | None:
        """Utilisation, percent, from which on it costs no more than the price book; over 100 when it never does. None without use to judge by."""
        if not self.is_throughput:
            return self.unit_price * 100
        return self.unit_price * self.used / self.list_cost * 100 if self.list_cost else None


PACE_DAYS = 28
"""Whole weeks, so that no weekend counts more than it does."""
LEAST_PACE_DAYS = 7


@dataclass(frozen=True)
class Outlook:
    """What a running commitment comes to by the end of its term, when it is used as on its last whole days."""

    days: int
    """That the pace is of."""
    used_up_on: date | None
    """Money: the day on which all is drawn; None when something is left. Throughput is never used up."""
    unused_cost: Decimal
    """USD of the fee. Money: left at the end. Throughput: what the days to come leave unused."""


def outlook(terms: Terms, *, whole: date, drawn: Decimal, days: int, used: Decimal, unused_cost: Decimal) -> Outlook | None:
    """`whole` is the last counted day that was over, `drawn` all use up to it; `used` and `unused_cost` are of the `days` up to it.

    None with less than a week to go by, and once the term is over.
    """
    left = (terms.last - whole).days
    if days < LEAST_PACE_DAYS or left <= 0:
        return None
    if terms.is_throughput:
        return Outlook(days, None, unused_cost / days * left)
    rest, pace = max(terms.quantity - drawn, Decimal()), used / days
    if rest <= pace * left:
        return Outlook(days, whole + timedelta(days=math.ceil(rest / pace) if rest else 0), Decimal())
    return Outlook(days, None, (rest - pace * left) * terms.unit_price)
