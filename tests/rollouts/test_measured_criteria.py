"""What the criteria of the plans are measured by: figures of rollouts themselves, and those that other systems report."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_tenants.utils import schema_context

from governance import metrics
from governance.metrics import NO_DATA, Window
from governance.models import AuditEntry, Tenant, User
from rollouts import plans
from rollouts.errors import FigureConflictError, FigureInvalidError
from rollouts.models import FlagChange, ReportedFigure, SurveyAnswer
from rollouts.reported_figures import FIGURES
from rollouts.services import experiments, flag_changes, reported_figures, shifts
from tests.conftest import ClientFor
from tests.factories import catalog, costs
from tests.factories import cohorts as make_cohorts
from tests.factories import rollouts as make

OWN = [
    metric.key
    for metric in metrics.all_metrics()
    if metric.key.startswith(("approvals.", "experiments.", "flags.", "rollbacks.", "shifts.", "surveys."))
]


def test_most_criteria_of_the_plans_are_measured() -> None:
    criteria = [criterion for plan in plans.all_plans() for criterion in plans.criteria_of(plan)]
    measured = [criterion for criterion in criteria if criterion.rule is not None]

    assert len(measured) / len(criteria) >= 0.7
    assert all(criterion.evidence and criterion.role for criterion in criteria if criterion.rule is None)
    bound = {criterion.rule.metric for criterion in measured if criterion.rule is not None}
    of_older_plans = {
        "csat",
        "golden_failures",
        "nps",
        "partner_csat",
        "portal_uptime",
    }  # a rollout under way keeps its plan, and other survey tools may report
    assert {f"reported.{key}" for key in FIGURES if key not in of_older_plans} <= bound


def test_without_anything_every_figure_is_unknown(acme: Tenant) -> None:
    now = timezone.now()
    window = Window(now - timedelta(days=7), now)

    said = {metric.key: metric.read(window) for metric in metrics.all_metrics() if metric.key in OWN or metric.key.startswith("reported.")}

    assert {key: (reading.value, reading.sample) for key, reading in said.items() if reading != NO_DATA} == {"flags.model_pairs": (0.0, 0)}
    assert len(said) == len(OWN) + len(FIGURES)


def test_experiments_shifts_and_approvals_are_read_from_what_was_kept(acme: Tenant, rita: User, adam: User) -> None:
    flag = make.make_split_flag(rita, adam)
    start = timezone.now() - timedelta(days=1)
    experiment = make.make_experiment(flag, rita, at=start, metric="latency")
    dice = random.Random(4)
    facts: dict[str, Any] = {
        "started_at": start + timedelta(hours=1),
        "duration_us": lambda variant: dice.randint(500_000, 700_000) if variant == "new" else dice.randint(700_000, 900_000),
    }
    costs.record(acme, *(make.flagged_call(acme, flag, f"user-{number}", **facts) for number in range(200)))
    experiments.read_experiment(experiment=experiment)
    window = Window(start - timedelta(hours=1), timezone.now() + timedelta(seconds=1))

    said = {key: metrics.get(key).read(window) for key in OWN}

    assert (said["experiments.guarded_share"].value, said["experiments.promotable_share"].value) == (100, 100)
    fewest = said["experiments.calls_per_arm"]
    assert (fewest.sample, 50 < (fewest.value or 0) < 150) == (2, True)
    assert said["experiments.cost_per_call"] == NO_DATA  # nothing was priced
    assert (said["flags.model_pairs"].value, said["flags.model_pairs"].sample) == (1, 1)
    unread = Window(window.start, start + timedelta(minutes=1))
    assert metrics.get("experiments.promotable_share").read(unread) == NO_DATA  # what was not read by then is no pass, then or later
    decided = said["approvals.within_a_day"]
    assert (decided.value, decided.sample) == (100, FlagChange.objects.filter(needs_approval=True).count())
    FlagChange.objects.update(proposed_at=window.start + timedelta(minutes=1), decided_at=window.end)
    assert metrics.get("approvals.within_a_day").read(window).value == 0


def test_worst_window_of_shifts_is_a_change_with_its_interval(acme: Tenant, rita: User, adam: User) -> None:
    shift = shifts.start_shift(
        slug="one", name="One", flag=make.make_split_flag(rita, adam), challenger="new", steps=(60, 100), window_calls=100, actor=rita
    )
    assert shift.change is not None
    flag_changes.approve_change(change=shift.change, actor=adam)
    shifts.look(shift=shift, actor=rita)  # the step comes into force
    shift.refresh_from_db()
    dice, now = random.Random(3), timezone.now()
    facts: dict[str, Any] = {"started_at": now, "duration_us": lambda _: dice.randint(700_000, 900_000)}
    costs.record(acme, *(make.flagged_call(acme, shift.flag, f"user-{n}", **facts) for n in range(300)))
    shifts.look(shift=shift, actor=rita)
    window = Window(now - timedelta(hours=1), timezone.now() + timedelta(seconds=1))

    latency, saving = (metrics.get(f"shifts.{name}").read(window) for name in ("latency_change", "saving"))

    assert latency.value is not None
    assert latency.low is not None
    assert latency.high is not None
    assert latency.low < 0 < latency.high
    assert latency.sample > 100
    assert saving == NO_DATA  # nothing was priced


def test_people_with_keys_and_kinds_of_servers_are_counted(acme: Tenant, alice: User, bob: User) -> None:
    now = timezone.now()
    window = Window(now - timedelta(days=1), now + timedelta(seconds=1))
    people, kinds = metrics.get("keys.people_share"), metrics.get("tools.server_implementations")
    assert (people.read(window).value, kinds.read(window)) == (0, NO_DATA)
    catalog.make_key(owner=bob)
    catalog.make_key(owner=bob, revoked_at=now)
    catalog.make_key(owner=alice, revoked_at=now)
    for info, error in (("crm 1.0", ""), ("crm 2.0", ""), ("files 1.0", ""), ("broken 1.0", "It did not answer.")):
        catalog.make_tool_server(owner=alice, server_info=info, discovered_at=now, discovery_error=error)

    share = people.read(window)

    assert share.value == pytest.approx(100 / share.sample)
    assert kinds.read(window).value == 2


def test_reported_figure_is_read_until_it_is_old(acme: Tenant, rita: User) -> None:
    now = timezone.now()
    told: dict[str, Any] = {"key": "csat", "reference": "survey-7", "value": 4.4, "sample": 31, "low": 4.2, "high": 4.6, "actor": rita}
    first, is_new = reported_figures.report_figure(**told, at=now - timedelta(days=10))
    again, is_again_new = reported_figures.report_figure(**told)
    metric = metrics.get("reported.csat")

    reading = metric.read(Window(now - timedelta(days=28), now))

    assert (again, is_new, is_again_new) == (first, True, False)
    assert (reading.value, reading.sample, reading.low, metric.minimum_sample) == (4.4, 31, 4.2, 5)
    assert metric.read(Window(now - timedelta(days=7), now)) == NO_DATA
    assert AuditEntry.objects.filter(event="figure.reported").count() == 1
    with pytest.raises(FigureConflictError):
        reported_figures.report_figure(**{**told, "value": 4.5})
    for wrong in (
        {"key": "own"},
        {"value": 5.5},
        {"value": float("nan")},
        {"sample": 0},
        {"low": None},
        {"low": 4.5},
        {"low": float("-inf"), "high": float("inf")},
        {"sample": 2**31},
        {"at": now + timedelta(hours=1)},
    ):
        with pytest.raises(FigureInvalidError):
            reported_figures.report_figure(**{**told, "reference": "survey-8", **wrong})


def test_systems_report_by_api_and_people_look(acme: Tenant, rita: User, bob: User, api_for: ClientFor, client_for: ClientFor) -> None:
    client, body = api_for(rita), {"key": "p1_incidents", "reference": "week-47", "value": 2}
    page = "/o/acme/release/figures/"
    assert "Nothing was reported yet" in client_for(bob).get(page).text

    answers = [client.post("/api/v1/figures/", body) for body in (body, body, {**body, "value": 3})]

    assert [answer.status_code for answer in answers] == [201, 200, 409]
    assert answers[2].json()["code"] == "figure_conflict"
    assert api_for(bob).post("/api/v1/figures/", body).status_code == 403
    assert [row["reference"] for row in client.get("/api/v1/figures/?key=p1_incidents").json()["results"]] == ["week-47"]
    assert "P1 incidents" in client_for(bob).get(f"{page}?key=p1_incidents").text
    assert "Not reported yet" in client_for(bob).get(f"{page}?key=nps").text
    assert ReportedFigure.objects.get().sample == 1


def test_own_surveys_are_metrics_of_whole_days(acme: Tenant, globex: Tenant, olga: User) -> None:
    now = timezone.now()
    yesterday, midnight = now - timedelta(days=1), now.replace(hour=0, minute=0, second=0, microsecond=0)
    with schema_context("public"):
        cohort = make_cohorts.make_cohort(olga)
        told = {"csat": [5, 5, 4, 5, 4, 5], "nps": [10, 9, 9, 6]}
        answers = [(acme, kind, score, yesterday) for kind, scores in told.items() for score in scores]
        answers += [(globex, "csat", 1, yesterday), (acme, "csat", 1, now), (acme, "csat", 1, now - timedelta(days=40))]
        SurveyAnswer.objects.bulk_create(
            SurveyAnswer(cohort=cohort, tenant=tenant, kind=kind, score=score, on=at.date()) for tenant, kind, score, at in answers
        )
        window = Window(now - timedelta(days=28), now)
        everybody = metrics.get("surveys.csat").read(window)
    csat, nps = metrics.get("surveys.csat").read(window), metrics.get("surveys.nps").read(window)

    assert csat.value == pytest.approx(28 / 6)
    assert csat.sample == 6
    assert csat.low is not None
    assert csat.low < 28 / 6 < (csat.high or 0) <= 5
    assert (nps.value, nps.sample) == (None, 4)  # four answers would tell more about who answered
    assert everybody.sample == 7
    samples = [
        metrics.get("surveys.csat").read(Window(midnight + timedelta(days=n), midnight + timedelta(days=n + 1))).sample for n in (-2, -1, 0)
    ]
    assert samples == [0, 6, 1]  # no answer counts in two windows
