"""A rollout over a cohort judges the figures of all its organisations, from what each of them has."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from django_tenants.utils import schema_context

from governance import metrics
from governance.metrics import NO_DATA, Reading
from governance.models import Tenant, User
from rollouts import gate_selectors, plans, wording
from rollouts.aggregation import Aggregate, together, why_unknown
from rollouts.errors import CohortInvalidError
from rollouts.models import Cohort, CohortMember, Evaluation, Gate
from rollouts.rules import Measured, MetricCriterion, judge_metric
from rollouts.services import gates
from tests.factories import rollouts as make
from tests.factories.cohorts import make_cohort


def member(value: float | None, sample: int = 10, low: float | None = None, high: float | None = None, error: str = "") -> dict[str, Any]:
    return {"organisation": "x", "value": value, "sample": sample, "low": low, "high": high, "statistics": {}, "error": error}


def over(aggregate: Aggregate, operator: str = "<", threshold: float = 3) -> dict[str, Any]:
    return {
        "aggregate": str(aggregate),
        "metric": "m",
        "operator": operator,
        "threshold": threshold,
        "at_least": 100,
        "minimum_sample": 5,
        "floor": None,
    }


UNKNOWN = [member(None, 0), member(2, sample=4), member(2, error="broke")]


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_figures_of_organisations_are_taken_together(unknown: dict[str, Any]) -> None:
    three = [member(1), member(2, low=1.5, high=2.5), member(9)]

    median, total = together(over(Aggregate.MEDIAN), three), together(over(Aggregate.SUM), three)
    share, count = together(over(Aggregate.SHARE), three), together(over(Aggregate.COUNT), [*three, unknown])
    straddling = together(over(Aggregate.COUNT, threshold=2), three)
    around = together(over(Aggregate.COUNT, "=", 2), three)

    assert (median["value"], median["low"], median["high"], median["sample"]) == (2, 1.5, 2.5, 3)
    assert (total["value"], total["low"], total["high"]) == (12, 11.5, 12.5)
    assert (round(share["value"], 1), share["sample"]) == (66.7, 3)
    assert (count["value"], count["low"], count["high"], count["sample"]) == (2, 2, 3, 4)
    assert (straddling["low"], straddling["high"]) == (1, 2)
    assert (around["low"], around["high"]) == (0, 1)  # the one with an interval around 2 may be it


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_organisation_without_a_figure_is_not_left_out(unknown: dict[str, Any]) -> None:
    five = [member(1), member(2), member(3), member(4), unknown]

    median = together(over(Aggregate.MEDIAN), five)
    lost = together(over(Aggregate.MEDIAN), [member(1), unknown])
    total = together(over(Aggregate.SUM), five)
    nobody = together(over(Aggregate.SHARE), [])

    assert (median["value"], median["low"], median["high"]) == (2.5, 2, 3)
    assert lost["value"] is total["value"] is nobody["value"] is None
    assert why_unknown(total) == "1 of 5 organisations has no figure"
    assert why_unknown(nobody) == "no organisation of the cohort is active"


def test_what_cannot_be_negative_is_at_least_nothing_and_all_are_all() -> None:
    counted = over(Aggregate.SUM) | {"floor": 0}
    total = together(counted, [member(7), member(5), member(None)])
    nobody = together(counted, [member(None)])

    assert (total["value"], total["low"], total["high"], total["statistics"]["is_unbounded"]) == (12, 12, None, 1)
    assert nobody["value"] is None
    for operator, verdict in ((">", "pass"), ("<", "inconclusive")):
        criterion = MetricCriterion("m", operator, 10 if operator == ">" else 20, "count", minimum_sample=1)
        measured = Measured(12, 2, low=12, high=None, is_unbounded=True)
        assert judge_metric(criterion, measured, at=timezone.now()).verdict == verdict
    assert all(together(over(Aggregate.SHARE), [member(1)] * n)["value"] == 100 for n in range(1, 300))


def test_interval_holds_whatever_the_missing_figures_are() -> None:
    chance = random.Random(1)
    for _ in range(300):
        values = [chance.randint(-100, 100) for _ in range(chance.randint(1, 9))]
        missing = chance.randint(0, 3)
        reading = together(over(Aggregate.MEDIAN), [member(value) for value in values] + [member(None)] * missing)
        everything = [*values, *(chance.uniform(-1e7, 1e7) for _ in range(missing))]

        if reading["value"] is None:
            assert missing
        else:
            assert reading["low"] <= statistics.median(everything) <= reading["high"]


PLAN = """
key: over-partners
version: 1
title: Over partners
summary: A plan for tests.
source: Nobody's
phases:
  - key: pilot
    title: Pilot
    lane: pilot
    duration: 2 weeks
    duration_days: 14
    audience: Partners
    focus: Learn
    scope: [{included: Everything small}]
    rollback: {steps: [Switch it off]}
    gate:
      title: Pilot → Everybody
      roles: [product]
      criteria:
        - {key: each, title: Each, quote: Each, origin: gate, role: engineering, rule: {metric: test.overhead, operator: "<", threshold: 50, unit: ms, window_hours: 24}}
        - {key: middle, title: Middle, quote: Middle, origin: gate, role: engineering, rule: {metric: test.overhead, operator: "<", threshold: 50, unit: ms, window_hours: 24, over: {aggregate: median}}}
        - {key: two, title: Two, quote: Two, origin: gate, role: engineering, rule: {metric: test.overhead, operator: ">=", threshold: 2, unit: count, window_hours: 24, minimum_sample: 2, over: {aggregate: count, operator: "<", threshold: 50}}}
        - {key: ours, title: Ours, quote: Ours, origin: gate, role: engineering, rule: {metric: reported.nps, operator: ">", threshold: 1, unit: score, window_hours: 24}}
"""


@pytest.fixture
def cohort(acme: Tenant, globex: Tenant, olga: User) -> Cohort:
    """Both organisations are active in it; acme is the operator's own."""
    Tenant.objects.filter(pk=acme.pk).update(kind=Tenant.Kind.INTERNAL)
    with schema_context("public"):
        found = make_cohort(olga)
        now = timezone.now()
        for tenant in (acme, globex):
            CohortMember.objects.create(
                cohort=found,
                tenant=tenant,
                state=CohortMember.State.ACTIVE,
                verdict=CohortMember.Verdict.PASS,
                screened_at=now,
                invited_at=now,
                answered_at=now,
                activated_at=now,
            )
    return found


def schema_of(connected: Any) -> str:
    return str(connected.tenant.slug)


def evaluated(gate: Gate, step: int) -> Evaluation:
    """By the schedule."""
    gates.evaluate_gates([gate], at=timezone.now() + step * gates.EVALUATE_EVERY)
    return Evaluation.objects.filter(gate=gate).latest("pk")


def start(actor: User, cohort: str) -> Gate:
    return make.gate_of(make.make_rollout(owner=actor, slug="partners", plan_key="over-partners", cohort=cohort))


def test_gate_judges_what_each_organisation_of_the_cohort_has(
    acme: Tenant, cohort: Cohort, olga: User, rita: User, readings: make.Board, client_for: Any
) -> None:
    by_schema = {"acme": Reading(40.0, sample=500), "globex": Reading(60.0, sample=500)}
    metric = metrics._metrics["test.overhead"]
    metrics._metrics["test.overhead"] = replace(metric, read=lambda _window: by_schema.get(schema_of(connection), NO_DATA))
    with make.shipped_plan(PLAN):
        gate = start(olga, cohort.slug)
        evaluation = make.evaluate(gate)
        verdicts = {record["key"]: record["verdict"] for record in evaluation.records}
        each = next(record for record in evaluation.records if record["key"] == "each")

        assert verdicts == {"each": "fail", "middle": "fail", "two": "fail", "ours": "no_data"}
        assert (each["rule"]["operator"], each["rule"]["threshold"], each["rule"]["unit"]) == (">=", 100, "%")
        assert [(member["organisation"], member["value"]) for member in each["reading"]["members"]] == [("acme", 40), ("globex", 60)]
        assert wording.over(each["rule"]["over"], each["reading"]["statistics"]) == "share of the 2 organisations with test.overhead < 50"

        by_schema["globex"] = Reading(30.0, sample=500)
        acted = make.evaluate(make.gate_of(gate.rollout))  # within minutes a person's act takes what the schedule has read
        assert [record["verdict"] for record in acted.records] == [record["verdict"] for record in evaluation.records]
        better = evaluated(gate, 1)
        assert [record["verdict"] for record in better.records] == ["pass", "pass", "pass", "no_data"]
        assert gate_selectors.replay(better).differences == []

        by_schema.pop("globex")  # what is missing is never a pass, nor left out
        worse = evaluated(gate, 2)
        assert [record["verdict"] for record in worse.records][:3] == ["inconclusive"] * 3
        tampered = better.evidence.replace('"value":30.0', '"value":99.0')
        assert tampered != better.evidence
        better.evidence = tampered
        assert any(line.startswith("each: stored pass, recomputed") for line in gate_selectors.replay(better).differences)

        page = client_for(rita).get(f"/o/acme/release/rollouts/partners/gates/{gate.number}/criteria/each/").content.decode()
        assert "globex" in page
        assert "not known, 100 needed" in page


def test_only_operators_read_a_cohort_and_only_in_an_internal_organisation(
    acme: Tenant, cohort: Cohort, olga: User, rita: User, client_for: Any, api_for: Any
) -> None:
    with make.shipped_plan(PLAN):
        for actor, kind, slug in (
            (rita, Tenant.Kind.INTERNAL, cohort.slug),
            (olga, Tenant.Kind.CUSTOMER, cohort.slug),
            (olga, Tenant.Kind.INTERNAL, "nobody"),
        ):
            Tenant.objects.filter(pk=acme.pk).update(kind=kind)
            with pytest.raises(CohortInvalidError):
                start(actor, slug)
        assert 'name="cohort"' not in client_for(rita).get("/o/acme/release/rollouts/new/").content.decode()
        refused = api_for(rita).post("/api/v1/rollouts/", {"plan": "over-partners", "slug": "x", "cohort": cohort.slug}, format="json")
        assert (refused.status_code, refused.json()["code"]) == (400, CohortInvalidError.code)


def test_gate_of_one_organisation_is_judged_as_before(acme: Tenant, olga: User, readings: make.Board) -> None:
    with make.shipped_plan(PLAN):
        evaluation = make.evaluate(start(olga, ""))

    assert [record["verdict"] for record in evaluation.records] == ["pass", "pass", "error", "no_data"]
    assert "over" not in evaluation.records[1]["rule"]


def test_every_plan_says_how_its_cohort_counts() -> None:
    given = {
        (plan.key, criterion.rule.over.aggregate)
        for plan in plans.all_plans()
        for phase in plan.phases
        for criterion in phase.gate.criteria
        if criterion.rule and criterion.rule.over
    }

    assert ("ai-cost-attribution", Aggregate.MEDIAN) in given
    assert {aggregate for _, aggregate in given} == set(Aggregate)
