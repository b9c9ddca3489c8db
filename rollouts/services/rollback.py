"""The watcher: counts the calls of watched flags, judges their rollback rules, and rolls back.

A tick may run twice, in two workers at once, or be killed anywhere. Counting is an upsert of sums that are counted anew; judging is pure, and
the steps since the last one that was kept are judged again; a rollback is one transaction behind the rule's row lock.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from governance.models import Severity
from governance.roles import Permission
from governance.services import alerts, audit
from rollouts import rollback_evidence, rollback_readings, rollback_wording, wording
from rollouts import rollback_language as language
from rollouts import rollback_rules as rules
from rollouts import rollback_selectors as selectors
from rollouts.models import Flag, ReleaseLogEntry, RollbackMinute, RollbackRule, RollbackWatch
from rollouts.rollback_language import MINUTE_S, SLICE_S, Rule
from rollouts.rollback_rules import Inputs, Memory, Outcome, StepVerdict
from rollouts.services import flag_changes, incidents
from rollouts.services.locking import lock_rollout
from rollouts.services.release_log import note

logger = logging.getLogger(__name__)

SETTLE_S = 5
"""How long a step waits after its end: until calls have ended, were shipped and attributed."""
LATE = timedelta(minutes=10)
"""Calls that come later than this after they began are not counted any more."""
KEEP_MINUTES = timedelta(hours=7)
BLIND_AFTER = timedelta(minutes=5)
"""Without data a rule is frozen at once it is unknown for this long, and people are told."""
LOCK_SPACE = 0x6B01


@dataclass(frozen=True)
class Ticked:
    rules: int
    tripped: int
    frozen: int
    took_ms: int


@dataclass
class _Judged:
    """What a tick found out about one rule."""

    rule: RollbackRule
    parsed: Rule
    memory: Memory
    end: int
    variant: str
    verdict: StepVerdict
    inputs: Inputs
    fires: bool


_Failed = tuple[RollbackRule, Exception]
"""A rule that could not be judged, and why."""


def tick(*, at: datetime | None = None) -> Ticked:
    """Judge every rule whose next step has ended, act on what fires, keep the rest, and leave a sign of life.

    What goes wrong with one rule is logged, keeps no other from being judged, and is raised at the end (ExceptionGroup), so that the task fails loudly.
    """
    at, began = at or timezone.now(), time.monotonic()
    failed: list[_Failed] = []
    exposed = selectors.watched_rules()
    _forget_idle({rule.pk for rule in exposed})
    watched = _read(exposed, failed)
    found: list[_Judged] = []
    due = [(rule, parsed) for rule, parsed in watched if _next_end(rule, parsed, at) is not None]
    minutely = {rule.flag for rule, parsed in due if any(one.bucket_s == MINUTE_S and not one.is_metric for one in parsed.comparisons)}
    if minutely:
        oldest = min((rule.step_end or rule.armed_at or at for rule, _ in due), default=at)
        count_minutes(minutely, since=first_minute(oldest - LATE, 0, oldest=at - KEEP_MINUTES), until=at)
    failures: list[Exception] = []
    tripped = 0
    reads_metrics = [any(each.is_metric for each in parsed.comparisons) for _, parsed in due]
    for wanted in (False, True):  # a metric may take long: rules that need none do not wait for it
        some = [one for one, reads in zip(due, reads_metrics, strict=True) if reads is wanted]
        judged = _judge(some, at, failed) if some else []
        found += judged
        for one in (each for each in judged if each.fires):
            try:
                tripped += fire(one.rule, one.parsed, one.verdict, one.inputs, variant=one.variant, memory=one.memory, end=one.end, at=at)
            except Exception as error:  # the next flag must not pay for it
                logger.exception("rollback.failed", extra={"rule": one.rule.pk, "flag": one.rule.flag.key})
                failures.append(error)
    failures += [error for _, error in failed]
    frozen = _keep([one for one in found if not one.fires], at) + sum(_keep_failed(rule, error, at) for rule, error in failed)
    took_ms = round((time.monotonic() - began) * 1000)
    RollbackWatch.objects.update_or_create(pk=1, defaults={"ticked_at": at, "took_ms": took_ms, "rules": len(watched)})
    if failures:
        raise ExceptionGroup("rollback rules could not all be judged", failures)
    return Ticked(len(found), tripped, frozen, took_ms)


def first_minute(at: datetime, reach_s: int, *, oldest: datetime | None = None) -> datetime:
    """The start of the minute `reach_s` before; whole minutes only, since a part would replace a whole."""
    since = max(at - timedelta(seconds=reach_s), oldest or datetime.min.replace(tzinfo=UTC))
    return since.replace(second=0, microsecond=0)


@transaction.atomic
def count_minutes(found: Iterable[Flag], *, since: datetime, until: datetime) -> None:
    """Count the calls of the flags by variant and minute, anew from `since` (a whole minute) on, and forget old minutes."""
    with connection.cursor() as cursor:
        # Two watchers at once would lock each other's rows crosswise.
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", [LOCK_SPACE])
        cursor.execute(_COUNT, rollback_readings.counted_parameters(found, since=since, until=until, size=MINUTE_S))
    RollbackMinute.objects.filter(minute__lt=until - KEEP_MINUTES).delete()


_COUNT = f"""
    INSERT INTO rollouts_rollbackminute AS m (flag_id, variant, minute, calls, failed, blocked, priced, cost, cost_squared, latency)
    SELECT flag_id, left(variant, 60), to_timestamp(start), calls, failed, blocked, priced, cost, cost_squared, latency FROM ({rollback_readings.COUNTED}) counted
    ON CONFLICT ON CONSTRAINT rollback_minute_once DO UPDATE SET calls = excluded.calls, failed = excluded.failed, blocked = excluded.blocked,
        priced = excluded.priced, cost = excluded.cost, cost_squared = excluded.cost_squared, latency = excluded.latency
"""  # noqa: S608 - constants of ours


def _read(found: Iterable[RollbackRule], failed: list[_Failed]) -> list[tuple[RollbackRule, Rule]]:
    """Parse each text once. A registered metric that is gone makes its rule unreadable: that is told, never passed over."""
    measures = selectors.registered_measures()
    read: dict[str, Rule] = {}
    watched = []
    for rule in found:
        try:
            parsed = read[rule.text] if rule.text in read else read.setdefault(rule.text, language.parse(rule.text, measures))
        except language.RuleError as error:
            logger.error("rollback.unreadable", extra={"rule": rule.pk, "flag": rule.flag.key})
            failed.append((rule, error))
        else:
            watched.append((rule, parsed))
    return watched


def _forget_idle(watched: set[int]) -> None:
    """What was bad before a flag went off says nothing about it once it is on again, and nothing is missing while it is off."""
    idle = selectors.live_rules().exclude(pk__in=watched).exclude(memory=[], unknown_since=None)
    RollbackRule.objects.filter(pk__in=idle.values("pk")).update(memory=[], unknown_since=None, state=RollbackRule.State.ARMED)


def _next_end(rule: RollbackRule, parsed: Rule, at: datetime) -> int | None:
    """End of the newest step that has settled, unless it was judged before."""
    end = int(at.timestamp() - SETTLE_S) // parsed.step_s * parsed.step_s
    return end if rule.step_end is None or end > rule.step_end.timestamp() else None


def _judge(due: list[tuple[RollbackRule, Rule]], at: datetime, failed: list[_Failed]) -> list[_Judged]:
    by_size = _forget_earlier(due, _series(due, at), at)
    readings = rollback_readings.read_metrics((one for _, parsed in due for one in parsed.comparisons if one.is_metric), at=at)
    found = []
    for rule, parsed in due:
        try:
            found.append(_judge_rule(rule, parsed, rollback_readings.inputs_of(rule, parsed, by_size, readings), at))
        except Exception as error:  # the other rules must be judged in any case
            logger.exception("rollback.not_judged", extra={"rule": rule.pk, "flag": rule.flag.key})
            failed.append((rule, error))
    return found


def _forget_earlier(
    due: list[tuple[RollbackRule, Rule]], by_size: dict[int, Mapping[rollback_readings.Key, rules.Series]], at: datetime
) -> dict[int, Mapping[rollback_readings.Key, rules.Series]]:
    """What treatments did before the flag went off says nothing about it once it is on again, however long a window is.

    The bucket in which it came on is left out too: it may hold calls from before. The control was never off.
    """
    again = {
        pk: began.timestamp() for pk, began in selectors.exposed_again({rule.flag for rule, _ in due}, since=at - KEEP_MINUTES).items()
    }
    for rule, _ in due:
        if rule.flag_id in again:
            rule.memory = [[ended, said] for ended, said in rule.memory if ended > again[rule.flag_id]]
    controls = {rule.flag_id: rule.flag.control for rule, _ in due}

    def clipped(key: rollback_readings.Key, series: rules.Series) -> rules.Series:
        return series.since(again[key[0]]) if key[0] in again and key[1] != controls[key[0]] else series

    return {size: {key: clipped(key, series) for key, series in found.items()} for size, found in by_size.items()}


def _series(due: list[tuple[RollbackRule, Rule]], at: datetime) -> dict[int, Mapping[rollback_readings.Key, rules.Series]]:
    """What the steps look at: the kept minutes, and slices of the last minutes straight from the calls for rules with short windows."""
    wanted: dict[int, tuple[datetime, bool]] = {}
    sliced: set[Flag] = set()
    slices_from = at
    for rule, parsed in due:
        if any(one.bucket_s == MINUTE_S and not one.is_metric for one in parsed.comparisons):
            since, latency = wanted.get(rule.flag_id, (at, False))
            reach = timedelta(seconds=parsed.reach_s + parsed.of * MINUTE_S + 2 * MINUTE_S)
            wanted[rule.flag_id] = (min(since, at - reach), latency or any(one.measure.quantile for one in parsed.comparisons))
        if any(one.bucket_s == SLICE_S for one in parsed.comparisons):
            sliced.add(rule.flag)
            slices_from = min(slices_from, rollback_readings.slices_since(at, parsed))
    slices = (
        rollback_readings.count_calls(sliced, since=slices_from - timedelta(seconds=2 * MINUTE_S), until=at, size=SLICE_S) if sliced else {}
    )
    return {MINUTE_S: rollback_readings.kept_minutes(wanted) if wanted else {}, SLICE_S: slices}


def _judge_rule(rule: RollbackRule, parsed: Rule, arms: Mapping[str, Inputs], at: datetime) -> _Judged:
    """The newest step and, after a pause of the watcher, those before it that still count. Metrics are only known for the newest."""
    newest = _next_end(rule, parsed, at)
    assert newest is not None
    last = int(rule.step_end.timestamp()) if rule.step_end else newest - parsed.step_s
    first = max(last + parsed.step_s, newest - (parsed.of - 1) * parsed.step_s)
    clear = rule.clear_percent / 100
    memory: Memory = tuple((ended, Outcome(said)) for ended, said in rule.memory)
    fires, variant, verdict = False, "", StepVerdict(Outcome.UNKNOWN, ())
    for end in range(first, newest + 1, parsed.step_s):
        given = arms if end == newest else {name: Inputs(one.treatment, one.control, one.baselines) for name, one in arms.items()}
        variant, verdict = rules.worst_arm({name: rules.judge(parsed, one, end=end, clear=clear) for name, one in given.items()})
        memory = rules.remember(memory, end=end, outcome=verdict.outcome, of=parsed.of)
        fires = rules.is_firing(parsed, memory, end=end)
        if fires:
            break
    inputs = arms.get(variant) or Inputs({}, {}, {})
    return _Judged(rule, parsed, memory, end, variant, verdict, inputs, fires and not _is_held(rule, at))


def _is_held(rule: RollbackRule, at: datetime) -> bool:
    """A dry run fires once for an episode, and not while it cools down."""
    cools_until = rule.cools_until()
    return rule.is_dry_run and (rule.is_firing or (cools_until is not None and at < cools_until))


@transaction.atomic
def fire(
    rule: RollbackRule, parsed: Rule, verdict: StepVerdict, inputs: Inputs, *, variant: str, memory: Memory, end: int, at: datetime
) -> bool:
    """Act on a rule that fires, all in this transaction: the flag is off, the incident is open with its evidence, the on-call is paged, the release log
    and the audit log say so, and the gateway is told. A dry run only says so.

    False when somebody was quicker: another worker, or a person who paused the rule or lowered the flag.
    """
    rollout = lock_rollout(rule.flag.rollout_id) if rule.flag.rollout_id else None
    flag = Flag.objects.select_for_update(of=("self",)).select_related("current").get(pk=rule.flag_id)
    fresh = RollbackRule.objects.select_for_update(of=("self",)).get(pk=rule.pk)
    fresh.flag = flag
    is_stale = fresh.step_end is not None and fresh.step_end.timestamp() >= end
    if not fresh.is_live or is_stale or flag.is_archived or flag.current_id != rule.flag.current_id:
        return False
    began_at, step_end = (datetime.fromtimestamp(moment, UTC) for moment in (rules.first_bad(memory), end))
    fresh.memory, fresh.step_end = [[ended, str(said)] for ended, said in memory], step_end
    fresh.outcome, fresh.reading = str(verdict.outcome), [rollback_evidence.judged_facts(one) for one in verdict.judged]
    fresh.unknown_since, fresh.fired_at, fresh.fired_count, fresh.is_firing = None, at, fresh.fired_count + 1, True
    fresh.state, fresh.state_at = (RollbackRule.State.ARMED if fresh.is_dry_run else RollbackRule.State.TRIPPED), at
    fresh.save()
    told = rollback_wording.breach(verdict)
    audit.record(
        "rollback_rule.fired",
        actor=None,
        target=fresh,
        at=at,
        flag=flag.key,
        rule=fresh.text,
        is_dry_run=fresh.is_dry_run,
        variant=variant,
        breach=told,
    )
    if fresh.is_dry_run:
        alerts.notify(
            topic="rollback_rule.would_fire", severity=Severity.WARNING, title=f"A dry run would have rolled back {flag.key}",
            text=f"{told}. Rule: {fresh.text}", path=f"release/flags/{flag.key}/rules/", permission=Permission.VIEW,
            key=f"rollback_rule:{fresh.pk}:fired:{end}", data={"flag": flag.key, "rule": fresh.pk}, at=at,
        )  # fmt: skip
        return True
    assert flag.current is not None
    evidence, sha256 = rollback_evidence.write(
        parsed, inputs, verdict, memory, end=end, clear=fresh.clear_percent / 100,
        facts={
            "flag": flag.key, "flag_version": flag.current.number, "exposure": flag.current.exposure, "variant": variant,
            "control_variant": flag.control, "rule_id": fresh.pk, "armed_at": fresh.armed_at.isoformat() if fresh.armed_at else None,
            "armed_by": str(fresh.armed_by), "fired_at": at.isoformat(), "baseline_facts": fresh.baselines,
        },
    )  # fmt: skip
    change = flag_changes.switch_off_by_rule(flag=flag, reason=f"Rollback rule: {told}"[:500], at=at)
    incident = incidents.open_incident(
        rule=fresh, change=change, variant=variant, failure_class=rules.failure_class(verdict.breaching),
        title=f"{flag.key} rolled back: {told}", text=_page_text(flag, fresh, told, began_at, at), evidence=evidence, sha256=sha256,
        began_at=began_at, at=at,
    )  # fmt: skip
    if rollout is not None:
        line = f"{flag.key} switched off by its rollback rule “{fresh.text}”: {told}. {incident}, evidence {wording.short(sha256)}"
        note(rollout=rollout, kind=ReleaseLogEntry.Kind.ROLLBACK, actor=None, at=at, glyph="fail", text=line)
    logger.warning("rollback.fired", extra={"flag": flag.key, "rule": fresh.pk, "incident": incident.number})
    return True


def _page_text(flag: Flag, rule: RollbackRule, told: str, began_at: datetime, at: datetime) -> str:
    return (
        f"Everybody gets {flag.control} again within seconds. {told}. Rule: {rule.text}. First bad at {began_at:%H:%M:%S}, "
        f"rolled back at {at:%H:%M:%S} UTC. Somebody reviews the change within a day."
    )


def _keep(found: list[_Judged], at: datetime) -> int:
    """Write down what the steps said, in one statement, and who became blind or sees again. Returns how many are frozen now.

    A row that another watcher has moved on, or a person has paused, meanwhile stays as it is.
    """
    if not found:
        return 0
    rows, blind, seeing = [], [], []
    for one in found:
        rule, outcome = one.rule, one.verdict.outcome
        since = (rule.unknown_since or at) if outcome is Outcome.UNKNOWN else None
        state = rule.state
        if since is not None and at - since >= BLIND_AFTER and state == RollbackRule.State.ARMED:
            state = RollbackRule.State.FROZEN
            blind.append((one, since))
        elif since is None and state == RollbackRule.State.FROZEN:
            state = RollbackRule.State.ARMED
            seeing.append(one)
        firing = rule.is_firing and outcome is not Outcome.FINE
        rows.append((rule.pk, one, since, state, firing))
    with transaction.atomic():
        kept = _write(rows, at)
        for one, since in blind:
            if one.rule.pk in kept:
                _tell_blind(one.rule, _missing(one.verdict), since, at)
        for one in seeing:
            if one.rule.pk in kept:
                audit.record("rollback_rule.sees_again", actor=None, target=one.rule, at=at, flag=one.rule.flag.key)
    return sum(state == RollbackRule.State.FROZEN for _, _, _, state, _ in rows)


def _write(rows: list[tuple[int, _Judged, datetime | None, str, bool]], at: datetime) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE rollouts_rollbackrule r SET memory = v.memory::jsonb, step_end = v.step_end, outcome = v.outcome, reading = v.reading::jsonb,
                unknown_since = v.unknown_since, is_firing = v.is_firing, state = v.state, state_at = CASE WHEN r.state = v.state THEN r.state_at ELSE %(at)s END
            FROM unnest(%(ids)s::bigint[], %(memories)s::text[], %(ends)s::timestamptz[], %(outcomes)s::text[], %(readings)s::text[],
                %(since)s::timestamptz[], %(states)s::text[], %(firing)s::bool[])
                AS v(id, memory, step_end, outcome, reading, unknown_since, state, is_firing)
            WHERE r.id = v.id AND r.state IN ('armed', 'frozen') AND r.removed_at IS NULL AND (r.step_end IS NULL OR r.step_end < v.step_end)
            RETURNING r.id
            """,
            {
                "at": at,
                "ids": [pk for pk, *_ in rows],
                "memories": [json.dumps([[ended, str(said)] for ended, said in one.memory]) for _, one, *_ in rows],
                "ends": [datetime.fromtimestamp(one.end, UTC) for _, one, *_ in rows],
                "outcomes": [str(one.verdict.outcome) for _, one, *_ in rows],
                "readings": [json.dumps(_readings(one.verdict)) for _, one, *_ in rows],
                "since": [since for _, _, since, _, _ in rows],
                "states": [str(state) for _, _, _, state, _ in rows],
                "firing": [firing for *_, firing in rows],
            },
        )
        return {pk for (pk,) in cursor.fetchall()}


def _readings(verdict: StepVerdict) -> list[dict[str, Any]]:
    return [rollback_evidence.judged_facts(one) for one in verdict.judged]


@transaction.atomic
def _keep_failed(rule: RollbackRule, error: Exception, at: datetime) -> bool:
    """A rule that can't be judged sees nothing: it is unknown from now on, and in time frozen and told. Returns whether it is frozen."""
    live = [RollbackRule.State.ARMED, RollbackRule.State.FROZEN]
    fresh = RollbackRule.objects.select_for_update(of=("self",)).filter(pk=rule.pk, state__in=live, removed_at=None).first()
    if fresh is None:
        return False
    since = fresh.unknown_since or at
    fresh.unknown_since, fresh.outcome, fresh.reading = since, str(Outcome.UNKNOWN), []
    if fresh.state == RollbackRule.State.ARMED and at - since >= BLIND_AFTER:
        fresh.state, fresh.state_at = RollbackRule.State.FROZEN, at
        said = (
            str(error) if isinstance(error, language.RuleError) else f"judging it fails with {type(error).__name__}, see the worker's log"
        )
        _tell_blind(rule, said, since, at)
    fresh.save(update_fields=["unknown_since", "outcome", "reading", "state", "state_at"])
    return fresh.state == RollbackRule.State.FROZEN


def _missing(verdict: StepVerdict) -> str:
    return "; ".join(f"{each.comparison.name}: {each.reason}" for each in verdict.judged if each.outcome is Outcome.UNKNOWN)


def _tell_blind(rule: RollbackRule, missing: str, since: datetime, at: datetime) -> None:
    flag = rule.flag
    audit.record("rollback_rule.frozen", actor=None, target=rule, at=at, flag=flag.key, since=since.isoformat(), missing=missing)
    alerts.notify(
        topic="rollback_rule.frozen", severity=Severity.WARNING, title=f"A rollback rule of {flag.key} sees nothing",
        text=f"{missing}. Rule: {rule.text}. It is no guard until there is data again.", path=f"release/flags/{flag.key}/rules/",
        permission=Permission.VIEW, key=f"rollback_rule:{rule.pk}:frozen:{since:%Y%m%dT%H%M%S}", data={"flag": flag.key, "rule": rule.pk}, at=at,
    )  # fmt: skip


@transaction.atomic
def tell_watcher_away(*, at: datetime | None = None) -> bool:
    """Tell people, once for each time, that rules are armed and nobody looks. The watcher's own watch runs apart from it."""
    at = at or timezone.now()
    since = selectors.watcher_away_since(at=at)
    if since is None:
        return False
    alerts.notify(
        topic="rollback_watcher.away", severity=Severity.CRITICAL, title="Rollback rules are armed, and nobody looks",
        text=f"The watcher last looked at {since:%Y-%m-%d %H:%M:%S} UTC. Exposure can't be raised until it does again. Look at the worker.",
        path="operate/incidents/", permission=Permission.VIEW, key=f"rollback_watcher:{since:%Y%m%dT%H%M%S}", at=at,
    )  # fmt: skip
    return True
