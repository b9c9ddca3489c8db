"""Prices that somebody quotes in another currency than the book's: exact, converted once, at a rate that stays with the price. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal

from costs import exchange

EXACT = Context(prec=60)
_FINEST = Decimal("1E-8")
"""USD per million tokens; the scale of the book."""


@dataclass(frozen=True)
class Quote:
    """What stands in the contract, and the rate that makes it a price of the book."""

    currency: str
    amount: Decimal
    """Per million tokens, or calls of a tool."""
    rate: Decimal
    """Units of the currency for one USD."""
    rate_on: date
    """Day that the rate is of."""

    @property
    def usd(self) -> Decimal:
        """What calls are priced by: rounded to the scale of the book once, half even."""
        return EXACT.divide(self.amount, self.rate).quantize(_FINEST, ROUND_HALF_EVEN, context=EXACT)

    def less(self, percent: Decimal) -> Quote:
        """With a discount, at the same rate."""
        amount = (self.amount * (100 - percent) / 100).quantize(_FINEST, ROUND_HALF_EVEN, context=EXACT)
        return Quote(self.currency, amount, self.rate, self.rate_on)

    @property
    def columns(self) -> dict[str, object]:
        """Of the tables that have a `Quoted` price."""
        return {"currency": self.currency, "quoted": self.amount, "rate": self.rate, "rate_on": self.rate_on}


USD: dict[str, object] = {"currency": exchange.BOOK, "quoted": None, "rate": None, "rate_on": None}
"""The columns of a price that is quoted in the book's own currency."""
