"""Two people sign a month, and only the figures that they saw."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from typing import Any

import pytest

from costs import generator, reconciliation_selectors
from costs.errors import PeriodOpenError, RevisionReplacedError, RevisionSignedError, SignatureReasonError
from costs.models import Revision
from costs.services import bills, reconciliation, signoff
from governance.models import AuditEntry, Notice, Tenant, User

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
WHY: dict[str, Any] = {"comment": "One day comes with the next file.", "at": NOW}


def revised(made: generator.Generated, fay: User) -> Revision:
    bills.import_bill(file=io.BytesIO(generator.to_csv(made.late_rows)), name="late.csv", actor=fay)
    revision, is_new = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    assert is_new
    return revision


def test_two_people_sign_a_month_off(acme: Tenant, compared: Revision, fay: User, alice: User) -> None:
    signoff.sign(revision=compared, digest=compared.digest, actor=fay, **WHY)
    half = reconciliation_selectors.sign_off(compared)
    waiting = [reconciliation_selectors.waiting_for(person) for person in (fay, alice)]

    signoff.sign(revision=compared, digest=compared.digest, actor=alice, **WHY)

    assert (half.state, half.missing) == ("waiting", 1)
    assert waiting == [[], [compared]]
    assert reconciliation_selectors.sign_off(compared).state == "signed_off"
    assert reconciliation_selectors.waiting_for(alice) == []
    assert list(
        Notice.objects.filter(topic__in=["bill.signature_needed", "bill.signed_off"]).order_by("at", "pk").values_list("topic", flat=True)
    ) == ["bill.signature_needed", "bill.signed_off"]
    assert AuditEntry.objects.filter(event__in=["reconciliation.signed", "reconciliation.signed_off"]).count() == 2


def test_nobody_signs_twice_and_nobody_a_third_time(acme: Tenant, compared: Revision, fay: User, alice: User, adam: User) -> None:
    signoff.sign(revision=compared, digest=compared.digest, actor=fay, **WHY)

    with pytest.raises(RevisionSignedError, match="somebody else"):
        signoff.sign(revision=compared, digest=compared.digest, actor=fay, **WHY)
    signoff.sign(revision=compared, digest=compared.digest, actor=alice, **WHY)
    with pytest.raises(RevisionSignedError, match="signed off"):
        signoff.sign(revision=compared, digest=compared.digest, actor=adam, **WHY)
    with pytest.raises(RevisionSignedError, match="until a new revision"):
        signoff.withdraw(revision=compared, actor=fay)


def test_signature_is_withdrawn_and_given_again(acme: Tenant, compared: Revision, fay: User, alice: User) -> None:
    signoff.sign(revision=compared, digest=compared.digest, actor=fay, **WHY)

    signoff.withdraw(revision=compared, actor=fay)
    with pytest.raises(RevisionSignedError, match="not signed"):
        signoff.withdraw(revision=compared, actor=alice)
    signoff.sign(revision=compared, digest=compared.digest, actor=fay, **WHY)

    found = reconciliation_selectors.sign_off(compared)
    assert [(len(found.signatures), one.void_reason) for one in found.voided] == [(1, "withdrawn")]


def test_other_figures_and_an_unfinished_month_are_not_signed(acme: Tenant, compared: Revision, fay: User) -> None:
    with pytest.raises(RevisionReplacedError, match="not the figures"):
        signoff.sign(revision=compared, digest="0" * 64, actor=fay, **WHY)
    with pytest.raises(PeriodOpenError):
        signoff.sign(revision=compared, digest=compared.digest, actor=fay, comment="Early", at=datetime(2026, 10, 31, 23, tzinfo=UTC))


@pytest.mark.parametrize("doubt", [{"bill": 900}, {"complete_through": datetime(2026, 10, 31, tzinfo=UTC)}])
def test_doubtful_or_provisional_figures_are_signed_with_a_reason_only(
    doubt: dict[str, Any], acme: Tenant, compared: Revision, fay: User
) -> None:
    Revision.objects.filter(pk=compared.pk).update(**doubt)
    compared.refresh_from_db()

    with pytest.raises(SignatureReasonError):
        signoff.sign(revision=compared, digest=compared.digest, actor=fay, comment="  ", at=NOW)

    assert signoff.sign(revision=compared, digest=compared.digest, actor=fay, **WHY).comment == WHY["comment"]


def test_new_revision_voids_what_was_signed_and_says_so(
    acme: Tenant, compared: Revision, made: generator.Generated, fay: User, alice: User
) -> None:
    digest = compared.digest
    for person in (fay, alice):
        signoff.sign(revision=compared, digest=digest, actor=person, **WHY)

    revision = revised(made, fay)

    found, [notice] = reconciliation_selectors.sign_off(revision), Notice.objects.filter(topic="bill.restated")
    assert found.state == "unsigned"
    assert {(one.person, one.void_reason) for one in found.voided} == {(fay, "revision 2 replaced it"), (alice, "revision 2 replaced it")}
    assert (notice.severity, notice.path) == ("warning", "operate/costs/reconciliation/openai/prod%20eu/2026-10/changes/")
    assert AuditEntry.objects.filter(event="reconciliation.signatures_voided").count() == 1
    assert revision.digest != digest
    with pytest.raises(RevisionReplacedError, match="was replaced"):
        signoff.sign(revision=compared, digest=digest, actor=fay, **WHY)
