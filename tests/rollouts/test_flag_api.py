from __future__ import annotations

from typing import Any

import pytest

from governance.models import Tenant, User
from tests.conftest import ClientFor, TenantClient, api_client

BASE = "/api/v1/flags/"
FLAG = f"{BASE}ai.search.rerank-1/"
NEW = {
    "key": "ai.search.rerank-1", "title": "New ranking", "kind": "boolean", "variants": {"off": False, "on": True}, "control": "off",
    "feature_class": "assistants", "sticky": "user",
}  # fmt: skip


@pytest.fixture
def owner(api_for: ClientFor, rita: User) -> TenantClient:
    """Rita, who has made the flag."""
    client = api_for(rita)
    assert client.post(BASE, NEW).status_code == 201
    return client


def test_flag_goes_its_way_from_new_to_archived(owner: TenantClient, api_for: ClientFor, adam: User) -> None:
    second = api_for(adam)
    asked = {"exposure": {"on": True, "percentage": 12.5, "regions": ["eu"]}, "reason": "First eighth"}

    change = owner.post(f"{FLAG}changes/", asked)
    assert change.status_code == 201
    assert change.json()["status"] == "proposed"
    assert change.json()["raises"] == ["Switches the flag on"]
    assert owner.get(FLAG).json()["waiting"]["number"] == 1
    assert owner.post(f"{FLAG}changes/", {**asked, "seen_version": 7}).json()["code"] == "change_stale"
    assert owner.post(f"{FLAG}changes/1/approve/").json()["code"] == "self_approval"
    assert second.post(f"{FLAG}changes/1/approve/", {"comment": "Fine"}).json()["version"] == 2

    shown = owner.get(FLAG).json()
    assert (shown["version"], shown["waiting"]) == (2, None)
    assert shown["exposure"] == {
        "on": True, "percentage": 12.5, "overrides": [], "grants": [], "cohorts": [], "regions": ["eu"], "weights": {"on": 100.0},
    }  # fmt: skip

    lowered = owner.post(f"{FLAG}lower/", {"reason": "Wrong answers"})
    assert (lowered.status_code, lowered.json()["is_emergency"], lowered.json()["exposure"]["on"]) == (201, True, False)
    assert second.post(f"{FLAG}changes/2/review/", {"comment": "Rightly so"}).json()["reviewed_by"] == adam.email
    assert owner.post(f"{FLAG}archive/").json()["archived_at"]
    assert [change["number"] for change in owner.get(f"{FLAG}changes/").json()["results"]] == [2, 1]


def test_evaluation_says_who_gets_what_and_why(owner: TenantClient, api_for: ClientFor, bob: User) -> None:
    rule = {"attribute": "tenant", "values": ["acme"], "variant": "on"}
    owner.post(f"{FLAG}changes/", {"exposure": {"on": True, "overrides": [rule]}, "reason": "Us first"})

    answer = api_for(bob).post(f"{FLAG}evaluate/", {"context": {"user": "ana"}})

    assert answer.status_code == 200
    assert (answer.json()["variant"], answer.json()["rule"], answer.json()["proposed_variant"]) == ("off", "switch", "on")


@pytest.mark.parametrize(
    ("exposure", "field"),
    [
        ({"percentage": 101}, "exposure"),
        ({"percentage": 0.0001}, "exposure"),
        ({"weights": {"on": 50}}, "weights"),
        ({"weights": {"off": 100}}, "weights"),
        ({"overrides": [{"attribute": "user", "values": ["a"], "variant": "none"}]}, "overrides"),
        ({"cohorts": [{"name": "x", "attribute": "not this", "values": ["a"]}]}, "cohorts"),
        ({"region": ["eu"]}, "exposure"),
    ],
)
def test_bad_exposure_is_refused_at_its_field(owner: TenantClient, exposure: dict[str, Any], field: str) -> None:
    answer = owner.post(f"{FLAG}changes/", {"exposure": exposure, "reason": "Why not"})

    assert answer.status_code == 400
    assert field in answer.json()["fields"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"key": "rerank"}, 400),
        ({"key": NEW["key"]}, 409),
        ({"variants": {"on": True}}, 400),
        ({"kind": "string"}, 400),
        ({"control": "none"}, 400),
        ({"rollout": "none"}, 400),
        ({"sticky": "not this"}, 400),
    ],
)
def test_bad_flag_is_refused(owner: TenantClient, fields: dict[str, Any], status: int) -> None:
    assert owner.post(BASE, {**NEW, "key": "ai.search.other-1", **fields}).status_code == status


@pytest.mark.parametrize("path", [f"{BASE}ai.no.flag/", f"{BASE}ai.no.flag/changes/"])
def test_what_does_not_exist_is_not_found(owner: TenantClient, path: str) -> None:
    assert owner.get(path).status_code == 404
    assert owner.post(f"{FLAG}changes/9/approve/").status_code == 404


def test_flags_of_another_organisation_do_not_exist(owner: TenantClient, charlie: User, globex: Tenant) -> None:
    stranger = api_client(charlie, globex)

    assert stranger.get(FLAG).status_code == 404
    assert stranger.get(BASE).json()["results"] == []


def test_developers_read_and_do_not_change(owner: TenantClient, api_for: ClientFor, bob: User, sam: User) -> None:
    assert api_for(bob).get(BASE).json()["results"][0]["key"] == NEW["key"]
    assert api_for(bob).post(f"{FLAG}lower/", {"reason": "x"}).status_code == 403
    assert api_for(sam).post(f"{FLAG}changes/", {"exposure": {}, "reason": "x"}).status_code == 403
