"""Rollouts in the five lanes of the board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.contract.flags import BUCKETS, percent_text
from governance.models import Membership
from rollouts import exposure, plans, rules, wording
from rollouts.models import Flag, Gate, Phase, Rollout
from rollouts.waiting_selectors import Waiting, open_gates


@dataclass(frozen=True)
class LaneCell:
    """One rollout in one lane."""

    lane: str
    state: str
    """`past`, `now`, `next`; without a phase of the plan `skipped`, `next` or `none`."""
    phase: Phase | None = None
    gate_glyph: str = ""
    """The verdict of the gate at the lane's left border; empty where there is none."""
    day: int = 0
    share: int = 0
    """How much of the planned time has passed, 0 to 100."""
    when: str = ""


@dataclass(frozen=True)
class Exposed:
    """Whom a rollout's flags reach: the largest share of any of them, since one flag is enough to be exposed."""

    share: float
    """Percent."""
    short: str
    """`8%`"""
    text: str
    """`ai.search.rerank-1: 8% in eu`, a line for each flag."""


@dataclass(frozen=True)
class BoardRow:
    rollout: Rollout
    current: Phase | None
    cells: list[LaneCell]
    gate: Gate | None
    verdicts: list[str]
    blocker: str
    blocker_verdict: str
    asks: str
    is_late: bool
    exposure: Exposed | None = None
    """None: no flag belongs to the rollout, so nothing here knows who is exposed."""


def board(found: Sequence[Rollout], *, membership: Membership | None, now: datetime) -> list[BoardRow]:
    """The rollouts in their lanes. Queries do not grow with the number of rollouts."""
    phases: dict[int, list[Phase]] = {rollout.pk: [] for rollout in found}
    queryset = (
        Phase.objects.filter(rollout__in=[rollout.pk for rollout in found]).select_related("gate", "gate__latest").order_by("position")
    )
    for phase in queryset:
        phases[phase.rollout_id].append(phase)
    flags: dict[int, list[Flag]] = {}
    for flag in Flag.objects.filter(rollout__in=phases, archived_at=None, current__isnull=False).select_related("current").order_by("key"):
        flags.setdefault(flag.rollout_id or 0, []).append(flag)
    asks = {waiting.gate.pk: waiting for waiting in (open_gates(membership) if found else [])}
    return [_row(rollout, phases[rollout.pk], flags.get(rollout.pk, []), asks, now) for rollout in found]


def _exposed(flags: list[Flag]) -> Exposed | None:
    if not flags:
        return None
    share = max(flag.exposure.percentage if flag.exposure.on else 0 for flag in flags)
    text = "; ".join(f"{flag.key}: {exposure.sentence(flag.exposure)}" for flag in flags)
    return Exposed(100 * share / BUCKETS, percent_text(share), text)


def _row(rollout: Rollout, phases: list[Phase], flags: list[Flag], asks: dict[int, Waiting], now: datetime) -> BoardRow:
    current = next((phase for phase in phases if phase.status == Phase.Status.CURRENT), None)
    gate = current.gate if current else None
    records = wording.worst_first(gate.latest.records) if gate and gate.latest else []
    blocking = next(
        (record for record in records if record["severity"] != "observe" and rules.Verdict(record["verdict"]) not in rules.OPENS), None
    )
    if blocking is not None:
        blocker, tone = wording.blocker(blocking), blocking["verdict"]
    elif gate is not None and gate.latest is not None:
        blocker, tone = "Ready to be signed", "pass"
    elif gate is not None:
        blocker, tone = "Not evaluated yet", ""
    else:
        blocker, tone = (
            {"planned": f"Begins on {rollout.starts_on:%b} {rollout.starts_on.day}", "finished": "Finished", "stopped": "Stopped"}.get(
                rollout.status, ""
            ),
            "",
        )
    waiting = asks.get(gate.pk) if gate else None
    return BoardRow(
        rollout=rollout,
        current=current,
        cells=_cells(phases, now),
        gate=gate,
        verdicts=[record["verdict"] for record in records],
        blocker=blocker,
        blocker_verdict=tone,
        asks=waiting.asks if waiting else "",
        is_late=bool(current and current.is_late(now)),
        exposure=_exposed(flags),
    )


def _cells(phases: list[Phase], now: datetime) -> list[LaneCell]:
    """Lanes are five for all plans; where several phases share a lane, the current one stands for it, else the last begun."""
    cells = []
    before: Phase | None = None
    for lane in plans.Lane:
        mine = [phase for phase in phases if phase.lane == lane.value]
        glyph = _gate_glyph(before) if before is not None else ""
        before = None
        if not mine:
            cells.append(LaneCell(lane.value, _gap(lane, phases), gate_glyph=glyph))
            continue
        begun = [phase for phase in mine if phase.status in (Phase.Status.CURRENT, Phase.Status.DONE)]
        phase = next((phase for phase in mine if phase.status == Phase.Status.CURRENT), begun[-1] if begun else mine[0])
        before = mine[-1] if phase.status != Phase.Status.CURRENT else phase
        if phase.status == Phase.Status.CURRENT:
            day, planned = phase.day(now), max(phase.planned_days, 1)
            cells.append(LaneCell(lane.value, "now", phase, glyph, day=day, share=min(100, round(100 * day / planned))))
        elif phase.status == Phase.Status.DONE:
            cells.append(LaneCell(lane.value, "past", phase, glyph, when=_span(phase)))
        else:
            cells.append(LaneCell(lane.value, "next", phase, glyph))
    return cells


def _gap(lane: plans.Lane, phases: list[Phase]) -> str:
    """How a lane without a phase looks: crossed already, still to be crossed, or before or after the plan."""
    order = list(plans.Lane)
    ranks = [order.index(plans.Lane(phase.lane)) for phase in phases]
    here = order.index(lane)
    if not any(rank < here for rank in ranks) or not any(rank > here for rank in ranks):
        return "none"
    begun = (Phase.Status.CURRENT, Phase.Status.DONE)
    return "skipped" if any(phase.status in begun for phase, rank in zip(phases, ranks, strict=True) if rank > here) else "next"


def _gate_glyph(phase: Phase) -> str:
    gate = phase.gate
    if gate.status == Gate.Status.PASSED:
        return "waived" if gate.latest and gate.latest.verdict == "waived" else "pass"
    if gate.status == Gate.Status.REJECTED:
        return "fail"
    return gate.latest.verdict if gate.is_decidable and gate.latest else "waiting"


def _span(phase: Phase) -> str:
    """`Sep 1 – 28`"""
    if not phase.entered_at or not phase.left_at:
        return ""
    start, end = phase.entered_at, phase.left_at
    if start.date() == end.date():
        return f"{start:%b} {start.day}"
    return (
        f"{start:%b} {start.day} – {end.day}"
        if start.month == end.month and end - start < timedelta(days=31)
        else f"{start:%b} {start.day} – {end:%b} {end.day}"
    )
