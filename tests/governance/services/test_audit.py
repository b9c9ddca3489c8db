"""The audit log is written with its act and cannot be changed unnoticed."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction

from governance.models import AuditEntry, Tenant, User
from governance.services import audit


def test_entries_form_one_chain(acme: Tenant, alice: User) -> None:
    before = AuditEntry.objects.count()

    first = audit.record("thing.made", actor=alice, target=acme, size=1)
    second = audit.record("thing.changed", actor=None, target=acme, size=2)

    assert second.previous_hash == first.hash
    assert second.actor_name == "System"
    verification = audit.verify()
    assert verification.is_intact
    assert verification.entries == before + 2


@pytest.mark.parametrize("column", ["event", "actor_name", "target_name", "details", "via"])
def test_changed_entry_is_found(acme: Tenant, alice: User, column: str) -> None:
    entry = audit.record("thing.made", actor=alice, target=acme, size=1)
    audit.record("thing.changed", actor=alice, target=acme)

    AuditEntry.objects.filter(pk=entry.pk).update(**{column: {"size": 2} if column == "details" else "forged"})

    assert audit.verify().broken_at == entry.sequence


def test_removed_entry_is_found(acme: Tenant, alice: User) -> None:
    entry = audit.record("thing.made", actor=alice, target=acme)
    audit.record("thing.changed", actor=alice, target=acme)

    AuditEntry.objects.filter(pk=entry.pk).delete()

    assert not audit.verify().is_intact


def test_entry_needs_the_transaction_of_its_act(acme: Tenant, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as outside:
        outside.setattr(connections["default"], "in_atomic_block", False)

        with pytest.raises(RuntimeError, match="transaction"):
            audit.record("thing.made", actor=alice)


def test_entry_goes_with_an_act_that_fails(acme: Tenant, alice: User) -> None:
    before = AuditEntry.objects.count()

    def fail() -> None:
        with transaction.atomic():
            audit.record("thing.made", actor=alice)
            raise ValueError("the act failed")

    with pytest.raises(ValueError, match="the act failed"):
        fail()

    assert AuditEntry.objects.count() == before


def test_logs_of_tenants_are_apart(acme: Tenant, globex: Tenant, alice: User) -> None:
    audit.record("thing.made", actor=alice, target_name="only in acme")

    with globex:
        assert not AuditEntry.objects.filter(target_name="only in acme").exists()
        assert audit.verify().is_intact


def test_checkpoint_shows_a_log_that_was_cut_off_or_written_anew(acme: Tenant, alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    audit.record("thing.made", actor=alice, target_name="first")
    last = audit.record("thing.changed", actor=alice, target_name="second")
    told = audit.verify().checkpoint
    kept = (last.sequence, last.hash)

    assert told == f"{last.sequence}:{last.hash}"
    assert audit.verify(checkpoint=kept).is_intact
    call_command("verify_audit", tenant="acme", checkpoint=told)
    with pytest.raises(CommandError, match="needs --tenant"):
        call_command("verify_audit", checkpoint=told)

    AuditEntry.objects.filter(pk=last.pk).delete()
    assert audit.verify().is_intact  # the chain alone can't know
    cut = audit.verify(checkpoint=kept)
    assert cut.broken_at == last.sequence
    assert "missing at the end" in cut.reason
    assert cut.checkpoint == f"{last.sequence - 1}:{last.previous_hash}"

    audit.record("thing.changed", actor=alice, target_name="another second")
    assert "written anew" in audit.verify(checkpoint=kept).reason


def test_command_says_whether_the_chains_hold(acme: Tenant, alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("verify_audit")
    assert "acme:" in capsys.readouterr().out

    AuditEntry.objects.filter(sequence=1).update(actor_name="Mallory")

    with pytest.raises(CommandError, match="broken"):
        call_command("verify_audit", tenant="acme")
