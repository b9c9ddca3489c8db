"""Why a bill and our figures differ: causes that sum to the difference exactly.

All of it is in the currency of the bill: ours is multiplied with our exchange rate first, and what the bill's own rate makes it differ from that is
`fx`, taken from its amount before anything else.
For a key with price P per token, bill amount B over Qb tokens, and our A over Qt tokens (Qu of them unpriced):
    quantity  P·(Qb − Qt)     tokens that only one side has
    unpriced  P·Qu            our tokens that had no price
    price     V − P·Qb  +  P·(Qt − Qu) − A      the bill's unit price (V is quantity times it), or ours was another; named by `_price_causes`
    rest      B − V           (B − P·Qb without V) rounding of the bill's rows, a commitment, or unexplained
and quantity + unpriced + price + rest = B − A for any figures, without one division.
Quantity is split in two: volume, the net tokens at their mean price, and mix, the rest (see `split_mix`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import pairwise

CENT = Decimal("0.01")
_EXACT = Context(prec=80)
_FINEST = Decimal("1E-20")
"""The scale of amounts in the database."""

CAUSES = {
    "missing_calls": "Calls that we did not see",
    "bill_only": "Only on the bill",
    "mix": "Mix of token classes",
    "negotiated": "Negotiated rate",
    "price_band": "Tier, region or context band",
    "book_drift": "Price book changed",
    "price": "Price differs from our book",
    "fx": "Exchange rate",
    "unpriced": "Calls without a price",
    "commitment": "Commitment",
    "extra_calls": "Calls that the bill does not have",
    "telemetry_only": "Only in our telemetry",
    "late": "After the end of the bill",
    "rounding": "Rounding",
    "unexplained": "Unexplained",
}


def converted(amount: Decimal, rate: Decimal) -> Decimal:
    """An amount in another currency, quantised to the scale of the database so that what is stored sums up as well."""
    return _EXACT.multiply(amount, rate).quantize(_FINEST, ROUND_HALF_EVEN, context=_EXACT)


@dataclass(frozen=True)
class BillSide:
    """What the bill says about one key."""

    amount: Decimal
    tokens: Decimal | None
    """None when some row does not count tokens."""
    listed: Decimal | None
    """Tokens times the rows' own unit prices; None when some row gives none."""
    rows: int = 1
    commitment: Decimal = Decimal()
    """Of `amount - listed`, what rows under a commitment differ by."""
    negotiated: Decimal = Decimal()
    """Of `listed`, what the rows' unit prices make it differ from their list prices; a discount is negative."""
    is_committed: bool = False
    """Every row is under a commitment, and one of ours covered the model then: without prices of the rows, what differs is the commitment."""
    fx: Decimal = Decimal()
    """Of `amount`, what the bill's own exchange rate makes it differ from ours; the other figures are at ours."""

    def times(self, rate: Decimal) -> BillSide:
        """In another currency: each figure quantised to 1E-20 of it."""
        return replace(
            self,
            amount=converted(self.amount, rate),
            listed=None if self.listed is None else converted(self.listed, rate),
            commitment=converted(self.commitment, rate),
            negotiated=converted(self.negotiated, rate),
            fx=converted(self.fx, rate),
        )

    def billed(self, amount: Decimal) -> BillSide:
        """These figures at our exchange rate, of what is billed as `amount`: the difference is what the bill's rate makes of it."""
        return replace(self, amount=amount, fx=_EXACT.subtract(amount, self.amount))


@dataclass(frozen=True)
class OurSide:
    """What our telemetry says about the same key, in the currency of the bill at our exchange rate."""

    amount: Decimal
    tokens: int
    unpriced_tokens: int = 0
    calls: int = 0


@dataclass(frozen=True)
class OtherPrices:
    """What our book says of a key besides its usual price at the end of the key's period. Prices are per token."""

    bands: tuple[Decimal, ...] = ()
    """Of tiers, regions and context bands that were in force in the period."""
    times: tuple[Decimal, ...] = ()
    """Usual ones of other times of the month, and those that were corrected."""
    has_changed: bool = False
    """Calls of the period may have been valued by one of `times`."""


def reaches(complete_through: datetime | None, day: date) -> bool:
    """Whether a bill has the whole of a UTC day. `complete_through` (UTC) is the end of its last charge period; None when it has none."""
    # Ends are exclusive, but some bills write 23:59:59.
    return complete_through is not None and (complete_through + timedelta(seconds=1)).date() > day


def explain(
    bill: BillSide | None,
    ours: OurSide | None,
    price: Decimal | None,
    *,
    others: OtherPrices | None = None,
    is_late: bool = False,
    subunit: Decimal = CENT,
    slack: Decimal = Decimal(),
) -> dict[str, Decimal]:
    """Cause to amount, without zeros; sums to bill minus ours exactly. `price` is per token, from our book; all in the bill's currency.

    `is_late`: the bill does not reach the key's day yet. `subunit`: the smallest amount of the currency that is paid.
    `slack`, per token: what converting the price of the book once may have rounded.
    """
    with localcontext(_EXACT):
        if bill is not None and bill.fx:
            at_ours = replace(bill, amount=bill.amount - bill.fx, fx=Decimal())
            return explain(at_ours, ours, price, others=others, is_late=is_late, subunit=subunit, slack=slack) | {"fx": bill.fx}
        if bill is None:
            assert ours is not None
            return _without_zeros({"late" if is_late else "telemetry_only": -ours.amount})
        if ours is None or ours.tokens == 0:
            return _without_zeros({"bill_only": bill.amount - (ours.amount if ours else 0)})
        if price is None:
            return _without_zeros({"unpriced": bill.amount - ours.amount})
        if bill.tokens is None:
            return _without_zeros({"unexplained": bill.amount - ours.amount})
        quantity = price * (bill.tokens - ours.tokens)
        causes = {
            "missing_calls" if quantity > 0 else "extra_calls": quantity,
            "unpriced": price * ours.unpriced_tokens,
        }
        own = price * (ours.tokens - ours.unpriced_tokens) - ours.amount
        theirs = Decimal()
        tolerance = subunit / 2 * bill.rows  # each row may have been rounded to it
        if bill.listed is None:
            rest = bill.amount - price * bill.tokens
            name = "commitment" if bill.is_committed else "rounding" if abs(rest) <= tolerance else "price"
        else:
            theirs = bill.listed - price * bill.tokens
            causes["commitment"] = bill.commitment
            if abs(theirs) <= slack * bill.tokens:
                causes["rounding"], theirs = theirs, Decimal()
            rest = bill.amount - bill.listed - bill.commitment
            name = "rounding" if abs(rest) <= tolerance else "unexplained"
        if name == "price":
            theirs = rest
        else:
            causes[name] = causes.get(name, Decimal()) + rest
        return _without_zeros(causes | _price_causes(bill, theirs, own, others or OtherPrices()))


def _price_causes(bill: BillSide, theirs: Decimal, own: Decimal, others: OtherPrices) -> dict[str, Decimal]:
    """What a difference of prices comes from, as far as the rows and the book tell; the rest is `price`. Sums to theirs + own.

    `theirs`: the bill's tokens at its price less ours; `own`: our priced tokens at the book's price less what we valued them at. What one
    side has and the other takes back (both know of a tier) is no difference.
    """
    if theirs * own < 0:
        theirs, own = (theirs + own, Decimal()) if abs(theirs) > abs(own) else (Decimal(), theirs + own)
    causes: dict[str, Decimal] = defaultdict(Decimal)
    # A discount that our book has already is no cause: at most what is apart, and only in its direction.
    if bill.negotiated * theirs > 0:
        causes["negotiated"] = min(bill.negotiated, theirs, key=abs)
    at = bill.amount if bill.listed is None else bill.listed - (bill.negotiated if causes else 0)

    def is_at(prices: tuple[Decimal, ...]) -> bool:
        return any(price * (bill.tokens or 0) == at for price in prices)

    name = "price_band" if is_at(others.bands) else "book_drift" if is_at(others.times) else "price"
    causes[name] += theirs - causes.get("negotiated", Decimal())
    # With both, the rollup does not tell which calls were valued by which.
    name = "price" if bool(others.bands) == others.has_changed else "price_band" if others.bands else "book_drift"
    causes[name] += own
    return causes


QUANTITY = ("missing_calls", "extra_calls", "bill_only", "telemetry_only")
"""Causes of which a line has one at most: tokens that only one side has."""


@dataclass(frozen=True)
class Apart:
    """A line within the lines of one model and period whose tokens may be in another class on the other side."""

    causes: dict[str, Decimal]
    more: Decimal
    """Tokens on the bill less ours."""


def split_mix(lines: Sequence[Apart]) -> list[dict[str, Decimal]]:
    """The causes of each line, where tokens that one class has more and another has less are `mix` instead of missing and extra calls.

    Of such lines together, volume is the net of their tokens at the mean price of those on the side that has more, and mix is the rest.
    By line: as many tokens as the other side offsets are mix, the same share of each line; quantised to 1E-20 USD, and volume is what is
    left, so that no line's sum changes. Without tokens in the other direction there is no mix.
    """
    with localcontext(_EXACT):
        more = sum((line.more for line in lines if line.more > 0), Decimal())
        less = -sum((line.more for line in lines if line.more < 0), Decimal())
        offset = min(more, less)
        return [_with_mix(line.causes, offset, more if line.more > 0 else less) if offset else line.causes for line in lines]


def _with_mix(causes: dict[str, Decimal], offset: Decimal, side: Decimal) -> dict[str, Decimal]:
    name = next((name for name in QUANTITY if name in causes), None)
    if name is None:
        return causes
    whole = causes[name]
    mix = whole if offset == side else (whole * offset / side).quantize(_FINEST, ROUND_HALF_EVEN)
    return _without_zeros(causes | {name: whole - mix, "mix": mix})


def _without_zeros(causes: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {name: amount for name, amount in causes.items() if amount}


def total(lines: Iterable[Mapping[str, Decimal]], rows: int, subunit: Decimal = CENT) -> dict[str, Decimal]:
    """Causes of all keys together, in the order of CAUSES.

    Rounding that exceeds what rounding can be is unexplained. Source of the limit: FOCUS 1.4, Invoice Detail BilledCost, tolerance
    max(100 x subunit, 0.5 x sqrt(rows) x subunit).
    """
    with localcontext(_EXACT):
        sums: dict[str, Decimal] = dict.fromkeys(CAUSES, Decimal())
        for causes in lines:
            for name, amount in causes.items():
                sums[name] += amount
        limit = max(100 * subunit, Decimal(math.isqrt(rows)) * subunit / 2)
        if abs(sums["rounding"]) > limit:
            sums["unexplained"] += sums["rounding"]
            sums["rounding"] = Decimal()
        return _without_zeros(sums)


def to_cents(amounts: Sequence[Decimal], whole: Decimal, subunit: Decimal = CENT) -> list[Decimal]:
    """Amounts in cents (yen, fils: `subunit`) that sum to `whole` (in them, too): largest remainder, earlier entries first on a tie."""
    with localcontext(_EXACT):
        floors = [amount.quantize(subunit, ROUND_FLOOR) for amount in amounts]
        missing = int((whole - sum(floors, Decimal())) / subunit)
        remainders = [amount - floor for amount, floor in zip(amounts, floors, strict=True)]
        order = sorted(range(len(amounts)), key=lambda index: (-remainders[index], index))
        while missing and order:
            step = 1 if missing > 0 else -1
            for index in order if step > 0 else reversed(order):
                if not missing:
                    break
                floors[index] += step * subunit
                missing -= step
        return floors


def cents(amount: Decimal, subunit: Decimal = CENT) -> Decimal:
    """As it is shown: in the smallest amount of its currency that is paid."""
    return amount.quantize(subunit, ROUND_HALF_EVEN, context=_EXACT)


@dataclass(frozen=True)
class Bar:
    """One bar of the bridge on a scale of 0 to 1000; it starts where the one above ended."""

    x: float
    width: float
    starts: float
    ends: float
    adds: bool


def bars(steps: Sequence[Decimal]) -> tuple[list[Bar], list[tuple[float, Decimal]]]:
    """The bars of a bridge and its ticks (position 0 to 100, amount)."""
    edges, running = [Decimal()], Decimal()
    for step in steps:
        running += step
        edges.append(running)
    low, high = min(edges), max(edges)
    span = high - low or Decimal(1)

    def at(value: Decimal) -> float:
        return float((value - low) / span * 1000)

    shapes = []
    for before, after in pairwise(edges):
        left = at(min(before, after))
        width = max(at(max(before, after)) - left, 3.0)
        shapes.append(Bar(min(left, 997.0), width, at(before), at(after), after >= before))
    return shapes, [(at(value) / 10, value) for value in _ticks(low, high)]


def _ticks(low: Decimal, high: Decimal) -> list[Decimal]:
    """Three to five round amounts within the span."""
    span = high - low
    if not span:
        return [low]
    step = Decimal(10) ** (span.adjusted())
    for factor in (Decimal("0.2"), Decimal("0.5"), Decimal(1), Decimal(2)):
        if span / (step * factor) <= 5:
            step *= factor
            break
    first = (low / step).to_integral_value(ROUND_FLOOR) * step
    ticks = [first + step * n for n in range(8)]
    return [tick for tick in ticks if low <= tick <= high]
