from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from governance.models import Tenant, User
from rollouts.models import Gate, Rollout
from tests.conftest import ClientFor, TenantClient, api_client
from tests.factories import rollouts as make

BASE = "/api/v1/"
GATE = f"{BASE}rollouts/small/gates/1/"


def post(client: TenantClient, path: str, **body: Any) -> Any:
    return client.post(path, body)


def test_every_member_reads(ready_gate: Gate, api_for: ClientFor, bob: User) -> None:
    paths = (
        "plans/",
        "plans/ai-gateway-governance/",
        "rollouts/",
        "rollouts/small/",
        "rollouts/small/log/",
        "rollouts/small/gates/1/",
        "metrics/",
    )
    client = api_for(bob)

    assert {path: client.get(BASE + path).status_code for path in paths} == dict.fromkeys(paths, 200)


def test_token_of_another_organisation_finds_nothing(ready_gate: Gate, charlie: User, globex: Tenant) -> None:
    client = api_client(charlie, globex)

    assert client.get(f"{BASE}rollouts/small/").status_code == 404
    assert client.get(f"{BASE}rollouts/").json()["results"] == []


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        ("bob", "rollouts/", 403),
        ("sam", "rollouts/", 403),
        ("bob", "rollouts/small/gates/1/sign/", 403),
        ("fay", "rollouts/small/gates/1/attest/", 403),
        ("bob", "rollouts/small/gates/1/waive/", 403),
        ("bob", "rollouts/small/pause/", 403),
        ("bob", "rollouts/small/rollback/", 403),
        ("bob", "rollouts/small/gates/1/evaluate/", 200),
    ],
)
def test_acts_need_their_rights(
    who: str, path: str, status: int, rollout: Rollout, api_for: ClientFor, bob: User, sam: User, fay: User
) -> None:
    assert post(api_for({"bob": bob, "sam": sam, "fay": fay}[who]), BASE + path).status_code == status


def test_whole_road_through_the_api(
    acme: Tenant, plan: Any, readings: make.Board, api_for: ClientFor, rita: User, adam: User, sam: User
) -> None:
    started = post(api_for(rita), f"{BASE}rollouts/", plan="two-steps", slug="small", owner="bob@example.com")
    evaluated = post(api_for(rita), f"{GATE}evaluate/")
    post(api_for(rita), f"{GATE}attest/", criterion="feedback", met=True, note="All settled.", summary="5 of 5")
    attested = post(api_for(sam), f"{GATE}attest/", criterion="audit", met=True, note="Report 7.", link="https://example.com/report")
    digest = attested.json()["digest"]
    first = post(api_for(rita), f"{GATE}sign/", role="product", decision="go", digest=digest, comment="Good.")
    second = post(api_for(adam), f"{GATE}sign/", role="engineering", decision="go", digest=digest)
    after = api_for(rita).get(f"{BASE}rollouts/small/").json()
    evidence = api_for(rita).get(f"{GATE}evidence/{attested.json()['evidence_hash']}/").json()

    assert (started.status_code, started.json()["owner"], started.json()["open_gate"]) == (201, "bob@example.com", 1)
    assert evaluated.json()["sentence"] == "Not ready: 2 criteria can't be judged yet"
    assert {criterion["key"]: criterion["verdict"] for criterion in evaluated.json()["criteria"]} == {
        "overhead": "pass",
        "coverage": "pass",
        "feedback": "no_data",
        "audit": "no_data",
    }
    assert attested.json()["ready"] is True
    assert first.json()["missing_roles"] == ["engineering"]
    assert second.json()["status"] == "passed"
    assert (after["current_phase"], after["open_gate"]) == ("everybody", 2)
    assert evidence["replay"]["differences"] == []
    assert api_for(rita).get(f"{BASE}rollouts/small/log/").json()["results"][0]["text"] == "Everybody begins"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"role": "product", "decision": "go", "digest": "0" * 64}, 409, "verdict_changed"),
        ({"role": "engineering", "decision": "go", "digest": "x"}, 403, "role_not_held"),
        ({"role": "product", "decision": "no_go"}, 400, "evidence_missing"),
        ({"role": "product", "decision": "maybe"}, 400, "invalid"),
        ({}, 400, "invalid"),
        ({"role": "product", "decision": "go", "digset": "x"}, 400, "invalid"),
    ],
)
def test_refused_signature_says_why(body: dict[str, str], status: int, code: str, ready_gate: Gate, api_for: ClientFor, rita: User) -> None:
    answer = post(api_for(rita), f"{GATE}sign/", **body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["detail"]


def test_gate_that_is_not_ready_takes_no_go_only(gate: Gate, api_for: ClientFor, rita: User) -> None:
    go = post(api_for(rita), f"{GATE}sign/", role="product", decision="go", digest="x")
    no_go = post(api_for(rita), f"{GATE}sign/", role="product", decision="no_go", comment="Not yet.")
    reopened = post(api_for(rita), f"{GATE}reopen/", reason="Now.")

    assert (go.status_code, go.json()["code"]) == (409, "gate_not_ready")
    assert (no_go.status_code, no_go.json()["status"]) == (201, "rejected")
    assert reopened.json()["status"] == "open"


def test_token_with_fewer_roles_does_not_sign_with_the_others(ready_gate: Gate, acme: Tenant, people: Any) -> None:
    people.rita.roles = ["release_manager", "security"]
    people.rita.save()

    client = api_client(people.rita.user, acme, roles=["security"])
    assert ready_gate.latest is not None
    answer = post(client, f"{GATE}sign/", role="product", decision="go", digest=ready_gate.latest.digest)

    assert (answer.status_code, answer.json()["code"]) == (403, "role_not_held")


def test_waiver_through_the_api(ready_gate: Gate, api_for: ClientFor, rita: User, adam: User, readings: make.Board) -> None:
    readings.readings["test.overhead"] = make.BAD_OVERHEAD
    post(api_for(rita), f"{GATE}evaluate/")
    until = (timezone.now() + timedelta(days=7)).isoformat()
    half = post(api_for(rita), f"{GATE}waive/", criterion="overhead", reason="Fix on Monday.")
    asked = post(api_for(rita), f"{GATE}waive/", criterion="overhead", reason="Fix on Monday.", until=until)
    own = post(api_for(rita), f"{GATE}waive/", criterion="overhead", decision="approve")
    approved = post(api_for(adam), f"{GATE}waive/", criterion="overhead", decision="approve")
    again = post(api_for(adam), f"{GATE}waive/", criterion="overhead", decision="approve")
    security = post(api_for(rita), f"{GATE}waive/", criterion="audit", reason="x", until=until)

    assert half.json()["fields"].keys() == {"until"}
    assert asked.status_code == 201
    assert (own.status_code, own.json()["code"]) == (403, "self_approval")
    assert (approved.json()["verdict"], approved.json()["ready"]) == ("waived", True)
    assert (again.json()["code"], security.json()["code"]) == ("not_waivable", "not_waivable")


def test_pause_and_rollback_through_the_api(rollout: Rollout, api_for: ClientFor, rita: User) -> None:
    client = api_for(rita)
    paused = post(client, f"{BASE}rollouts/small/pause/", reason="Red.")
    resumed = post(client, f"{BASE}rollouts/small/resume/")
    back = post(client, f"{BASE}rollouts/small/rollback/", reason="Errors.")
    done = client.delete(f"{BASE}rollouts/small/rollback/")
    again = client.delete(f"{BASE}rollouts/small/rollback/")

    assert (paused.json()["paused"], resumed.json()["paused"]) == (True, False)
    assert (back.status_code, back.json()["to_phase"], back.json()["rto_minutes"]) == (201, None, 60)
    assert done.json()["finished_at"]
    assert again.status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"plan": "none", "slug": "x1"}, "plan_not_found"),
        ({"plan": "two-steps", "slug": "small"}, "slug_taken"),
        ({"plan": "two-steps", "slug": "A B"}, "invalid"),
        ({"plan": "two-steps", "slug": "x2", "owner": "charlie@example.com"}, "evidence_missing"),
        ({"slug": "x3"}, "invalid"),
    ],
)
def test_bad_rollout_is_refused(body: dict[str, str], code: str, rollout: Rollout, api_for: ClientFor, rita: User) -> None:
    answer = post(api_for(rita), f"{BASE}rollouts/", **body)

    assert answer.json()["code"] == code
    assert Rollout.objects.count() == 1


def test_metrics_carry_value_unit_and_bindings(rollout: Rollout, api_for: ClientFor, bob: User) -> None:
    rows = {row["key"]: row for row in api_for(bob).get(f"{BASE}metrics/").json()}

    assert (rows["test.overhead"]["value"], rows["test.overhead"]["unit"], rows["test.overhead"]["minimum_sample"]) == (12.0, "ms", 100)
    assert rows["test.overhead"]["bound"] == [{"rollout": "small", "gate": 1, "criterion": "overhead", "rule": "< 50 ms"}]
