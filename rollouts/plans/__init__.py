"""Rollout plans as data: one YAML file each in `data/`, checked against `schema.py` when it is read."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import yaml

from rollouts.plans.schema import Criterion, Lane, MetricRule, Phase, Plan

FOLDER = Path(__file__).parent / "data"

__all__ = ["Criterion", "Lane", "MetricRule", "Phase", "Plan", "PlanError", "all_plans", "criteria_of", "frozen", "get", "parse", "thaw"]


class PlanError(ValueError):
    """A plan file that can't be used; the message names the place."""


def parse(text: str, *, name: str = "plan") -> Plan:
    """A plan from YAML. Raises PlanError for unknown keys, wrong types and contradictions."""
    try:
        plan = msgspec.convert(yaml.safe_load(text), Plan)
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise PlanError(f"{name}: {error}") from error
    _check(plan, name)
    return plan


def criteria_of(plan: Plan) -> list[Criterion]:
    """Every criterion of every gate, in the plan's order."""
    return [criterion for phase in plan.phases for criterion in phase.gate.criteria]


@cache
def _library() -> dict[str, Plan]:
    plans = [parse(path.read_text(encoding="utf-8"), name=path.name) for path in sorted(FOLDER.glob("*.yaml"))]
    return {plan.key: plan for plan in plans}


def all_plans() -> list[Plan]:
    return list(_library().values())


def get(key: str) -> Plan:
    """KeyError when no such plan ships."""
    return _library()[key]


def frozen(plan: Plan) -> dict[str, object]:
    """Plain JSON values, to be kept with the rollout that was started from the plan."""
    built: dict[str, object] = msgspec.to_builtins(plan)
    return built


def thaw(data: object) -> Plan:
    """The inverse of `frozen`."""
    return msgspec.convert(data, Plan)


def _check(plan: Plan, name: str) -> None:
    phases = [phase.key for phase in plan.phases]
    if len(set(phases)) != len(phases):
        raise PlanError(f"{name}: two phases have the same key")
    for phase in plan.phases:
        keys = [criterion.key for criterion in phase.gate.criteria]
        if len(set(keys)) != len(keys):
            raise PlanError(f"{name}: two criteria of {phase.key} have the same key")
        for criterion in phase.gate.criteria:
            if (criterion.rule is None) == (not criterion.evidence):
                raise PlanError(f"{name}: {phase.key}/{criterion.key} needs either a rule or the evidence of an attestation")
            if (
                criterion.rule is not None
                and not criterion.rule.sustain_times <= criterion.rule.sustain_of <= 1000 * criterion.rule.sustain_times
            ):
                raise PlanError(
                    f"{name}: {phase.key}/{criterion.key} must hold in `sustain_times` of `sustain_of` evaluations, both or neither"
                )
        if all(criterion.severity == "observe" for criterion in phase.gate.criteria):
            raise PlanError(f"{name}: the gate of {phase.key} has no criterion that decides")
    for section in plan.sections:
        if any(len(row) != len(section.columns) for row in section.rows):
            raise PlanError(f"{name}: a row of “{section.title}” does not fit its columns")
