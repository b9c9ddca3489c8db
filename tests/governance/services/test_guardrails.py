"""Guardrails as the portal keeps them."""

from typing import Any

import pytest

from catalog.models import Model
from gateway.contract import presidio
from gateway.contract import snapshot as contract
from gateway.publish.publisher import compile_snapshot
from governance.errors import GuardrailError
from governance.models import AuditEntry, Guardrail, Tenant, User
from governance.services import guardrails
from tests.factories.catalog import make_model

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


def test_guardrail_of_a_model_that_is_retired_is_still_changed(acme: Tenant, adam: User) -> None:
    model = make_model(owner=adam, slug="small")
    made = guardrails.create_guardrail(actor=adam, scope="model", ref="small", **PII)
    Model.objects.filter(pk=model.pk).update(status=Model.Status.RETIRED)

    assert guardrails.change_guardrail(guardrail=made, actor=adam, mode="off").mode == "off"
    with pytest.raises(GuardrailError, match="There is no project small"):
        guardrails.change_guardrail(guardrail=made, actor=adam, scope="project")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "no-pii"}, "name"),
        ({"scope": "project"}, "ref"),
        ({"scope": "project", "ref": "nobody"}, "ref"),
        ({"scope": "model", "ref": "nobody"}, "ref"),
        ({"on_input": False}, "on_input"),
        ({"entities": ["email", "shoe-size"]}, "entities"),
        ({"kind": "injection", "action": "redact"}, "action"),
        ({"kind": "injection", "action": "block", "threshold": 0}, "threshold"),
        ({"kind": "topics", "action": "block", "terms": [" "]}, "terms"),
        ({"kind": "size", "action": "block"}, "max_characters"),
        ({"entities": ["person"]}, "entities"),  # patterns find no names
        ({"engine": "presidio", "entities": ["person"]}, "spacy_model"),
        ({"engine": "presidio", "time_limit_ms": 1}, "time_limit_ms"),
        ({"engine": "presidio", "language": "qq"}, "language" if presidio.is_installed() else "engine"),
        ({"engine": "presidio", "kind": "secrets"}, "engine"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(acme: Tenant, adam: User, fields: dict[str, Any], field: str) -> None:
    guardrails.create_guardrail(actor=adam, **PII)

    with pytest.raises(GuardrailError) as refused:
        guardrails.create_guardrail(actor=adam, **{**PII, "name": "another", **fields})

    assert refused.value.field == field
    assert Guardrail.objects.count() == 1


def test_guardrail_of_an_engine_that_is_gone_can_still_be_softened(acme: Tenant, adam: User) -> None:
    made = Guardrail.objects.create(**PII, engine="presidio", language="qq", created_by=adam)

    guardrails.change_guardrail(guardrail=made, actor=adam, when_unavailable="pass", time_limit_ms=500)
    with pytest.raises(GuardrailError):
        guardrails.change_guardrail(guardrail=made, actor=adam, entities=["email"])
    with pytest.raises(GuardrailError):
        guardrails.try_guardrail(guardrail=made, text="Call (415) 555-0132")

    [served] = compile_snapshot(acme, 1).guardrails
    assert served.presidio == contract.Presidio(language="qq", threshold=0.5, time_limit_ms=500, may_pass=True)
    guardrails.change_guardrail(guardrail=made, actor=adam, engine="patterns")
    assert compile_snapshot(acme, 1).guardrails[0].presidio is None


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
