from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance.metrics import NO_DATA, Reading, Window
from governance.models import AuditEntry
from rollouts import gate_selectors
from rollouts.errors import GateNotOpenError, NotUnderWayError
from rollouts.models import Criterion, Evaluation, Gate, ReleaseLogEntry
from rollouts.services import gates, rollouts
from tests.factories import rollouts as make


def verdicts(evaluation: Evaluation) -> dict[str, str]:
    return {record["key"]: record["verdict"] for record in evaluation.records}


def test_evaluation_judges_every_criterion_and_keeps_the_evidence(gate: Gate, readings: make.Board) -> None:
    now = timezone.now()

    evaluation = make.evaluate(gate, at=now)

    assert verdicts(evaluation) == {"overhead": "pass", "coverage": "pass", "feedback": "no_data", "audit": "no_data"}
    assert (evaluation.verdict, evaluation.is_ready) == ("no_data", False)
    coverage = next(record for record in evaluation.records if record["key"] == "coverage")
    assert coverage["reading"]["statistics"] == {"attributed": 941, "all": 950}
    assert coverage["rule"]["minimum_sample"] == 50
    assert readings.windows == [Window(now - timedelta(days=7), now), Window(now - timedelta(days=1), now)]
    assert gate_selectors.replay(evaluation).differences == []


def test_gate_is_ready_once_everything_holds(ready_gate: Gate) -> None:
    assert ready_gate.latest is not None
    assert (ready_gate.latest.verdict, ready_gate.latest.is_ready) == ("pass", True)


def test_gate_that_was_never_evaluated_is_not_ready(gate: Gate) -> None:
    view = gate_selectors.gate_view(gate, now=timezone.now())

    assert not view.is_ready
    assert view.sentence == "Not evaluated yet, so not ready"


def test_metric_that_raises_is_an_error_of_its_criterion_only(gate: Gate, readings: make.Board, caplog: pytest.LogCaptureFixture) -> None:
    readings.readings["test.overhead"] = ZeroDivisionError("no calls")

    with caplog.at_level(logging.ERROR):
        evaluation = make.evaluate(gate)

    assert verdicts(evaluation)["overhead"] == "error"
    assert verdicts(evaluation)["coverage"] == "pass"
    assert "ZeroDivisionError: no calls" in caplog.text
    assert "no calls" not in evaluation.evidence


def test_metric_that_breaks_its_sql_leaves_the_transaction_usable(
    gate: Gate, readings: make.Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(key: str, window: Window) -> Reading:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        return NO_DATA

    monkeypatch.setattr(readings, "read", broken)

    evaluation = make.evaluate(gate)

    assert verdicts(evaluation) == {"overhead": "error", "coverage": "error", "feedback": "no_data", "audit": "no_data"}
    assert Gate.objects.filter(pk=gate.pk).exists()


@pytest.mark.parametrize("reading", [Reading(float("nan"), 500), Reading(5.0, 500, 6.0, 7.0), Reading(float("inf"), 500)])
def test_impossible_reading_is_an_error(gate: Gate, readings: make.Board, reading: Reading) -> None:
    readings.readings["test.overhead"] = reading

    assert verdicts(make.evaluate(gate))["overhead"] == "error"


def test_metric_that_no_app_offers_is_an_error(gate: Gate) -> None:
    Criterion.objects.filter(gate=gate, key="overhead").update(metric="nobody.offers")

    assert verdicts(make.evaluate(gate))["overhead"] == "error"


def test_rule_in_another_unit_than_its_metric_is_an_error(gate: Gate) -> None:
    Criterion.objects.filter(gate=gate, key="overhead").update(unit="s")

    record = next(record for record in make.evaluate(gate).records if record["key"] == "overhead")

    assert (record["verdict"], record["reason"]) == ("error", "test.overhead is in ms, the rule is in s")


def test_evaluations_form_a_chain(gate: Gate) -> None:
    first, second = make.evaluate(gate), make.evaluate(gate)

    assert (first.sequence, second.sequence) == (1, 2)
    assert second.previous_hash == first.evidence_hash
    assert gate_selectors.replay(second).differences == []


def test_tampered_evidence_is_found(gate: Gate) -> None:
    evaluation = make.evaluate(gate)
    evaluation.evidence = evaluation.evidence.replace('"value":12.0', '"value":11.5')

    assert gate_selectors.replay(evaluation).differences == ["the evidence was changed after it was written"]


def test_unchanged_verdicts_are_evidence_but_no_news(gate: Gate) -> None:
    first = gates.evaluate_gate(gate=gate, trigger=Evaluation.Trigger.SCHEDULE)
    lines, entries = gate.rollout.log.count(), AuditEntry.objects.filter(event="gate.evaluated").count()

    second = gates.evaluate_gate(gate=gate, trigger=Evaluation.Trigger.SCHEDULE)

    assert first is not None
    assert second is not None
    assert second.digest == first.digest
    assert (gate.rollout.log.count(), AuditEntry.objects.filter(event="gate.evaluated").count()) == (lines, entries)


def test_gate_is_due_when_new_when_old_and_when_a_waiver_ended(ready_gate: Gate, people: Any, readings: make.Board) -> None:
    assert ready_gate.latest is not None
    now = ready_gate.latest.at

    assert not gates.due_gates(at=now)
    assert list(gates.due_gates(at=now + gates.EVALUATE_EVERY)) == [ready_gate]
    assert gates.evaluate_gate(gate=ready_gate, trigger=Evaluation.Trigger.SCHEDULE, at=now, only_when_due=True) is None


def test_gate_of_a_planned_rollout_is_not_evaluated(acme: Any, rita: Any, plan: Any, readings: make.Board) -> None:
    rollout = make.make_rollout(owner=rita, starts_on=timezone.now().date() + timedelta(days=3))

    with pytest.raises(NotUnderWayError):
        make.evaluate(make.gate_of(rollout))


def test_gate_of_a_later_phase_is_not_evaluated(rollout: Any) -> None:
    with pytest.raises(GateNotOpenError):
        make.evaluate(make.gate_of(rollout, 2))


def test_paused_rollout_is_still_evaluated(gate: Gate, rita: Any) -> None:
    rollouts.pause_rollout(rollout=gate.rollout, reason="Status page is red.", actor=rita)

    assert make.evaluate(gate).sequence == 1


def test_rule_that_must_hold_carries_since_when_from_one_evaluation_to_the_next(gate: Gate) -> None:
    Criterion.objects.filter(gate=gate, key="overhead").update(sustain_hours=1)
    start = timezone.now()
    found = [verdicts(make.evaluate(gate, at=start + timedelta(minutes=30 * step)))["overhead"] for step in range(3)]

    assert found == ["inconclusive", "inconclusive", "pass"]


def test_rule_that_must_hold_in_some_of_the_last_evaluations_forgives_a_miss(gate: Gate, readings: make.Board) -> None:
    Criterion.objects.filter(gate=gate, key="overhead").update(sustain_times=3, sustain_of=4)
    now = timezone.now()
    found = []
    for step, good in enumerate((True, True, False, True, True, False, False, True)):
        readings.readings["test.overhead"] = make.GOOD_OVERHEAD if good else make.BAD_OVERHEAD
        gates.evaluate_gates([gate], at=now + step * gates.EVALUATE_EVERY)
        found.append(verdicts(Evaluation.objects.latest("pk"))["overhead"])
        make.evaluate(make.gate_of(gate.rollout), at=now + step * gates.EVALUATE_EVERY)  # a person's counts once, and not for the next

    assert found == ["inconclusive", "inconclusive", "fail", "pass", "pass", "fail", "fail", "inconclusive"]
    latest = make.gate_of(gate.rollout).latest
    assert latest is not None
    assert latest.records[0]["reason"] == "held in 2 of the last 4 evaluations, 3 of 4 are needed"
    assert gate_selectors.replay(latest).differences == []


def test_gates_of_one_run_read_a_metric_once_and_each_has_its_evidence(gate: Gate, readings: make.Board) -> None:
    other = make.gate_of(make.make_rollout(owner=gate.rollout.owner, slug="other"))
    now = timezone.now()

    assert gates.evaluate_gates([gate, other], at=now) == 2
    assert gates.evaluate_gates([gate, other], at=now) == 0

    assert len(readings.windows) == 2
    first, second = Evaluation.objects.order_by("gate")
    assert [record["reading"] for record in first.records] == [record["reading"] for record in second.records]
    assert gate_selectors.replay(second).differences == []


def test_a_gate_that_breaks_leaves_the_others_alone_and_is_raised(gate: Gate, readings: make.Board) -> None:
    other = make.gate_of(make.make_rollout(owner=gate.rollout.owner, slug="other"))
    now = timezone.now()
    gates.evaluate_gates([gate, other], at=now)
    Criterion.objects.filter(gate=gate, key="overhead").update(operator="~")

    with pytest.raises(ExceptionGroup):
        gates.evaluate_gates([gate, other], at=now + gates.EVALUATE_EVERY)

    assert [evaluation.gate for evaluation in Evaluation.objects.order_by("pk")] == [gate, other, other]


def test_gates_whose_verdicts_stay_are_written_together_and_can_be_replayed(gate: Gate, readings: make.Board) -> None:
    found = [gate] + [make.gate_of(make.make_rollout(owner=gate.rollout.owner, slug=f"other-{number}")) for number in range(3)]
    now = timezone.now()
    gates.evaluate_gates(found, at=now)
    lines, entries = ReleaseLogEntry.objects.count(), AuditEntry.objects.count()
    readings.readings["test.overhead"] = Reading(14.0, sample=4100, low=13.0, high=15.0)
    later = now + gates.EVALUATE_EVERY

    with CaptureQueriesContext(connection) as two:
        assert gates.evaluate_gates(found[:2], at=later) == 2
    with CaptureQueriesContext(connection) as four:
        assert gates.evaluate_gates(found, at=later + gates.EVALUATE_EVERY) == 4

    assert len(two) == len(four)
    assert (ReleaseLogEntry.objects.count(), AuditEntry.objects.count()) == (lines, entries)
    gate.refresh_from_db()
    assert gate.latest is not None
    assert (gate.latest.sequence, gate.latest.at, gate.latest.records[0]["reading"]["value"]) == (3, later + gates.EVALUATE_EVERY, 14.0)
    assert [gate_selectors.replay(evaluation).differences for evaluation in Evaluation.objects.all()] == [[]] * 10


def test_of_many_gates_only_the_one_whose_verdicts_change_is_news(gate: Gate, readings: make.Board) -> None:
    other = make.gate_of(make.make_rollout(owner=gate.rollout.owner, slug="other"))
    now = timezone.now()
    gates.evaluate_gates([gate, other], at=now)
    Criterion.objects.filter(gate=other, key="overhead").update(threshold=5)
    lines = ReleaseLogEntry.objects.filter(gate=gate).count()

    assert gates.evaluate_gates([gate, other], at=now + gates.EVALUATE_EVERY) == 2

    gate.refresh_from_db()
    other.refresh_from_db()
    assert gate.latest is not None
    assert other.latest is not None
    assert (gate.latest.sequence, other.latest.sequence) == (2, 2)
    assert verdicts(other.latest)["overhead"] == "fail"
    assert ReleaseLogEntry.objects.filter(gate=gate).count() == lines
    assert "Overhead" in ReleaseLogEntry.objects.filter(gate=other).order_by("-sequence")[0].text
