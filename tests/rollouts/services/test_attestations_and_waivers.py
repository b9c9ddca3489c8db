from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError
from django.utils import timezone

from governance.metrics import NO_DATA
from rollouts import gate_selectors
from rollouts.errors import (
    EvidenceMissingError,
    MeasuredError,
    NotReadyError,
    NotWaivableError,
    RoleNotHeldError,
    SelfApprovalError,
    WaiverDecidedError,
)
from rollouts.models import Attestation, Criterion, Gate, Waiver
from rollouts.services import attestations, gates, waivers
from tests.factories import rollouts as make


def criterion(gate: Gate, key: str) -> Criterion:
    return Criterion.objects.select_related("gate").get(gate=gate, key=key)


def verdict(gate: Gate, key: str) -> str:
    latest = make.gate_of(gate.rollout, gate.number).latest
    assert latest is not None
    return str(next(record["verdict"] for record in latest.records if record["key"] == key))


def test_attestation_turns_its_criterion_at_once(gate: Gate, people: Any) -> None:
    attestations.attest(
        criterion=criterion(gate, "feedback"), met=True, note_text="All five are settled.", summary="5 of 5", person=people.rita
    )

    assert verdict(gate, "feedback") == "pass"
    assert "All five are settled." in gate.rollout.log.values_list("text", flat=True)[1]


def test_newest_attestation_counts(gate: Gate, people: Any) -> None:
    attestations.attest(criterion=criterion(gate, "feedback"), met=True, note_text="Done.", person=people.rita)

    attestations.attest(criterion=criterion(gate, "feedback"), met=False, note_text="One came back.", person=people.alice)

    assert verdict(gate, "feedback") == "fail"


def test_attestation_before_the_gate_opened_does_not_count(gate: Gate, people: Any) -> None:
    attestations.attest(criterion=criterion(gate, "feedback"), met=True, note_text="Done.", person=people.rita)
    Gate.objects.filter(pk=gate.pk).update(opened_at=timezone.now())

    make.evaluate(make.gate_of(gate.rollout))

    assert verdict(gate, "feedback") == "no_data"


def test_attestation_needs_the_role_of_its_criterion(gate: Gate, people: Any) -> None:
    with pytest.raises(RoleNotHeldError):
        attestations.attest(criterion=criterion(gate, "audit"), met=True, note_text="Fine.", person=people.alice)
    with pytest.raises(RoleNotHeldError):
        attestations.attest(criterion=criterion(gate, "feedback"), met=True, note_text="Fine.", person=people.bob)


def test_attestation_needs_evidence(gate: Gate, people: Any) -> None:
    with pytest.raises(EvidenceMissingError, match="The list"):
        attestations.attest(criterion=criterion(gate, "feedback"), met=True, note_text="  ", person=people.rita)


def test_measured_criterion_is_not_attested(gate: Gate, people: Any) -> None:
    with pytest.raises(MeasuredError):
        attestations.attest(criterion=criterion(gate, "overhead"), met=True, note_text="It is fast.", person=people.adam)


def test_file_is_kept_by_its_checksum_in_the_folder_of_the_organisation(gate: Gate, people: Any) -> None:
    upload = SimpleUploadedFile("../../report <1>.pdf", b"%PDF findings: none")

    attestations.attest(criterion=criterion(gate, "audit"), met=True, note_text="Report.", file=upload, person=people.sam)

    kept = Attestation.objects.get()
    assert kept.file_name == "report <1>.pdf"
    assert kept.file.name is not None
    assert kept.file.name.startswith(f"acme/attestations/{kept.file_sha256}") or kept.file_sha256 in kept.file.name
    latest = make.gate_of(gate.rollout).latest
    assert latest is not None
    assert kept.file_sha256 in latest.evidence


def ask(gate: Gate, people: Any, key: str = "overhead", *, days: int = 14, by: str = "rita") -> Waiver:
    return waivers.request_waiver(
        criterion=criterion(gate, key),
        reason="The fix is on its way.",
        until=timezone.now() + timedelta(days=days),
        actor=getattr(people, by).user,
    )


@pytest.fixture
def failing(ready_gate: Gate, readings: make.Board) -> Gate:
    readings.readings["test.overhead"] = make.BAD_OVERHEAD
    make.evaluate(ready_gate)
    return make.gate_of(ready_gate.rollout)


def test_waiver_opens_the_gate_only_with_a_second_person(failing: Gate, people: Any) -> None:
    waiver = ask(failing, people)
    asked = verdict(failing, "overhead")

    waivers.decide_waiver(waiver=waiver, approve=True, person=people.adam)

    assert (asked, verdict(failing, "overhead")) == ("fail", "waived")
    latest = make.gate_of(failing.rollout).latest
    assert latest is not None
    assert (latest.verdict, latest.is_ready) == ("waived", True)
    assert gate_selectors.replay(latest).differences == []


def test_nobody_approves_their_own_waiver(failing: Gate, people: Any) -> None:
    waiver = ask(failing, people, by="adam")

    with pytest.raises(SelfApprovalError):
        waivers.decide_waiver(waiver=waiver, approve=True, person=people.adam)


def test_database_refuses_self_approval_too(failing: Gate, people: Any) -> None:
    waiver = ask(failing, people, by="adam")

    with pytest.raises(IntegrityError, match="waiver_four_eyes"):
        Waiver.objects.filter(pk=waiver.pk).update(approved=True, decided_by=people.adam.user, decided_at=timezone.now())


def test_waiver_is_decided_by_the_role_of_its_criterion(failing: Gate, people: Any) -> None:
    waiver = ask(failing, people, by="alice")

    with pytest.raises(RoleNotHeldError):
        waivers.decide_waiver(waiver=waiver, approve=True, person=people.rita)


def test_declined_waiver_changes_nothing_and_may_be_asked_again(failing: Gate, people: Any) -> None:
    waivers.decide_waiver(waiver=ask(failing, people), approve=False, person=people.adam)

    assert verdict(failing, "overhead") == "fail"
    assert ask(failing, people).pk


def test_waiver_ends_by_itself_and_voids_what_was_signed(failing: Gate, people: Any) -> None:
    waivers.decide_waiver(waiver=ask(failing, people, days=1), approve=True, person=people.adam)
    make.go(failing, "product", people.rita)
    later = timezone.now() + timedelta(days=2)

    due = list(gates.due_gates(at=later).values_list("pk", flat=True))
    make.evaluate(make.gate_of(failing.rollout), at=later)

    assert due == [failing.pk]
    assert verdict(failing, "overhead") == "fail"
    assert failing.signoffs.get().voided_at is not None
    with pytest.raises(NotReadyError):
        make.go(failing, "product", people.rita, at=later)


def test_gate_is_due_as_soon_as_a_waiver_ended(failing: Gate, people: Any) -> None:
    waiver = waivers.decide_waiver(waiver=ask(failing, people), approve=True, person=people.adam)
    latest = make.gate_of(failing.rollout).latest
    assert latest is not None
    soon = latest.at + timedelta(seconds=30)

    before = list(gates.due_gates(at=soon).values_list("pk", flat=True))
    Waiver.objects.filter(pk=waiver.pk).update(until=latest.at + timedelta(seconds=10))

    assert (before, list(gates.due_gates(at=soon).values_list("pk", flat=True))) == ([], [failing.pk])


def test_waiver_for_missing_data_does_not_cover_a_failure(ready_gate: Gate, people: Any, readings: make.Board) -> None:
    readings.readings["test.overhead"] = NO_DATA
    make.evaluate(ready_gate)
    waivers.decide_waiver(waiver=ask(ready_gate, people), approve=True, person=people.adam)
    waived = verdict(ready_gate, "overhead")

    readings.readings["test.overhead"] = make.BAD_OVERHEAD
    make.evaluate(make.gate_of(ready_gate.rollout))

    assert (waived, verdict(ready_gate, "overhead")) == ("waived", "fail")


def test_ended_early_waiver_counts_no_more(failing: Gate, people: Any) -> None:
    waiver = waivers.decide_waiver(waiver=ask(failing, people), approve=True, person=people.adam)

    waivers.end_waiver(waiver=waiver, actor=people.rita.user)

    assert verdict(failing, "overhead") == "fail"
    with pytest.raises(WaiverDecidedError):
        waivers.end_waiver(waiver=waiver, actor=people.rita.user)


def test_security_criterion_is_never_waived(gate: Gate, people: Any) -> None:
    make.evaluate(gate)

    with pytest.raises(NotWaivableError):
        ask(gate, people, "audit")


def test_waiver_needs_something_to_waive(gate: Gate, people: Any) -> None:
    with pytest.raises(NotWaivableError, match="not evaluated yet"):
        ask(gate, people)
    make.evaluate(gate)
    with pytest.raises(NotWaivableError, match="passes"):
        ask(gate, people)


def test_waiver_is_bounded_and_asked_once(failing: Gate, people: Any) -> None:
    with pytest.raises(EvidenceMissingError, match="90 days"):
        ask(failing, people, days=91)
    ask(failing, people)
    with pytest.raises(WaiverDecidedError, match="waits for approval"):
        ask(failing, people)


def test_void_signatures_of_a_reopened_gate_are_only_those_that_said_no_go(ready_gate: Gate, people: Any) -> None:
    make.go(ready_gate, "engineering", people.adam)
    from rollouts.services import signatures

    signatures.sign(gate=ready_gate, role="product", decision="no_go", digest="", person=people.rita, comment="Wait.")

    gates.reopen_gate(gate=ready_gate, reason="Waited.", actor=people.alice.user)

    assert list(ready_gate.signoffs.filter(voided_at=None).values_list("role", flat=True)) == ["engineering"]
