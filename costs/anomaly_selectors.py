"""What may be seen of anomalies, and the series that they are looked for in. Money from the hourly rollup only, by UTC days and hours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

import numpy as np
from django.db import connection, transaction
from django.db.models import BooleanField, F, Func, JSONField, Max, Min, Q, QuerySet, Sum, Value
from django.db.models.functions import Abs, ExtractIsoWeekDay
from django.utils import timezone

from catalog.models import VirtualKey
from costs import detection, drivers, pricing, selectors
from costs.detection import Floats
from costs.models import Anomaly, AnomalyDimension, AnomalyPeriod, AnomalyRun, AnomalySettings, PriceEntry, TokenClass, UsageHour
from costs.models.rollup import TOKENS
from costs.periods import Period, midnight

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
LOADED_DAYS = 14 * 7
"""Of history behind the day that is tested: eight weeks, and what their own tests needed."""
BASE_DAYS = 28
"""That the drivers and the contributors are compared with."""
CHUNK = 20_000
UNPRICED_SHARE = 0.1
"""Of a day's calls: above it the day's spend is not known, and not a drop."""
COLUMN = {"tenant": "''", "project": "project", "model": "model", "key": "key_id", "agent": "agent"}
"""In SQL, by dimension, from the widest to the narrowest."""
DIMENSIONS = tuple(COLUMN)
_SERVED = ~Q(outcome="refused") & ~Q(kind="tool")


# Lists


def anomalies(chosen: Mapping[str, str] | None = None) -> QuerySet[Anomaly]:
    """Newest first, narrowed by `status`, `dimension`, `kind`, `feedback` and `ref`; unknown values of a choice narrow to nothing."""
    found = Anomaly.objects.select_related("feedback_by").order_by("-first_at", "-pk")
    for name in ("status", "dimension", "kind", "ref"):
        value = (chosen or {}).get(name, "")
        if value:
            found = found.filter(**{name: value})
    feedback = (chosen or {}).get("feedback", "")
    if feedback:
        found = found.filter(feedback="" if feedback == "none" else feedback)
    return found


def stands_for(dimension: str, ref: str) -> Q:
    """Anomalies that this scope is told with. Containment would not do: it knows neither order nor repeats, so that whichever agent's
    scope has all of `["agent", "agent"]`.
    """
    path = "strict $[*] ? (@[0] == $dimension && @[1] == $ref)"
    names = Value({"dimension": dimension, "ref": ref}, JSONField())
    return Q(Func("also", Value(path), names, function="jsonb_path_exists", output_field=BooleanField()))


def largest_within(period: Period, chosen: Mapping[str, str]) -> QuerySet[Anomaly]:
    """What stands out of the period's spend and is no false alert, most money first; with filters of spend, only what is told of all of them."""
    found = Anomaly.objects.exclude(feedback=Anomaly.Feedback.FALSE).filter(first_at__lt=period.end, last_at__gt=period.start)
    for dimension, value in chosen.items():
        ref = "" if value == selectors.NONE else value
        found = found.filter(Q(dimension=dimension, ref=ref) | stands_for(dimension, ref))
    return found.order_by(Abs("excess").desc(), "-pk")


def anomaly(pk: int) -> Anomaly | None:
    return Anomaly.objects.select_related("feedback_by").filter(pk=pk).first()


def similar(found: Anomaly) -> list[Anomaly]:
    """The five last ones before it of the same scope."""
    same = Anomaly.objects.filter(dimension=found.dimension, ref=found.ref, first_at__lt=found.first_at)
    return list(same.select_related("feedback_by").order_by("-first_at")[:5])


def settings() -> AnomalySettings:
    """What is set, or the defaults, unsaved."""
    return AnomalySettings.objects.first() or AnomalySettings()


def labels(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What people call each (dimension, ref): keys by their name."""
    wanted = list(pairs)
    names = dict(
        VirtualKey.objects.filter(public_id__in=[ref for dimension, ref in wanted if dimension == "key"]).values_list("public_id", "name")
    )
    unknown = {"tenant": "Whole organisation", "agent": "Untagged", "project": "No project", "model": "No model", "key": "No key"}
    return {(dimension, ref): names.get(ref, ref) or unknown[dimension] for dimension, ref in wanted}


@dataclass(frozen=True)
class Readiness:
    """How far the tests are: what has not been looked at is not free of anomalies."""

    history_days: int
    """Whole days since the first priced call."""
    last_day: date | None
    """The last day that was tested."""
    last_hour: datetime | None

    @property
    def needed_days(self) -> int:
        return detection.NEEDED_DAYS

    @property
    def missing_days(self) -> int:
        return max(0, detection.NEEDED_DAYS - self.history_days)


def readiness() -> Readiness:
    first = UsageHour.objects.filter(_SERVED).aggregate(first=Min("hour"))["first"]
    runs = dict(AnomalyRun.objects.values_list("period").annotate(last=Max("start")))
    today = timezone.now().astimezone(UTC).date()
    return Readiness(
        history_days=(today - first.astimezone(UTC).date()).days if first else 0,
        last_day=runs[AnomalyPeriod.DAY].date() if AnomalyPeriod.DAY in runs else None,
        last_hour=runs.get(AnomalyPeriod.HOUR),
    )


# Series


@dataclass(frozen=True)
class Series:
    """[series, days or hours] of one or all dimensions."""

    scopes: list[tuple[str, str]]
    """(dimension, ref) of each."""
    spend: Floats
    """USD; NaN before a series began, and where too many calls had no price."""
    calls: Floats
    """That have a price."""


def daily(last: date) -> Series:
    """Every series of every dimension over the LOADED_DAYS up to and including `last`. One query each."""
    start, end = midnight(last - timedelta(days=LOADED_DAYS - 1)), midnight(last + DAY)
    return _together([_series(dimension, start, end, LOADED_DAYS, 86_400) for dimension in DIMENSIONS])


def hourly(end: datetime, floor: float) -> Series:
    """Series that spent at least `floor` USD in the last six hours before `end`, over the weeks that hours are compared with."""
    hours = detection.HOUR_WEEKS * detection.HOURS_OF_WEEK + 24 + detection.EXCESS_HOURS
    recent = (end - detection.EXCESS_HOURS * HOUR, floor)
    return _together([_series(dimension, end - hours * HOUR, end, hours, 3600, recent) for dimension in DIMENSIONS[1:]])


def _together(parts: Sequence[Series]) -> Series:
    return Series(
        [scope for part in parts for scope in part.scopes],
        np.concatenate([part.spend for part in parts]),
        np.concatenate([part.calls for part in parts]),
    )


def _series(
    dimension: str, start: datetime, end: datetime, length: int, seconds: int, recent: tuple[datetime, float] | None = None
) -> Series:
    column = COLUMN[dimension]
    loud = f"""AND {column} IN (SELECT {column} FROM usage_hour WHERE hour >= %(since)s AND hour < %(end)s AND outcome <> 'refused'
        GROUP BY 1 HAVING sum(cost) >= %(floor)s)"""  # noqa: S608  # columns of this module
    sql = f"""
        SELECT {column}, (extract(epoch FROM hour - %(start)s)::bigint / %(seconds)s)::int,
            sum(cost)::float8, sum(calls - unpriced_calls)::float8, sum(unpriced_calls)::float8
        FROM usage_hour
        WHERE hour >= %(start)s AND hour < %(end)s AND outcome <> 'refused' AND kind <> 'tool' {loud if recent else ""}
        GROUP BY 1, 2
    """  # noqa: S608  # columns of this module
    since, floor = recent or (start, 0.0)
    at: dict[str, int] = {}
    parts = []
    with transaction.atomic(), connection.chunked_cursor() as cursor:  # a million rows of an organisation with thousands of agents
        cursor.execute(sql, {"start": start, "end": end, "seconds": seconds, "since": since, "floor": floor})
        while rows := cursor.fetchmany(CHUNK):
            parts.append(np.array([(at.setdefault(row[0], len(at)), *row[1:]) for row in rows], dtype=float))
    spend, calls = np.zeros((len(at), length)), np.zeros((len(at), length))
    began = np.full(len(at), length)
    if parts:
        found = np.concatenate(parts)
        row, slot = found[:, 0].astype(int), found[:, 1].astype(int)
        cost, priced, unpriced = found[:, 2], found[:, 3], found[:, 4]
        spend[row, slot] = np.where(unpriced > UNPRICED_SHARE * (priced + unpriced), np.nan, cost)
        calls[row, slot] = priced
        np.minimum.at(began, row, slot)
    spend[np.arange(length) < began[:, None]] = np.nan
    return Series([(dimension, ref) for ref in at], spend, calls)


def floor_in_force(chosen: AnomalySettings, last: date) -> Decimal:
    """USD a day: the larger of the set amount and the set share of the median day of the last four weeks."""
    since, until = midnight(last - timedelta(days=27)), midnight(last + DAY)
    hours = UsageHour.objects.filter(hour__gte=since, hour__lt=until).values_list("hour").annotate(cost=Sum("cost"))
    by_day: dict[date, Decimal] = {}
    for hour, cost in hours:
        day = hour.astimezone(UTC).date()
        by_day[day] = by_day.get(day, Decimal()) + cost
    usual = median(by_day.values()) if by_day else Decimal()
    return max(chosen.floor, usual * chosen.floor_percent / 100)


# Explanations


@dataclass(frozen=True)
class Compared:
    """One value of a dimension over the time of an anomaly and over days of the four weeks before it."""

    ref: str
    after: drivers.Figures
    before: drivers.Figures
    days: int
    """How many days `before` is of."""


def scope_filter(dimension: str, ref: str) -> Q:
    return Q() if dimension == AnomalyDimension.TENANT else Q(**{COLUMN[dimension]: ref})


def _within(spans: Sequence[tuple[datetime, datetime]]) -> Q:
    found = Q()
    for start, end in spans:
        found |= Q(hour__gte=start, hour__lt=end)
    return found


def compared(dimension: str, ref: str, by: str, spans: Sequence[tuple[datetime, datetime]]) -> list[Compared]:
    """The scope's spend by another dimension, or as a whole (`by` tenant). One query.

    What was expected of a Sunday comes from Sundays, so it is shared out by the same weekdays (UTC) of the four weeks before; by all
    of their days where the scope spent nothing on those.
    """
    first = min(start for start, _ in spans)
    weekdays = {(start + hours * HOUR).astimezone(UTC).isoweekday() for start, end in spans for hours in range((end - start) // HOUR)}
    after, before = _within(spans), Q(hour__gte=first - BASE_DAYS * DAY, hour__lt=first)
    hours = UsageHour.objects.alias(weekday=ExtractIsoWeekDay("hour", tzinfo=UTC)).filter(
        _SERVED, scope_filter(dimension, ref), after | before
    )
    sums = {
        f"{name}_{when}": Sum(what, filter=condition, default=0)
        for when, condition in (("after", after), ("before", before), ("alike", before & Q(weekday__in=weekdays)))
        for name, what in (("cost", F("cost")), ("calls", F("calls") - F("unpriced_calls")), ("tokens", TOKENS))
    }
    rows: list[Any] = [hours.aggregate(**sums) | {"ref": ""}] if by == "tenant" else list(hours.values(ref=F(COLUMN[by])).annotate(**sums))
    base, days = ("alike", BASE_DAYS // 7 * len(weekdays)) if any(row["cost_alike"] for row in rows) else ("before", BASE_DAYS)

    def figures(row: Mapping[str, Any], when: str) -> drivers.Figures:
        return drivers.Figures(*(float(row[f"{name}_{when}"]) for name in ("cost", "calls", "tokens")))

    return [Compared(row["ref"], figures(row, "after"), figures(row, base), days) for row in rows]


def price_ratio(dimension: str, ref: str, spans: Sequence[tuple[datetime, datetime]]) -> float:
    """What the scope's tokens cost in that time over what they would have cost two weeks before it began; 1 when no price moved."""
    first = min(start for start, _ in spans)
    classes = ("uncached_input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens")
    used: Iterable[Any] = (
        UsageHour.objects.filter(_SERVED, scope_filter(dimension, ref), _within(spans))
        .values("provider", "model")
        .annotate(**{f"n_{name}": Sum(name) for name in classes})
    )
    now, then = _prices(max(end for _, end in spans) - HOUR), _prices(first - BASE_DAYS / 2 * DAY)
    at_now = at_then = 0.0
    for row in used:
        new, old = now.get((row["provider"], row["model"])), then.get((row["provider"], row["model"]))
        if new is None or old is None:
            continue
        for name, token_class in zip(classes, pricing.USUAL_CLASSES, strict=True):
            tokens = row[f"n_{name}"]
            fallback = TokenClass.OUTPUT if token_class == TokenClass.OUTPUT else TokenClass.INPUT
            at_now += tokens * new.get(token_class, new.get(fallback, 0.0))
            at_then += tokens * old.get(token_class, old.get(fallback, 0.0))
    return at_now / at_then if at_now > 0 and at_then > 0 else 1.0


def _prices(at: datetime) -> dict[tuple[str, str], dict[str, float]]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    in_force = PriceEntry.objects.usual().filter(valid_from__lte=at).filter(Q(valid_to=None) | Q(valid_to__gt=at))
    for provider, model, token_class, price in in_force.values_list("provider", "model", "token_class", "price"):
        found.setdefault((provider, model), {})[token_class] = float(price)
    return found


def price_changes(found: Anomaly) -> list[PriceEntry]:
    """Prices set for the scope's models from three days before it to its end."""
    models = UsageHour.objects.filter(scope_filter(found.dimension, found.ref), hour__gte=found.first_at, hour__lt=found.last_at)
    pairs = set(models.values_list("provider", "model").distinct())
    entries = PriceEntry.objects.filter(valid_from__gt=found.first_at - 3 * DAY, valid_from__lt=found.last_at)
    return [entry for entry in entries.order_by("valid_from") if (entry.provider, entry.model) in pairs]
