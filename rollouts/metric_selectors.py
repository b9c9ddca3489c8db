"""The registered metrics with their values, and what is bound to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from governance import metrics
from rollouts import plans, wording
from rollouts.models import Criterion, Gate, Rollout
from rollouts.services.evidence import read_metric

METRIC_DAYS = 7
"""The window of the values."""


@dataclass(frozen=True)
class MetricRow:
    metric: metrics.Metric
    reading: dict[str, Any]
    window_days: int
    rules: Sequence[Criterion]
    """Criteria of open gates that are bound to it."""
    plans: Sequence[tuple[str, str, str]]
    """Plan title, criterion title and rule, for every binding in the plans."""

    @property
    def verdict(self) -> str:
        return "error" if self.reading["error"] else "no_data" if self.reading["value"] is None else ""


@dataclass(frozen=True)
class MetricUse:
    """What metrics are bound to."""

    rules: Mapping[str, Sequence[Criterion]]
    """Of open gates, by metric."""
    plans: Mapping[str, Sequence[tuple[str, str, str]]]
    """(plan, criterion, rule), by metric."""

    def chosen(self, use: str, query: str = "") -> list[metrics.Metric]:
        """Metrics that decide an open gate now (`deciding`), that a plan asks for (`planned`) or that nothing uses (`unused`), with all words
        of `query` in what is said of them."""
        words = query.lower().split()
        said = ((metric, f"{metric.key} {metric.title} {metric.description}".lower()) for metric in metrics.all_metrics())
        return [metric for metric, text in said if self._is(metric.key, use) and all(word in text for word in words)]

    def _is(self, key: str, use: str) -> bool:
        decides, planned = key in self.rules, key in self.plans
        return {"deciding": decides, "planned": planned, "unused": not decides and not planned}.get(use, True)


def metric_use() -> MetricUse:
    """By one question, however many metrics there are."""
    rules: dict[str, list[Criterion]] = {}
    criteria = Criterion.objects.filter(
        kind=Criterion.Kind.METRIC, gate__status__in=[Gate.Status.OPEN, Gate.Status.REJECTED], gate__rollout__status=Rollout.Status.RUNNING
    )
    for criterion in criteria.select_related("gate", "gate__rollout").defer("gate__rollout__plan"):
        rules.setdefault(criterion.metric, []).append(criterion)
    planned: dict[str, list[tuple[str, str, str]]] = {}
    for plan in plans.all_plans():
        for planned_criterion in plans.criteria_of(plan):
            if planned_criterion.rule is not None:
                text = wording.rule(planned_criterion.rule.operator, planned_criterion.rule.threshold, planned_criterion.rule.unit)
                planned.setdefault(planned_criterion.rule.metric, []).append((plan.title, planned_criterion.title, text))
    return MetricUse(rules, planned)


def metric_rows(*, now: datetime, use: MetricUse, chosen: Iterable[metrics.Metric]) -> list[MetricRow]:
    """These metrics with their values over the last days, which are read one by one, and what is bound to them."""
    window = metrics.Window(now - timedelta(days=METRIC_DAYS), now)
    return [
        MetricRow(metric, read_metric(metric.key, window), METRIC_DAYS, use.rules.get(metric.key, []), use.plans.get(metric.key, []))
        for metric in chosen
    ]
