from __future__ import annotations

from typing import Any

import pytest

from governance.metrics import NO_DATA, Reading
from governance.models import AuditEntry
from rollouts.errors import (
    AlreadySignedError,
    EvidenceMissingError,
    GateNotOpenError,
    NotReadyError,
    RejectedError,
    RoleNotHeldError,
    VerdictChangedError,
)
from rollouts.models import Gate, Phase, Rollout, SignOff
from rollouts.services import gates, signatures
from tests.factories import rollouts as make


def test_next_phase_begins_with_the_last_go_that_was_missing(ready_gate: Gate, people: Any) -> None:
    make.go(ready_gate, "product", people.rita)

    before = make.gate_of(ready_gate.rollout).status
    make.go(ready_gate, "engineering", people.adam)

    phases = list(Phase.objects.filter(rollout=ready_gate.rollout).values_list("title", "status"))
    assert before == Gate.Status.OPEN
    assert phases == [("Pilot", "done"), ("Everybody", "current")]
    assert make.gate_of(ready_gate.rollout, 1).status == Gate.Status.PASSED
    assert make.gate_of(ready_gate.rollout, 2).status == Gate.Status.OPEN
    assert set(AuditEntry.objects.values_list("event", flat=True)) >= {"gate.signed", "gate.passed", "phase.entered"}


def test_rollout_finishes_with_the_last_gate(ready_gate: Gate, people: Any) -> None:
    make.go(ready_gate, "product", people.rita)
    make.go(ready_gate, "engineering", people.adam)
    last = make.gate_of(ready_gate.rollout, 2)
    make.evaluate(last)

    make.go(make.gate_of(ready_gate.rollout, 2), "product", people.rita)

    assert Rollout.objects.get().status == Rollout.Status.FINISHED
    assert Phase.objects.filter(status="current").count() == 0


def test_one_signature_does_not_open_the_gate(ready_gate: Gate, people: Any) -> None:
    make.go(ready_gate, "product", people.rita)

    assert Phase.objects.get(status="current").title == "Pilot"


def test_go_needs_a_role_that_the_person_holds(ready_gate: Gate, people: Any) -> None:
    with pytest.raises(RoleNotHeldError):
        make.go(ready_gate, "engineering", people.rita)
    with pytest.raises(RoleNotHeldError):
        make.go(ready_gate, "product", people.bob)


def test_go_for_a_role_that_the_gate_does_not_ask_for_is_refused(ready_gate: Gate, people: Any) -> None:
    with pytest.raises(RoleNotHeldError):
        make.go(ready_gate, "security", people.sam)


def test_nobody_signs_for_two_roles(ready_gate: Gate, people: Any) -> None:
    make.go(ready_gate, "product", people.alice)

    with pytest.raises(AlreadySignedError, match="two roles"):
        make.go(ready_gate, "engineering", people.alice)
    assert Phase.objects.get(status="current").title == "Pilot"


def test_role_is_signed_once(ready_gate: Gate, people: Any) -> None:
    make.go(ready_gate, "product", people.rita)

    with pytest.raises(AlreadySignedError):
        make.go(ready_gate, "product", people.alice)


def test_failing_criterion_blocks_go(ready_gate: Gate, people: Any, readings: make.Board) -> None:
    readings.readings["test.overhead"] = make.BAD_OVERHEAD

    with pytest.raises(NotReadyError, match="1 criterion fails"):
        make.go(ready_gate, "product", people.rita)
    assert not SignOff.objects.exists()


def test_criterion_without_data_blocks_go(ready_gate: Gate, people: Any, readings: make.Board) -> None:
    readings.readings["test.coverage"] = NO_DATA

    with pytest.raises(NotReadyError, match="1 criterion can't be judged yet"):
        make.go(ready_gate, "product", people.rita)


def test_gate_without_attestations_is_not_ready(gate: Gate, people: Any) -> None:
    make.evaluate(gate)

    with pytest.raises(NotReadyError):
        make.go(gate, "product", people.rita)


def test_go_to_other_verdicts_than_those_shown_is_refused(ready_gate: Gate, people: Any) -> None:
    with pytest.raises(VerdictChangedError):
        signatures.sign(gate=ready_gate, role="product", decision="go", digest="0" * 64, person=people.rita)


def test_changed_verdict_voids_signatures(ready_gate: Gate, people: Any, readings: make.Board) -> None:
    make.go(ready_gate, "product", people.rita)
    readings.readings["test.overhead"] = make.BAD_OVERHEAD

    make.evaluate(ready_gate)

    signoff = SignOff.objects.get()
    assert signoff.voided_at is not None
    assert signoff.void_reason == "a verdict changed"
    assert "Overhead: pass to fail (12 ms to 53.8 ms, rule < 50 ms)" in ready_gate.rollout.log.first().text  # type: ignore[union-attr]


def test_other_figures_with_the_same_verdicts_keep_signatures(ready_gate: Gate, people: Any, readings: make.Board) -> None:
    make.go(ready_gate, "product", people.rita)
    before = make.gate_of(ready_gate.rollout).latest
    readings.readings["test.overhead"] = Reading(14.0, sample=9000, low=13.0, high=15.0)

    after = make.evaluate(ready_gate)

    assert before is not None
    assert after.digest == before.digest
    assert after.evidence_hash != before.evidence_hash
    assert SignOff.objects.get().voided_at is None


def test_voided_role_can_be_signed_again(ready_gate: Gate, people: Any, readings: make.Board) -> None:
    make.go(ready_gate, "product", people.rita)
    readings.readings["test.overhead"] = make.BAD_OVERHEAD
    make.evaluate(ready_gate)
    readings.readings["test.overhead"] = make.GOOD_OVERHEAD
    make.evaluate(ready_gate)

    make.go(ready_gate, "product", people.rita)

    assert SignOff.objects.filter(voided_at=None).count() == 1
    assert SignOff.objects.count() == 2


def test_no_go_is_possible_at_any_time_and_says_why(gate: Gate, people: Any) -> None:
    with pytest.raises(EvidenceMissingError):
        signatures.sign(gate=gate, role="product", decision="no_go", digest="", person=people.rita, comment=" ")

    signatures.sign(gate=gate, role="product", decision="no_go", digest="", person=people.rita, comment="The load test is missing.")

    assert make.gate_of(gate.rollout).status == Gate.Status.REJECTED


def test_no_go_sticks_until_the_gate_is_reopened(ready_gate: Gate, people: Any) -> None:
    signatures.sign(gate=ready_gate, role="product", decision="no_go", digest="", person=people.rita, comment="Not yet.")
    make.evaluate(ready_gate)
    with pytest.raises(RejectedError, match="Rita"):
        make.go(ready_gate, "engineering", people.adam)

    gates.reopen_gate(gate=ready_gate, reason="Load test done.", actor=people.alice.user)
    make.go(ready_gate, "engineering", people.adam)
    make.go(ready_gate, "product", people.rita)

    assert Phase.objects.get(status="current").title == "Everybody"


def test_no_go_takes_the_place_of_a_go(ready_gate: Gate, people: Any) -> None:
    make.go(ready_gate, "product", people.rita)

    signatures.sign(gate=ready_gate, role="product", decision="no_go", digest="", person=people.rita, comment="I was wrong.")

    live = SignOff.objects.get(voided_at=None)
    assert live.decision == "no_go"
    assert make.gate_of(ready_gate.rollout).status == Gate.Status.REJECTED


def test_gate_of_a_later_phase_is_not_signed(ready_gate: Gate, people: Any) -> None:
    later = make.gate_of(ready_gate.rollout, 2)

    with pytest.raises(GateNotOpenError):
        signatures.sign(gate=later, role="product", decision="go", digest="", person=people.rita)
