"""What people see of a model's deployments when they fail, and of calls that went elsewhere."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog import health_selectors
from catalog.health_selectors import DeploymentState
from catalog.models import Deployment, Model
from gateway.publish.models import CircuitChange
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make
from tests.factories.catalog import make_model, make_provider


@pytest.fixture
def small(acme: Tenant, alice: User) -> Model:
    """Served by `openai` and, if that fails, by `spare`."""
    model = make_model(owner=alice, slug="small", provider=make_provider(slug="openai"))
    Deployment.objects.create(model=model, provider=make_provider(slug="spare"), upstream_model="small-2", priority=1)
    return model


def changed(tenant: Tenant, deployment: Deployment | None, circuit: str, minutes_ago: float, **fields: Any) -> None:
    CircuitChange.objects.create(
        event_id=uuid.uuid4(), tenant=tenant.public_id, at=timezone.now() - timedelta(minutes=minutes_ago), circuit=circuit,
        deployment=str(deployment.pk) if deployment else "999",
        **{"model": "small", "provider": "openai", "calls": 20, "errors": 3, "cooldown_s": 5, "reason": "HTTP 500", **fields},
    )  # fmt: skip


def ended(tenant: Tenant, deployment: Deployment, status: str = "ok", **fields: Any) -> None:
    """A call ends at a deployment."""
    make.record(
        tenant, make.call(tenant, model="small", provider=deployment.provider.slug, deployment=str(deployment.pk), status=status, **fields)
    )


def states(model: Model) -> list[DeploymentState]:
    return [row.state for row in health_selectors.model_health(model).deployments]


def test_deployment_that_nobody_calls_is_not_known_to_be_well(acme: Tenant, small: Model) -> None:
    assert states(small) == ["no_calls", "no_calls"]
    assert health_selectors.summary(small).verdict == "no_data"

    ended(acme, small.deployments.all()[0])

    assert states(small) == ["closed", "no_calls"]
    assert health_selectors.summary(small) == health_selectors.Summary("pass", "Answers")


def test_deployment_that_answered_no_call_is_not_said_to_answer(acme: Tenant, small: Model) -> None:
    first, second = small.deployments.all()
    ended(acme, first, "upstream_error")  # one call is too few for its circuit to open
    ended(acme, second, "client_gone")

    assert states(small) == ["no_answer", "no_calls"]
    assert health_selectors.summary(small) == health_selectors.Summary("inconclusive", "No call answered in 24 h")


def test_deployment_whose_tries_fail_over_says_so_while_its_circuit_is_closed(acme: Tenant, small: Model) -> None:
    first, second = small.deployments.all()
    ended(acme, first)
    for label in ("503", "503", "upstream_timeout", "quota"):  # at its quota nobody asked it
        ended(acme, second, steps=[["failover", "pass", 0, f"{first.pk}:{label} → {second.pk}"]])
    ended(acme, second, steps=[["failover", "pass", 0, f"999:503 → {second.pk}"]])

    ill, well = health_selectors.model_health(small).deployments

    assert (ill.state, ill.verdict, ill.label) == ("closed", "inconclusive", "Answers, 3 of 4 tries failed over")
    assert (ill.tries.answered, ill.tries.failed, list(ill.tries.reasons.items())) == (1, 0, [("503", 2), ("upstream_timeout", 1)])
    assert ill.failed_over_percent == 75
    assert (well.verdict, well.label, well.tries.total) == ("pass", "Answers", 5)
    assert health_selectors.summary(small) == health_selectors.Summary("inconclusive", "Answers, 3 of 9 tries failed over")


def test_deployment_of_which_every_try_failed_over_is_not_without_calls(acme: Tenant, small: Model) -> None:
    first, second = small.deployments.all()
    ended(acme, second, steps=[["failover", "pass", 0, f"{first.pk}:503 → {second.pk}"]])

    ill = health_selectors.model_health(small).deployments[0]

    assert (ill.state, ill.label) == ("no_answer", "No call answered, 1 of 1 tries failed over")


def test_one_try_in_twenty_that_failed_over_leaves_a_deployment_well(acme: Tenant, small: Model) -> None:
    first, second = small.deployments.all()
    ended(acme, second, steps=[["failover", "pass", 0, f"{first.pk}:503 → {second.pk}"]])
    for _ in range(19):
        ended(acme, first)

    few = health_selectors.model_health(small).deployments[0]
    ended(acme, second, steps=[["failover", "pass", 0, f"{first.pk}:503 → {second.pk}"]])
    more = health_selectors.model_health(small).deployments[0]

    assert (few.verdict, few.label) == ("pass", "Answers, 1 of 20 tries failed over")
    assert more.verdict == "inconclusive"


def test_state_is_the_newest_verdict_and_its_illness_began_with_the_first_opening(acme: Tenant, small: Model) -> None:
    first, second = small.deployments.all()
    for minutes, circuit in ((50, "open"), (49, "closed"), (30, "open"), (29, "half_open"), (14, "open")):
        changed(acme, first, circuit, minutes, errors=minutes)
    changed(acme, second, "open", 10)
    changed(acme, second, "half_open", 9)
    changed(acme, second, "closed", 8)
    ended(acme, second)

    ill, well = health_selectors.model_health(small).deployments

    assert (ill.state, well.state) == ("open", "closed")
    assert ill.since is not None
    assert round((timezone.now() - ill.since).total_seconds() / 60) == 30
    assert ill.circuit is not None
    assert ill.circuit.opening is not None
    assert ill.circuit.opening.errors == 14
    assert ill.probe_at == ill.circuit.newest.at + timedelta(seconds=5)
    assert (well.probe_at, well.circuit and well.circuit.ill_since) == (None, None)
    told = health_selectors.summary(small)
    assert (told.verdict, told.label, told.since) == ("inconclusive", "Answers, but 1 of 2 deployments fail calls", ill.since)


@pytest.mark.parametrize("circuit", ["open", "half_open"])
def test_circuit_that_nobody_speaks_of_any_more_says_nothing(acme: Tenant, small: Model, circuit: str) -> None:
    first, second = small.deployments.all()
    changed(acme, first, circuit, 20, cooldown_s=240)
    changed(acme, second, circuit, 18, cooldown_s=240)
    ended(acme, first)

    gone, ill = health_selectors.model_health(small).deployments

    assert (gone.state, gone.since, gone.probe_at) == ("closed", None, None)
    assert ill.state == circuit


def test_all_ill_or_all_off(acme: Tenant, small: Model) -> None:
    for deployment in small.deployments.all():
        changed(acme, deployment, "open", 3)
    assert health_selectors.summary(small).label == "All 2 deployments fail calls"

    small.deployments.update(is_enabled=False)

    assert states(small) == ["off", "off"]
    assert health_selectors.summary(small) == health_selectors.Summary("no_data", "No deployment is on")


def test_changes_of_removed_deployments_stay_and_those_of_others_are_not_shown(acme: Tenant, globex: Tenant, small: Model) -> None:
    changed(acme, None, "open", 5)
    changed(acme, None, "open", 4, model="other")
    changed(globex, small.deployments.all()[0], "open", 3)
    changed(acme, small.deployments.all()[0], "open", 60 * 24 * 31)

    assert [row.name for row in health_selectors.model_health(small).changes] == ["removed, 999"]


def test_failovers_are_told_by_day_and_reason(acme: Tenant, small: Model) -> None:
    now = timezone.now()
    for detail, at in (("1:503 → 2", now), ("1:503 → 2", now), ("1:upstream_timeout → 2", now), ("1:503 → 2", now - timedelta(days=2))):
        ended(acme, small.deployments.all()[1], started_at=at - timedelta(seconds=1), steps=[["failover", "pass", 0, detail]])
    ended(acme, small.deployments.all()[1], started_at=now - timedelta(days=31), steps=[["failover", "pass", 0, "1:503 → 2"]])

    today, earlier = health_selectors.model_health(small).failovers

    assert (today.calls, earlier.calls, round(earlier.share)) == (3, 1, 33)
    assert [(row.reason, row.calls) for row in today.reasons] == [("503", 2), ("upstream_timeout", 1)]


def test_page_shows_health_to_operators_and_one_line_to_everybody(
    acme: Tenant, small: Model, client_for: ClientFor, fay: User, bob: User
) -> None:
    empty = client_for(fay).get("/o/acme/models/small/?tab=health").content.decode()
    first, second = small.deployments.all()
    changed(acme, first, "open", 7, reason="HTTP <b>500")
    ended(acme, second, steps=[["failover", "pass", 0, f"{first.pk}:503 → {second.pk}"]])

    operator = client_for(fay).get("/o/acme/models/small/?tab=health").content.decode()
    developer = client_for(bob).get("/o/acme/models/small/?tab=health").content.decode()
    provider = client_for(fay).get("/o/acme/operate/providers/openai/").content.decode()

    assert "No change in 30 days" in empty
    assert "No failover in 30 days" in empty
    assert "3 of 20 calls failed" in operator
    assert "HTTP &lt;b&gt;500" in operator
    assert "503" in operator
    assert "Fails calls, 1 of 1 tries failed over" in operator
    assert "Deployments now" not in developer
    assert "Answers, but 1 of 2 deployments fail calls" in developer
    assert "HTTP" not in developer.partition("Sample code")[0]
    assert "Fails calls, 1 of 1 tries failed over" in provider


def test_api_tells_health(acme: Tenant, small: Model, api_for: ClientFor, fay: User, bob: User) -> None:
    first, second = small.deployments.all()
    changed(acme, first, "open", 7)
    ended(acme, second, steps=[["failover", "pass", 0, f"{first.pk}:503 → {second.pk}"]])

    body = api_for(fay).get("/api/v1/models/small/health/").json()

    ill, well = body["deployments"]
    assert (ill["deployment"], ill["state"], ill["errors_when_opened"], ill["reason"]) == (first.pk, "open", 3, "HTTP 500")
    assert (ill["failed_over"], ill["failed_over_percent"], ill["failed_over_reasons"]) == (1, 100.0, {"503": 1})
    assert (well["failed_over"], well["failed_over_reasons"]) == (0, {})
    assert (well["deployment"], well["state"], well["since"], well["opened_at"], well["answered"]) == (
        second.pk,
        "closed",
        None,
        None,
        1,
    )
    assert [row["circuit"] for row in body["changes"]] == ["open"]
    assert [(row["reason"], row["calls"]) for row in body["failovers"]] == [("503", 1)]
    assert api_for(fay).get("/api/v1/models/none/health/").status_code == 404
    assert api_for(bob).get("/api/v1/models/small/health/").status_code == 403


def test_health_takes_as_many_queries_however_much_there_is(acme: Tenant, small: Model) -> None:
    with CaptureQueriesContext(connection) as before:
        health_selectors.model_health(small)
    for deployment in small.deployments.all():
        for minute in range(5):
            changed(acme, deployment, "open", minute)
            ended(acme, deployment, steps=[["failover", "pass", 0, f"{deployment.pk}:{500 + minute} → 999"]])
    with CaptureQueriesContext(connection) as after:
        health_selectors.model_health(small)

    assert len(after) == len(before) <= 9
