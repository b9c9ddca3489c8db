"""Endpoints of the ground floor: rights are in the access matrix; here is what they say and do."""

import io
import json
import zipfile
from typing import Any

from governance.models import Consent, Tenant, User
from tests.conftest import ClientFor, TenantClient


def test_me_names_the_tenant_of_the_token(api_for: ClientFor, bob: User) -> None:
    assert api_for(bob).get("/api/v1/me/").json() == {"email": "bob@example.com", "name": "Bob", "tenant": "acme", "roles": ["developer"]}


def test_member_is_added_and_listed(api_for: ClientFor, alice: User) -> None:
    client = api_for(alice)

    body = {"email": "new@example.com", "roles": ["finance"], "password": "a long password"}
    made = client.post("/api/v1/members/", body)

    assert made.status_code == 201
    assert made.json()["roles"] == ["finance"]
    assert "new@example.com" in {row["email"] for row in client.get("/api/v1/members/").json()["results"]}


def test_bad_bodies_get_one_shape(api_for: ClientFor, alice: User) -> None:
    client = api_for(alice)

    bodies: list[Any] = [
        {},
        {"email": "x", "roles": ["developer"]},
        {"email": "x@example.com", "roles": ["king"]},
        {"email": "x@example.com", "roles": [], "extra": 1},
        [],
        "text",
    ]
    for body in bodies:
        response = client.post("/api/v1/members/", body)
        assert response.status_code == 400
        assert {"detail", "code"} <= set(response.json())
    broken = client.post("/api/v1/members/", "{not json")
    assert broken.status_code == 400
    assert broken.json()["code"] == "parse_error"


def test_what_is_not_there_is_answered_in_the_same_words_everywhere(api_for: ClientFor, alice: User) -> None:
    client = api_for(alice)

    for path in ("rollouts/nothing/", "flags/nothing/", "models/nothing/", "policies/999/", "rollback-rules/999/"):
        response = client.get(f"/api/v1/{path}")
        assert (response.status_code, response.json()) == (404, {"detail": "Not found.", "code": "not_found"}), path


def test_person_without_account_needs_a_password(api_for: ClientFor, alice: User) -> None:
    response = api_for(alice).post("/api/v1/members/", {"email": "new@example.com", "roles": ["finance"]})

    assert response.status_code == 400
    assert response.json()["code"] == "password_needed"


def test_consent_is_set_and_read_back(api_for: ClientFor, sam: User) -> None:
    client = api_for(sam)

    set_to = client.put("/api/v1/consents/assistants/", {"state": "withdrawn", "reason": "Audit"})
    unknown = client.put("/api/v1/consents/nothing/", {"state": "withdrawn"})

    assert set_to.json()["granted"] is False
    assert unknown.status_code == 404
    assert Consent.objects.get().reason == "Audit"
    assert {row["feature_class"]: row["granted"] for row in client.get("/api/v1/consents/").json()}["assistants"] is False


def test_audit_is_paged_and_verified(api_for: ClientFor, audra: User) -> None:
    client = api_for(audra)

    assert client.get("/api/v1/audit/?limit=1").json()["next"]
    assert client.get("/api/v1/audit/?via=web&target=tenant:0").json()["results"] == []
    assert client.get("/api/v1/audit/?last=never").status_code == client.get("/api/v1/audit/verify/?checkpoint=4").status_code == 400
    told = client.get("/api/v1/audit/verify/").json()
    assert told["is_intact"] is True
    assert client.get(f"/api/v1/audit/verify/?checkpoint=%20{told['checkpoint']}%20").json() == told
    for odd in (f"x{told['checkpoint']}", f"{told['checkpoint']}0"):
        assert client.get(f"/api/v1/audit/verify/?checkpoint={odd}").status_code == 400
    assert client.get("/api/v1/audit/?target=Model:12").status_code == 400


def test_operator_makes_suspends_and_reopens_a_tenant(platform_api: TenantClient) -> None:
    body = {"slug": "hooli", "name": "Hooli", "owner_email": "gavin@example.com", "owner_password": "a long password"}

    made = platform_api.post("/api/v1/platform/tenants/", body)
    again = platform_api.post("/api/v1/platform/tenants/", body)
    suspended = platform_api.post("/api/v1/platform/tenants/hooli/suspend/", {"reason": "unpaid"})
    reopened = platform_api.post("/api/v1/platform/tenants/hooli/reopen/")
    missing = platform_api.post("/api/v1/platform/tenants/nobody/reopen/")

    assert made.status_code == 201
    assert (again.status_code, again.json()["code"]) == (409, "slug_taken")
    assert suspended.json()["suspended_at"]
    assert reopened.json()["suspended_at"] is None
    assert missing.status_code == 404
    assert Tenant.objects.get(slug="hooli").tier == "free"


def test_operator_exports_and_deletes_a_tenant(platform_api: TenantClient) -> None:
    def delete(**body: str) -> Any:
        return platform_api.delete("/api/v1/platform/tenants/globex/", body)

    export = platform_api.post("/api/v1/platform/tenants/globex/export/")
    with zipfile.ZipFile(io.BytesIO(export.getvalue())) as archive:
        assert json.loads(archive.read("tenant.json"))["slug"] == "globex"
    still_open = delete(reason="gone", confirm="globex")
    platform_api.post("/api/v1/platform/tenants/globex/suspend/", {"reason": "gone"})
    mistyped = delete(reason="gone", confirm="acme")
    done = delete(reason="gone", confirm="globex")

    assert (still_open.status_code, still_open.json()["code"]) == (409, "tenant_open")
    assert (mistyped.status_code, mistyped.json()["code"]) == (400, "not_confirmed")
    assert done.status_code == 204
    assert platform_api.get("/api/v1/platform/tenants/globex/").status_code == 404


def test_unknown_endpoint_has_the_shape_of_errors(api_for: ClientFor, bob: User) -> None:
    response = api_for(bob).get("/api/v1/nothing/")

    assert response.status_code == 404
    assert response.json()["code"] == "unknown_route"


def test_program_gets_its_first_token_for_a_password(api_for: ClientFor, bob: User, acme: Tenant) -> None:
    bob.set_password("a long password")
    bob.save()
    client = TenantClient()
    credentials = {"email": bob.email, "password": "a long password", "name": "ci"}

    made = client.post("/api/v1/tokens/", credentials | {"tenant": "acme"})
    elsewhere = client.post("/api/v1/tokens/", credentials | {"tenant": "globex"})
    nowhere = client.post("/api/v1/tokens/", credentials | {"tenant": "no-such"})
    platform = client.post("/api/v1/tokens/", credentials)
    wrong = client.post("/api/v1/tokens/", credentials | {"password": "wrong"})

    me = TenantClient(headers={"Authorization": f"Bearer {made.json()['token']}"}).get("/api/v1/me/")
    assert me.json()["tenant"] == "acme"
    assert (elsewhere.status_code, elsewhere.json()) == (nowhere.status_code, nowhere.json())
    assert platform.json()["code"] == "not_allowed"
    assert (wrong.status_code, wrong.json()["code"]) == (401, "sign_in_failed")
