"""Endpoints of the catalog: the same rules as the pages, one shape of error, secrets never in an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catalog.models import Model, Project, Provider, Tool, VirtualKey
from gateway.contract import keys as contract
from governance.models import Membership, Tenant, User
from tests.conftest import ClientFor, TenantClient, api_client
from tests.factories.catalog import make_key, make_model, make_project, make_provider, make_tool, make_tool_server
from tests.gateway.conftest import SandboxUpstream

API = "/api/v1"


def send(client: TenantClient, path: str, body: Any = None, method: str = "POST") -> Any:
    return client.generic(method, f"{API}/{path}", json.dumps({} if body is None else body), content_type="application/json")


def test_whole_road_by_api(acme: Tenant, alice: User, bob: User, sam: User, api_for: ClientFor, sandbox: SandboxUpstream) -> None:
    admin, developer, approver = api_for(alice), api_for(bob), api_for(sam)

    made = send(admin, "providers/", {"slug": "sandbox", "name": "Sandbox", "base_url": sandbox.base_url(), "secret": "sandbox-secret"})
    assert made.status_code == 201
    assert made.json()["has_secret"] is True
    assert "sandbox-secret" not in made.content.decode()
    checked = send(admin, "providers/sandbox/check/").json()
    assert checked["trace"]["ok"]
    assert "sandbox-small" in checked["models"]
    model = send(
        admin,
        "models/",
        {
            "slug": "small",
            "provider": "sandbox",
            "upstream_model": "sandbox-small",
            "capabilities": ["chat"],
            "price": {"input_per_million": "0.15", "output_per_million": "0.60"},
        },
    )
    assert (model.status_code, model.json()["status"]) == (201, "draft")
    assert developer.get(f"{API}/models/small/").status_code == 404
    nested = send(admin, "models/", {"slug": "x", "provider": "sandbox", "upstream_model": "x", "price": {"input": "0.15"}})
    assert nested.json()["detail"].startswith("price.input: This field is not known.")
    early = send(admin, "models/small/submit/")
    assert (early.status_code, early.json()["code"]) == (409, "not_checked")
    assert send(admin, "models/small/check/").json()["ok"] is True
    asked = send(admin, "models/small/submit/").json()
    [waiting] = asked["waiting"]
    assert (asked["status"], waiting["kind"], waiting["asked_by"]) == ("submitted", "serve", alice.email)
    assert send(admin, "models/small/approve/").json()["code"] == "self_approval"
    assert send(approver, "models/small/return/").json()["code"] == "invalid"
    assert send(approver, "models/small/return/", {"comment": "Why?"}).json()["status"] == "draft"
    assert send(admin, "models/small/submit/").json()["status"] == "submitted"
    [review] = approver.get(f"{API}/model-reviews/?status=waiting&model=small").json()["results"]
    decided = send(approver, f"model-reviews/{review['id']}/approve/", {"comment": "good"}).json()
    assert (decided["status"], decided["basis"], decided["decided_by"]) == ("approved", "second_person", sam.email)
    assert send(approver, f"model-reviews/{review['id']}/return/", {"comment": "no"}).json()["code"] == "wrong_status"
    assert send(admin, "projects/", {"slug": "checkout", "monthly_budget_usd": "50.00"}).status_code == 201
    key = send(developer, "keys/", {"name": "mine", "project": "checkout", "models": ["small"]})

    assert key.status_code == 201
    assert contract.parse(key.json()["secret"]).id == key.json()["key"]["id"]
    assert key["Cache-Control"] == "no-store"
    seen = developer.get(f"{API}/models/small/").json()
    assert float(seen["price"]["input_per_million"]) == 0.15
    assert seen["usage"]["cost_usd"] is None


BODIES = [
    ("providers/", {"slug": "x", "name": "X", "base_url": "https://example.com/v1", "sceret": "typo"}, 400, "sceret"),
    ("providers/", {"slug": "x", "name": "X", "base_url": "http://10.0.0.1/v1"}, 422, "base_url"),
    ("providers/", {"slug": "x"}, 400, "name"),
    ("providers/", [], 400, "non_field_errors"),
    ("models/", {"slug": "Not A Slug", "provider": "sandbox", "upstream_model": "m"}, 400, "slug"),
    ("models/", {"slug": "m", "provider": "none", "upstream_model": "m"}, 422, "provider"),
    ("models/", {"slug": "m", "provider": "sandbox", "upstream_model": "m", "capabilities": ["dance"]}, 400, "capabilities"),
    ("models/", {"slug": "m", "provider": "sandbox", "upstream_model": "m", "context_window": 10**12}, 400, "context_window"),
    ("models/", {"slug": "small", "provider": "sandbox", "upstream_model": "m"}, 409, "slug"),
    (
        "models/",
        {"slug": "m", "provider": "sandbox", "upstream_model": "m", "price": {"input_per_million": "-1", "output_per_million": "1"}},
        400,
        "price",
    ),
    ("models/small/approve/", {"coment": "typo"}, 400, "coment"),
    ("models/small/deployments/", {"provider": "sandbox", "upstream_model": "small"}, 409, "upstream_model"),
    ("projects/", {"slug": "checkout"}, 409, "slug"),
    ("projects/", {"slug": "y", "monthly_budget_usd": "NaN"}, 400, "monthly_budget_usd"),
    ("keys/", {"name": "x", "project": "none"}, 422, "project"),
    ("keys/", {"name": "x", "project": "checkout", "lifetime_days": 91}, 400, "lifetime_days"),
    ("keys/", {"name": "x", "project": "checkout", "models": ["none"]}, 422, "models"),
    ("keys/", {"name": "x", "project": "checkout", "owner": "nobody@example.com"}, 422, "owner"),
    ("tool-servers/", {"namespace": "a__b", "name": "X", "url": "https://example.com/mcp"}, 400, "namespace"),
    ("tool-servers/", {"namespace": "closed", "name": "X", "url": "http://127.0.0.1:9/mcp"}, 502, "url"),
    ("tool-servers/", {"namespace": "inside", "name": "X", "url": "http://192.168.0.1/mcp"}, 422, "url"),
]


@pytest.mark.parametrize(("path", "body", "status", "field"), BODIES)
def test_bad_body_is_answered_with_its_field(
    acme: Tenant, alice: User, api_for: ClientFor, path: str, body: Any, status: int, field: str
) -> None:
    make_model(owner=alice, slug="small", provider=make_provider(slug="sandbox"))
    make_project(owner=alice, slug="checkout")

    response = send(api_for(alice), path, body)

    answer = response.json()
    assert response.status_code == status, answer
    assert field in answer["fields"]
    assert answer["detail"]
    assert answer["code"]


def test_patch_changes_only_what_is_given(acme: Tenant, alice: User, api_for: ClientFor) -> None:
    make_model(owner=alice, slug="small", description="kept")
    make_project(owner=alice, slug="checkout", cost_centre="4711")
    make_provider(slug="one", base_url="https://one.example/v1", secret="kept")
    client = api_for(alice)

    send(client, "models/small/", {"context_window": 8000}, "PATCH")
    send(client, "projects/checkout/", {"requests_per_minute": 5}, "PATCH")
    send(client, "providers/one/", {"name": "One"}, "PATCH")

    model, project = Model.objects.get(), Project.objects.get()
    assert (model.description, model.context_window) == ("kept", 8000)
    assert (project.cost_centre, project.requests_per_minute) == ("4711", 5)
    assert Provider.objects.get(slug="one").open_secret() == "kept"


def test_secret_is_put_and_never_got(acme: Tenant, alice: User, api_for: ClientFor) -> None:
    make_provider(slug="one")
    client = api_for(alice)

    put = send(client, "providers/one/secret/", {"secret": "sk-new"}, "PUT")

    assert Provider.objects.get().open_secret() == "sk-new"
    assert "sk-new" not in put.content.decode() + client.get(f"{API}/providers/one/").content.decode()


def test_keys_are_ones_own_unless_one_manages_them(acme: Tenant, alice: User, bob: User, sam: User, api_for: ClientFor) -> None:
    own, _ = make_key(owner=bob)
    other, _ = make_key(owner=alice)

    def seen(client: TenantClient) -> set[str]:
        return {row["id"] for row in client.get(f"{API}/keys/").json()["results"]}

    assert seen(api_for(bob)) == {own.public_id}
    assert seen(api_for(sam)) == {own.public_id, other.public_id}
    rotated = send(api_for(bob), f"keys/{own.public_id}/rotate/", {"overlap_hours": 1})
    assert rotated.json()["secret"].startswith(f"ghk_{acme.public_id}_{own.public_id}_")
    assert rotated.json()["key"]["previous_until"]
    assert send(api_for(bob), f"keys/{own.public_id}/rotate/", {"overlap_hours": 169}).status_code == 400
    assert send(api_for(bob), f"keys/{other.public_id}/rotate/").status_code == 404
    assert send(api_for(bob), f"keys/{other.public_id}/revoke/").status_code == 404
    assert send(api_for(sam), f"keys/{other.public_id}/revoke/").json()["state"] == "revoked"


def test_token_with_fewer_roles_sees_no_more_than_they_grant(acme: Tenant, alice: User, bob: User, sam: User) -> None:
    make_key(owner=bob)
    make_project(owner=alice, slug="checkout")
    Membership.objects.filter(user=sam).update(roles=["security", "developer"])
    client = api_client(sam, acme, roles=["developer"])

    assert client.get(f"{API}/keys/").json()["results"] == []
    refused = send(client, "keys/", {"name": "x", "project": "checkout", "owner": bob.email})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")


def test_key_for_another_person_by_who_manages_keys(acme: Tenant, alice: User, bob: User, api_for: ClientFor) -> None:
    make_project(owner=alice, slug="checkout")

    made = send(api_for(alice), "keys/", {"name": "x", "project": "checkout", "owner": bob.email})

    assert made.json()["key"]["owner"] == bob.email
    assert VirtualKey.objects.get().owner == bob


def test_deployments_by_api(acme: Tenant, alice: User, sam: User, api_for: ClientFor) -> None:
    model = make_model(owner=alice, slug="small", provider=make_provider(slug="one"))
    make_provider(slug="two")
    client = api_for(alice)

    given = {"provider": "two", "upstream_model": "m2", "weight": 3, "requests_per_minute": 60, "tokens_per_minute": 90_000}
    added = send(client, "models/small/deployments/", given).json()
    send(client, f"models/small/deployments/{added['id']}/", {"priority": 1, "requests_per_minute": None}, "PATCH")
    assert added["is_enabled"] is False
    [review] = client.get(f"{API}/models/small/").json()["waiting"]
    assert (review["kind"], review["deployment"]) == ("deployment", added["id"])
    unchecked = send(api_for(sam), f"model-reviews/{review['id']}/approve/")
    assert unchecked.json()["code"] == "not_checked"
    model.deployments.update(check_ok=True)
    assert send(api_for(sam), f"model-reviews/{review['id']}/approve/").status_code == 200
    first = next(row for row in client.get(f"{API}/models/small/deployments/").json() if row["provider"] == "one")
    gone = send(client, f"models/small/deployments/{first['id']}/", method="DELETE")
    last = send(client, f"models/small/deployments/{added['id']}/", method="DELETE")

    assert gone.status_code == 204
    assert (last.status_code, last.json()["code"]) == (409, "last_deployment")
    [left] = client.get(f"{API}/models/small/deployments/").json()
    assert (left["weight"], left["priority"], left["requests_per_minute"], left["tokens_per_minute"]) == (3, 1, None, 90_000)


def test_tools_by_api(acme: Tenant, alice: User, bob: User, api_for: ClientFor, everything_url: str) -> None:
    client = api_for(alice)

    made = send(client, "tool-servers/", {"namespace": "everything", "name": "Everything", "url": everything_url}).json()
    again = send(client, "tool-servers/everything/discover/").json()
    off = send(client, "tool-servers/everything/switch/", {"enabled": False, "reason": "test"}).json()

    assert len(made["diff"]["new"]) == made["server"]["active_tools"] >= 8
    assert again["diff"]["new"] == []
    assert off["is_enabled"] is False
    assert api_for(bob).get(f"{API}/tools/").json()["results"] == []


def test_changed_tool_is_approved_by_api(acme: Tenant, alice: User, api_for: ClientFor) -> None:
    tool = make_tool(server=make_tool_server(owner=alice, namespace="handbook"), name="search", status=Tool.Status.SUSPENDED)
    Tool.objects.update(pending_definition={**tool.definition(), "description": "New."})
    client = api_for(alice)

    approved, again = (send(client, "tools/handbook/search/approve/") for _ in range(2))

    assert approved.json()["description"] == "New."
    assert (again.status_code, again.json()["code"]) == (409, "nothing_pending")


def test_tool_run_by_api_reports_a_refusal_as_result(acme: Tenant, alice: User, bob: User, api_for: ClientFor, settings: Any) -> None:
    settings.GATEWAY_URL = "http://127.0.0.1:9"
    make_tool(server=make_tool_server(owner=alice, namespace="handbook"), name="search")
    make_project(owner=alice, slug="checkout")

    run = send(api_for(bob), "tools/handbook/search/run/", {"project": "checkout", "arguments": {"text": "x"}})

    assert run.status_code == 200
    assert run.json()["ok"] is False


@pytest.mark.parametrize("path", ["models/", "providers/", "projects/", "keys/", "tools/", "tool-servers/"])
def test_lists_are_paged_and_ask_as_often_for_many(
    acme: Tenant, alice: User, api_for: ClientFor, django_assert_max_num_queries: Any, django_assert_num_queries: Any, path: str
) -> None:
    def furnish(count: int) -> None:
        for _ in range(count):
            make_model(owner=alice)
            make_key(owner=alice)
            make_tool(server=make_tool_server(owner=alice))

    client = api_for(alice)
    furnish(3)
    client.get(f"{API}/{path}")
    with django_assert_max_num_queries(30) as captured:
        first = client.get(f"{API}/{path}?limit=2").json()
    asked = len(captured)
    second = client.get(first["next"]).json()
    furnish(9)

    with django_assert_num_queries(asked):
        client.get(f"{API}/{path}?limit=2")
    assert len(first["results"]) == 2
    assert second["results"]
    assert not [row for row in second["results"] if row in first["results"]]


def test_filters_are_those_of_the_page(acme: Tenant, alice: User, api_for: ClientFor) -> None:
    make_model(owner=alice, slug="talker", capabilities=["chat", "vision"])
    make_model(owner=alice, slug="embedder", capabilities=["embeddings"])
    client = api_for(alice)

    assert [row["slug"] for row in client.get(f"{API}/models/?capability=vision").json()["results"]] == ["talker"]
    assert client.get(f"{API}/keys/?state=nonsense").json()["results"] == []
