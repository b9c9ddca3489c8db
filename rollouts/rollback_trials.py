"""Before a rollback rule is armed: its baselines, what the linter says of it at the flag's traffic, and what it would have done."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rollouts import rollback_language as language
from rollouts import rollback_lint as linting
from rollouts import rollback_rules as rules
from rollouts.models import Flag, RollbackRule
from rollouts.rollback_language import MINUTE_S, RuleError
from rollouts.rollback_readings import count_calls, read_metrics, series_of
from rollouts.rollback_rules import Inputs, Sums
from rollouts.rollback_selectors import parsed, rules_of

HISTORY_DAYS = 7
"""What a dry run and a baseline look back on."""
FEWEST_BASELINE_CALLS = 200


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

    reads_metrics = any(one.is_metric for one in rule.comparisons)
    variants = sorted({variant for found in by_size.values() for _, variant in found} - {flag.control})
    if not rule.watches_calls:
        variants = [""]
    control = series_of(by_size, flag, flag.control)
    arms = {variant: Inputs(series_of(by_size, flag, variant), control, baselines) for variant in variants}
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
