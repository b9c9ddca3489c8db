"""An experiment from its terms to its decision, on events as the plane records them."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gateway.contract.flags import BUCKETS, Cohort
from governance.models import AuditEntry, Membership, Notice, Tenant, User
from rollouts import advice, errors, experiment_selectors, rules
from rollouts.models import Experiment, ExperimentReading, Flag, FlagChange
from rollouts.services import experiments, flag_changes
from tests.factories import costs
from tests.factories.rollouts import change_exposure, flagged_call, make_experiment, make_flag, make_split_flag, person
from tests.rollouts.conftest import laid_out_flag

START = timezone.now() - timedelta(days=2)


laid_out = laid_out_flag(lambda: make_split_flag(person("rita"), person("adam")))


@pytest.fixture
def running(flag: Flag, rita: User) -> Experiment:
    return make_experiment(flag, rita, at=START)


def latency(mean_ms: dict[str, float], spread: float = 0.1) -> Callable[[str], int]:
    dice = random.Random(7)
    return lambda variant: round(1000 * mean_ms[variant] * (1 + spread * dice.uniform(-1, 1)))


def arrive(tenant: Tenant, flag: Flag, users: int = 200, **fields: Any) -> None:
    """One call of each user after the start; the new model takes 600 ms, the old one 800, unless said otherwise."""
    flag.refresh_from_db()
    facts: dict[str, Any] = {
        "started_at": START + timedelta(hours=1),
        "duration_us": latency({"old": 800, "new": 600, "newer": 700}),
        **fields,
    }
    costs.record(tenant, *(flagged_call(tenant, flag, f"user-{number}", **facts) for number in range(users)))


def read(experiment: Experiment, at: datetime | None = None, **fields: Any) -> ExperimentReading:
    reading = experiments.read_experiment(experiment=experiment, at=at or START + timedelta(days=1), **fields)
    experiment.refresh_from_db()
    return reading


def test_terms_are_checked_and_kept(flag: Flag, rita: User) -> None:
    experiment = make_experiment(flag, rita)

    assert (experiment.champion, experiment.status, experiment.latest) == ("old", "draft", None)
    assert AuditEntry.objects.get(event="experiment.created").details["metric"] == "latency"
    with pytest.raises(errors.SlugTakenError):
        make_experiment(flag, rita)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("champion", "none"), ("metric", "faithfulness"), ("better", "higher"), ("effect", 0.0), ("effect", float("nan")),
        ("slug", "plan"), ("expected_latency_delta", -101.0), ("expected_quality_gain", float("nan")),
        ("minimum_units", 49), ("max_days", 91), ("guardrails", [{"metric": "latency", "margin": 1.0}]),
        ("guardrails", [{"metric": "cost", "margin": 0.0}]),
    ],
)  # fmt: skip
def test_terms_that_can_not_be_used_are_refused_by_name(flag: Flag, rita: User, field: str, value: Any) -> None:
    with pytest.raises(errors.ExperimentInvalidError) as refused:
        make_experiment(flag, rita, **{field: value})

    assert refused.value.field == field


def test_draft_is_discarded_and_its_address_is_free_again(flag: Flag, rita: User) -> None:
    experiment = make_experiment(flag, rita)

    experiments.discard_experiment(experiment=experiment, actor=rita)

    assert AuditEntry.objects.get(event="experiment.discarded").details["slug"] == "next-model"
    running = make_experiment(flag, rita, at=START)
    with pytest.raises(errors.ExperimentStateError):
        experiments.discard_experiment(experiment=running, actor=rita)


def test_flag_that_binds_no_model_leaves_nothing_to_count(acme: Tenant, rita: User) -> None:
    with pytest.raises(errors.NoSplitError, match="binds no model"):
        make_experiment(make_flag(rita), rita)


def test_start_needs_a_split_with_the_champion_in_it(flag: Flag, rita: User, adam: User) -> None:
    experiment = make_experiment(flag, rita)
    change_exposure(flag, rita, adam, percentage=BUCKETS)

    with pytest.raises(errors.NoSplitError, match="everybody gets the same"):
        experiments.start_experiment(experiment=experiment, actor=rita)

    change_exposure(flag, rita, adam, percentage=20_000)
    started = experiments.start_experiment(experiment=experiment, actor=rita)
    assert (started.shares, started.version) == ({"old": 0.8, "new": 0.2}, flag.current)
    with pytest.raises(errors.ExperimentStateError):
        experiments.start_experiment(experiment=experiment, actor=rita)
    with pytest.raises(errors.ExperimentRunningError):
        make_experiment(flag, rita, slug="second", at=START)


def test_faster_treatment_is_to_be_promoted(acme: Tenant, running: Experiment) -> None:
    arrive(acme, running.flag)

    reading = read(running)

    assert (reading.advice, reading.report.winner) == ("promote", "new")
    [contender] = reading.report.contenders
    assert contender.primary.value == pytest.approx(-25, abs=2)
    assert contender.primary.high is not None
    assert contender.primary.high < 0
    assert sum(arm["units"] for arm in reading.record["arms"].values()) == 200
    assert reading.record["excluded"] == 0
    assert (running.status, running.latest) == ("running", reading)


def test_reading_is_chained_and_comes_to_the_same_advice_again(acme: Tenant, running: Experiment) -> None:
    arrive(acme, running.flag)

    first, second = read(running), read(running, at=START + timedelta(days=1, hours=1))

    assert second.previous_hash == first.evidence_hash
    assert second.evidence_hash == rules.sha256(f"{first.evidence_hash}:2:{second.at.isoformat()}:{second.evidence}")
    assert advice.replay(second.record) == second.report
    assert AuditEntry.objects.filter(event="experiment.read").count() == 1  # on schedule, with the same advice: no news


def test_calls_that_were_not_assigned_by_the_percentage_do_not_count(acme: Tenant, running: Experiment, rita: User, adam: User) -> None:
    flag = running.flag
    change_exposure(flag, rita, adam, cohorts=[Cohort(name="pilot", attribute="user", values=("user-1", "user-2"))])
    arrive(acme, flag, users=10)  # eight of them are in no cohort, and get the control
    arrive(acme, flag, users=2, started_at=START - timedelta(hours=1))
    change_exposure(flag, rita, adam, percentage=10_000)
    arrive(acme, flag, users=5)  # by another split

    counted = experiment_selectors.count_arms(
        flag, since=START, until=START + timedelta(days=1), versions=experiment_selectors.counted_versions(running)
    )

    assert (sum(arm.units for arm in counted.arms.values()), counted.excluded) == (2, 13)


def test_calls_of_one_user_are_one_unit_and_missing_values_are_missing(acme: Tenant, running: Experiment) -> None:
    for _ in range(3):
        arrive(acme, running.flag, users=40, duration_us=500_000, stream=False)
    arrive(acme, running.flag, users=40, status="upstream_error")
    arrive(acme, running.flag, users=40, status="refused")

    arms = experiment_selectors.count_arms(running.flag, since=START, until=START + timedelta(days=1)).arms

    assert sum(arm.units for arm in arms.values()) == 40
    assert sum(arm.calls for arm in arms.values()) == 200
    for arm in arms.values():
        assert arm.moments["latency"].mean == pytest.approx(500)
        assert arm.moments["latency"].calls == 3 * arm.units
        assert arm.moments["error_rate"].mean == pytest.approx(0.25)
        assert arm.moments["ttft"].units == 0
        assert arm.moments["cost"].mean is None  # nothing has a price


def test_broken_assignment_holds_whatever_the_figures_say(acme: Tenant, running: Experiment, rita: User) -> None:
    flag = running.flag
    flag.refresh_from_db()
    calls = [
        flagged_call(acme, flag, f"user-{n}", started_at=START + timedelta(hours=1), duration_us=latency({"old": 800, "new": 600}))
        for n in range(400)
    ]
    lost = [call for place, call in enumerate(calls) if call["model"] == "chat-old" or place % 2]  # half of the new model's calls got lost
    costs.record(acme, *lost)

    reading = read(running)

    assert (reading.advice, reading.report.sound) == ("hold", False)
    assert "assignment is broken" in reading.report.sentence
    with pytest.raises(errors.UnsoundError):
        experiments.decide(experiment=running, decision="promote", winner="new", note="It looks good", actor=rita)


def test_too_few_units_hold(acme: Tenant, running: Experiment) -> None:
    arrive(acme, running.flag, users=60)

    reading = read(running)

    assert reading.advice == "hold"
    assert "of 50 units" in reading.report.sentence


def test_nothing_at_all_holds(running: Experiment) -> None:
    reading = read(running)

    assert (reading.advice, reading.report.sound, reading.report.reached) == ("hold", True, False)


def test_breached_guardrail_asks_for_a_rollback_and_tells_once(acme: Tenant, running: Experiment, rita: User) -> None:
    arrive(acme, running.flag, users=300, status=lambda variant: "upstream_error" if variant == "new" else "ok")

    reading = read(running)
    read(running, at=START + timedelta(days=1, hours=1))

    assert (reading.advice, reading.report.contenders[0].breached[0].metric) == ("rollback", "error_rate")
    assert Notice.objects.get(topic="experiment.guardrail_breached").severity == "critical"

    experiments.decide(experiment=running, decision="rollback", note="Errors", actor=rita)

    running.refresh_from_db()
    running.flag.refresh_from_db()
    assert (running.status, running.flag.exposure.on) == ("decided", False)
    assert running.change is not None
    assert running.change.is_emergency


def test_guardrail_without_data_is_not_kept(acme: Tenant, flag: Flag, rita: User) -> None:
    experiment = make_experiment(flag, rita, at=START, guardrails=[{"metric": "cost", "margin": 10.0}])
    arrive(acme, flag)

    reading = read(experiment)

    assert reading.advice == "hold"
    assert "not settled: cost per call" in reading.report.sentence


def test_promotion_waits_for_a_second_person(acme: Tenant, running: Experiment, rita: User, adam: User) -> None:
    arrive(acme, running.flag)
    reading = read(running)

    decided = experiments.decide(experiment=running, decision="promote", winner="new", note="Sooner", seen=reading.sequence, actor=rita)

    assert decided.change is not None
    assert (decided.status, decided.winner, decided.change.status) == ("decided", "new", FlagChange.Status.PROPOSED)
    with pytest.raises(errors.SelfApprovalError):
        flag_changes.approve_change(change=decided.change, actor=rita)
    flag_changes.approve_change(change=decided.change, actor=adam)
    running.flag.refresh_from_db()
    assert running.flag.exposure.percentage == BUCKETS
    entry = AuditEntry.objects.get(event="experiment.decided")
    assert (entry.actor, entry.details["reading"]) == (rita, reading.evidence_hash)
    assert Notice.objects.filter(topic="experiment.decided").exists()
    with pytest.raises(errors.ExperimentStateError):
        experiments.decide(experiment=running, decision="hold", note="Again", actor=rita)


def test_champion_is_pinned(acme: Tenant, running: Experiment, rita: User) -> None:
    arrive(acme, running.flag)
    read(running)

    with pytest.raises(errors.ExperimentInvalidError, match="kept by holding"):
        experiments.decide(experiment=running, decision="promote", winner="old", note="Old is gold", actor=rita)


def test_decision_on_an_overtaken_advice_is_refused(acme: Tenant, running: Experiment, rita: User) -> None:
    seen = read(running)
    arrive(acme, running.flag)
    read(running, at=START + timedelta(days=1, hours=1))

    with pytest.raises(errors.VerdictChangedError):
        experiments.decide(experiment=running, decision="hold", note="Nothing there", seen=seen.sequence, actor=rita)


def test_allowed_experiment_proposes_its_winner_in_the_name_of_who_started_it(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    experiment = make_experiment(flag, rita, at=START, auto_promote=True)
    arrive(acme, flag)

    read(experiment)

    assert experiment.change is not None
    assert (experiment.status, experiment.winner, experiment.decided_by) == ("decided", "new", None)
    assert (experiment.change.status, experiment.change.proposed_by) == ("proposed", rita)
    flag.refresh_from_db()
    assert flag.exposure.percentage == 50_000  # nothing is in force before a second person agrees


def test_nothing_is_proposed_for_somebody_who_may_no_longer(acme: Tenant, flag: Flag, rita: User) -> None:
    experiment = make_experiment(flag, rita, at=START, auto_promote=True)
    Membership.objects.filter(user=rita, tenant=acme).update(roles=["developer"])
    arrive(acme, flag)

    read(experiment)

    assert (experiment.status, FlagChange.objects.filter(status="proposed").count()) == ("running", 0)


def test_proposal_that_is_in_the_way_is_waited_for(acme: Tenant, flag: Flag, rita: User) -> None:
    experiment = make_experiment(flag, rita, at=START, auto_promote=True)
    arrive(acme, flag)
    from rollouts import exposure

    other = flag_changes.propose_change(flag=flag, exposure=exposure.changed(flag.exposure, percentage=60_000), reason="More", actor=rita)

    read(experiment)
    assert experiment.status == "running"
    flag_changes.reject_change(change=other, actor=rita, comment="")
    read(experiment, at=START + timedelta(days=1, hours=1))
    assert experiment.status == "decided"


def test_fixed_horizon_ends_at_its_one_look(acme: Tenant, flag: Flag, rita: User) -> None:
    experiment = make_experiment(flag, rita, at=START, method="fixed")
    arrive(acme, flag, users=60)
    assert read(experiment).advice == "hold"

    arrive(acme, flag, users=200)
    reading = read(experiment, at=START + timedelta(days=1, hours=1))

    assert (reading.advice, experiment.status, experiment.end_reason) == ("promote", "stopped", "The horizon is reached.")


def test_experiment_ends_with_its_time_and_with_its_split(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    late = make_experiment(flag, rita, at=START, max_days=1)
    read(late, at=START + timedelta(days=3))
    assert (late.status, late.ended_at) == ("stopped", START + timedelta(days=1))
    assert Notice.objects.get(topic="experiment.stopped").path == "release/experiments/next-model/"

    other = make_experiment(flag, rita, at=START, slug="other")
    change_exposure(flag, rita, adam, percentage=10_000)
    read(other)
    assert (other.status, other.end_reason) == ("stopped", "The flag's split was changed.")


def test_schedule_reads_each_hour_and_twice_does_no_harm(acme: Tenant, running: Experiment, rita: User) -> None:
    now = START + timedelta(days=1)
    assert experiment_selectors.experiments_due(now) == [running.pk]

    first = experiments.read_when_due(experiment=running, at=now)

    assert first is not None
    assert experiments.read_when_due(experiment=running, at=now + timedelta(minutes=59)) is None
    assert experiment_selectors.experiments_due(now + timedelta(minutes=59)) == []
    assert experiment_selectors.experiments_due(now + timedelta(hours=1)) == [running.pk]
    experiments.stop_experiment(experiment=running, reason="Enough", actor=rita, at=now + timedelta(hours=2))
    assert experiments.read_when_due(experiment=running, at=now + timedelta(hours=4)) is None
    assert ExperimentReading.objects.count() == 2


def test_reading_on_schedule_waits_for_nobody(acme: Tenant, running: Experiment) -> None:
    with CaptureQueriesContext(connection) as seen:
        experiments.read_when_due(experiment=running, at=START)

    [first, *_] = [query["sql"] for query in seen if "FOR UPDATE" in query["sql"]]
    assert "SKIP LOCKED" in first


def test_stopping_takes_a_reason_and_a_last_reading(acme: Tenant, running: Experiment, rita: User) -> None:
    with pytest.raises(errors.EvidenceMissingError):
        experiments.stop_experiment(experiment=running, reason=" ", actor=rita)

    stopped = experiments.stop_experiment(experiment=running, reason="Wrong model", actor=rita, at=START + timedelta(days=1))

    assert stopped.status == "stopped"
    assert stopped.latest is not None
    decided = experiments.decide(experiment=stopped, decision="hold", note="Anew next week", actor=rita)
    assert (decided.decision, decided.change) == ("hold", None)


def test_planner_counts_what_a_flag_has_had(acme: Tenant, flag: Flag, rita: User) -> None:
    arrive(acme, flag, users=140)

    needed = experiment_selectors.plan_for(flag, metric="latency", effect=5.0, max_days=14, at=timezone.now())

    assert needed.volume.units_per_day == pytest.approx(20)
    assert needed.volume.mean is not None
    assert needed.volume.spread is not None
    assert needed.plan.fixed == pytest.approx(2 * (2.8016 * needed.volume.spread / (0.05 * needed.volume.mean)) ** 2, rel=0.02)
    assert needed.days["fixed"] == needed.plan.fixed / 10
    planned = make_experiment(flag, rita, minimum_units=None, method="fixed")
    assert planned.minimum_units == needed.plan.fixed


def test_planner_without_calls_asks_for_what_is_expected(flag: Flag, rita: User) -> None:
    now = timezone.now()
    with pytest.raises(errors.ExperimentInvalidError, match="Say what mean and spread"):
        make_experiment(flag, rita, minimum_units=None)
    with pytest.raises(errors.ExperimentInvalidError) as refused:
        experiment_selectors.plan_for(flag, metric="latency", effect=5.0, max_days=14, at=now, mean=800.0)
    assert refused.value.field == "spread"

    rate = experiment_selectors.plan_for(flag, metric="error_rate", effect=1.0, max_days=14, at=now, mean=2.0)
    assert rate.plan.fixed == pytest.approx(3_823, abs=5)  # 2% against 3% at 5% and 80%: two-proportion z-test
    assert (rate.method, rate.days["fixed"]) == ("sequential", None)


def test_reading_asks_the_database_a_few_times_only(acme: Tenant, running: Experiment, django_assert_max_num_queries: Any) -> None:
    arrive(acme, running.flag, users=30)

    with django_assert_max_num_queries(20, connection=connection):
        read(running)
