"""Budgets for programs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from costs.models import Budget, BudgetIncident
from governance.models import Tenant, User
from tests.conftest import ClientFor

BODY: dict[str, Any] = {"name": "House", "scope": "tenant", "amount": "100.00", "action": "block"}


def post(client: Any, path: str, body: dict[str, Any] | None = None) -> Any:
    return client.post(f"/api/v1/budgets/{path}", body or {}, content_type="application/json")


def test_life_of_a_budget(api_for: ClientFor, fay: User, acme: Tenant) -> None:
    client = api_for(fay)

    made = post(client, "", BODY)
    path = f"{made.json()['id']}/"
    unseen = post(client, f"{path}enforce/")
    simulated = post(client, f"{path}simulate/").json()
    enforced = post(client, f"{path}enforce/").json()
    raised = post(client, f"{path}raises/", {"extra": "5", "reason": "launch", "until": (timezone.now() + timedelta(days=1)).isoformat()})
    changed = client.patch(f"/api/v1/budgets/{path}", {"amount": "120.00"}, content_type="application/json").json()
    [kept] = changed["raises"]
    ended = post(client, f"{path}raises/{kept['id']}/end/").json()
    gone = post(client, f"{path}raises/{kept['id'] + 1}/end/")
    [over] = client.get(f"/api/v1/budgets/{path}raises/").json()["results"]
    reported = post(client, f"{path}report-false-throttle/", {"reason": "Checkout stands still"}).json()
    resolved = post(client, f"incidents/{reported['id']}/resolve/", {"resolution": "Amount was too low"}).json()
    off = post(client, f"{path}switch-off/").json()

    assert (made.status_code, made.json()["state"], made.json()["spent_usd"], made.json()["forecast"]) == (201, "draft", "0", None)
    assert (unseen.status_code, unseen.json()["code"]) == (409, "budget_state")
    assert simulated["simulation"]["blocked_calls"] == 0
    assert (simulated["enforced_at"], enforced["state"], enforced["enforced_at"][:4]) == (None, "enforced", f"{timezone.now():%Y}")
    assert (raised.status_code, raised.json()["amount_in_force_usd"], raised.json()["amount_usd"]) == (201, "105", "100")
    assert changed["amount_in_force_usd"] == "125"
    assert (ended["amount_in_force_usd"], ended["raises"], gone.status_code) == ("120", [], 404)
    assert (kept["is_over"], kept["ended_early_at"]) == (False, None)
    assert (over["id"], over["is_over"], over["ended_early_at"] < over["until"]) == (kept["id"], True, True)
    assert (reported["priority"], reported["action_before"], reported["opened_by"]) == ("P0", "block", fay.email)
    assert resolved["resolved_at"]
    assert (off["state"], off["action"], off["incident"]) == ("off", "alert", None)
    [listed] = client.get("/api/v1/budgets/").json()["results"]
    assert listed["name"] == "House"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({**BODY, "amount": "0"}, 400),
        ({**BODY, "amount": "1e400"}, 400),
        ({**BODY, "scope": "project"}, 400),
        ({**BODY, "scope": "key", "ref": "nothing\u0000"}, 400),
        ({**BODY, "thresholds": [0]}, 400),
        ({**BODY, "max_budget": 3}, 400),
        ({}, 400),
    ],
)
def test_bad_bodies_are_named_and_make_nothing(body: dict[str, Any], status: int, api_for: ClientFor, fay: User) -> None:
    assert post(api_for(fay), "", body).status_code == status
    assert not Budget.objects.exists()


def test_name_taken_is_a_conflict(api_for: ClientFor, fay: User) -> None:
    client = api_for(fay)
    post(client, "", BODY)

    again = post(client, "", BODY)

    assert (again.status_code, again.json()["code"]) == (409, "budget_name_taken")


def test_who_may_see_costs_sees_budgets_and_only_managers_act(api_for: ClientFor, fay: User, audra: User, bob: User) -> None:
    pk = post(api_for(fay), "", BODY).json()["id"]

    assert api_for(audra).get(f"/api/v1/budgets/{pk}/").status_code == 200
    assert post(api_for(audra), f"{pk}/simulate/").status_code == 403
    assert api_for(bob).get(f"/api/v1/budgets/{pk}/").status_code == 403
    assert [api_for(who).get(f"/api/v1/budgets/{pk}/raises/").status_code for who in (audra, bob)] == [200, 403]
    assert api_for(fay).get("/api/v1/budgets/999999/raises/").status_code == 404
    assert api_for(fay).get("/api/v1/budgets/999999/").status_code == 404
    assert post(api_for(fay), "incidents/999999/resolve/", {"resolution": "x"}).status_code == 404
    assert not BudgetIncident.objects.exists()


def test_list_of_raises_takes_as_many_queries_for_three_as_for_one(api_for: ClientFor, fay: User, acme: Tenant) -> None:
    client = api_for(fay)
    pk = post(client, "", {**BODY, "action": "alert"}).json()["id"]
    post(client, f"{pk}/enforce/")
    counts = []
    for number in range(3):
        post(client, f"{pk}/raises/", {"extra": "5", "reason": f"{number}", "until": (timezone.now() + timedelta(days=1)).isoformat()})
        with CaptureQueriesContext(connection) as queries:
            listed = client.get(f"/api/v1/budgets/{pk}/raises/").json()["results"]
        counts.append(len(queries))

    assert [one["reason"] for one in listed] == ["2", "1", "0"]
    assert counts[0] == counts[2]
