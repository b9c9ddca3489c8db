"""What may be seen of experiments, and what their arms have done so far."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import add

from django.db import connection
from django.db.models import Count, Q, QuerySet

from gateway.contract.flags import BUCKETS, Exposure
from rollouts import exposure as rules
from rollouts import statistics
from rollouts.advice import MEASURES, Arm
from rollouts.models import Experiment, ExperimentReading, Flag
from rollouts.statistics import Moments

READ_EVERY = timedelta(hours=1)
PLANNING_DAYS = 7
"""What the power calculator looks back on."""

# (which calls have a value, the value). Refused calls were not served by any arm; as everywhere, whatever is neither fine nor refused failed.
_VALUES = {
    "error_rate": ("status <> 'refused'", "(status <> 'ok')::int"),
    "latency": ("status = 'ok'", "duration_us / 1000.0"),
    "ttft": ("status = 'ok' AND stream AND ttft_us IS NOT NULL", "ttft_us / 1000.0"),
    "cost": ("status <> 'refused' AND cost IS NOT NULL", "cost"),
    "output_tokens": ("status = 'ok' AND output_tokens IS NOT NULL", "output_tokens"),
}
assert _VALUES.keys() == MEASURES.keys()


def experiments(*, tab: str = "", query: str = "") -> QuerySet[Experiment]:
    """Newest first, by tab (`open`: running or waiting for a decision, `draft`, `decided`; empty: all) and by name, flag or owner."""
    found = Experiment.objects.select_related("flag", "owner", "latest", "change").order_by("-created_at", "-pk")
    if tab == "open":
        found = found.filter(status__in=[Experiment.Status.RUNNING, Experiment.Status.STOPPED])
    elif tab in ("draft", "decided"):
        found = found.filter(status=tab)
    if query:
        found = found.filter(Q(name__icontains=query) | Q(flag__key__icontains=query) | Q(owner__name__icontains=query))
    return found


def experiment_counts() -> dict[str, int]:
    counted = dict(Experiment.objects.order_by().values_list("status").annotate(n=Count("pk")))
    return {
        "open": counted.get("running", 0) + counted.get("stopped", 0),
        "draft": counted.get("draft", 0),
        "decided": counted.get("decided", 0),
    }


def find_experiment(slug: str) -> Experiment | None:
    people = ("owner", "started_by", "decided_by")
    return Experiment.objects.select_related("flag__current", "version", "latest", "change", *people).filter(slug=slug).first()


def readings_of(experiment: Experiment) -> QuerySet[ExperimentReading]:
    """Newest first."""
    return experiment.readings.select_related("requested_by").order_by("-sequence")


def experiments_due(now: datetime) -> list[int]:
    """Ids of those that run and were not read for an hour, or never."""
    old = Q(latest=None) | Q(latest__at__lte=now - READ_EVERY)
    return list(Experiment.objects.filter(old, status=Experiment.Status.RUNNING).order_by("pk").values_list("pk", flat=True))


def flags_with_a_split() -> list[Flag]:
    """What an experiment may be started on, by key."""
    live = Flag.objects.select_related("current").filter(archived_at=None).exclude(model="").order_by("key")
    return [flag for flag in live if len(split_of(flag, flag.exposure)) > 1]


# The split


def split_of(flag: Flag, exposure: Exposure) -> dict[str, float]:
    """Intended share of the units by variant, of those whom the percentage decides; the control first. One entry or none is no split."""
    if not exposure.on or exposure.percentage <= 0:
        return {}
    exposed = exposure.percentage / BUCKETS
    shares = {flag.control: 1 - exposed} if exposure.percentage < BUCKETS else {}
    return shares | {name: exposed * size / BUCKETS for name, size in rules.weights_of(exposure.ranges).items()}


def same_split(one: Exposure, other: Exposure) -> bool:
    """Are the same units in the same arms? Other rules decide who takes part at all, and those whom they decide do not count."""
    return (one.on, one.percentage, one.ranges) == (other.on, other.percentage, other.ranges)


def counted_versions(experiment: Experiment) -> list[int]:
    """Versions of the flag, since the start, with the split that the experiment measures."""
    assert experiment.version is not None
    wanted, since = experiment.version.exposed, experiment.version.number
    later = experiment.flag.versions.filter(number__gte=since).order_by("number")
    return [version.number for version in later if same_split(version.exposed, wanted)]


# What the arms did


@dataclass(frozen=True)
class Counted:
    arms: dict[str, Arm]
    excluded: int
    """Calls with the flag's tag that a rule other than the percentage decided, that another split decided, or whose variant was not served."""


def assigned_pattern(key: str) -> str:
    """Of the detail of the gateway's step about flags, where the percentage assigned the call: version and bucket. For Python and PostgreSQL."""
    return rf"^{re.escape(key)} (\d+): \S+ by percentage\. Bucket (\d+) is "


def count_arms(flag: Flag, *, since: datetime, until: datetime, versions: Iterable[int] | None = None) -> Counted:
    """Sums over units by variant, of calls that began within [since, until).

    The flag's step in the event says by which version, rule and bucket a call was decided. Only calls that the percentage assigned are
    comparable: the control also serves whoever the other rules turned away. The bucket stands for its subject, which no event names.
    `versions`: of the flag; None is any.

    Cost: one scan of the window's part of the month partitions by the index on `started_at`, with the tag as a filter, and one sort or hash by
    unit: about a second per million calls of the tenant in the window. An experiment reads it hourly, and its window is bounded by `max_days`.
    """
    sums = ", ".join(
        f"count(n_{name}) FILTER (WHERE n_{name} > 0), sum(n_{name})::float8, sum(y_{name})::float8, sum(n_{name}::float8 ^ 2), "
        f"sum(y_{name} ^ 2), sum(n_{name} * y_{name})"
        for name in _VALUES
    )
    per_unit = ", ".join(
        f"count(*) FILTER (WHERE {has}) AS n_{name}, coalesce(sum(({value})::float8) FILTER (WHERE {has}), 0) AS y_{name}"
        for name, (has, value) in _VALUES.items()
    )
    statement = f"""
        WITH tagged AS (
            SELECT tags ->> %(tag)s AS variant, regexp_match(step ->> 3, %(pattern)s) AS found,
                   status, stream, duration_us, ttft_us, cost, output_tokens
            FROM event LEFT JOIN LATERAL (
                SELECT each AS step FROM jsonb_array_elements(steps) each WHERE each ->> 0 = 'flags' LIMIT 1
            ) decided ON true
            WHERE started_at >= %(since)s AND started_at < %(until)s AND tags ? %(tag)s
        ), unit AS (
            SELECT variant, found[2] AS bucket, count(*) AS calls, {per_unit}
            FROM tagged WHERE found IS NOT NULL AND (%(versions)s::int[] IS NULL OR found[1]::int = ANY(%(versions)s::int[]))
            GROUP BY variant, bucket
        )
        SELECT variant, count(variant), sum(calls)::bigint, {sums}, tags.n
        FROM (SELECT count(*) AS n FROM tagged) tags LEFT JOIN unit ON true GROUP BY variant, tags.n ORDER BY variant
    """  # noqa: S608 - only constants of this module
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            {
                "tag": f"flag.{flag.key}", "since": since, "until": until, "versions": None if versions is None else list(versions),
                "pattern": assigned_pattern(flag.key),
            },
        )  # fmt: skip
        rows = cursor.fetchall()
    arms = {}
    for variant, units, calls, *figures, _ in rows:
        if variant is None:  # not a single call was assigned by percentage
            continue
        cut = [figures[start : start + 6] for start in range(0, len(figures), 6)]
        arms[variant] = Arm(units, calls, {name: Moments(*parts) for name, parts in zip(_VALUES, cut, strict=True)})
    return Counted(arms, rows[0][-1] - sum(arm.calls for arm in arms.values()))


# Planning


@dataclass(frozen=True)
class Volume:
    """What a flag's calls were like lately, over all variants."""

    units_per_day: float
    mean: float | None
    """Of the metric, per call, in its unit."""
    spread: float | None
    """Of one unit."""


def volume_of(flag: Flag, metric: str, *, at: datetime) -> Volume:
    """Of the last days. The units of a day are fewer than those of a week over seven when they come back, so this errs on the slow side."""
    arms = count_arms(flag, since=at - timedelta(days=PLANNING_DAYS), until=at).arms
    if not arms:
        return Volume(0.0, None, None)
    whole = reduce(add, (arm.moments[metric] for arm in arms.values()))
    return Volume(sum(arm.units for arm in arms.values()) / PLANNING_DAYS, whole.mean, whole.spread)


@dataclass(frozen=True)
class Needed:
    """Units per arm by method, and the days that takes at the present volume; None where nobody has called yet."""

    plan: statistics.Plan
    days: Mapping[str, float | None]
    method: str
    """The one that fits the volume."""
    why: str


def needed(*, metric: str, mean: float, spread: float | None, effect: float, arms: int, units_per_day: float, max_days: int) -> Needed:
    """`effect` in percent of the mean, or percentage points of an error rate, whose mean is 0 to 1. Raises ValueError.

    A rate is planned with one call per unit unless its spread is known. Equal shares are assumed; the smallest arm decides.
    """
    if MEASURES[metric].scale == "absolute" and spread is None:
        plan = statistics.plan_rates(rate=mean, effect=effect / 100 if mean + effect / 100 <= 1 else -effect / 100, treatments=arms - 1)
    else:
        if spread is None or not mean > 0:
            raise ValueError("The mean is above 0, and how far single units spread around it must be known.")
        wanted = effect / 100 if MEASURES[metric].scale == "absolute" else mean * effect / 100
        plan = statistics.plan_means(spread=spread, effect=wanted, treatments=arms - 1)
    per_arm = units_per_day / arms
    sizes = {"sequential": plan.sequential, "fixed": plan.fixed, "sprt": plan.sprt}
    days = {name: size / per_arm if per_arm > 0 else None for name, size in sizes.items()}
    return Needed(plan, days, *_fitting(days, max_days))


def _fitting(days: Mapping[str, float | None], max_days: int) -> tuple[str, str]:
    looking, once = days["sequential"], days["fixed"]
    if looking is None or once is None:
        return "sequential", "No calls yet, so no telling how long it takes; a sequential test may be looked at whenever you like."
    if looking <= max_days:
        return "sequential", "There are enough calls to look at any time."
    if once <= max_days:
        return "fixed", "There are enough calls for one planned look, not for looking at any time."
    return (
        "sprt",
        "There are too few calls for a sure answer in time. An SPRT ends soonest on average; a larger effect is found sooner still.",
    )
