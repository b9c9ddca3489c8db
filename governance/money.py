"""How far currencies are divided. Pure."""

from __future__ import annotations

from decimal import Decimal

_DECIMALS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
"""Of ISO 4217, where it is not two."""


def subunit(currency: str) -> Decimal:
    """The smallest amount of it that is paid: a cent, a yen, a fils."""
    return Decimal(1).scaleb(-_DECIMALS.get(currency, 2))
