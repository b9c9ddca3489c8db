"""Anomalies: found by day and by hour, rolled up to where they come from, told once, judged by people.

A pass over a day or an hour is one transaction under a lock, and running it again finds the same: points are kept by their time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from costs import anomaly_selectors as selecting
from costs import detection, drivers
from costs.anomaly_selectors import DAY, DIMENSIONS, HOUR, Series
from costs.errors import AnomalyStateError, AnomalyValueError
from costs.models import Anomaly, AnomalyDimension, AnomalyPeriod, AnomalyRun, AnomalySettings
from costs.periods import hour_of, midnight
from costs.selectors import complete_through
from governance.models import Severity, User
from governance.roles import Permission
from governance.services import alerts, audit

LOCK_SPACE = 0x6A7F
EXPLAINED_SHARE = 0.7
"""Of an alert's excess: a narrower scope with at least this much of it is where it comes from."""
MOST_CAUSES = 3
"""Narrower alerts that may have come together by chance: where so few hold an organisation's or a model's excess, each is its own cause."""
SAME_WITHIN = 7 * DAY
"""An alert of the same scope and direction within this time belongs to the one before."""
OVER_AFTER = 8 * DAY
GROWN = 2.0
"""Times as far off as any day before, from which an anomaly is told again."""
PLANNED_FOR = timedelta(days=14)
LONGEST_PLAN = timedelta(days=366)
MOST_A_PASS = 50
"""Anomalies that one pass writes, the largest first; the run says how many were flagged."""
MOST_CANDIDATES = 4 * MOST_A_PASS
"""Alerts that a pass looks for the cause of, the largest first."""
MOST_NOTICES = 10
"""Of those, how many people are told of one by one."""
GRACE = HOUR
"""After midnight UTC, for calls that arrive late."""
MOST_DAYS_BEHIND = 7
BAND_DAYS = 42
SHIFT_POINTS = 3
"""Days above what was expected, from which a spike is called a new level."""
CONTRIBUTORS = 5
MILLIONTH = Decimal("0.000001")
HIGHEST_FLOOR = Decimal(1_000_000)


@dataclass(frozen=True)
class Candidate:
    """One series above the threshold in one pass. USD."""

    dimension: str
    ref: str
    kind: str
    expected: float
    actual: float
    score: float
    band: list[list[Any]] = field(default_factory=list)
    also: tuple[tuple[str, str], ...] = ()

    @property
    def excess(self) -> float:
        return self.actual - self.expected

    @property
    def scope(self) -> tuple[str, str]:
        return self.dimension, self.ref


# Passes


def detect_due(*, at: datetime | None = None) -> list[AnomalyRun]:
    """Test each whole day that has not been, a week back at most, and the last whole hour, as far as the figures are complete."""
    at = at or timezone.now()
    complete = min(complete_through(), at)
    last_whole = (complete - GRACE).astimezone(UTC).date() - DAY
    newest = AnomalyRun.objects.filter(period=AnomalyPeriod.DAY).order_by("-start").values_list("start", flat=True).first()
    day = max(newest.astimezone(UTC).date() + DAY if newest else last_whole, last_whole - (MOST_DAYS_BEHIND - 1) * DAY)
    runs = []
    while day <= last_whole:
        runs.append(detect_day(day=day, at=at))
        day += DAY
    hour = hour_of(complete)
    if at - hour < 2 * HOUR and not AnomalyRun.objects.filter(period=AnomalyPeriod.HOUR, start=hour - HOUR).exists():
        runs.append(detect_hour(end=hour, at=at))
    return runs


@transaction.atomic
def detect_day(*, day: date, at: datetime | None = None) -> AnomalyRun:
    """Test every series on one UTC day by the days before it. Again, it brings the day's figures up to date and tells nothing twice.

    Writes an audit entry and a notice for each new anomaly, and closes those that are over.
    """
    at = at or timezone.now()
    _lock()
    chosen = selecting.settings()
    threshold = detection.THRESHOLDS[chosen.sensitivity]
    floor = float(selecting.floor_in_force(chosen, day))
    found, tested = _flag_day(selecting.daily(day), day, floor, threshold)
    span = (midnight(day), midnight(day + DAY))
    told = _tell_all(found, chosen, AnomalyPeriod.DAY, span, at)
    _close_over(span[1], at)
    return _record_run(AnomalyPeriod.DAY, span[0], tested, len(found), told, at)


@transaction.atomic
def detect_hour(*, end: datetime, at: datetime | None = None) -> AnomalyRun:
    """Look for runaway loops in the hours before `end` (a whole hour). As `detect_day`."""
    at = at or timezone.now()
    _lock()
    chosen = selecting.settings()
    threshold = detection.THRESHOLDS[chosen.sensitivity]
    floor = float(selecting.floor_in_force(chosen, (end - DAY).astimezone(UTC).date()))
    series = selecting.hourly(end, floor)
    result = detection.runaway(series.spend, floor, threshold)
    found = [
        Candidate(
            *series.scopes[row], Anomaly.Kind.RUNAWAY, float(result.expected[row]), float(result.actual[row]), float(result.score[row])
        )
        for row in np.flatnonzero(result.is_runaway).tolist()
    ]
    span = (end - detection.EXCESS_HOURS * HOUR, end)
    told = _tell_all(found, chosen, AnomalyPeriod.HOUR, span, at)
    return _record_run(AnomalyPeriod.HOUR, end - HOUR, int(result.is_tested.sum()), len(found), told, at)


def _flag_day(series: Series, day: date, floor: float, threshold: float) -> tuple[list[Candidate], int]:
    """The series that are above the threshold on the last day, and how many were tested."""
    walk = detection.walk(series.spend, series.calls, floor, threshold)
    flagged = detection.flag(series.spend, walk, floor, threshold)
    found = []
    for row in np.flatnonzero(flagged.any[:, -1]).tolist():
        expected, actual = float(flagged.expected[row, -1]), float(series.spend[row, -1])
        kind = (
            Anomaly.Kind.DROP
            if actual < expected
            else Anomaly.Kind.RAMP
            if flagged.ramp[row, -1]
            else Anomaly.Kind.UNIT_COST
            if flagged.unit[row, -1]
            else Anomaly.Kind.SPIKE
        )
        columns = (walk.low[row], walk.expected[row], walk.high[row], series.spend[row])
        band = [
            [(day - back * DAY).isoformat(), *(_number(column[-1 - back]) for column in columns)]
            for back in reversed(range(min(BAND_DAYS, series.spend.shape[1])))
        ]
        found.append(Candidate(*series.scopes[row], kind, expected, actual, float(flagged.score[row, -1]), band))
    return found, int(np.sum(~np.isnan(walk.z[:, -1])))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", [LOCK_SPACE])


def _record_run(period: str, start: datetime, series: int, flagged: int, told: int, at: datetime) -> AnomalyRun:
    run, _ = AnomalyRun.objects.update_or_create(
        period=period, start=start, defaults={"series": series, "flagged": flagged, "told": told, "finished_at": at}
    )
    return run


# Where it comes from


def roll_up(found: Sequence[Candidate], muted: Sequence[str], spans: list[tuple[datetime, datetime]]) -> list[Candidate]:
    """One alert per cause: each candidate moves to the narrowest scope that holds at least 70% of its excess, and meets others there.

    What then still stands inside a wider one joins it, see `_gather`.
    """
    own = {candidate.scope: candidate for candidate in found}
    places: dict[tuple[str, str], Candidate] = {}
    for candidate in sorted(found, key=lambda one: (-DIMENSIONS.index(one.dimension), -abs(one.excess))):
        target = _source(candidate, spans)
        if f"{target.dimension}:{target.ref}" in muted or f"{candidate.dimension}:{candidate.ref}" in muted:
            continue
        target = own.get(target.scope, target)
        places[target.scope] = _joined(places.get(target.scope, target), [candidate.scope])
    return sorted(_gather(places, spans), key=lambda one: -abs(one.excess))


def _joined(candidate: Candidate, scopes: Iterable[tuple[str, str]]) -> Candidate:
    """The candidate, standing for these scopes too, the widest first."""
    return replace(candidate, also=tuple(sorted({*candidate.also, *scopes} - {candidate.scope}, key=_width)))


def _width(scope: tuple[str, str]) -> tuple[int, str]:
    return DIMENSIONS.index(scope[0]), scope[1]


def _gather(places: dict[tuple[str, str], Candidate], spans: list[tuple[datetime, datetime]]) -> list[Candidate]:
    """Alerts inside a wider one that none of them explains alone: they are its parts, a project's or key's always.

    An organisation and a model are shared by what has nothing to do with one another, so there it takes many parts, or dearer calls of the
    model itself; else the wider alert is what a few causes add up to, and joins the largest of them.
    """
    left = dict(places)
    for wide in sorted(places.values(), key=lambda one: -DIMENSIONS.index(one.dimension)):
        inside = _inside(wide, left, spans)
        if not inside:
            continue
        largest = sorted(inside, key=lambda one: -abs(one.excess))
        is_shared = wide.dimension in (AnomalyDimension.TENANT, AnomalyDimension.MODEL) and wide.kind != Anomaly.Kind.UNIT_COST
        if is_shared and sum(abs(one.excess) for one in largest[:MOST_CAUSES]) >= EXPLAINED_SHARE * abs(wide.excess):
            del left[wide.scope]
            left[largest[0].scope] = _joined(largest[0], [wide.scope, *wide.also])
            continue
        for one in inside:
            del left[one.scope]
        left[wide.scope] = _joined(wide, [scope for one in inside for scope in (one.scope, *one.also)])
    return list(left.values())


def _inside(wide: Candidate, places: Mapping[tuple[str, str], Candidate], spans: list[tuple[datetime, datetime]]) -> list[Candidate]:
    """Narrower alerts in the same direction that have at least 70% of their excess within this one."""
    found = []
    for by in DIMENSIONS[DIMENSIONS.index(wide.dimension) + 1 :]:
        narrower = {one.ref: one for one in places.values() if one.dimension == by and (one.excess > 0) == (wide.excess > 0)}
        if not narrower:
            continue
        for ref, expected, actual in contributors(wide.dimension, wide.ref, by, spans, wide.expected, wide.actual):
            one = narrower.get(ref)
            if one is not None and one.excess and (actual - expected) / one.excess >= EXPLAINED_SHARE:
                found.append(one)
    return found


def _source(candidate: Candidate, spans: list[tuple[datetime, datetime]]) -> Candidate:
    """The candidate itself, or the narrowest known scope inside it that explains it."""
    for by in reversed(DIMENSIONS[DIMENSIONS.index(candidate.dimension) + 1 :]):
        parts = contributors(candidate.dimension, candidate.ref, by, spans, candidate.expected, candidate.actual)
        if not parts or not candidate.excess:
            continue
        ref, expected, actual = parts[0]
        if ref and (actual - expected) / candidate.excess >= EXPLAINED_SHARE:
            return Candidate(by, ref, candidate.kind, expected, actual, candidate.score)
    return candidate


def contributors(
    dimension: str, ref: str, by: str, spans: list[tuple[datetime, datetime]], expected: float, actual: float
) -> list[tuple[str, float, float]]:
    """(ref, expected, actual) of each value of another dimension, the one that explains most first; they sum to the whole.

    What was expected of the whole is shared out by what each spent on the same weekdays of the four weeks before.
    """
    rows = selecting.compared(dimension, ref, by, spans)
    before, after = sum(row.before.cost for row in rows), sum(row.after.cost for row in rows)
    parts = [
        (
            row.ref,
            expected * row.before.cost / before if before else expected / len(rows),
            actual * row.after.cost / after if after else 0.0,
        )
        for row in rows
    ]
    sign = 1 if actual >= expected else -1
    return sorted(parts, key=lambda part: (-sign * (part[2] - part[1]), part[0]))


# What is kept and told


def _tell_all(found: list[Candidate], chosen: AnomalySettings, period: str, span: tuple[datetime, datetime], at: datetime) -> int:
    """Write or extend an anomaly for each cause. Returns how many are new."""
    new = 0
    going_on: dict[int, tuple[Anomaly, list[Candidate]]] = {}
    largest = sorted(found, key=lambda one: -abs(one.excess))[:MOST_CANDIDATES]
    for candidate in roll_up(largest, chosen.muted, [span])[:MOST_A_PASS]:
        before = _before(candidate, span)
        if before is not None:
            going_on.setdefault(before.pk, (before, []))[1].append(candidate)
            continue
        made = _create(candidate, period, span, at)
        new += 1
        if new <= MOST_NOTICES:
            _notify(made, at)
    for before, candidates in going_on.values():
        _extend(before, _of_its_scope(before, candidates, span), period, span, at)
    return new


def _before(candidate: Candidate, span: tuple[datetime, datetime]) -> Anomaly | None:
    """The anomaly that this is more of: same direction, lately, or announced as planned; else a wider one that it was a part of just before.

    What is planned of a wide scope is planned of its sum: it keeps none of its parts quiet.
    """
    lately = span[0] - (DAY if candidate.kind == Anomaly.Kind.RUNAWAY else SAME_WITHIN)
    same = Anomaly.objects.select_for_update().exclude(kind=Anomaly.Kind.REPORTED).filter(first_at__lt=span[1])
    same = same.filter(Q(last_at__gt=lately) | Q(planned_until__gte=span[0].astimezone(UTC).date()))
    if candidate.kind == Anomaly.Kind.RUNAWAY:  # it must not hide behind a spike of last week; what is planned may run
        same = same.filter(Q(kind=Anomaly.Kind.RUNAWAY) | Q(feedback=Anomaly.Feedback.PLANNED))
    same = (same.filter(excess__gt=0) if candidate.excess > 0 else same.filter(excess__lt=0)).order_by("-first_at")
    own = same.filter(dimension=candidate.dimension, ref=candidate.ref).first()
    if own is not None:
        return own
    wider = same.filter(selecting.stands_for(*candidate.scope), dimension__in=DIMENSIONS[: DIMENSIONS.index(candidate.dimension)])
    return wider.filter(last_at__gte=span[0]).exclude(feedback=Anomaly.Feedback.PLANNED).first()


def _of_its_scope(anomaly: Anomaly, candidates: Sequence[Candidate], span: tuple[datetime, datetime]) -> Candidate:
    """What was found of an anomaly that goes on: of its own scope, or that off by as much as those of its parts are that go on alone.

    Parts of two dimensions may hold the same calls, so those of the one count that explains most.
    """
    own = next((one for one in candidates if one.scope == (anomaly.dimension, anomaly.ref)), None)
    if own is not None:
        return own
    [whole] = selecting.compared(anomaly.dimension, anomaly.ref, "tenant", [span])
    largest, actual = max(candidates, key=lambda one: abs(one.excess)), whole.after.cost
    excesses: dict[str, float] = defaultdict(float)
    for one in candidates:
        excesses[one.dimension] += one.excess
    expected = max(actual - max(excesses.values(), key=abs), 0.0)
    day = span[0].date().isoformat()
    band = [*(one for one in anomaly.band if one[0] != day), [day, None, _number(expected), None, _number(actual)]] if anomaly.band else []
    return Candidate(anomaly.dimension, anomaly.ref, largest.kind, expected, actual, largest.score, band)


def _create(candidate: Candidate, period: str, span: tuple[datetime, datetime], at: datetime) -> Anomaly:
    made = Anomaly(
        dimension=candidate.dimension, ref=candidate.ref, period=period, kind=candidate.kind,
        first_at=span[0], last_at=span[1], score=0.0, created_at=at,
    )  # fmt: skip
    made.points = [_point(candidate, span)]
    made.band, made.also = candidate.band, [list(scope) for scope in candidate.also]
    _explain(made)
    made.save()
    audit.record(
        "anomaly.detected",
        actor=None,
        target=made,
        at=at,
        kind=made.kind,
        dimension=made.dimension,
        ref=made.ref,
        expected=str(made.expected),
        actual=str(made.actual),
    )
    return made


def _extend(anomaly: Anomaly, candidate: Candidate, period: str, span: tuple[datetime, datetime], at: datetime) -> None:
    """Add what was found to an anomaly that is known. The figures of a day take the place of those of its hours.

    A day that is twice as far off as any before it is told again, and opens it again, unless it is planned.
    """
    if anomaly.period == AnomalyPeriod.DAY and period == AnomalyPeriod.HOUR:
        return  # the night's pass brings the whole day
    point = _point(candidate, span)
    is_new = all(datetime.fromisoformat(one["at"]) != span[0] for one in anomaly.points)
    kept = [one for one in anomaly.points if not span[0] <= datetime.fromisoformat(one["at"]) < span[1]]
    if period == AnomalyPeriod.HOUR:  # hours overlap from pass to pass: the loudest six stand for the stretch
        kept, anomaly.last_at = [], max(anomaly.last_at, span[1])
        point = max([*anomaly.points, point], key=lambda one: Decimal(one["actual"]))
    else:
        anomaly.period = AnomalyPeriod.DAY
        kept = [one for one in kept if datetime.fromisoformat(one["until"]) - datetime.fromisoformat(one["at"]) == DAY]
    anomaly.points = sorted([*kept, point], key=lambda one: str(one["at"]))
    if period == AnomalyPeriod.DAY:
        anomaly.first_at = datetime.fromisoformat(anomaly.points[0]["at"])
        anomaly.last_at = datetime.fromisoformat(anomaly.points[-1]["until"])
    anomaly.band = candidate.band or anomaly.band
    anomaly.also = [list(scope) for scope in sorted({*map(tuple, anomaly.also), *candidate.also}, key=_width)]
    if anomaly.kind == Anomaly.Kind.SPIKE and len(anomaly.points) >= SHIFT_POINTS:
        anomaly.kind = Anomaly.Kind.SHIFT
    _explain(anomaly)
    worst = max((abs(Decimal(one["actual"]) - Decimal(one["expected"])) for one in kept), default=None)
    has_grown = is_new and worst is not None and abs(candidate.excess) >= GROWN * float(worst)
    if has_grown and anomaly.feedback != Anomaly.Feedback.PLANNED:
        anomaly.status = Anomaly.Status.OPEN
    anomaly.save()
    if has_grown and anomaly.feedback != Anomaly.Feedback.PLANNED:
        audit.record("anomaly.grew", actor=None, target=anomaly, at=at, expected=point["expected"], actual=point["actual"])
        _notify(anomaly, at, key=f"anomaly:{anomaly.pk}:{span[0]:%Y-%m-%d}")


def _point(candidate: Candidate, span: tuple[datetime, datetime]) -> dict[str, Any]:
    return {
        "at": span[0].isoformat(),
        "until": span[1].isoformat(),
        "expected": str(_exact(candidate.expected)),
        "actual": str(_exact(candidate.actual)),
        "score": round(candidate.score, 2),
    }


def _exact(value: float) -> Decimal:
    return Decimal(value).quantize(MILLIONTH)


def _explain(anomaly: Anomaly) -> None:
    """Sums of its points, and why: drivers that add up to the excess, and who contributed."""
    anomaly.expected = sum((Decimal(point["expected"]) for point in anomaly.points), Decimal())
    anomaly.actual = sum((Decimal(point["actual"]) for point in anomaly.points), Decimal())
    anomaly.excess = anomaly.actual - anomaly.expected
    anomaly.score = max(abs(point["score"]) for point in anomaly.points)
    spans = [(datetime.fromisoformat(point["at"]), datetime.fromisoformat(point["until"])) for point in anomaly.points]
    [whole] = selecting.compared(anomaly.dimension, anomaly.ref, "tenant", spans)
    anomaly.drivers = [
        [name, str(amount)]
        for name, amount in drivers.split(
            expected=anomaly.expected,
            actual=anomaly.actual,
            before=whole.before,
            after=whole.after,
            price_ratio=selecting.price_ratio(anomaly.dimension, anomaly.ref, spans),
        )
    ]
    money = float(anomaly.expected), float(anomaly.actual)
    anomaly.contributors = [
        {
            "dimension": by,
            "ref": ref,
            "expected": str(_exact(expected)),
            "actual": str(_exact(actual)),
            "excess": str(_exact(actual) - _exact(expected)),
        }
        for by in DIMENSIONS[1:]
        if by != anomaly.dimension
        for ref, expected, actual in contributors(anomaly.dimension, anomaly.ref, by, spans, *money)[:CONTRIBUTORS]
    ]


def _close_over(end: datetime, at: datetime) -> None:
    """Nothing new for eight days: it is over, or its level is the new normal."""
    over = Anomaly.objects.select_for_update().exclude(status=Anomaly.Status.CLOSED).filter(last_at__lte=end - OVER_AFTER)
    for one in over.exclude(kind=Anomaly.Kind.REPORTED):
        one.status = Anomaly.Status.CLOSED
        one.save(update_fields=["status"])
        audit.record("anomaly.ended", actor=None, target=one, at=at, last_at=one.last_at.isoformat())


def _notify(anomaly: Anomaly, at: datetime, key: str = "") -> None:
    down, scope = anomaly.is_drop, (anomaly.dimension, anomaly.ref)
    name = (
        anomaly.scope_text
        if anomaly.dimension == AnomalyDimension.TENANT
        else " ".join((anomaly.get_dimension_display().lower(), selecting.labels([scope])[scope]))
    )
    alerts.notify(
        topic="cost.anomaly",
        severity=Severity.CRITICAL if anomaly.kind == Anomaly.Kind.RUNAWAY else Severity.INFO if down else Severity.WARNING,
        title=f"{anomaly.get_kind_display()}: {name} {abs(anomaly.excess):,.2f} USD {'below' if down else 'above'} expected",
        text=f"{anomaly.actual:,.2f} USD where {anomaly.expected:,.2f} were expected, mostly by "
        f"{drivers.LABELS[anomaly.top_driver].lower()}. Say whether it is real, planned or a false alert: it makes the next ones better.",
        key=key or f"anomaly:{anomaly.pk}",
        path=f"operate/costs/anomalies/{anomaly.pk}/",
        permission=Permission.VIEW_COSTS,
        data={
            "kind": anomaly.kind,
            "dimension": anomaly.dimension,
            "ref": anomaly.ref,
            "expected_usd": str(anomaly.expected),
            "actual_usd": str(anomaly.actual),
            "excess_usd": str(anomaly.excess),
            "driver": anomaly.top_driver,
        },
        at=at,
    )


# What people do


@transaction.atomic
def give_feedback(
    *, anomaly: Anomaly, actor: User, feedback: str, note: str = "", planned_until: date | None = None, at: datetime | None = None
) -> Anomaly:
    """Judge it: `true` acknowledges it (also what was a false alert before), `planned` also keeps the scope quiet up to `planned_until` (two weeks), `false` closes it.

    May be given again; the last one counts. Writes one audit entry. Raises AnomalyValueError.
    """
    anomaly, at = _locked(anomaly), at or timezone.now()
    if feedback not in (Anomaly.Feedback.TRUE, Anomaly.Feedback.PLANNED, Anomaly.Feedback.FALSE):
        raise AnomalyValueError("Choose true, planned or false.", field="feedback")
    if len(note.strip()) > 400:
        raise AnomalyValueError("A note has 400 characters at most.", field="note")
    today = at.astimezone(UTC).date()
    if feedback != Anomaly.Feedback.PLANNED and planned_until is not None:
        raise AnomalyValueError("Only what is planned has an end.", field="planned_until")
    if planned_until is not None and not today <= planned_until <= today + LONGEST_PLAN:
        raise AnomalyValueError("It ends today or later, within a year.", field="planned_until")
    was_false = anomaly.feedback == Anomaly.Feedback.FALSE
    anomaly.feedback, anomaly.feedback_note, anomaly.feedback_by, anomaly.feedback_at = feedback, note.strip(), actor, at
    anomaly.planned_until = (planned_until or today + PLANNED_FOR) if feedback == Anomaly.Feedback.PLANNED else None
    if feedback == Anomaly.Feedback.FALSE:
        anomaly.status = Anomaly.Status.CLOSED
    elif anomaly.status == Anomaly.Status.OPEN or was_false:
        anomaly.status = Anomaly.Status.ACKNOWLEDGED
    anomaly.save()
    audit.record(
        "anomaly.judged",
        actor=actor,
        target=anomaly,
        at=at,
        feedback=feedback,
        note=anomaly.feedback_note,
        planned_until=anomaly.planned_until.isoformat() if anomaly.planned_until else None,
    )
    return anomaly


@transaction.atomic
def withdraw_feedback(*, anomaly: Anomaly, actor: User) -> Anomaly:
    """Take back what was said of it: nobody has judged it, and it is open again. Writes one audit entry.

    Raises AnomalyStateError (nobody has judged it, or a person reported it).
    """
    anomaly = _locked(anomaly)
    if not anomaly.feedback:
        raise AnomalyStateError("Nobody has said anything of it.")
    if anomaly.kind == Anomaly.Kind.REPORTED:
        raise AnomalyStateError("A person reported it: say what it is, if not real.")
    taken_back, anomaly.feedback, anomaly.feedback_note = anomaly.feedback, "", ""
    anomaly.feedback_by, anomaly.feedback_at, anomaly.planned_until = None, None, None
    anomaly.status = Anomaly.Status.OPEN
    anomaly.save()
    audit.record("anomaly.feedback_withdrawn", actor=actor, target=anomaly, feedback=taken_back)
    return anomaly


@transaction.atomic
def acknowledge(*, anomaly: Anomaly, actor: User) -> Anomaly:
    """Somebody looks after it. Writes one audit entry. Raises AnomalyStateError (it is not open)."""
    anomaly = _locked(anomaly)
    if anomaly.status != Anomaly.Status.OPEN:
        raise AnomalyStateError("It is not open.")
    return _set_status(anomaly, actor, Anomaly.Status.ACKNOWLEDGED, "anomaly.acknowledged")


@transaction.atomic
def close(*, anomaly: Anomaly, actor: User) -> Anomaly:
    """Done with. Writes one audit entry. Raises AnomalyStateError (closed before)."""
    anomaly = _locked(anomaly)
    if anomaly.status == Anomaly.Status.CLOSED:
        raise AnomalyStateError("It is closed already.")
    return _set_status(anomaly, actor, Anomaly.Status.CLOSED, "anomaly.closed")


@transaction.atomic
def report_missed(*, actor: User, day: date, dimension: str, ref: str = "", note: str, at: datetime | None = None) -> Anomaly:
    """A person saw what the tests did not: it counts against the detection rate. Figures by the same weekday of the four weeks before.

    Writes one audit entry. Raises AnomalyValueError, or AnomalyStateError (one of that scope and day is known).
    """
    at = at or timezone.now()
    if dimension not in AnomalyDimension.values:
        raise AnomalyValueError(f"Choose one of {', '.join(AnomalyDimension.values)}.", field="dimension")
    if (dimension == AnomalyDimension.TENANT) != (ref == ""):
        raise AnomalyValueError("Name what it is about; the whole organisation has no name.", field="ref")
    if not at.astimezone(UTC).date() - 366 * DAY <= day <= at.astimezone(UTC).date():
        raise AnomalyValueError("A day of the last year.", field="day")
    if not note.strip() or len(note.strip()) > 400:
        raise AnomalyValueError("Say what happened, in 400 characters at most.", field="note")
    span = (midnight(day), midnight(day + DAY))
    if Anomaly.objects.filter(dimension=dimension, ref=ref, first_at__lt=span[1], last_at__gt=span[0]).exists():
        raise AnomalyStateError("One of that scope and day is known already.")
    [whole] = selecting.compared(dimension, ref, "tenant", [span])
    if not whole.after.cost and not whole.before.cost:
        raise AnomalyValueError("There is no spend of that on the day or in the four weeks before.", field="ref")
    candidate = Candidate(dimension, ref, Anomaly.Kind.REPORTED, whole.before.cost / whole.days, whole.after.cost, 0.0)
    made = Anomaly(
        dimension=dimension, ref=ref, period=AnomalyPeriod.DAY, kind=Anomaly.Kind.REPORTED, first_at=span[0], last_at=span[1],
        score=0.0, created_at=at, status=Anomaly.Status.ACKNOWLEDGED, feedback=Anomaly.Feedback.TRUE,
        feedback_note=note.strip(), feedback_by=actor, feedback_at=at,
    )  # fmt: skip
    made.points = [_point(candidate, span)]
    _explain(made)
    made.save()
    audit.record("anomaly.reported", actor=actor, target=made, at=at, dimension=dimension, ref=ref, day=day.isoformat(), note=note.strip())
    return made


@transaction.atomic
def change_settings(
    *,
    actor: User,
    sensitivity: str | None = None,
    floor: Decimal | None = None,
    floor_percent: Decimal | None = None,
    muted: Sequence[str] | None = None,
) -> AnomalySettings:
    """What is left out stays. The same values change nothing. Writes one audit entry. Raises AnomalyValueError."""
    _lock()
    chosen = selecting.settings()
    before = _facts(chosen)
    if sensitivity is not None:
        if sensitivity not in AnomalySettings.Sensitivity.values:
            raise AnomalyValueError("Choose low, medium or high.", field="sensitivity")
        chosen.sensitivity = sensitivity
    if floor is not None:
        if not floor.is_finite() or not 0 < floor <= HIGHEST_FLOOR or floor != round(floor, 2):
            raise AnomalyValueError("More than 0 USD, in whole cents.", field="floor")
        chosen.floor = floor
    if floor_percent is not None:
        if not floor_percent.is_finite() or not 0 <= floor_percent <= 100 or floor_percent != round(floor_percent, 2):
            raise AnomalyValueError("0 to 100 percent, with two decimals at most.", field="floor_percent")
        chosen.floor_percent = floor_percent
    if muted is not None:
        wanted = sorted({one.strip() for one in muted if one.strip()})
        for one in wanted:
            dimension, colon, ref = one.partition(":")
            if dimension not in DIMENSIONS[1:] or not colon or not ref or len(one) > 210:
                raise AnomalyValueError(f"{one[:60]} is not <dimension>:<name>, for example agent:night-batch.", field="muted")
        chosen.muted = wanted
    after = _facts(chosen)
    if after != before:
        chosen.save()
        audit.record(
            "anomaly.settings_changed",
            actor=actor,
            before={name: before[name] for name in before if before[name] != after[name]},
            after={name: after[name] for name in after if before[name] != after[name]},
        )
    return chosen


def _facts(chosen: AnomalySettings) -> dict[str, Any]:
    return {
        "sensitivity": chosen.sensitivity,
        "floor": f"{chosen.floor:.2f}",
        "floor_percent": f"{chosen.floor_percent:.2f}",
        "muted": list(chosen.muted),
    }


def _set_status(anomaly: Anomaly, actor: User, status: str, event: str) -> Anomaly:
    anomaly.status = status
    anomaly.save(update_fields=["status"])
    audit.record(event, actor=actor, target=anomaly)
    return anomaly


def _locked(anomaly: Anomaly) -> Anomaly:
    return Anomaly.objects.select_for_update(of=("self",)).get(pk=anomaly.pk)
