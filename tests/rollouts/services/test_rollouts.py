from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from governance.models import AuditEntry, User
from governance.services import audit
from rollouts import markdown, plans, selectors
from rollouts.errors import EvidenceMissingError, NotUnderWayError, PlanNotFoundError, RollbackUnderWayError, SlugTakenError
from rollouts.models import Criterion, Gate, Phase, Rollout
from rollouts.services import rollouts
from tests.factories import rollouts as make


def test_rollout_is_a_frozen_copy_of_its_plan(acme: Any, rita: User, readings: make.Board) -> None:
    rollout = make.make_rollout(owner=rita, slug="gateway", plan_key="ai-gateway-governance")

    plan = plans.get("ai-gateway-governance")
    assert rollout.frozen_plan == plan
    assert Criterion.objects.filter(gate__rollout=rollout).count() == len(plans.criteria_of(plan))
    assert list(rollout.gates.values_list("number", "title")) == [(number, phase.gate.title) for number, phase in enumerate(plan.phases, 1)]
    assert AuditEntry.objects.filter(event="rollout.started").count() == 1


def test_phases_are_planned_one_after_the_other(acme: Any, rita: User, plan: Any, readings: make.Board) -> None:
    today = timezone.now().date()

    rollout = make.make_rollout(owner=rita, starts_on=today)

    assert list(rollout.phases.values_list("planned_start", "planned_end")) == [
        (today, today + timedelta(days=14)),
        (today + timedelta(days=14), today + timedelta(days=42)),
    ]


def test_first_phase_begins_at_once_or_on_its_day(acme: Any, rita: User, plan: Any, readings: make.Board) -> None:
    today = timezone.now().date()
    running = make.make_rollout(owner=rita)
    planned = make.make_rollout(owner=rita, slug="later", starts_on=today + timedelta(days=2))

    assert running.phases.get(position=0).status == Phase.Status.CURRENT
    assert planned.phases.get(position=0).status == Phase.Status.WAITING
    assert selectors.rollouts_to_begin(today) == []
    assert selectors.rollouts_to_begin(today + timedelta(days=2)) == [planned.pk]
    assert rollouts.begin_rollout(rollout=planned, actor=None).status == Rollout.Status.RUNNING
    with pytest.raises(NotUnderWayError):
        rollouts.begin_rollout(rollout=planned, actor=None)


def test_address_is_used_once(rollout: Rollout, rita: User) -> None:
    with pytest.raises(SlugTakenError):
        make.make_rollout(owner=rita)
    with pytest.raises(SlugTakenError):
        make.make_rollout(owner=rita, slug="new")
    with pytest.raises(PlanNotFoundError):
        make.make_rollout(owner=rita, slug="other", plan_key="nobody-wrote-it")


def test_paused_rollout_takes_no_go_until_it_is_resumed(ready_gate: Gate, people: Any, rita: User) -> None:
    rollouts.pause_rollout(rollout=ready_gate.rollout, reason="Status page is red.", actor=rita)
    with pytest.raises(NotUnderWayError, match="Status page is red"):
        make.go(ready_gate, "product", people.rita)

    rollouts.resume_rollout(rollout=ready_gate.rollout, actor=rita)
    make.go(ready_gate, "product", people.rita)

    with pytest.raises(NotUnderWayError):
        rollouts.resume_rollout(rollout=ready_gate.rollout, actor=rita)


@pytest.fixture
def second_phase(ready_gate: Gate, people: Any) -> Rollout:
    make.go(ready_gate, "product", people.rita)
    make.go(ready_gate, "engineering", people.adam)
    return Rollout.objects.get()


def test_rollback_returns_to_the_phase_before_and_its_gate_is_signed_anew(second_phase: Rollout, rita: User) -> None:
    rollouts.roll_back(rollout=second_phase, reason="Errors doubled.", actor=rita)

    first, second = make.gate_of(second_phase, 1), make.gate_of(second_phase, 2)
    assert list(second_phase.phases.values_list("title", "status")) == [("Pilot", "current"), ("Everybody", "rolled_back")]
    assert (first.status, first.latest, second.status) == (Gate.Status.OPEN, None, Gate.Status.CLOSED)
    assert not first.signoffs.filter(voided_at=None).exists()
    assert first.evaluations.exists()


def test_clock_of_a_rollback_runs_until_it_is_confirmed(second_phase: Rollout, rita: User, people: Any) -> None:
    start = timezone.now()
    rollback = rollouts.roll_back(rollout=second_phase, reason="Errors doubled.", actor=rita, at=start)
    make.attest_all(make.gate_of(second_phase), people.rita, people.sam)
    with pytest.raises(RollbackUnderWayError):
        make.go(make.gate_of(second_phase), "product", people.rita)

    done = rollouts.finish_rollback(rollback=rollback, actor=rita, at=start + timedelta(minutes=150))

    assert (done.took_minutes(start), done.rto_minutes, done.is_over_rto(start)) == (150, 120, True)
    assert "after 150 min, over the 120 min promised" in second_phase.log.first().text  # type: ignore[union-attr]
    assert make.go(make.gate_of(second_phase), "product", people.rita).pk
    with pytest.raises(RollbackUnderWayError):
        rollouts.finish_rollback(rollback=rollback, actor=rita)


def test_rolling_back_the_first_phase_stops_the_rollout(rollout: Rollout, rita: User) -> None:
    with pytest.raises(EvidenceMissingError):
        rollouts.roll_back(rollout=rollout, reason=" ", actor=rita)

    rollouts.roll_back(rollout=rollout, reason="Not ready.", actor=rita)

    assert Rollout.objects.get().status == Rollout.Status.STOPPED
    with pytest.raises(NotUnderWayError):
        rollouts.roll_back(rollout=rollout, reason="Again.", actor=rita)


def test_second_rollback_waits_for_the_first(second_phase: Rollout, rita: User) -> None:
    rollouts.roll_back(rollout=second_phase, reason="Errors doubled.", actor=rita)

    with pytest.raises(RollbackUnderWayError):
        rollouts.roll_back(rollout=second_phase, reason="Still.", actor=rita)


def test_release_log_tells_everything_in_order(second_phase: Rollout) -> None:
    text = markdown.release_log(second_phase, selectors.log_of(second_phase).reverse(), selectors.phases_of(second_phase))

    assert text.startswith("# Rollout: Small\n")
    assert "Stages: Pilot → Everybody" in text
    order = [
        text.index(part)
        for part in ("started by Rita", "Pilot begins", "attested as met", "Product: go", "Engineering: go", "Everybody begins")
    ]
    assert order == sorted(order)


def test_every_act_has_its_audit_entry_and_the_chain_holds(second_phase: Rollout, rita: User) -> None:
    rollouts.roll_back(rollout=second_phase, reason="Errors doubled.", actor=rita)

    events = set(AuditEntry.objects.values_list("event", flat=True))
    assert {
        "rollout.started",
        "rollout.begun",
        "phase.entered",
        "criterion.attested",
        "gate.evaluated",
        "gate.signed",
        "gate.passed",
        "rollout.rolled_back",
        "signature.voided",
    } <= events
    with transaction.atomic():
        assert audit.verify().is_intact
