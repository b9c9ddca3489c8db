"""How a model's calls are led among its deployments: what is known of each, what came of it by day, and what other weights would do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from django.utils import timezone

from catalog.hooks import Price, RoutedDay, Traffic, cost_figures
from catalog.models import Deployment, Model, RoutingObjectives
from gateway.contract.routing import Objectives, parts_of, utilities

SHOWN_DAYS = 30
PREVIEWED = timedelta(hours=24)


def objectives_of(model: Model) -> Objectives | None:
    """As the planes have them; None while calls are shared by weight at random. Needs `objectives` of the model."""
    try:
        stored = model.objectives
    except RoutingObjectives.DoesNotExist:
        return None
    return Objectives(cost=stored.cost, latency=stored.latency, quality=stored.quality, explore=stored.explore_percent / 100)


@dataclass(frozen=True)
class Candidate:
    """One deployment as the preview knows it: averages of the last 24 hours."""

    deployment: Deployment
    cost_usd: Decimal | None
    """Of an average call; None without a price or without calls."""
    latency_ms: float | None
    """Median of its answers."""
    calls: int
    share: float
    """Percent of all calls."""
    would_share: float
    """Percent that would have come here."""


@dataclass(frozen=True)
class Preview:
    """What the weights would have made of the calls of the last 24 hours."""

    calls: int
    """That ended at one of the candidates."""
    candidates: list[Candidate]
    """Of the first priority; others get calls only when these are ill."""
    cost_usd: Decimal | None
    """Of these calls as they went, each at the average number of tokens; None while a candidate that got calls has no price."""
    would_cost_usd: Decimal | None
    latency_ms: float | None
    """Mean of the hourly medians, by calls."""
    would_latency_ms: float | None
    unknown: list[str]
    """What the preview does not know; it counts half the best."""


@dataclass(frozen=True)
class Routing:
    """Everything that the page shows beside the form."""

    days: list[RoutedDay]
    """Newest first; days without a choice are missing."""

    @property
    def calls(self) -> int:
        return sum(day.calls for day in self.days)

    @property
    def regret_percent(self) -> float | None:
        """Mean of all calls whose regret is known."""
        judged = sum(day.judged for day in self.days)
        return sum(day.regret_percent * day.judged for day in self.days if day.regret_percent is not None) / judged if judged else None

    @property
    def explored_percent(self) -> float | None:
        return 100 * sum(day.explored for day in self.days) / self.calls if self.calls else None


def routing(model: Model) -> Routing:
    """Of the last 30 days."""
    since = timezone.now().astimezone(UTC).date() - timedelta(days=SHOWN_DAYS - 1)
    return Routing(cost_figures().routed_days(model.slug, datetime.combine(since, time(), UTC)))


def first_choice(model: Model) -> list[Deployment]:
    """The deployments that calls are led among as long as they are healthy."""
    enabled = [each for each in model.deployments.all() if each.is_enabled and each.weight > 0]
    first = min((each.priority for each in enabled), default=0)
    return [each for each in enabled if each.priority == first]


def preview(model: Model, objectives: Objectives) -> Preview:
    """Hour by hour the best candidate gets the calls, except those that explore, which are shared by weight.

    A model of what would have happened: an hour's medians stand for its calls, every call has the average number of tokens, and a
    deployment that would have got more calls is taken to stay as fast as it was.
    """
    found = first_choice(model)
    traffic = cost_figures().traffic_by_deployment(model.slug, timezone.now() - PREVIEWED)
    prices = cost_figures().current_prices()
    costs = [_cost(prices.get((each.provider.slug, model.slug)), traffic) for each in found]
    medians = [traffic.medians_ms.get(str(each.pk)) for each in found]
    went, would = [0.0] * len(found), [0.0] * len(found)
    slow = would_slow = 0.0
    for calls, hourly in _by_hour(found, traffic):
        # An hour in which a candidate had no call takes its median of the whole time.
        latencies = [median if latency is None else latency for latency, median in zip(hourly, medians, strict=True)]
        shares = _shares(objectives, found, costs, latencies)
        hour = sum(calls)
        went = [before + count for before, count in zip(went, calls, strict=True)]
        would = [before + hour * share for before, share in zip(would, shares, strict=True)]
        slow += sum(count * (latency or 0) for count, latency in zip(calls, latencies, strict=True))
        would_slow += sum(hour * share * (latency or 0) for share, latency in zip(shares, latencies, strict=True))
    total = sum(went)
    return Preview(
        round(total),
        [
            Candidate(each, cost, median, round(calls), 100 * calls / total if total else 0.0, 100 * led / total if total else 0.0)
            for each, cost, median, calls, led in zip(found, costs, medians, went, would, strict=True)
        ],
        _sum(costs, went),
        _sum(costs, would),
        _mean(slow, went, medians),
        _mean(would_slow, would, medians),
        _unknown(objectives, found, costs, medians),
    )


def _by_hour(found: Sequence[Deployment], traffic: Traffic) -> list[tuple[list[int], list[float | None]]]:
    """For each hour with calls, by candidate: calls, and median in milliseconds."""
    index_of = {str(each.pk): index for index, each in enumerate(found)}
    rows: dict[datetime, tuple[list[int], list[float | None]]] = defaultdict(lambda: ([0] * len(found), [None] * len(found)))
    for hour in traffic.hours:
        if hour.deployment in index_of:
            calls, latencies = rows[hour.hour]
            calls[index_of[hour.deployment]], latencies[index_of[hour.deployment]] = hour.calls, hour.median_ms
    return list(rows.values())


def _shares(
    objectives: Objectives, found: Sequence[Deployment], costs: Sequence[Decimal | None], latencies: Sequence[float | None]
) -> list[float]:
    """Of an hour's calls, by candidate."""
    qualities = [None if each.quality is None else float(each.quality) for each in found]
    judged = utilities(objectives, parts_of([None if cost is None else float(cost) for cost in costs], latencies, qualities))
    best = max(judged)
    weights = sum(each.weight for each in found)
    tied = sum(each.weight for each, utility in zip(found, judged, strict=True) if utility == best)
    return [
        objectives.explore * each.weight / weights + (1 - objectives.explore) * (each.weight / tied if utility == best else 0.0)
        for each, utility in zip(found, judged, strict=True)
    ]


def _cost(price: Price | None, traffic: Traffic) -> Decimal | None:
    if price is None or traffic.input_tokens is None or traffic.output_tokens is None:
        return None
    used = price.input_per_million * Decimal(traffic.input_tokens) + price.output_per_million * Decimal(traffic.output_tokens)
    return used / 10**6


def _sum(costs: Sequence[Decimal | None], calls: Sequence[float]) -> Decimal | None:
    if any(count and cost is None for cost, count in zip(costs, calls, strict=True)) or not any(calls):
        return None
    return sum((cost * Decimal(count) for cost, count in zip(costs, calls, strict=True) if cost is not None), Decimal())


def _mean(slow_ms: float, calls: Sequence[float], medians: Sequence[float | None]) -> float | None:
    """None while a deployment that gets calls has never answered."""
    if not any(calls) or any(count and median is None for count, median in zip(calls, medians, strict=True)):
        return None
    return slow_ms / sum(calls)


def _unknown(
    objectives: Objectives, found: Sequence[Deployment], costs: Sequence[Decimal | None], medians: Sequence[float | None]
) -> list[str]:
    lines = []
    for each, cost, median in zip(found, costs, medians, strict=True):
        missing = [
            name
            for name, is_missing in (
                ("price", objectives.cost and cost is None),
                ("latency", objectives.latency and median is None),
                ("quality", objectives.quality and each.quality is None),
            )
            if is_missing
        ]
        if missing:
            lines.append(f"{each}: {' and '.join(missing)}")
    return lines
