"""Payload rules and what is kept under them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from gateway.contract.snapshot import PayloadRule
from gateway.publish import payloads as arrivals
from gateway.publish.models import ArrivedPayload
from gateway.publish.publisher import compile_snapshot
from governance import payload_selectors as selectors
from governance.errors import NotConfirmedError, PayloadRuleError, PayloadUnreadableError
from governance.models import AuditEntry, CallPayload, Notice, PayloadRequest, PayloadSetting, Tenant, User
from governance.services import payloads
from tests.factories.catalog import make_project
from tests.factories.payloads import keep_payload

WHY = "Support asked"


def put_in_force(mode: str, asker: User, approver: User, *, ref: str = "", days: int = 7) -> PayloadRequest:
    request = payloads.ask_for_rule(ref=ref, mode=mode, days=days, actor=asker, reason=WHY)
    return payloads.approve(request=request, actor=approver) if request.status == "waiting" else request


def keep(project: str = "shop", *, user: str = "", **fields: Any) -> CallPayload:
    return keep_payload(project, user=user, **{"request": {"messages": ["hello"]}, "reply": {"text": "hi"}, **fields})


def test_wider_rule_takes_a_second_person_and_a_stricter_one_holds_at_once(acme: Tenant, adam: User, sam: User) -> None:
    before = Tenant.objects.get(pk=acme.pk).config_version
    asked = payloads.ask_for_rule(ref="", mode="full", days=7, actor=adam, reason=WHY)

    assert (asked.status, selectors.effective_rule("").mode) == ("waiting", "metadata")
    with pytest.raises(PayloadRuleError, match="ask somebody else"):
        payloads.approve(request=asked, actor=adam)
    with pytest.raises(PayloadRuleError, match="waits for a decision already"):
        payloads.ask_for_rule(ref="", mode="redacted", days=7, actor=sam, reason=WHY)
    payloads.approve(request=asked, actor=sam)
    with pytest.raises(PayloadRuleError, match="in force already"):
        payloads.approve(request=asked, actor=sam)
    assert payloads.ask_for_rule(ref="", mode="full", days=8, actor=adam, reason=WHY).status == "waiting"
    assert payloads.ask_for_rule(ref="", mode="redacted", days=3, actor=adam, reason=WHY).status == "applied"

    assert selectors.effective_rule("") == PayloadRule(mode="redacted", days=3)
    assert Tenant.objects.get(pk=acme.pk).config_version == before + 2
    events = list(AuditEntry.objects.filter(event__startswith="payload.").order_by("sequence").values_list("event", flat=True))
    assert events == ["payload.rule_asked", "payload.rule_applied", "payload.rule_asked", "payload.rule_applied"]
    assert Notice.objects.filter(topic="payload.rule_widened", permission="view").count() == 1


def test_waiting_rule_is_declined_with_a_reason_or_withdrawn(acme: Tenant, adam: User, sam: User) -> None:
    first = payloads.ask_for_rule(ref="", mode="full", days=7, actor=adam, reason=WHY)
    with pytest.raises(PayloadRuleError, match="Say why"):
        payloads.reject(request=first, actor=sam)
    assert payloads.reject(request=first, actor=sam, note="Not needed").status == "rejected"
    second = payloads.ask_for_rule(ref="", mode="redacted", days=7, actor=adam, reason=WHY)

    assert payloads.reject(request=second, actor=adam).status == "withdrawn"
    assert not PayloadSetting.objects.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "everything"}, "Choose one of"),
        ({"mode": ""}, "Choose one of"),
        ({"days": 91}, "Between 1 and 90"),
        ({"reason": " "}, "Say why"),
        ({"ref": "nowhere"}, "no project nowhere"),
        ({"ref": "shop", "mode": "full"}, "can only be stricter"),
    ],
)
def test_rule_that_cannot_be_is_refused(acme: Tenant, alice: User, fields: dict[str, Any], message: str) -> None:
    make_project(owner=alice, slug="shop")
    with pytest.raises(PayloadRuleError, match=message):
        payloads.ask_for_rule(**{"ref": "", "mode": "none", "days": 7, "reason": WHY, "actor": alice, **fields})


def test_strictest_rule_of_organisation_and_project_is_published(acme: Tenant, alice: User, adam: User, sam: User) -> None:
    for slug in ("shop", "lab", "hr"):
        make_project(owner=alice, slug=slug)
    assert compile_snapshot(acme, 1).payloads == {}
    put_in_force("full", adam, sam, days=9)
    put_in_force("redacted", adam, sam, ref="shop", days=30)
    put_in_force("none", adam, sam, ref="hr")

    full, redacted = PayloadRule(mode="full", days=9), PayloadRule(mode="redacted", days=9)
    assert compile_snapshot(acme, 1).payloads == {"hr": PayloadRule(mode="none", days=7), "lab": full, "shop": redacted}
    put_in_force("redacted", adam, sam, days=9)
    assert payloads.ask_for_rule(ref="shop", mode="", days=7, actor=adam, reason=WHY).status == "applied"
    assert compile_snapshot(acme, 1).payloads["shop"] == redacted
    assert payloads.ask_for_rule(ref="hr", mode="", days=7, actor=adam, reason=WHY).status == "waiting"


def test_what_is_kept_is_opened_with_a_reason_and_gone_when_the_rule_narrows(acme: Tenant, adam: User, sam: User) -> None:
    put_in_force("full", adam, sam)
    row = keep(request={"text": "jo@acme.example"})

    with pytest.raises(NotConfirmedError):
        payloads.open_payload(event_id=row.pk, actor=sam, reason=" ")
    opened = payloads.open_payload(event_id=row.pk, actor=sam, reason=WHY)
    assert opened is not None
    assert (opened.request, opened.reply) == ({"text": "jo@acme.example"}, {"text": "hi"})
    entry = AuditEntry.objects.get(event="payload.opened")
    assert (entry.actor, entry.target_id, entry.details["reason"]) == (sam, str(row.pk), WHY)
    assert payloads.read_payload(event_id=row.pk, at=timezone.now() + timedelta(days=8)) is None
    CallPayload.objects.filter(pk=row.pk).update(sealed="nonsense")
    with pytest.raises(PayloadUnreadableError):
        payloads.read_payload(event_id=row.pk)
    put_in_force("redacted", adam, sam)

    assert payloads.read_payload(event_id=row.pk) is None
    kept = keep(request={"text": "jo@acme.example"})
    read = payloads.read_payload(event_id=kept.pk)
    assert read is not None
    assert read.request == {"text": "[EMAIL]"}
    assert payloads.purge() == 1
    assert payloads.purge(at=timezone.now() + timedelta(days=7, minutes=1)) == 1


def collected_after_the_first_deletion(tenant: Tenant) -> Callable[..., Any]:
    """What has arrived is given to the organisation in the middle of an erasure."""
    deletions: list[str] = []

    def run(execute: Callable[..., Any], query: str, *rest: Any) -> Any:
        result = execute(query, *rest)
        if query.startswith("DELETE"):
            deletions.append(query)
            if len(deletions) == 1:
                arrivals.collect(tenant=tenant)
        return result

    return run


def test_erasing_finds_what_fits_also_what_only_just_arrived(acme: Tenant, adam: User, sam: User) -> None:
    put_in_force("full", adam, sam)
    shop, *_ = [keep(project, user=user) for project, user in (("shop", "u1"), ("shop", "u2"), ("lab", "u1"), ("lab", ""))]
    arrived = {name: getattr(shop, name) for name in ("at", "expires_at", "project", "key_id", "model", "mode", "subject", "sealed")}
    for tenant in (acme.public_id, "another"):
        ArrivedPayload.objects.create(event_id=uuid.uuid4(), tenant=tenant, **arrived)

    with connection.execute_wrapper(collected_after_the_first_deletion(acme)):
        assert payloads.erase(actor=sam, reason=WHY, project="shop", user="u1") == 2
    assert payloads.erase(actor=sam, reason=WHY, user="u1") == 1
    assert payloads.erase(actor=sam, reason=WHY, until=timezone.now() - timedelta(hours=1)) == 0
    with pytest.raises(NotConfirmedError):
        payloads.erase(actor=sam, reason="", everything=True)
    with pytest.raises(NotConfirmedError, match="or that it is everything"):
        payloads.erase(actor=sam, reason=WHY)
    assert payloads.erase(actor=sam, reason=WHY, everything=True) == 2
    assert not CallPayload.objects.exists()
    assert ArrivedPayload.objects.count() == 1
    assert "u1" not in str(list(AuditEntry.objects.filter(event="payload.erased").values_list("details", "target_name")))


def test_arrivals_are_given_to_their_organisation_once(acme: Tenant, globex: Tenant, adam: User, sam: User) -> None:
    now = timezone.now()
    fields = {"at": now, "expires_at": now + timedelta(days=1), "project": "p", "key_id": "k", "model": "m", "mode": "full", "subject": ""}
    ids = [uuid.uuid4() for _ in range(3)]
    CallPayload.objects.create(event_id=ids[0], sealed="first", **fields)
    for event_id, tenant in zip(ids, (acme, acme, globex), strict=True):
        ArrivedPayload.objects.create(event_id=event_id, tenant=tenant.public_id, sealed="x", **fields)
    assert {tenant.slug for tenant in arrivals.tenants_waiting()} == {"acme", "globex"}

    assert arrivals.collect(tenant=acme) == 2

    assert dict(CallPayload.objects.values_list("pk", "sealed")) == {ids[0]: "first", ids[1]: "x"}
    assert list(ArrivedPayload.objects.values_list("tenant", flat=True)) == [globex.public_id]
    ArrivedPayload.objects.create(event_id=uuid.uuid4(), tenant="gone", sealed="x", **fields)
    arrivals.drop_expired(at=now)
    assert list(ArrivedPayload.objects.values_list("tenant", flat=True)) == [globex.public_id]
    arrivals.drop_expired(at=now + timedelta(days=2))
    assert not ArrivedPayload.objects.exists()
    assert connection.schema_name == acme.schema_name  # type: ignore[attr-defined]  # added by django-tenants
