"""The release log as a Markdown document: a rollout's in the shape of the release runbook (founding document 003, §7), and the organisation's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rollouts.models import Phase, ReleaseLogEntry, Rollout
from rollouts.release_lines import TABS, Chosen, Line


def release_log(rollout: Rollout, entries: Iterable[ReleaseLogEntry], phases: Iterable[Phase]) -> str:
    """Head, stages and log, oldest first."""
    plan = rollout.frozen_plan
    lines = [
        f"# Rollout: {rollout.name}",
        "",
        f"Owner: {rollout.owner}  ",
        f"Plan: {plan.title}, version {rollout.plan_version}  ",
        f"Start: {rollout.starts_on.isoformat()}  ",
        f"Stages: {' → '.join(phase.title for phase in phases)}  ",
        f"Status: {rollout.get_status_display()}{' (paused)' if rollout.is_paused else ''}",
        "",
        "## Rollback plan",
        "",
    ]
    for phase in plan.phases:
        lines += [f"### {phase.title}", "", *(f"- {step}" for step in phase.rollback.steps), ""]
    lines += ["## Log", ""]
    lines += [f"- {entry.at:%Y-%m-%d %H:%M} UTC — {' '.join(entry.text.split())}" for entry in entries]
    return "\n".join(lines) + "\n"


def organisation_log(organisation: str, chosen: Chosen, rollout: str, lines: Sequence[Line], *, is_whole: bool, at: datetime) -> str:
    """What was asked for and its lines, oldest first; `lines` come newest first. `rollout` is the name of the chosen one, or empty.

    `is_whole`: there are no older lines.
    """
    narrowed = [
        f"{name}: {value}"
        for name, value in (
            ("Only", TABS[chosen.tab] if chosen.tab else ""),
            ("Rollout", rollout),
            ("From", chosen.first and chosen.first.isoformat()),
            ("To", chosen.last and chosen.last.isoformat()),
        )
        if value
    ]
    told = [
        f"- {line.at:%Y-%m-%d %H:%M} UTC — **{line.what}**, {line.about}{f' ({line.who})' if line.who else ''}: {' '.join(line.text.split())}"
        for line in lines
    ]
    cut = [] if is_whole else [f"Only the newest {len(lines):,} lines: choose days for earlier ones."]
    head = [f"# Release log of {organisation}", "", "  \n".join([*narrowed, f"Written: {at:%Y-%m-%d %H:%M} UTC", *cut]), "", "## Log", ""]
    return "\n".join([*head, *(reversed(told) if told else ["Nothing happened."])]) + "\n"
