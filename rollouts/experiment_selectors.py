"""What may be seen of experiments, and what their arms have done so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import add

from django.db import connection
from django.db.models import Count, Q, QuerySet

from gateway.contract.flags import BUCKETS, Exposure
from governance.access import Permission
from governance.models import Membership
from rollouts import exposure as rules
from rollouts import statistics
from rollouts.advice import MEASURES, Arm
from rollouts.errors import ExperimentInvalidError
from rollouts.models import Experiment, ExperimentReading, Flag
from rollouts.rules import sha256
from rollouts.statistics import Moments

READ_EVERY = timedelta(hours=1)
FEWEST_UNITS = 50
"""Per arm: below it the intervals, which are for large samples, mean nothing."""
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
        "waiting": counted.get("stopped", 0),
        "draft": counted.get("draft", 0),
        "decided": counted.get("decided", 0),
        "all": sum(counted.values()),
    }


def undecided() -> QuerySet[Experiment]:
    return Experiment.objects.filter(status=Experiment.Status.STOPPED)


def due_count(membership: Membership) -> int:
    """Experiments that wait for a decision, of whoever may make it."""
    if not membership.can(Permission.MANAGE_ROLLOUTS):
        return 0
    return undecided().count()


def find_experiment(slug: str) -> Experiment | None:
    people = ("owner", "started_by", "decided_by")
    return Experiment.objects.select_related("flag__current", "version", "latest", "change", *people).filter(slug=slug).first()


def readings_of(experiment: Experiment) -> QuerySet[ExperimentReading]:
    """Newest first."""
    return experiment.readings.select_related("requested_by").order_by("-sequence")


def is_as_written(reading: ExperimentReading) -> bool:
    """Does the hash hold, does the chain, and does the evidence alone come to the same advice?"""
    before = ExperimentReading.objects.filter(experiment=reading.experiment_id, sequence=reading.sequence - 1).first()
    chained = before.evidence_hash == reading.previous_hash if before else reading.sequence == 1
    return chained and digest_of(reading) == reading.evidence_hash and reading.report.advice == reading.advice


def digest_of(reading: ExperimentReading) -> str:
    return sha256(f"{reading.previous_hash}:{reading.sequence}:{reading.at.isoformat()}:{reading.evidence}")


def experiments_due(now: datetime) -> list[int]:
    """Ids of those that run and were not read for an hour, or never."""
    old = Q(latest=None) | Q(latest__at__lte=now - READ_EVERY)
    return list(Experiment.objects.filter(old, status=Experiment.Status.RUNNING).order_by("pk").values_list("pk", flat=True))


def flags_to_experiment_on() -> QuerySet[Flag]:
    """Flags that bind a model, so that calls tell their variant; by key."""
    return Flag.objects.select_related("current").filter(archived_at=None).exclude(model="").order_by("key")


def experiments_about(model: str) -> QuerySet[Experiment]:
    """Newest first: on flags that calls to the model ask, or that may lead calls to it."""
    return experiments().filter(Q(flag__model=model) | Q(flag__in=_flags_serving(model)))


def _flags_serving(model: str) -> list[int]:
    flags = Flag.objects.exclude(model="").only("pk", "variants")
    return [flag.pk for flag in flags if any(model == each.model for each in flag.comparison.treatments.values())]


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
    """Calls with the flag's tag that a rule other than the percentage decided, that another split decided, or that could not have had every variant."""


def count_arms(flag: Flag, *, since: datetime, until: datetime, versions: Iterable[int] | None = None) -> Counted:
    """Sums over units by variant, of calls that began within [since, until).

    The flag's step in the event says by which version, rule and bucket a call was decided: `<key> <version>: <variant> by percentage. Bucket
    <bucket> is …` (taken apart by position: with a regular expression the whole took six times as long). Only calls that the percentage assigned are
    comparable: the control also serves whoever the other rules turned away. The bucket stands for its subject, which no event names.
    `versions`: of the flag; None is any.

    Cost: one scan of the window's part of the month partitions by the index on `started_at`, with the tag as a filter, and one sort or hash by
    unit (`rollouts.experiment_read_500k_s` of the benchmarks). An experiment reads it hourly, and its window is bounded by `max_days`.
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
            SELECT tags ->> %(tag)s AS variant, step ->> 3 AS detail, status, stream, duration_us, ttft_us, cost, output_tokens
            FROM event LEFT JOIN LATERAL (
                SELECT each AS step FROM jsonb_array_elements(steps) each WHERE each ->> 0 = 'flags' LIMIT 1
            ) decided ON true
            WHERE started_at >= %(since)s AND started_at < %(until)s AND tags ? %(tag)s
        ), assigned AS (
            SELECT *, split_part(detail, %(by)s, 2) AS bucket FROM tagged
            WHERE starts_with(detail, %(key)s) AND strpos(detail, %(by)s) > 0
              AND (%(versions)s::text[] IS NULL OR split_part(split_part(detail, ' ', 2), ':', 1) = ANY(%(versions)s::text[]))
        ), unit AS (
            SELECT variant, split_part(bucket, ' ', 1) AS bucket, count(*) AS calls, {per_unit} FROM assigned GROUP BY 1, 2
        )
        SELECT variant, count(variant), sum(calls)::bigint, {sums}, tags.n
        FROM (SELECT count(*) AS n FROM tagged) tags LEFT JOIN unit ON true GROUP BY variant, tags.n ORDER BY variant
    """  # noqa: S608 - only constants of this module
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            {
                "tag": f"flag.{flag.key}", "since": since, "until": until, "key": f"{flag.key} ", "by": " by percentage. Bucket ",
                "versions": None if versions is None else [str(version) for version in versions],
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
    volume: Volume
    """What it was worked out from."""

    def minimum(self, method: str) -> int:
        """Units per arm from which its advice may count: a fixed horizon's own; elsewhere early enough to gain from looking."""
        return max(FEWEST_UNITS, {"fixed": self.plan.fixed, "sprt": -(-self.plan.sprt // 4)}.get(method, -(-self.plan.fixed // 2)))


def plan_for(
    flag: Flag, *, metric: str, effect: float, max_days: int, at: datetime, mean: float | None = None, spread: float | None = None
) -> Needed:  # fmt: skip
    """What an experiment on a flag needs, from its calls of the last days. `mean` (in percent for a rate) and `spread` in their place.

    Raises ExperimentInvalidError where there is too little to plan with.
    """
    if not 0 < effect <= 100:
        raise ExperimentInvalidError("The smallest effect worth finding is above 0 and at most 100.", field="effect")
    volume = volume_of(flag, metric, at=at)
    if mean is not None:
        volume = Volume(volume.units_per_day, mean / 100 if metric == "error_rate" else mean, spread)
    if volume.mean is None:
        raise ExperimentInvalidError(
            f"None of {flag.key}'s calls of the last {PLANNING_DAYS} days has a value. Say what mean and spread you expect.", field="mean"
        )
    arms = max(2, len(split_of(flag, flag.exposure)))
    try:
        return needed(volume, metric=metric, effect=effect, arms=arms, max_days=max_days)
    except ValueError as error:
        raise ExperimentInvalidError(str(error), field="mean" if volume.spread is not None else "spread") from error


def needed(volume: Volume, *, metric: str, effect: float, arms: int, max_days: int) -> Needed:
    """`effect` in percent of the mean, or percentage points of an error rate, whose mean is 0 to 1. Raises ValueError.

    A rate is planned with one call per unit unless its spread is known. Equal shares are assumed; the smallest arm decides.
    """
    mean, spread = volume.mean, volume.spread
    if mean is None or not math.isfinite(mean) or (spread is not None and not 0 <= spread < math.inf):
        raise ValueError("The mean is above 0, and how far single units spread around it must be known.")
    if MEASURES[metric].scale == "absolute" and not spread:
        plan = statistics.plan_rates(rate=mean, effect=effect / 100 if mean + effect / 100 <= 1 else -effect / 100, treatments=arms - 1)
    else:
        if not spread or not mean > 0:
            raise ValueError("The mean is above 0, and how far single units spread around it must be known.")
        wanted = effect / 100 if MEASURES[metric].scale == "absolute" else mean * effect / 100
        plan = statistics.plan_means(spread=spread, effect=wanted, treatments=arms - 1)
    per_arm = volume.units_per_day / arms
    sizes = {"sequential": plan.sequential, "fixed": plan.fixed, "sprt": plan.sprt}
    days = {name: size / per_arm if per_arm > 0 else None for name, size in sizes.items()}
    return Needed(plan, days, *_fitting(days, max_days), volume)


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
