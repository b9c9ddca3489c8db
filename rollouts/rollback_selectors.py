"""What may be seen of rollback rules and incidents, and what a flag's calls were like."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Min, Q, QuerySet

from costs import sketch
from gateway.contract.flags import Exposure
from governance import metrics
from governance.access import Permission
from governance.models import Membership
from rollouts import rollback_language as language
from rollouts import rollback_lint as linting
from rollouts import rollback_rules as rules
from rollouts.models import Flag, FlagChange, FlagVersion, Incident, RollbackRule, RollbackWatch
from rollouts.rollback_evidence import sums_of
from rollouts.rollback_language import MINUTE_S, SLICE_S, Comparison, Measure, RuleError
from rollouts.rollback_rules import Inputs, Reading, Series, Sums
from rollouts.services.evidence import read_metric

HISTORY_DAYS = 7
"""What a dry run and a baseline look back on."""
FEWEST_BASELINE_CALLS = 200
STALE_AFTER = timedelta(seconds=60)
"""The watcher looks every ten seconds. After this without a look, rules guard nothing, and people are told."""

Key = tuple[int, str]
"""Flag and variant."""


def rules_of(flag: Flag) -> QuerySet[RollbackRule]:
    """Not removed, oldest first."""
    return flag.rollback_rules.filter(removed_at=None).select_related("flag", "created_by", "armed_by").order_by("pk")


def all_rules(*, flag: str = "") -> QuerySet[RollbackRule]:
    found = RollbackRule.objects.filter(removed_at=None).select_related("flag", "created_by", "armed_by").order_by("pk")
    return found.filter(flag__key=flag) if flag else found


def find_rule(pk: int) -> RollbackRule | None:
    return all_rules().select_related("flag__current").filter(pk=pk).first()


def live_rules() -> QuerySet[RollbackRule]:
    """Those that the watcher judges when their flag is on."""
    live = Q(state__in=[RollbackRule.State.ARMED, RollbackRule.State.FROZEN], removed_at=None, flag__archived_at=None)
    return RollbackRule.objects.select_related("flag__current").filter(live).order_by("pk")


def watched_rules() -> list[RollbackRule]:
    return [rule for rule in live_rules() if treatments_of(rule.flag, rule.flag.exposure)]


def treatments_of(flag: Flag, exposure: Exposure) -> list[str]:
    """Variants other than the control that somebody may get now."""
    if not exposure.on:
        return []
    given = {one.variant for one in exposure.ranges if one.end > one.start} if exposure.percentage > 0 else set()
    given |= {override.variant for override in exposure.overrides}
    return sorted(given - {flag.control})


# Incidents


def incidents(*, tab: str = "") -> QuerySet[Incident]:
    """Newest first, by tab (`open`: not resolved, `resolved`; empty: all)."""
    found = Incident.objects.select_related("flag", "rule", "change__reviewed_by", "acknowledged_by", "resolved_by").order_by("-number")
    if tab == "open":
        return found.exclude(status=Incident.Status.RESOLVED)
    return found.filter(status=Incident.Status.RESOLVED) if tab == "resolved" else found


def incident_counts() -> dict[str, int]:
    counted = dict(Incident.objects.order_by().values_list("status").annotate(n=Count("pk")))
    resolved = counted.pop("resolved", 0)
    return {"open": sum(counted.values()), "resolved": resolved}


def find_incident(number: int) -> Incident | None:
    return incidents().select_related("change__version", "change__flag", "flag__current", "flag__rollout").filter(number=number).first()


def unresolved_incidents() -> QuerySet[Incident]:
    return Incident.objects.exclude(status=Incident.Status.RESOLVED)


def unacknowledged_incidents() -> QuerySet[Incident]:
    return Incident.objects.filter(status=Incident.Status.OPEN)


def open_incident() -> Incident | None:
    """The newest that is not resolved."""
    return unresolved_incidents().select_related("flag").order_by("-number").first()


def incidents_waiting_for(membership: Membership) -> int:
    """That nobody has acknowledged, for who could."""
    if not membership.can(Permission.MANAGE_ROLLOUTS):
        return 0
    return unacknowledged_incidents().count()


# The watcher


def watcher_away_since(*, at: datetime) -> datetime | None:
    """Since when nobody looks at rules that are armed; None while all is well or there are none."""
    armed_at = live_rules().aggregate(first=Min("armed_at"))["first"]
    if armed_at is None:
        return None
    watch = RollbackWatch.objects.order_by("-ticked_at").first()
    last: datetime = max(watch.ticked_at, armed_at) if watch else armed_at
    return last if at - last > STALE_AFTER else None


# Reading rules


def registered_measures() -> dict[str, Measure]:
    return {metric.key: Measure(metric.key, metric.title, metric.unit, "quality") for metric in metrics.all_metrics()}


def parsed(text: str) -> language.Rule:
    """Raises RuleError."""
    return language.parse(text, registered_measures())


# What the calls were like


_COLUMNS = "calls, failed, blocked, priced, cost, cost_squared"
COUNTED = f"""
    SELECT flag_id, variant, start, sum(calls)::int AS calls, sum(failed)::int AS failed, sum(blocked)::int AS blocked, sum(priced)::int AS priced,
        coalesce(sum(cost), 0)::float8 AS cost, coalesce(sum(cost_squared), 0)::float8 AS cost_squared,
        coalesce(jsonb_object_agg(bucket, ok) FILTER (WHERE bucket IS NOT NULL), '{{}}') AS latency
    FROM (
        SELECT w.flag_id, t.value AS variant, extract(epoch FROM date_bin(%(size)s * interval '1 second', e.started_at, 'epoch'))::bigint AS start,
            CASE WHEN e.status = 'ok' THEN {sketch.BUCKET_SQL.format(us="e.duration_us")} END AS bucket,
            count(*) FILTER (WHERE e.status <> 'refused') AS calls, count(*) FILTER (WHERE e.status NOT IN ('ok', 'refused')) AS failed,
            count(*) FILTER (WHERE e.status = 'refused' AND e.error_code = 'guardrail_blocked') AS blocked,
            count(*) FILTER (WHERE e.status <> 'refused' AND e.cost IS NOT NULL) AS priced,
            sum(e.cost) FILTER (WHERE e.status <> 'refused')::float8 AS cost,
            sum(e.cost::float8 ^ 2) FILTER (WHERE e.status <> 'refused') AS cost_squared, count(*) FILTER (WHERE e.status = 'ok') AS ok
        FROM event e
        CROSS JOIN LATERAL jsonb_each_text(e.tags) t
        JOIN unnest(%(flags)s::bigint[], %(tags)s::text[]) AS w(flag_id, tag) ON w.tag = t.key
        WHERE e.started_at >= %(since)s AND e.started_at < %(until)s AND e.tags <> '{{}}'::jsonb
        GROUP BY 1, 2, 3, 4
    ) one
    GROUP BY flag_id, variant, start
"""  # noqa: S608 - constants of ours
"""Sums by flag, variant and bucket of `size` seconds, in one pass over the calls that began within [since, until)."""


def counted_parameters(flags: Iterable[Flag], *, since: datetime, until: datetime, size: int) -> dict[str, Any]:
    found = {flag.pk: f"flag.{flag.key}" for flag in flags}
    return {"flags": list(found), "tags": list(found.values()), "since": since, "until": until, "size": size}


def _series(rows: Iterable[Sequence[Any]]) -> dict[Key, Series]:
    found: dict[Key, dict[int, Sums]] = {}
    for flag_id, variant, start, *numbers, latency in rows:
        # A plain cursor under Django gives jsonb as its text.
        found.setdefault((flag_id, variant), {})[start] = sums_of(numbers, json.loads(latency) if latency else None)
    return {key: Series(buckets) for key, buckets in found.items()}


def count_calls(flags: Iterable[Flag], *, since: datetime, until: datetime, size: int) -> dict[Key, Series]:
    """From the calls themselves, as they are now."""
    with connection.cursor() as cursor:
        cursor.execute(COUNTED, counted_parameters(flags, since=since, until=until, size=size))
        return _series(cursor.fetchall())


def kept_minutes(wanted: Mapping[int, tuple[datetime, bool]]) -> dict[Key, Series]:
    """The watcher's minutes by flag: since when, and whether durations are wanted too."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT m.flag_id, m.variant, extract(epoch FROM m.minute)::bigint, {_COLUMNS}, CASE WHEN w.latency THEN m.latency END
            FROM unnest(%(flags)s::bigint[], %(since)s::timestamptz[], %(latency)s::bool[]) AS w(flag_id, since, latency)
            JOIN rollouts_rollbackminute m ON m.flag_id = w.flag_id AND m.minute >= w.since
            """,  # noqa: S608 - constants of ours
            {
                "flags": list(wanted), "since": [since for since, _ in wanted.values()], "latency": [needed for _, needed in wanted.values()],
            },
        )  # fmt: skip
        return _series(cursor.fetchall())


def exposed_again(flags: Iterable[Flag], *, since: datetime) -> dict[int, datetime]:
    """When somebody began to be exposed anew, by flag: only of flags that were off after `since`, and exposed somebody before."""
    lately = {flag.pk: flag for flag in flags if flag.current is not None and flag.current.at > since}
    versions: dict[int, list[FlagVersion]] = {}
    for version in FlagVersion.objects.filter(flag__in=lately).order_by("flag", "-number"):
        versions.setdefault(version.flag_id, []).append(version)
    found = {}
    for pk, newest_first in versions.items():
        began, was_off = None, False
        for version in newest_first:
            is_exposed = bool(treatments_of(lately[pk], version.exposed))
            if is_exposed and was_off and began is not None:
                found[pk] = began
                break
            if version.at <= since:
                break
            was_off = was_off or not is_exposed
            began = version.at if is_exposed else began
    return found


def inputs_of(
    rule: RollbackRule, parsed_rule: language.Rule, by_size: Mapping[int, Mapping[Key, Series]], readings: Mapping[str, Reading]
) -> dict[str, Inputs]:
    """By treatment. A rule that reads only metrics has one, unnamed."""
    flag = rule.flag
    variants = treatments_of(flag, flag.exposure) if parsed_rule.watches_calls else [""]
    baselines = {name: float(found["value"]) for name, found in rule.baselines.items()}

    def of(variant: str) -> dict[int, Series]:
        return {size: found[flag.pk, variant] for size, found in by_size.items() if (flag.pk, variant) in found}

    control = of(flag.control)
    return {variant: Inputs(of(variant), control, baselines, readings) for variant in variants}


def read_metrics(comparisons: Iterable[Comparison], *, at: datetime) -> dict[str, Reading]:
    """Of registered metrics, each once. One that can't be read is unknown, with its traceback in the log."""
    found: dict[str, Reading] = {}
    for one in comparisons:
        if one.is_metric and one.name not in found:
            reading = read_metric(one.measure.key, metrics.Window(at - timedelta(seconds=one.window_s), at))
            found[one.name] = Reading(reading["value"], reading["sample"], metrics.get(one.measure.key).minimum_sample)
    return found


# Before a rule is armed


def baselines_of(flag: Flag, rule: language.Rule, *, at: datetime) -> dict[str, dict[str, float]]:
    """Of the control over the last seven days, by measure: the median of the days that have enough calls. A measure without one is left out.

    A rate of 0 would make 0 × 3 = 0 a limit that one failure breaks: 3 / calls stands for it, the upper end of its 95% interval (rule of three,
    Hanley and Lippman-Hand, JAMA 249, 1983).
    """
    wanted = {one.measure for one in rule.comparisons if one.limit.reference == "baseline"}
    if not wanted:
        return {}
    by_day = count_calls([flag], since=at - timedelta(days=HISTORY_DAYS), until=at, size=86_400).get((flag.pk, flag.control))
    days = list(by_day.buckets.values()) if by_day else []
    found = {}
    for measure in sorted(wanted, key=lambda each: each.key):
        read = [
            (value, calls) for day in days for value, calls in [day.read(measure)] if value is not None and calls >= FEWEST_BASELINE_CALLS
        ]
        if not read:
            continue
        value, calls = statistics.median(value for value, _ in read), sum(calls for _, calls in read)
        if value == 0 and measure.unit == "%":
            value = 100 * 3 / calls
        found[measure.key] = {"value": value, "calls": calls, "days": len(read)}
    return found


def traffic_of(flag: Flag, rule: language.Rule, *, at: datetime) -> linting.Traffic:
    """Of the last day; per minute in which there were calls of the flag at all."""
    whole, treated, control = Sums(), 0, 0
    active: set[int] = set()
    for (_, variant), series in count_calls([flag], since=at - timedelta(days=1), until=at, size=MINUTE_S).items():
        for start, sums in series.buckets.items():
            active.add(start)
            whole.add(sums)
            if variant == flag.control:
                control += sums.calls
            else:
                treated += sums.calls
    minutes = len(active) or 1
    readings = read_metrics(rule.comparisons, at=at)
    return linting.Traffic(whole, treated / minutes, control / minutes, {name: reading.value for name, reading in readings.items()})


@dataclass(frozen=True)
class Checked:
    """A text as the linter sees it."""

    rule: language.Rule | None
    lint: linting.Lint | None
    error: RuleError | None = None

    @property
    def may_save(self) -> bool:
        return self.lint is not None and all(finding.level != "error" for finding in self.lint.findings)


def check_text(flag: Flag, text: str, *, at: datetime, but: RollbackRule | None = None) -> Checked:
    """Read a rule and say what it would do at the flag's present traffic. `but`: not its own companion."""
    try:
        rule = parsed(text)
    except RuleError as error:
        return Checked(None, None, error)
    baselines = {name: found["value"] for name, found in baselines_of(flag, rule, at=at).items()}
    traffic = traffic_of(flag, rule, at=at)
    return Checked(rule, linting.lint(rule, traffic, baselines=baselines, companions=_companions(flag, traffic, but)))


def _companions(flag: Flag, traffic: linting.Traffic, but: RollbackRule | None) -> list[linting.Companion]:
    found = []
    for other in rules_of(flag):
        if other != but and other.is_live and not other.is_dry_run:
            try:
                rule = parsed(other.text)
            except RuleError:  # a metric that is gone: it guards nothing, and the watcher tells
                continue
            known = {name: float(one["value"]) for name, one in other.baselines.items()}
            hints = frozenset(one.measure.hint for one in rule.comparisons)
            found.append(linting.Companion(hints, linting.lint(rule, traffic, baselines=known).earliest_s))
    return found


@dataclass(frozen=True)
class DryRun:
    """What a rule would have done to the calls of the last days."""

    since: datetime
    until: datetime
    replay: rules.Replay
    stride: str
    """Between two steps: minute, ten seconds or hour."""


def dry_run(flag: Flag, text: str, *, at: datetime, clear_percent: int = 10, cooldown_minutes: int = 30) -> DryRun:
    """Judge every step of the last seven days. The baseline is today's; variants that had calls count, exposed now or not. Raises RuleError.

    A rule over registered metrics is judged at whole hours, since that is how fine they are.
    """
    rule = parsed(text)
    until = datetime.fromtimestamp(at.timestamp() // MINUTE_S * MINUTE_S, UTC)
    since = until - timedelta(days=HISTORY_DAYS)
    sizes = {one.bucket_s for one in rule.comparisons if not one.is_metric}
    by_size = {size: count_calls([flag], since=since - timedelta(seconds=rule.reach_s), until=until, size=size) for size in sizes}
    baselines = {name: found["value"] for name, found in baselines_of(flag, rule, at=at).items()}

    def of(variant: str) -> dict[int, Series]:
        return {size: found[flag.pk, variant] for size, found in by_size.items() if (flag.pk, variant) in found}

    reads_metrics = any(one.is_metric for one in rule.comparisons)
    variants = sorted({variant for found in by_size.values() for _, variant in found} - {flag.control})
    if not rule.watches_calls:
        variants = [""]
    control = of(flag.control)
    arms = {variant: Inputs(of(variant), control, baselines) for variant in variants}
    step_s, stride = (rule.step_s, "minute" if rule.step_s == MINUTE_S else "ten seconds") if not reads_metrics else (3600, "hour")

    def at_step(moment: int) -> dict[str, Inputs]:
        if not reads_metrics:
            return arms
        readings = read_metrics(rule.comparisons, at=datetime.fromtimestamp(moment, UTC))
        return {name: Inputs(one.treatment, one.control, one.baselines, readings) for name, one in arms.items()}

    seen = rules.replay(
        rule, at_step, start=int(since.timestamp()), end=int(until.timestamp()), step_s=step_s, clear=clear_percent / 100,
        cooldown_s=cooldown_minutes * 60,
    )  # fmt: skip
    return DryRun(since, until, seen, stride)


def slices_since(at: datetime, rule: language.Rule) -> datetime:
    """From when on a rule with short windows needs slices: its longest short window, and the steps that it may catch up with."""
    reach = max((one.window_s for one in rule.comparisons if one.bucket_s == SLICE_S), default=0)
    return at - timedelta(seconds=reach + rule.of * SLICE_S)


# What a rollback did


@dataclass(frozen=True)
class Effect:
    """From the decision to the calls, as the calls themselves tell."""

    first_at: datetime | None
    """Start of the first call that was decided by the new version; None until one came."""
    last_before_at: datetime | None
    """Start of the last call after the decision that a plane still decided by an older version."""
    decided_at: datetime

    @property
    def seconds(self) -> float | None:
        """Until no call was decided by an older version any more, at most; None while no call proves it."""
        if self.first_at is None:
            return None
        return (max(self.first_at, self.last_before_at or self.first_at) - self.decided_at).total_seconds()


def effect_of(flag: Flag, *, version: int, decided_at: datetime) -> Effect:
    """Measured on the calls of the fifteen minutes after a change: the flag's step in each says by which version it was decided."""
    with connection.cursor() as cursor:
        cursor.execute(
            r"""
            WITH decided AS (
                SELECT started_at, (regexp_match(step ->> 3, %(pattern)s))[1]::int AS version
                FROM event CROSS JOIN LATERAL (SELECT each AS step FROM jsonb_array_elements(steps) each WHERE each ->> 0 = 'flags' LIMIT 1) one
                WHERE started_at >= %(since)s AND started_at < %(until)s AND tags ? %(tag)s
            )
            SELECT min(started_at) FILTER (WHERE version >= %(version)s), max(started_at) FILTER (WHERE version < %(version)s) FROM decided
            """,
            {
                "pattern": rf"^{re.escape(flag.key)} (\d+): ", "since": decided_at, "until": decided_at + timedelta(minutes=15),
                "tag": f"flag.{flag.key}", "version": version,
            },
        )  # fmt: skip
        first, last = cursor.fetchone()
    return Effect(first, last, decided_at)


def effect_of_change(change: FlagChange) -> Effect:
    """Of a change that was applied."""
    assert change.version is not None
    return effect_of(change.flag, version=change.version.number, decided_at=change.version.at)


FIRST_STEPS: Mapping[str, str] = {
    "error": "Open the failed calls and read their error codes: is it the provider, the model's name, or what is sent to it?",
    "latency": "Open the slowest calls and see on which step their time went: the upstream, or a guardrail?",
    "cost": "Open the dearest calls and compare their tokens with the control's: longer prompts, longer answers, or another price?",
    "quality": "Read the metric's evidence, and a sample of answers of the treatment beside the control's.",
    "data": "Open the calls that a guardrail stopped and see what it found: is data going where it should not?",
}
"""What to do first, by class of failure."""
