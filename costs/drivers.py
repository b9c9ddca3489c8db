"""Why spend is not what was expected, split so that the parts add up to the last digit. Pure.

Spend = calls × tokens per call × cost per token, and the cost of a token moves by the mix (which models and token classes) and by the
price book. The excess is split by the logarithmic mean: each factor gets L × ln(after / before) with L = excess / ln(actual / expected).
That leaves no remainder, does not depend on an order, and turns round with time. Source: B. W. Ang, "LMDI decomposition approach: a
guide for implementation", Energy Policy 86 (2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import log

CENT_PART = Decimal("0.000001")
CALLS, TOKENS_PER_CALL, MIX, PRICE = "calls", "tokens_per_call", "mix", "price"
NAMES = (CALLS, TOKENS_PER_CALL, MIX, PRICE)
LABELS = {CALLS: "Calls", TOKENS_PER_CALL: "Tokens per call", MIX: "Models and token classes", PRICE: "Prices"}


@dataclass(frozen=True)
class Figures:
    """Of one scope over some time."""

    cost: float
    """USD of priced calls."""
    calls: float
    tokens: float


def split(*, expected: Decimal, actual: Decimal, before: Figures, after: Figures, price_ratio: float = 1.0) -> list[tuple[str, Decimal]]:
    """Parts of actual - expected by driver, in the order of NAMES, rounded to a millionth of a dollar and summing exactly.

    `before` is the time that the expectation comes from, of any length: only its ratios count. `price_ratio` is what `after` cost over
    what it would have cost at the prices of `before`. Where a factor has no ratio (nothing before, or nothing now), all of it is calls.
    """
    excess = actual - expected
    known = (float(expected), float(actual), before.cost, before.calls, before.tokens, after.cost, after.calls, after.tokens, price_ratio)
    if min(known) <= 0:
        return [(name, excess if name == CALLS else Decimal(0)) for name in NAMES]
    scale = float(expected) / before.cost
    ratios = {
        CALLS: after.calls / (before.calls * scale),
        TOKENS_PER_CALL: (after.tokens / after.calls) / (before.tokens / before.calls),
        PRICE: price_ratio,
    }
    ratios[MIX] = float(actual) / float(expected) / (ratios[CALLS] * ratios[TOKENS_PER_CALL] * price_ratio)
    whole = log(float(actual) / float(expected))
    mean = float(excess) / whole if whole else float(actual)
    parts = {name: Decimal(mean * log(ratios[name])).quantize(CENT_PART) for name in NAMES}
    largest = max(NAMES, key=lambda name: abs(parts[name]))
    parts[largest] += excess - sum(parts.values())
    return [(name, parts[name]) for name in NAMES]
