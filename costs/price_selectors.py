"""The price book as it may be seen: prices in force, what has none, proposals."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.db import connection
from django.db.models import Count, Max, Min, Q, QuerySet, Sum
from django.utils import timezone

from catalog.hooks import Price
from costs import bill_selectors
from costs.models import (
    PriceEntry,
    PriceProposal,
    PriceSheet,
    ServiceTier,
    TokenClass,
    UsageHour,
)
from costs.models.price import MOST_MODEL, MOST_PROVIDER
from costs.periods import Period


def current_prices(at: datetime | None = None) -> dict[tuple[str, str], Price]:
    """(provider slug, model slug) to its prices in force; pairs that lack one for input or output are missing."""
    at = at or timezone.now()
    found: dict[tuple[str, str], dict[str, Decimal]] = defaultdict(dict)
    in_force = (
        PriceEntry.objects.usual()
        .filter(valid_from__lte=at)
        .exclude(token_class__in=[TokenClass.CACHED_INPUT, TokenClass.CACHE_WRITE])
        .filter(Q(valid_to=None) | Q(valid_to__gt=at))
    )
    for provider, model, token_class, price in in_force.values_list("provider", "model", "token_class", "price"):
        found[provider, model][token_class] = price
    usual = {TokenClass.INPUT.value, TokenClass.OUTPUT.value}
    return {
        pair: Price(prices["input"], prices["output"], {name: price for name, price in prices.items() if name not in usual})
        for pair, prices in found.items()
        if usual <= set(prices)
    }


@dataclass(frozen=True)
class ModelPrices:
    """All prices of one provider's model, newest first within each class, tier, region and band."""

    provider: str
    model: str
    series: list[tuple[str, list[PriceEntry]]]


def price_book(query: str = "") -> list[ModelPrices]:
    entries = PriceEntry.objects.select_related("approved_by").order_by("-valid_from")
    if query:
        entries = entries.filter(Q(model__icontains=query) | Q(provider__icontains=query))
    classes, tiers = list(TokenClass.values), list(ServiceTier.values)

    def place(entry: PriceEntry) -> tuple[Any, ...]:
        return (
            entry.provider, entry.model, tiers.index(entry.service_tier), entry.region, entry.context_over, classes.index(entry.token_class)
        )  # fmt: skip

    book = []
    for (provider, model), entries_of in groupby(sorted(entries, key=place), key=lambda entry: (entry.provider, entry.model)):
        series = [list(found) for _, found in groupby(entries_of, key=place)]
        book.append(ModelPrices(provider, model, [(found[0].series_label, found) for found in series]))
    return book


@dataclass(frozen=True)
class Priceable:
    """What a price may be set for: the catalog's, and what calls came with that nobody registered, as their telemetry names it."""

    providers: dict[str, str]
    """Slug to name."""
    models: list[str]


def priceable() -> Priceable:
    """With what is in the book already, so that it can be changed after nothing waits any more."""
    waiting = UsageHour.objects.filter(unpriced_calls__gt=0).order_by().values_list("provider", "model").distinct()
    pairs = {pair for pair in waiting if fits_the_book(*pair)} | set(
        PriceEntry.objects.order_by().values_list("provider", "model").distinct()
    )
    registered, models = bill_selectors.provider_choices(), bill_selectors.model_choices()
    others = sorted({provider for provider, _ in pairs} - set(registered))
    providers = registered | {provider: f"{provider}, not in the catalog" for provider in others}
    return Priceable(providers, models + sorted({model for _, model in pairs} - set(models)))


def fits_the_book(provider: str, model: str) -> bool:
    """Telemetry may name neither, or give longer names than a price has room for."""
    return 0 < len(provider) <= MOST_PROVIDER and 0 < len(model) <= MOST_MODEL


@dataclass(frozen=True)
class Unpriced:
    """Calls of a model that have no price yet."""

    provider: str
    model: str
    calls: int
    since: datetime
    last: datetime
    tiers: list[str]
    """Service tiers of the newest of them: a tier may lack what the usual one has. Empty where the tokens are unknown."""
    units: list[str]
    """Labels of the token classes beside the usual ones that the newest of them used: each needs a price of its own."""

    @property
    def can_have_price(self) -> bool:
        """Of tokens that nobody counted no price makes money."""
        return bool(self.tiers) and fits_the_book(self.provider, self.model)


def unpriced(period: Period | None = None) -> list[Unpriced]:
    """By provider and model, most calls first."""
    hours = UsageHour.objects.filter(unpriced_calls__gt=0)
    if period is not None:
        hours = hours.filter(hour__gte=period.start, hour__lt=period.end)
    rows = (
        hours.values("provider", "model")
        .annotate(calls=Sum("unpriced_calls"), since=Min("hour"), last=Max("last_event_at"))
        .order_by("-calls", "model")
    )
    found = list(rows)
    waiting = _waiting_for([(row["provider"], row["model"]) for row in found])
    return [
        Unpriced(**row, tiers=tiers, units=units)
        for row in found
        for tiers, units in [waiting.get((row["provider"], row["model"]), ([], []))]
    ]


_WAITING = """
SELECT m.provider, m.model, array_agg(DISTINCT n.service_tier), array_agg(DISTINCT u.name) FILTER (WHERE u.name IS NOT NULL)
FROM unnest(%(providers)s::text[], %(models)s::text[]) m(provider, model) CROSS JOIN LATERAL (
    SELECT service_tier, units FROM event e
    WHERE pricing = 'unpriced' AND e.provider = m.provider AND e.model = m.model AND NOT (uncached_input_tokens IS NULL AND output_tokens IS NULL)
    ORDER BY started_at DESC LIMIT 500
) n LEFT JOIN LATERAL jsonb_object_keys(n.units) u(name) ON true GROUP BY 1, 2
"""


def _waiting_for(models: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
    """A glance at the newest unpriced calls of each provider and model, by their index; the rollup does not know tiers and units."""
    if not models:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, {"providers": [provider for provider, _ in models], "models": [model for _, model in models]})
        found = cursor.fetchall()
    labels = dict(TokenClass.choices)
    return {(provider, model): (tiers, [str(labels.get(name, name)) for name in units or ()]) for provider, model, tiers, units in found}


def price_proposals(status: str = "") -> QuerySet[PriceProposal]:
    """Newest first; with `status` only those."""
    found = PriceProposal.objects.select_related("sheet__proposed_by", "decided_by").order_by("-pk")
    return found.filter(status=status) if status else found


@dataclass(frozen=True)
class FeedReading:
    """What came of one reading of a price feed."""

    sheet: PriceSheet
    new: int
    """Prices that the book did not have."""
    changed: int


def last_feed_reading() -> FeedReading | None:
    sheet = PriceSheet.objects.filter(kind=PriceSheet.Kind.FEED).select_related("proposed_by").order_by("-proposed_at", "-pk").first()
    if sheet is None:
        return None
    counts = sheet.proposals.aggregate(new=Count("pk", filter=Q(before=None)), changed=Count("pk", filter=Q(before__isnull=False)))
    return FeedReading(sheet, **counts)


def price_proposal_counts() -> dict[str, int]:
    """Status to how many."""
    return dict(PriceProposal.objects.order_by().values_list("status").annotate(n=Count("pk")))
