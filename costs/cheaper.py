"""Models that could do the same for less: equal by what the catalog says, cheaper by the price book. Pure.

Equal means: served (not deprecated), every capability, at least the context window and the output limit, allowed for data as sensitive, of the
same environment and feature class. The estimate takes the same tokens at the input and output prices in force, cached ones as input on
both sides, and of each model its cheapest provider. It knows nothing of quality, nor of how many tokens another model would take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from catalog.hooks import Price
from catalog.models import Model

LEAST_PERCENT = 10
"""A smaller difference is not worth a change."""
_MILLION = Decimal(1_000_000)
_SENSITIVITY = tuple(Model.Sensitivity.values)


@dataclass(frozen=True)
class Used:
    """Tokens of a period that went to one model."""

    input_tokens: int
    """Cached ones included."""
    output_tokens: int


@dataclass(frozen=True)
class Hint:
    """Another model for the same tokens, USD."""

    model: str
    instead: str
    present: Decimal
    """What the tokens cost at the present model's prices in force."""
    then: Decimal

    @property
    def saved(self) -> Decimal:
        return self.present - self.then

    @property
    def percent(self) -> Decimal:
        return self.saved / self.present * 100


def hints(used: Mapping[str, Used], models: Iterable[Model], prices: Mapping[tuple[str, str], Price]) -> list[Hint]:
    """The cheapest equal model for each used one that has one, most money first. `models` have their deployments prefetched."""
    known = {model.slug: model for model in models}
    found = []
    for slug, tokens in used.items():
        own = known.get(slug)
        present = _cost(own, tokens, prices) if own else None
        if own is None or not present:
            continue
        costs = [
            (cost, other.slug) for other in known.values() if is_equal(own, other) and (cost := _cost(other, tokens, prices)) is not None
        ]
        cheapest = min(costs, default=None)
        if cheapest and present - cheapest[0] >= present * LEAST_PERCENT / 100:
            found.append(Hint(slug, cheapest[1], present, cheapest[0]))
    return sorted(found, key=lambda hint: (-hint.saved, hint.model))


def is_equal(own: Model, other: Model) -> bool:
    return (
        other.slug != own.slug
        and other.status == Model.Status.APPROVED
        and set(own.capabilities) <= set(other.capabilities)
        and (own.context_window is None or (other.context_window or 0) >= own.context_window)
        and other.max_output_tokens >= own.max_output_tokens
        and _SENSITIVITY.index(other.data_sensitivity) >= _SENSITIVITY.index(own.data_sensitivity)
        and (other.environment, other.feature_class) == (own.environment, own.feature_class)
    )


def _cost(model: Model, tokens: Used, prices: Mapping[tuple[str, str], Price]) -> Decimal | None:
    """USD at the cheapest provider that serves it; None without a price."""
    providers = {deployment.provider.slug for deployment in model.deployments.all() if deployment.is_enabled}
    costs = [
        (price.input_per_million * tokens.input_tokens + price.output_per_million * tokens.output_tokens) / _MILLION
        for provider in providers
        if (price := prices.get((provider, model.slug)))
    ]
    return min(costs, default=None)
