"""Gates that are judged by what people say: who is asked what, and which answers count."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_tenants.utils import schema_context

from governance import metrics
from governance.metrics import NO_DATA, Window
from governance.models import Tenant, User
from rollouts import evaluation_selectors, plans
from rollouts import programme_selectors as selectors
from rollouts.errors import SurveyNotDueError, SurveyScoreError
from rollouts.models import Gate, Phase, Rollout, SurveyAnswer
from rollouts.reported_figures import FIGURES
from rollouts.services import evaluation_runs, evidence, rollouts, surveys
from rollouts.services.evaluation_runs import ScoreInput
from rollouts.survey_subjects import ASKS
from tests.conftest import ClientFor
from tests.factories import cohorts as make_cohorts
from tests.factories import rollouts as make

HOME = "/o/acme/build/home/"


def in_phase(owner: User, position: int, *, cohort: str = "", days: int = 10, plan: str = "ai-gateway-governance") -> Rollout:
    """A rollout that has been in this phase for some days; of the gateway's plan unless another one is said."""
    rollout = make.make_rollout(owner=owner, plan_key=plan, slug=f"{plan}{cohort}", cohort=cohort)
    rollout.phases.update(status=Phase.Status.DONE)
    rollout.phases.filter(position=position).update(status=Phase.Status.CURRENT, entered_at=timezone.now() - timedelta(days=days))
    return rollout


def said(tenant: Tenant, at: datetime, *scores: int, **fields: object) -> list[SurveyAnswer]:
    told = {"subject": "gateway", "stage": "internal", "kind": "nps", **fields}
    return [SurveyAnswer(tenant=tenant, score=score, on=at.date(), **told) for score in scores]


def test_plans_are_bound_to_the_surveys_of_their_own_stage() -> None:
    bound = {
        (phase.lane, criterion.rule.metric, criterion.rule.unit, criterion.rule.window_hours == 24 * phase.duration_days)
        for plan in plans.all_plans()
        for phase in plan.phases
        for criterion in phase.gate.criteria
        if criterion.rule is not None and criterion.rule.metric.startswith("surveys.")
    }

    # Nobody is asked twice in 60 days: a shorter window would have lost the answers of those who were asked first.
    assert bound == {(ask.stage, key, "score", True) for key, ask in ASKS.items()}
    live = [criterion.rule.metric for plan in plans.all_plans() for criterion in plans.criteria_of(plan) if criterion.rule is not None]
    assert sum(not metric.startswith("reported.") for metric in live) / len(live) >= 0.74
    assert not {f"reported.{key}" for key in FIGURES if key in ("csat", "nps", "partner_csat")} & set(live)


def test_people_are_asked_what_a_gate_of_their_organisation_needs(
    acme: Tenant, rita: User, bob: User, fay: User, client_for: ClientFor, api_for: ClientFor
) -> None:
    rollout = in_phase(rita, 0)
    client, now = client_for(bob), timezone.now()
    home = client.get(HOME).content.decode()
    assert "How likely are you to recommend the AI gateway to a colleague?" in home
    assert 'id="survey-comment"' not in home  # nobody reads it
    assert api_for(fay).get("/api/v1/survey/").json()["question"] == {
        "key": "nps.gateway.internal.", "cohort": None, "subject": "gateway", "kind": "nps",
        "text": "How likely are you to recommend the AI gateway to a colleague?",
    }  # fmt: skip
    assert 'name="question" value="nps.gateway.internal."' in home

    client.post("/o/acme/surveys/answer/", {"score": "9", "question": "nps.gateway.internal."})

    answer = SurveyAnswer.objects.get()
    assert (answer.cohort, answer.subject, answer.stage, answer.kind, answer.score) == (None, "gateway", "internal", "nps", 9)
    second = in_phase(rita, 1, plan="ai-cost-attribution")
    fewest = selectors.question_for(acme, fay, at=now)
    assert fewest is not None
    assert fewest.key == "csat.costs.pilot."  # nobody has answered that one
    gateway: dict[str, Any] = {"tenant": acme, "person": fay, "question": "nps.gateway.internal.", "score": 5}
    with schema_context("public"):
        with pytest.raises(SurveyScoreError, match="number alone"):  # the one seen before is due as well
            surveys.answer(**gateway, comment="Fine")
        assert selectors.question_for(acme, bob, at=now + timedelta(days=59)) is None
    rollouts.pause_rollout(rollout=rollout, reason="Wait", actor=rita)
    with schema_context("public"), pytest.raises(SurveyNotDueError, match="Another question"):  # 5 of 10 is not 5 of 5
        surveys.answer(**gateway)
    rollouts.pause_rollout(rollout=second, reason="Wait", actor=rita)
    assert selectors.question_for(acme, fay, at=now) is None
    assert "a gate of your own rollouts" in client_for(rita).get("/o/acme/release/cohorts/").content.decode()


def test_gate_reads_what_it_asked_for_itself(acme: Tenant, globex: Tenant, olga: User) -> None:
    now = timezone.now()
    window, yesterday = Window(now - timedelta(days=28), now), now - timedelta(days=1)
    internal, pilot = (metrics.get(f"surveys.gateway_{name}") for name in ("internal_nps", "pilot_csat"))
    with schema_context("public"):
        cohort = make_cohorts.make_cohort(olga)
        other = make_cohorts.make_cohort(olga, slug="others", flag_key="ai.agents.preview-2")
        SurveyAnswer.objects.bulk_create(
            [
                *said(acme, yesterday, *[10] * 8, 3, 8),
                *said(acme, yesterday, 0, stage="ramp"), *said(acme, yesterday, 0, subject="costs"), *said(globex, yesterday, 0),
                *said(acme, yesterday, 5, 4, 3, stage="pilot", kind="csat", cohort=cohort),
                *said(globex, yesterday, 1, 1, stage="pilot", kind="csat", cohort=cohort),
                *said(globex, yesterday, 5, 5, 5, 5, 5, stage="pilot", kind="csat", cohort=other), *said(acme, yesterday, 5, kind="csat", cohort=other),
            ]
        )  # fmt: skip

    own = internal.read(window)

    assert (own.value, own.sample, own.statistics) == (70, 10, {"answers": 10})
    assert own.low is not None
    assert pilot.read(window) == NO_DATA  # nobody said it for this organisation
    Tenant.objects.filter(pk=acme.pk).update(kind=Tenant.Kind.INTERNAL)
    over = [in_phase(olga, 1, cohort=each.slug) for each in (cohort, other)]
    readings = evidence.Readings()
    evidence.read_for(Gate.objects.filter(rollout__in=over, number=2).values_list("pk", flat=True), at=now, readings=readings)
    found = {cohort: one for (_, metric, _, cohort), one in readings.items() if metric == pilot.key}
    assert {cohort: (one["value"], one["sample"], one["statistics"]) for cohort, one in found.items()} == {
        "partners": (2.5, 2, {"answers": 5}),
        "others": (5, 1, {"answers": 5}),
    }  # each organisation has one voice, about the cohort of that rollout alone
    assert pilot.read(window) == NO_DATA  # nor does a rollout of its own read them
    assert internal.read(window).value == 70
    csat = metrics.get("surveys.csat").read
    assert (csat(window).sample, csat(replace(window, cohort="others")).sample) == (4, 6)  # of its own people; about the cohort


def test_organisations_of_a_cohort_are_asked_for_the_gate_over_it(acme: Tenant, globex: Tenant, olga: User, rita: User, bob: User) -> None:
    at = timezone.now() - timedelta(days=10)
    Tenant.objects.filter(pk=globex.pk).update(kind=Tenant.Kind.INTERNAL)
    with schema_context("public"):
        cohort = make_cohorts.make_cohort(olga)
        make_cohorts.enrol(cohort, acme, operator=olga, person=rita, at=at)
        make_cohorts.activate(cohort, operator=olga, other=make_cohorts.second_operator(), at=at)
    with schema_context(globex.schema_name):
        in_phase(olga, 2, cohort="partners")
        in_phase(olga, 1, cohort="partners", plan="ai-cost-attribution")
        assert selectors.asked_by_gates(at=timezone.now()) == {}  # not of its own people

    with schema_context("public"):
        question = selectors.question_for(acme, rita, at=timezone.now())
        assert question is not None
        surveys.answer(tenant=acme, person=rita, question=question.key, score=9, comment="Soon, please")
        after = selectors.question_for(acme, bob, at=timezone.now())

    assert (question.cohort, question.kind, question.stage) == (cohort, "nps", "ramp")
    assert "Design partners" in question.text
    assert after is not None
    assert after.key == "csat.costs.pilot.partners"  # each gate gets its answers
    assert SurveyAnswer.objects.values_list("cohort", "subject", "stage").get() == (cohort.pk, "gateway", "ramp")


def test_golden_answers_that_are_not_met_are_counted(acme: Tenant, rita: User) -> None:
    now = timezone.now()

    def tell(key: str, *scores: ScoreInput, dataset: str = "golden-faq@2", at: datetime = now) -> None:
        evaluation_runs.record_run(key=key, harness="pytest", dataset=dataset, model="chat", at=at, scores=scores, actor=rita)

    window = Window(now - timedelta(days=1), now + timedelta(seconds=1))
    tell("other", ScoreInput("correctness", 0.1, 10), dataset="faq@1")
    assert evaluation_selectors.golden_failures(window) == NO_DATA
    tell("older", ScoreInput("correctness", 0.5, 10), dataset="golden-faq@1", at=now - timedelta(hours=1))
    tell("newer", ScoreInput("correctness", None, None, items={"a": 1.0, "b": 0.9, "c": 1.0}))
    tell("mean", ScoreInput("correctness", 0.995, 200), dataset="golden-law")

    found = metrics.get("evaluations.golden_failures").read(window)

    assert (found.value, found.sample) == (2, 203)
    tell("untold", ScoreInput("faithfulness", 1.0, 10), dataset="golden-tone")
    assert evaluation_selectors.golden_failures(window) == NO_DATA
