"""The release log of the organisation: what changed for callers, of all rollouts, flags, experiments, traffic shifts and incidents, newest first.

Nothing is written for it: each line is read from the record of what happened, which is only added to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.urls import reverse
from django.utils.dateparse import parse_date

from governance.pages import PAGE_SIZE
from rollouts import exposure
from rollouts.models import Experiment, FlagChange, Incident, ReleaseLogEntry, Rollback, Shift

TABS = {
    "": "Everything", "rollouts": "Rollouts", "flags": "Exposure", "experiments": "Experiments", "shifts": "Traffic shifts",
    "incidents": "Incidents",
}  # fmt: skip
EXPORTED_AT_ONCE = 500
EXPORTED_AT_MOST = 5_000
"""Lines of one file, which is laid out as a whole, oldest first."""


@dataclass(frozen=True)
class Line:
    at: datetime
    what: str
    glyph: str
    """The verdict whose silhouette stands beside it, or empty."""
    about: str
    page: tuple[str, *tuple[str | int, ...]]
    """What it is about: the name of the page's route, and its arguments."""
    who: str
    text: str

    @property
    def url(self) -> str:
        return reverse(self.page[0], args=self.page[1:])


@dataclass(frozen=True)
class Chosen:
    """Which lines. Empty fields choose all."""

    tab: str = ""
    rollout: str = ""
    """Slug: its own lines, and those of its flags."""
    first: date | None = None
    last: date | None = None
    """UTC days, both included."""


@dataclass(frozen=True)
class _Source:
    tab: str
    rows: Callable[[Chosen], QuerySet[Any]]
    at: str
    """Path to the moment, never null among the rows."""
    rollout: str
    """Path to the slug of the rollout."""
    line: Callable[[Any], Line]


def chosen_from(query: Mapping[str, str]) -> Chosen:
    """From `kind`, `rollout`, `from` and `to`. What makes no sense chooses nothing."""
    tab = query.get("kind", "")
    rollout = query.get("rollout", "").strip().replace("\0", "")
    return Chosen(tab if tab in TABS else "", rollout, _day(query.get("from", "")), _day(query.get("to", "")))


def _day(text: str) -> date | None:
    try:
        return parse_date(text)
    except ValueError:  # well-formed, and no day: 2026-02-30
        return None


def release_lines(chosen: Chosen, *, cursor: str = "", size: int = PAGE_SIZE) -> tuple[list[Line], str]:
    """One page, newest first, and the cursor of the older ones (empty at the end). Asks each source once for a page of its own.

    A cursor that is not ours means the first page.
    """
    after = _decode(cursor)
    found: list[tuple[datetime, int, int, Any]] = []
    for rank, source in enumerate(_SOURCES):
        if chosen.tab in ("", source.tab):
            rows = _older(source, _within(source, chosen), rank, after).order_by(f"-{source.at}", "-pk")[: size + 1]
            found += [(_moment(row, source.at), -rank, row.pk, row) for row in rows]
    found.sort(key=lambda each: each[:3], reverse=True)
    page = found[:size]
    following = _encode(*page[-1][:3]) if len(found) > size else ""
    return [_SOURCES[-rank].line(row) for _, rank, _, row in page], following


def all_lines(chosen: Chosen) -> Iterator[Line]:
    """All of them, newest first, read by the page."""
    cursor = None
    while cursor != "":
        lines, cursor = release_lines(chosen, cursor=cursor or "", size=EXPORTED_AT_ONCE)
        yield from lines


def _within(source: _Source, chosen: Chosen) -> QuerySet[Any]:
    rows = source.rows(chosen)
    if chosen.rollout:
        rows = rows.filter(**{source.rollout: chosen.rollout})
    if chosen.first:
        rows = rows.filter(**{f"{source.at}__gte": datetime.combine(chosen.first, time(), UTC)})
    if chosen.last and chosen.last < date.max:
        rows = rows.filter(**{f"{source.at}__lt": datetime.combine(chosen.last + timedelta(days=1), time(), UTC)})
    return rows


def _older(source: _Source, rows: QuerySet[Any], rank: int, after: tuple[datetime, int, int] | None) -> QuerySet[Any]:
    if after is None:
        return rows
    at, place, pk = after
    condition = Q(**{f"{source.at}__lt": at})
    if rank == place:
        condition |= Q(**{source.at: at, "pk__lt": pk})
    elif rank > place:  # of the same moment those sources come later that stand later in the list
        condition |= Q(**{source.at: at})
    return rows.filter(condition)


def _moment(row: Any, path: str) -> datetime:
    value: Any = row
    for part in path.split("__"):
        value = getattr(value, part)
    assert isinstance(value, datetime)
    return value


def _encode(at: datetime, rank: int, pk: int) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%S.%f}_{-rank}_{pk}"


def _decode(cursor: str) -> tuple[datetime, int, int] | None:
    try:
        at, rank, pk = cursor.split("_")
        return datetime.strptime(at, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC), int(rank), min(int(pk), 2**63 - 1)
    except ValueError:
        return None


# Sources


def _entry(entry: ReleaseLogEntry) -> Line:
    rollout = entry.rollout
    page = ("gate-detail", rollout.slug, entry.gate.number) if entry.gate else ("rollout-detail", rollout.slug)
    return Line(entry.at, entry.get_kind_display(), entry.glyph, rollout.name, page, entry.actor_name, entry.text)


def _changes(chosen: Chosen) -> QuerySet[FlagChange]:
    """What took effect. Those of rollback rules are told as incidents; where everything is asked for, those of a phase that was rolled back
    stand in its rollout's own lines already.
    """
    applied = FlagChange.objects.filter(status=FlagChange.Status.APPLIED, incident=None, version__isnull=False)
    if not chosen.tab:
        # A phase is rolled back with its flags in one act of one moment.
        with_phase = Rollback.objects.filter(rollout=OuterRef("flag__rollout"), started_at=OuterRef("version__at"))
        applied = applied.exclude(Exists(with_phase), is_emergency=True)
    return applied.select_related("flag", "version", "base", "proposed_by", "decided_by")


def _change(change: FlagChange) -> Line:
    assert change.version is not None
    differences = [
        f"{what.lower()} {' '.join(before.split())} → {' '.join(after.split())}"
        for what, before, after in exposure.differences(change.base.exposed, change.exposed)
    ]
    who = change.proposer[:1].upper() + change.proposer[1:]
    if change.decided_by and change.decided_by_id != change.proposed_by_id:
        who = f"{who}, agreed by {change.decided_by}"
    text = f"{'; '.join(differences) or 'nothing differs'}. {change.reason}"
    what, glyph = ("Lowered at once", "fail") if change.is_emergency else ("Exposure", "")
    return Line(change.version.at, what, glyph, change.flag.key, ("flag-detail", change.flag.key), who, text[:1].upper() + text[1:])


def _incidents(chosen: Chosen) -> QuerySet[Incident]:
    """Where everything is asked for, those of a rollout's flags stand in the rollout's own lines already."""
    found = Incident.objects.select_related("flag", "resolved_by")
    return found if chosen.tab else found.filter(flag__rollout=None)


def _opened(incident: Incident) -> Line:
    page = ("incident-detail", incident.number)
    return Line(incident.opened_at, "Rollback", "fail", str(incident), page, "A rollback rule", incident.title)


def _resolved(incident: Incident) -> Line:
    assert incident.resolved_at is not None
    page = ("incident-detail", incident.number)
    return Line(incident.resolved_at, "Resolved", "pass", str(incident), page, str(incident.resolved_by), incident.resolution)


def _started(experiment: Experiment) -> Line:
    assert experiment.started_at is not None
    page = ("experiment-detail", experiment.slug)
    text = f"Begins on {experiment.flag.key}: {experiment.hypothesis}"
    return Line(experiment.started_at, "Experiment", "", experiment.name, page, str(experiment.started_by), text)


def _decided(experiment: Experiment) -> Line:
    assert experiment.decided_at is not None
    page = ("experiment-detail", experiment.slug)
    winner = f" {experiment.winner}" if experiment.winner else ""
    text = f"Decided: {experiment.get_decision_display().lower()}{winner}. {experiment.note}"
    return Line(experiment.decided_at, "Experiment", "", experiment.name, page, str(experiment.decided_by or "By itself"), text.strip())


def _shift_begun(shift: Shift) -> Line:
    text = f"Begins on {shift.flag.key}, to {shift.challenger} by {', '.join(f'{step}%' for step in shift.steps)}"
    return Line(shift.created_at, "Traffic shift", "", shift.name, ("shift-detail", shift.slug), str(shift.proposer), text)


def _shift_ended(shift: Shift) -> Line:
    assert shift.ended_at is not None
    text = f"{shift.get_status_display()}. {shift.reason}".strip()
    return Line(shift.ended_at, "Traffic shift", "", shift.name, ("shift-detail", shift.slug), "", text)


_SOURCES = (
    _Source("rollouts", lambda _: ReleaseLogEntry.objects.select_related("rollout", "gate"), "at", "rollout__slug", _entry),
    _Source("flags", _changes, "version__at", "flag__rollout__slug", _change),
    _Source("incidents", _incidents, "opened_at", "flag__rollout__slug", _opened),
    _Source("incidents", lambda chosen: _incidents(chosen).exclude(resolved_at=None), "resolved_at", "flag__rollout__slug", _resolved),
    _Source(
        "experiments", lambda _: Experiment.objects.select_related("flag", "started_by").exclude(started_at=None), "started_at",
        "flag__rollout__slug", _started,
    ),
    _Source(
        "experiments", lambda _: Experiment.objects.select_related("decided_by").exclude(decided_at=None), "decided_at",
        "flag__rollout__slug", _decided,
    ),
    _Source("shifts", lambda _: Shift.objects.select_related("flag", "proposer"), "created_at", "flag__rollout__slug", _shift_begun),
    _Source("shifts", lambda _: Shift.objects.exclude(ended_at=None), "ended_at", "flag__rollout__slug", _shift_ended),
)  # fmt: skip
