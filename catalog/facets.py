"""Facets of a list of models: what can be chosen, and how many models each choice would leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.models import QuerySet

from catalog import selectors
from catalog.filters import ModelFilter
from catalog.forms.models import CAPABILITY_WORDS
from catalog.hooks import Price
from catalog.models import Model

CONTEXTS = (32_000, 128_000, 200_000, 1_000_000)
"""Tokens, at least."""
OUTPUT_PRICES = (1, 5, 15)
"""USD per million output tokens, at most."""
LABELS = {
    "capability": "Can do", "provider": "Provider", "region": "Region", "sensitivity": "Data up to", "context": "Context",
    "price": "Output $/M", "tag": "Tag", "status": "Status",
}  # fmt: skip


@dataclass(frozen=True)
class Facet:
    """One select of the filter."""

    name: str
    label: str
    options: dict[str, str]
    """Value to its words with the number of models; the empty value first."""


def facets(models: QuerySet[Model], chosen: Mapping[str, str], names: Iterable[str]) -> list[Facet]:
    """For each name its values among the models that fit everything else that is chosen. Facets that tell nothing apart are left out.

    Asks the database once for the models, their deployments and prices, and once for each facet that is chosen.
    """
    everything = list(models)
    prices = selectors.list_prices(everything)
    held = {model.pk: _values(model, prices.get(model.pk)) for model in everything}
    words = _words(everything)
    fitting = _fitting(models, chosen)
    found = []
    for name in names:
        counts: Counter[str] = Counter()
        picked = chosen.get(name, "")
        others = _fitting(models, {**chosen, name: ""}) if picked else fitting
        for pk in others:
            counts.update(held[pk][name])
        known = [value for value in words[name] if counts[value] or value == picked]
        if picked and picked not in known:
            known.append(picked)
        if picked or any(counts[value] < len(others) for value in known):
            options = {value: f"{words[name].get(value, value)} ({counts[value]})" for value in known}
            found.append(Facet(name, LABELS[name], {"": "any", **options}))
    return found


def _fitting(models: QuerySet[Model], chosen: Mapping[str, str]) -> set[int]:
    return set(ModelFilter(chosen, queryset=models).qs.order_by().values_list("pk", flat=True))


def _values(model: Model, price: Price | None) -> dict[str, set[str]]:
    deployments = model.deployments.all()
    return {
        "capability": set(model.capabilities),
        "provider": {one.provider.slug for one in deployments},
        "region": {one.provider.region for one in deployments if one.provider.region},
        "sensitivity": {model.data_sensitivity},
        "context": {str(least) for least in CONTEXTS if model.context_window and model.context_window >= least},
        "price": {str(most) for most in OUTPUT_PRICES if price and price.output_per_million <= most},
        "tag": {f"{name}={value}" for name, value in model.tags.items()},
        "status": {model.status},
    }


def _words(models: Iterable[Model]) -> dict[str, dict[str, str]]:
    """For each facet its values in the order of the select."""
    tags = sorted({f"{name}={value}" for model in models for name, value in model.tags.items()})
    providers = {one.provider.slug: one.provider for model in models for one in model.deployments.all()}
    return {
        "capability": CAPABILITY_WORDS,
        "provider": {slug: one.name for slug, one in sorted(providers.items(), key=lambda item: item[1].name.casefold())},
        "region": {region: region for region in sorted({one.region for one in providers.values() if one.region})},
        "sensitivity": dict(Model.Sensitivity.choices),
        "context": {str(least): f"≥ {least // 1000}K" if least < 1_000_000 else "≥ 1M" for least in CONTEXTS},
        "price": {str(most): f"≤ ${most}" for most in OUTPUT_PRICES},
        "tag": {tag: tag for tag in tags},
        "status": dict(Model.Status.choices),
    }
