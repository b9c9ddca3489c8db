"""How a model is used, and how often its deployments failed: for its page and the API. Reads rollups only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg
from django.db import connection
from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import TruncDate, TruncDay, TruncHour
from django.utils import timezone

from catalog.hooks import Failovers, Tries
from catalog.models import VirtualKey
from costs import selectors, sketch
from costs.models import CallHour, UsageHour, VerdictHour
from costs.models.rollup import INPUT_TOKENS, known_cost
from costs.periods import Span, hour_of

GROUPS = {"project": "Project", "agent": "Agent", "key": "Key", "provider": "Provider"}
OUTCOMES = {"ok": "OK", "refused": "Refused", "error": "Failed or left"}
MEASURES = {"calls": "Requests", "cost": "Cost", "tokens": "Tokens", "failed": "Failed requests"}
CHOICES_SHOWN = 200
CHOICES_FROM = timedelta(days=90)
NOT_ASKED = ["quota", "not translated"]
"""Why the gateway went on from a deployment without a try there, see `gateway.plane.upstream.exchange`."""


# What the catalog asks


def failovers(model: str, since: date) -> list[Failovers]:
    """By UTC day and reason, newest day first, within it the most frequent reason."""
    rows = (
        VerdictHour.objects.filter(step=f"failover:{model}"[:160], hour__gte=datetime.combine(since, time(), UTC))
        .values_list(TruncDate("hour", tzinfo=UTC), "verdict")
        .annotate(n=Sum("calls"))
    )
    return sorted((Failovers(*row) for row in rows), key=lambda row: (-row.day.toordinal(), -row.calls, row.reason))


def tries_by_deployment(models: Iterable[str], since: datetime) -> dict[str, Tries]:
    """How tries went since the hour of `since`. Two queries."""
    hour = hour_of(since)
    models = list(models)
    left: dict[str, dict[str, int]] = defaultdict(dict)
    failovers = VerdictHour.objects.filter(hour__gte=hour, step__in=[f"failover:{model}"[:160] for model in models])
    failovers = failovers.exclude(found="").exclude(verdict__in=NOT_ASKED)
    for deployment, reason, n in failovers.values_list("found", "verdict").annotate(n=Sum("calls")).order_by("-n", "verdict"):
        left[deployment][reason] = n
    rows = CallHour.objects.filter(hour__gte=hour, model__in=models, status__in=["ok", "upstream_error"]).exclude(deployment="")
    counted = rows.values_list("deployment").annotate(
        answered=Sum("calls", filter=Q(status="ok"), default=0), failed=Sum("calls", filter=Q(status="upstream_error"), default=0)
    )
    ended = {deployment: (answered, failed) for deployment, answered, failed in counted}
    return {deployment: Tries(*ended.get(deployment, (0, 0)), left.get(deployment, {})) for deployment in ended.keys() | left.keys()}


# Usage


@dataclass
class Figures:
    """Of some calls. Distributions are bucket of `costs.sketch` to calls that are OK."""

    calls: int = 0
    refused: int = 0
    failed: int = 0
    left: int = 0
    """The caller hung up: no fault of the model."""
    input_tokens: int = 0
    """Cached ones included."""
    output_tokens: int = 0
    priced_usd: Decimal = Decimal()
    unpriced_calls: int = 0
    durations: Counter[int] = field(default_factory=Counter)
    ttfts: Counter[int] = field(default_factory=Counter)
    cache_hits: int = 0
    cache_misses: int = 0

    def add(self, other: Figures) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def cost_usd(self) -> Decimal | None:
        return known_cost(self.priced_usd, self.unpriced_calls)

    @property
    def cost_per_call(self) -> Decimal | None:
        """USD over the served calls that have a price; None when there is none."""
        served = self.calls - self.refused - self.unpriced_calls
        return self.priced_usd / served if served > 0 else None

    @property
    def error_percent(self) -> float | None:
        """Of the calls that were not refused."""
        served = self.calls - self.refused
        return 100 * self.failed / served if served > 0 else None

    @property
    def cache_percent(self) -> float | None:
        """Of the calls that were looked up."""
        looked_up = self.cache_hits + self.cache_misses
        return 100 * self.cache_hits / looked_up if looked_up else None

    @property
    def p50_ms(self) -> float | None:
        return sketch.quantile_ms(self.durations, 0.5)

    @property
    def p95_ms(self) -> float | None:
        return sketch.quantile_ms(self.durations, 0.95)

    @property
    def ttft_ms(self) -> float | None:
        """Median."""
        return sketch.quantile_ms(self.ttfts, 0.5)


@dataclass(frozen=True)
class UsageLine:
    """One value of the grouping."""

    value: str
    """In the URL; `(none)` where the dimension is not known."""
    label: str
    figures: Figures

    @property
    def is_unknown(self) -> bool:
        return self.value == selectors.NONE


@dataclass(frozen=True)
class ErrorLine:
    """Calls that were refused or failed, by code."""

    status: str
    code: str
    """Empty for calls without one."""
    calls: int
    share: float
    """Percent of all calls."""

    @property
    def label(self) -> str:
        return selectors.STATUSES.get(self.status, self.status)


@dataclass(frozen=True)
class ModelUsage:
    """Everything that the page shows of one span, filter and grouping."""

    model: str
    span: Span
    group: str
    measure: str
    total: Figures
    lines: list[UsageLine]
    """Costly ones first."""
    by_bucket: dict[datetime, dict[str, Decimal]]
    """Start of the hour or day to line value to the measure; buckets without calls are missing."""
    errors: list[ErrorLine]
    """Frequent ones first."""
    complete_through: datetime


def model_usage(
    model: str, span: Span, group: str, chosen: Mapping[str, str], *, measure: str = "calls", keys: Iterable[str] | None = None
) -> ModelUsage:
    """How a model was used by `group` (of GROUPS), narrowed by `chosen` (GROUPS and `outcome`); `keys` limits it to these key ids.

    At most seven queries over hourly rollups, keys and the inbox, however much there is.
    """
    keys = None if keys is None else list(keys)
    figures: dict[str, Figures] = defaultdict(Figures)
    by_bucket: dict[datetime, dict[str, Decimal]] = defaultdict(dict)
    for bucket, value, own in _usage_rows(model, span, group, chosen, keys):
        figures[value].add(own)
        by_bucket[bucket][value or selectors.NONE] = measured(own, measure)
    errors = _add_how_they_went(figures, _calls(model, span, chosen, keys), group)
    total = Figures()
    for own in figures.values():
        total.add(own)
    labels = _key_labels(figures) if group == "key" else {}
    lines = [
        UsageLine(value or selectors.NONE, labels.get(value, value) or selectors.UNKNOWN[group], own) for value, own in figures.items()
    ]
    lines.sort(key=lambda line: (-line.figures.priced_usd, -line.figures.calls, line.label))
    found = [ErrorLine(status, code, calls, 100 * calls / total.calls) for (status, code), calls in errors.most_common() if total.calls]
    return ModelUsage(model, span, group, measure, total, lines, dict(by_bucket), found, selectors.complete_through())


def usage_by_bucket(
    model: str, span: Span, group: str, chosen: Mapping[str, str], *, keys: Iterable[str] | None = None
) -> list[tuple[Any, ...]]:
    """For a CSV: start of the hour or day, name, calls, refused, failed, unpriced, tokens in and out, USD, left by the caller."""
    rows = sorted(_usage_rows(model, span, group, chosen, None if keys is None else list(keys)), key=lambda row: row[:2])
    labels = _key_labels({value for _, value, _ in rows}) if group == "key" else {}
    return [
        (
            f"{bucket:%Y-%m-%dT%H:%MZ}" if span.is_by_hour else bucket.date(),
            labels.get(value, value) or selectors.UNKNOWN[group],
            own.calls,
            own.refused,
            own.failed,
            own.unpriced_calls,
            own.input_tokens,
            own.output_tokens,
            own.cost_usd,
            own.left,
        )
        for bucket, value, own in rows
    ]


def measured(figures: Figures, measure: str) -> Decimal:
    """One of MEASURES as a number for a chart."""
    return figures.priced_usd if measure == "cost" else Decimal(getattr(figures, measure))


def filter_choices(model: str, *, keys: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
    """For each of GROUPS the values of the last 90 days with their labels, the first 200. Two queries."""
    hours = UsageHour.objects.filter(model=model, hour__gte=timezone.now() - CHOICES_FROM)
    if keys is not None:
        hours = hours.filter(key_id__in=list(keys))
    values = hours.aggregate(**{f"of_{name}": ArrayAgg(selectors.FILTERS[name], distinct=True, default=[]) for name in GROUPS})
    labels = _key_labels(values["of_key"])
    return {
        name: {
            value or selectors.NONE: labels.get(value, value) or selectors.UNKNOWN[name]
            for value in sorted(values[f"of_{name}"])[:CHOICES_SHOWN]
        }
        for name in GROUPS
    }


def _usage_rows(
    model: str, span: Span, group: str, chosen: Mapping[str, str], keys: list[str] | None
) -> list[tuple[datetime, str, Figures]]:
    """Bucket, value of the grouping (empty when it is not known) and figures; the distributions are not in them."""
    hours = selectors.only(UsageHour.objects.filter(model=model, hour__gte=span.start, hour__lt=span.end), chosen).exclude(kind="tool")
    if chosen.get("outcome"):
        hours = hours.filter(outcome=chosen["outcome"])
    if keys is not None:
        hours = hours.filter(key_id__in=keys)
    bucket_and_value = (TruncHour if span.is_by_hour else TruncDay)("hour", tzinfo=UTC), selectors.FILTERS[group]
    rows = hours.values_list(*bucket_and_value).annotate(
        n_calls=Sum("calls"),
        n_refused=Sum("calls", filter=Q(outcome="refused"), default=0),
        n_not_answered=Sum("calls", filter=Q(outcome="error"), default=0),
        n_input=Sum(INPUT_TOKENS),
        n_output=Sum("output_tokens"),
        n_cost=Sum("cost"),
        n_unpriced=Sum("unpriced_calls"),
    )
    # Who left is told by the rollup of how calls went; this one counts them among those that were not answered.
    gone = _calls(model, span, chosen, keys).filter(status="client_gone").values_list(*bucket_and_value).annotate(n=Sum("calls"))
    left = {(bucket, value): n for bucket, value, n in gone}
    found = []
    for bucket, value, calls, refused, not_answered, *others in rows:
        of_it = min(left.get((bucket, value), 0), not_answered)
        found.append((bucket, value, Figures(calls, refused, not_answered - of_it, of_it, *others)))
    return found


def _calls(model: str, span: Span, chosen: Mapping[str, str], keys: list[str] | None) -> QuerySet[CallHour]:
    calls = selectors.only(CallHour.objects.filter(model=model, hour__gte=span.start, hour__lt=span.end), {**chosen, "cost_centre": ""})
    outcome = chosen.get("outcome", "")
    if outcome == "error":
        calls = calls.exclude(status__in=["ok", "refused"])
    elif outcome:
        calls = calls.filter(status=outcome)
    return calls if keys is None else calls.filter(key_id__in=keys)


def _add_how_they_went(figures: dict[str, Figures], calls: QuerySet[CallHour], group: str) -> Counter[tuple[str, str]]:
    """Put distributions and cache into the figures of each value; returns calls that are not OK by status and code."""
    errors: Counter[tuple[str, str]] = Counter()
    column = selectors.FILTERS[group]
    counted = list(calls.values_list(column, "status").annotate(n=Sum("calls"), hits=Sum("cache_hits"), misses=Sum("cache_misses")))
    if not counted:
        return errors
    for value, status, n, hits, misses in counted:
        figures[value].cache_hits += hits
        figures[value].cache_misses += misses
        if status != "ok":
            errors[status, ""] += n
    rows, parameters = calls.values_list(column, "status", "durations", "ttfts", "error_codes").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT r.value, r.status, p.part, p.name, sum(p.number::bigint)::bigint
            FROM ({rows}) r(value, status, durations, ttfts, error_codes) CROSS JOIN LATERAL (
                SELECT 'durations', d.* FROM jsonb_each_text(r.durations) d
                UNION ALL SELECT 'ttfts', t.* FROM jsonb_each_text(r.ttfts) t
                UNION ALL SELECT 'error_codes', e.* FROM jsonb_each_text(r.error_codes) e
            ) p(part, name, number)
            GROUP BY 1, 2, 3, 4
            """,  # noqa: S608  # Django's own SQL
            parameters,
        )
        for value, status, part, name, n in cursor.fetchall():
            if part == "error_codes":
                errors[status, name] += n
                errors[status, ""] -= n  # what remains has no code
            else:
                getattr(figures[value], part)[int(name)] += n
    return +errors


def _key_labels(values: Iterable[str]) -> dict[str, str]:
    found = VirtualKey.objects.filter(public_id__in=[value for value in values if value])
    return {key: f"{name} ({key})" for key, name in found.values_list("public_id", "name")}
