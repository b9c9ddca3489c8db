"""The release log as a Markdown document, in the shape of the release runbook (founding document 003, §7)."""

from __future__ import annotations

from collections.abc import Iterable

from rollouts.models import Phase, ReleaseLogEntry, Rollout


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
