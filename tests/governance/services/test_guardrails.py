"""Guardrails as the portal keeps them."""

from typing import Any

import pytest

from gateway.publish.publisher import compile_snapshot
from governance.errors import GuardrailError
from governance.models import AuditEntry, Guardrail, Tenant, User
from governance.services import guardrails

PII: dict[str, Any] = {"name": "no-pii", "kind": "pii", "mode": "enforce", "action": "redact"}


def test_guardrail_reaches_the_plane_unless_it_is_off(acme: Tenant, adam: User) -> None:
    made = guardrails.create_guardrail(actor=adam, **PII)

    [served] = compile_snapshot(acme, 1).guardrails
    assert (served.name, served.enforce, served.action) == ("no-pii", True, "redact")
    guardrails.change_guardrail(guardrail=made, actor=adam, mode="monitor")
    assert not compile_snapshot(acme, 1).guardrails[0].enforce
    guardrails.change_guardrail(guardrail=made, actor=adam, mode="off")
    assert compile_snapshot(acme, 1).guardrails == ()
    assert [entry.event for entry in AuditEntry.objects.filter(event__startswith="guardrail").order_by("sequence")] == [
        "guardrail.created",
        "guardrail.changed",
        "guardrail.changed",
    ]
    guardrails.delete_guardrail(guardrail=made, actor=adam)
    assert not Guardrail.objects.exists()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "no-pii"}, "name"),
        ({"scope": "project"}, "ref"),
        ({"on_input": False}, "on_input"),
        ({"entities": ["email", "shoe-size"]}, "entities"),
        ({"kind": "injection", "action": "redact"}, "action"),
        ({"kind": "injection", "action": "block", "threshold": 0}, "threshold"),
        ({"kind": "topics", "action": "block", "terms": [" "]}, "terms"),
        ({"kind": "size", "action": "block"}, "max_characters"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(acme: Tenant, adam: User, fields: dict[str, Any], field: str) -> None:
    guardrails.create_guardrail(actor=adam, **PII)

    with pytest.raises(GuardrailError) as refused:
        guardrails.create_guardrail(actor=adam, **{**PII, "name": "another", **fields})

    assert refused.value.field == field
    assert Guardrail.objects.count() == 1


def test_kind_stays(acme: Tenant, adam: User) -> None:
    made = guardrails.create_guardrail(actor=adam, **PII)

    with pytest.raises(GuardrailError, match="stays"):
        guardrails.change_guardrail(guardrail=made, actor=adam, kind="secrets")


def test_trying_keeps_nothing(acme: Tenant, adam: User) -> None:
    replaces = guardrails.create_guardrail(actor=adam, **{**PII, "mode": "monitor"})
    refuses = guardrails.create_guardrail(actor=adam, name="falcon", kind="topics", terms=["Falcon", "falcon "], action="block")
    before = AuditEntry.objects.count()

    redacted = guardrails.try_guardrail(guardrail=replaces, text="Write to jo@acme.example")
    blocked = guardrails.try_guardrail(guardrail=refuses, text="about the falcon")

    assert (redacted.hits, redacted.becomes, redacted.blocks) == ({"email": 1}, "Write to [EMAIL]", False)
    assert (blocked.hits, blocked.blocks) == ({"topic": 1}, True)
    assert AuditEntry.objects.count() == before
