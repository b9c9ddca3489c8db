"""A false throttle stops new activations until somebody says how it was mended; too many false alerts open a recalibration."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from django_tenants.utils import schema_context

from catalog.models import Project
from costs.models import BudgetIncident
from costs.services import budgets
from governance.models import AuditEntry, Notice, Tenant, User
from governance.schema import enter_public
from rollouts import errors
from rollouts.models import Cohort, Escalation, FalseAlertCount
from rollouts.services import cohort_exposure, escalations
from tests.conftest import ClientFor, TenantClient
from tests.factories import cohorts as make
from tests.factories import costs

API = "/api/v1/platform/escalations/"


def report(actor: User, **fields: Any) -> BudgetIncident:
    """In the organisation's schema."""
    facts: dict[str, Any] = {"name": "House", "scope": "tenant", "amount": Decimal(100), "action": "block"}
    made = budgets.create_budget(actor=actor, **(facts | fields))
    budgets.simulate_budget(budget=made, actor=actor)
    return budgets.report_false_throttle(budget=budgets.enforce_budget(budget=made, actor=actor), actor=actor, reason="Checkout is down")


@pytest.fixture
def cohort(acme: Tenant, olga: User, rita: User) -> Cohort:
    with schema_context("public"):
        cohort = make.make_cohort(olga)
        make.enrol(cohort, acme, operator=olga, person=rita)
    return cohort


def test_false_throttle_pauses_activations_until_the_war_room_is_closed(
    cohort: Cohort, acme: Tenant, alice: User, olga: User, client_for: ClientFor, platform_api: TenantClient
) -> None:
    otto = make.second_operator()
    with schema_context("public"):
        waiting = cohort_exposure.propose_activation(cohort=cohort, reason="The pilot begins", actor=olga)

    incident = report(alice)

    enter_public()
    room = Escalation.objects.get()
    assert (room.tenant, room.kind, room.due_at - incident.opened_at) == (acme, "false_throttle", timedelta(hours=48))
    acts: tuple[Callable[[], object], ...] = (
        lambda: cohort_exposure.decide(change=waiting, approve=True, actor=otto),
        lambda: cohort_exposure.propose_activation(cohort=cohort, reason="Again", actor=olga),
        lambda: cohort_exposure.open_stage(flag=cohort.flag, stage="internal", reason="Again", actor=olga),
    )
    for act in acts:
        with pytest.raises(errors.ActivationsPausedError):
            act()
    page = client_for(olga).get("/platform/cohorts/partners/").content.decode()
    assert "New activations are paused" in page
    client_for(olga).post(f"/platform/escalations/{room.pk}/note/", {"text": "A rate was taken for a total"})
    noted = client_for(olga).get(f"/platform/escalations/{room.pk}/").content.decode()
    assert "A rate was taken for a total" in noted
    assert platform_api.post(f"{API}{room.pk}/close/", {"resolution": " "}).status_code == 400

    closed = platform_api.post(f"{API}{room.pk}/close/", {"resolution": "Mended, with a test"}).json()

    assert (closed["closed_by"], len(closed["notes"])) == (olga.email, 1)
    assert cohort_exposure.decide(change=waiting, approve=True, actor=otto).status == "applied"
    with pytest.raises(errors.EscalationClosedError):
        escalations.add_note(escalation=room, text="More", actor=olga)
    events = AuditEntry.objects.filter(event__startswith="escalation.").order_by("sequence").values_list("event", flat=True)
    assert list(events) == ["escalation.opened", "escalation.noted", "escalation.closed"]
    assert platform_api.get(f"{API}?tab=open").json()["results"] == []


def test_what_is_surely_not_production_opens_no_war_room(acme: Tenant, alice: User) -> None:
    costs.key(alice, project="sandbox")
    Project.objects.filter(slug="sandbox").update(environment="staging")

    report(alice, scope="project", ref="sandbox")
    assert not Escalation.objects.exists()

    Project.objects.filter(slug="sandbox").update(environment="production")
    report(alice, name="Other", scope="project", ref="sandbox")
    assert Escalation.objects.count() == 1


def test_recalibration_opens_beyond_a_fifth_of_the_organisations(acme: Tenant, globex: Tenant, olga: User) -> None:
    now = timezone.now()
    make.screen(acme, globex)
    assert list(FalseAlertCount.objects.values_list("alerts", flat=True)) == [0, 0]
    enter_public()

    FalseAlertCount.objects.filter(tenant=acme).update(alerts=8)
    assert escalations.judge_false_alerts(at=now) is None  # eight is not too many
    FalseAlertCount.objects.filter(tenant=acme).update(alerts=9)
    assert escalations.judge_false_alerts(at=now + timedelta(days=1)) is None  # counts of yesterday tell nothing
    opened = escalations.judge_false_alerts(at=now)

    assert opened is not None
    assert opened.evidence == {"acme": 9}
    assert escalations.judge_false_alerts(at=now) is None  # one at a time
    for tenant, told in ((acme, 1), (globex, 0)):
        with schema_context(tenant.schema_name):
            assert Notice.objects.filter(topic="anomaly.recalibration").count() == told
    escalations.check_not_paused()  # it pauses nothing
