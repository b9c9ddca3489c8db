"""The plans against the founding documents. The numbers are counted in the documents, which are not part of the repository."""

from __future__ import annotations

from collections import Counter

import pytest

from governance import metrics
from rollouts import plans
from rollouts.plans import PlanError
from tests.factories.rollouts import PLAN_YAML

# Lines of the founding documents: for each phase (checked success criteria, rows of the gate, items of a checklist).
FOUNDED = {
    "ai-gateway-governance": {"phase-0": (5, 4, 0), "phase-1": (8, 6, 0), "phase-2": (8, 7, 10), "phase-3": (9, 0, 0)},
    "ai-cost-attribution": {"phase-1": (0, 6, 0), "phase-2": (0, 7, 0), "phase-3": (0, 12, 0), "phase-4": (6, 0, 0)},
}
GATE_ROWS = {
    "phase-0": ["Architecture Review", "Security Review", "Prototype Feedback", "Performance Baseline"],
    "phase-1": ["Partner Satisfaction", "Reliability", "Performance", "Security", "Feedback Incorporation", "Scale Validation"],
    "phase-2": ["Adoption", "Quality", "Performance", "MCP Compatibility", "Security", "Compliance", "Scale"],
}


def test_four_plans_ship() -> None:
    assert [plan.key for plan in plans.all_plans()] == [
        "ai-cost-attribution",
        "ai-feature-rollout",
        "ai-gateway-governance",
        "gateway-adoption",
    ]


@pytest.mark.parametrize("key", FOUNDED)
def test_every_criterion_of_the_founding_document_is_there(key: str) -> None:
    plan = plans.get(key)

    counted = {}
    for phase in plan.phases:
        lines = {(criterion.origin, criterion.group, criterion.quote) for criterion in phase.gate.criteria}
        by_origin = Counter(origin for origin, _, _ in lines)
        counted[phase.key] = (by_origin["success"], by_origin["gate"], by_origin["checklist"])
    assert counted == FOUNDED[key]


def test_gates_of_the_gateway_plan_have_their_rows_and_owners() -> None:
    plan = plans.get("ai-gateway-governance")

    for phase in plan.phases[:3]:
        rows = [criterion for criterion in phase.gate.criteria if criterion.origin == "gate"]
        assert list(dict.fromkeys(criterion.group for criterion in rows)) == GATE_ROWS[phase.key]
        assert all(criterion.owner for criterion in rows)


def test_gateway_plan_is_complete_beyond_its_criteria() -> None:
    plan = plans.get("ai-gateway-governance")

    assert [len(phase.scope) for phase in plan.phases] == [5, 6, 6, 7]
    assert [len(phase.rollback.steps) for phase in plan.phases] == [3, 5, 5, 5]
    assert [phase.rollback.rto_minutes for phase in plan.phases] == [None, 240, 30, 120]
    assert [phase.duration for phase in plan.phases] == ["4 weeks", "8 weeks", "10 weeks", "Ongoing (GA launch + continuous improvement)"]
    assert len(plan.phases[1].selection) == 5
    assert len(plan.milestones) == 8
    assert len(plan.risks) == 5


def test_cost_plan_is_complete_beyond_its_criteria() -> None:
    plan = plans.get("ai-cost-attribution")

    assert [len(phase.activities) for phase in plan.phases] == [4, 6, 6, 6]
    assert len(plan.risks) == 3
    assert plan.phases[3].rollback.rto_minutes == 24 * 60


def test_feature_plan_has_the_five_stages_and_their_exits() -> None:
    plan = plans.get("ai-feature-rollout")

    assert [phase.title for phase in plan.phases] == ["Internal", "Dogfood", "Canary", "Tier ramp", "General availability"]
    quotes = {criterion.quote for criterion in plans.criteria_of(plan)}
    assert {"24h no critical issues", "48h faithfulness ≥ target", "1 week SLO holds", "each tier 1 week SLO holds"} <= quotes
    assert (
        sum(criterion.quote == "each tier 1 week SLO holds" and criterion.severity == "hard" for criterion in plans.criteria_of(plan)) == 5
    )
    assert len(plan.risks) == 13


def test_adoption_plan_has_the_five_phases_their_metrics_and_the_exit() -> None:
    plan = plans.get("gateway-adoption")

    assert [phase.title for phase in plan.phases] == ["Pilot", "Limited production", "Broad adoption", "Optimization", "Scale"]
    assert [sum(criterion.origin == "success" for criterion in phase.gate.criteria) for phase in plan.phases] == [1, 1, 1, 1, 1]
    assert sum(criterion.origin == "checklist" for criterion in plan.phases[0].gate.criteria) == 5
    assert len({criterion.quote for criterion in plan.phases[2].gate.criteria if criterion.group == "Exit criteria"}) == 4
    assert len(plan.risks) == 5
    runbooks = next(section for section in plan.sections if section.title == "Runbooks")
    assert len(runbooks.rows) == 5


@pytest.mark.parametrize("plan", plans.all_plans(), ids=lambda plan: plan.key)
def test_plan_survives_being_frozen(plan: plans.Plan) -> None:
    assert plans.thaw(plans.frozen(plan)) == plan


@pytest.mark.parametrize("plan", plans.all_plans(), ids=lambda plan: plan.key)
def test_rules_fit_the_metrics_that_exist(plan: plans.Plan) -> None:
    units = {metric.key: metric.unit for metric in metrics.all_metrics()}

    for criterion in plans.criteria_of(plan):
        if criterion.rule is not None:
            assert units.get(criterion.rule.metric) == criterion.rule.unit, criterion.key


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("focus: Learn", "focus: Learn\n    colour: red", "unknown field `colour`"),
        ("lane: pilot", "lane: sideways", "Invalid enum value 'sideways'"),
        ("threshold: 50", "threshold: many", "Expected `float`"),
        ("evidence: The list", "severity: hard", "needs either a rule or the evidence"),
        ("key: coverage", "key: overhead", "two criteria of pilot have the same key"),
        ("roles: [product, engineering]", "roles: []", "length >= 1"),
    ],
)
def test_malformed_plan_is_refused_with_its_place(before: str, after: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plans.parse(PLAN_YAML.replace(before, after, 1))
