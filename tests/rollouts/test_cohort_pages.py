"""Pages and endpoints of cohorts: the operator's, and an organisation's own."""

from __future__ import annotations

import pytest
from django_tenants.utils import schema_context

from governance.models import Tenant, User
from rollouts import cohort_selectors as selectors
from rollouts.models import Cohort, CohortMember
from tests.conftest import ClientFor, TenantClient
from tests.factories import cohorts as make

URL = "/platform/cohorts/"
API = "/api/v1/platform/cohorts/"
FORM = {
    "name": "Design partners", "slug": "partners", "flag_key": "ai.agents.preview-1", "feature_class": "assistants",
    "criteria": "kind in customer\nage_days >= 0", "places": 5, "over_recruitment": 40,
}  # fmt: skip


@pytest.fixture
def cohort(acme: Tenant, olga: User) -> Cohort:
    with schema_context("public"):
        return make.make_cohort(olga, criteria=FORM["criteria"], over_recruitment=40, places=5)


def state_of(cohort: Cohort, tenant: Tenant) -> str:
    return CohortMember.objects.get(cohort=cohort, tenant=tenant).state


def test_operator_makes_screens_and_invites_and_the_organisation_answers(
    acme: Tenant, olga: User, rita: User, bob: User, client_for: ClientFor
) -> None:
    operator, otto = client_for(olga), client_for(make.second_operator())
    refused = operator.post(f"{URL}new/", FORM | {"criteria": "weather = fine"})
    assert (refused.status_code, "nothing is known as weather" in refused.content.decode()) == (422, True)

    assert operator.post(f"{URL}new/", FORM).status_code == 302
    make.screen(acme)
    assert "age_days &gt;= 0" in operator.get(f"{URL}partners/").content.decode()
    operator.post(f"{URL}partners/invite/")
    own = "/o/acme/release/cohorts/"
    assert "Accept" not in client_for(bob).get(own).content.decode()
    assert "Answer by" in client_for(rita).get(own).content.decode()
    client_for(rita).post(f"{own}partners/answer/", {"answer": "accept"})

    operator.post(f"{URL}partners/activate/", {"reason": "The pilot begins"})
    assert "Approve change" not in operator.get(f"{URL}partners/").content.decode()
    assert "Approve change 1" in otto.get(f"{URL}partners/").content.decode()
    otto.post(f"{URL}partners/changes/1/decide/", {"decision": "approve"})
    cohort = Cohort.objects.get()
    assert state_of(cohort, acme) == "active"

    operator.post(f"{URL}partners/wind-down/", {"reason": "The preview is over."})
    page = client_for(bob).get("/o/acme/release/rollouts/").content.decode()
    assert "Design partners ends on" in page
    assert "The preview is over." in client_for(rita).get(own).content.decode()
    client_for(rita).post(f"{own}partners/answer/", {"answer": "leave"})
    assert state_of(cohort, acme) == "left"
    assert "Nobody" in operator.get(f"{URL}partners/").content.decode()


def test_api_walks_the_same_road(
    cohort: Cohort, acme: Tenant, globex: Tenant, olga: User, rita: User, bob: User, platform_api: TenantClient, api_for: ClientFor
) -> None:
    make.screen(acme, globex)
    assert [row["verdict"] for row in platform_api.get(f"{API}partners/members/?tab=candidates").json()["results"]] == ["pass", "pass"]
    taken = platform_api.post(API, FORM)
    assert (taken.status_code, taken.json()["code"]) == (409, "slug_taken")

    invited = platform_api.post(f"{API}partners/invite/", {"tenant": "acme", "reason": "A flagship"})
    assert invited.json()[0]["override_reason"] == "A flagship"
    assert api_for(bob).post("/api/v1/cohorts/partners/answer/", {"answer": "accept"}).status_code == 403
    mine = api_for(rita).post("/api/v1/cohorts/partners/answer/", {"answer": "accept"}).json()
    assert (mine["state"], mine["is_entitled"], mine["has_consent"], mine["variant"]) == ("enrolled", False, True, "off")
    change = platform_api.post(f"{API}partners/activate/", {"reason": "Go"}).json()
    own = platform_api.post(f"{API}partners/changes/{change['number']}/decide/", {"approve": True})
    assert own.json()["code"] == "self_approval"
    early = platform_api.post(f"{API}partners/stage/", {"stage": "tier-free", "reason": "Go"})
    assert early.json()["code"] == "stage_too_early"
    detail = platform_api.get(f"{API}partners/").json()
    assert (detail["cohort"]["enrolled"], detail["cohort"]["candidates"], detail["flag"]["waiting"]["number"]) == (1, 1, 1)
    assert api_for(rita).post("/api/v1/cohorts/other/answer/", {"answer": "leave"}).status_code == 404


def test_key_of_the_operators_flag_is_taken_for_organisations(cohort: Cohort, acme: Tenant, rita: User, api_for: ClientFor) -> None:
    body = {"key": cohort.flag.key, "title": "Mine", "kind": "boolean", "variants": {"off": False, "on": True}, "control": "off"}
    answer = api_for(rita).post("/api/v1/flags/", body | {"feature_class": "assistants", "sticky": "user"})
    assert (answer.status_code, answer.json()["code"]) == (409, "flag_key_taken")


def test_lists_ask_the_same_few_questions_however_long_they_are(
    cohort: Cohort, acme: Tenant, globex: Tenant, olga: User, client_for: ClientFor, django_assert_max_num_queries: object
) -> None:
    make.screen(acme, globex)
    with schema_context("public"):
        make.make_cohort(olga, slug="others")
    client = client_for(olga)

    for url, most in ((URL, 9), (f"{URL}partners/", 14)):
        with django_assert_max_num_queries(most):  # type: ignore[operator]  # a fixture without a public type
            assert client.get(url).status_code == 200


def test_deleted_organisation_is_forgotten(cohort: Cohort, globex: Tenant, olga: User) -> None:
    from governance import erasure

    make.screen(globex)
    with schema_context("public"):
        for erase in erasure.erasers:
            erase(globex)
        assert not selectors.members_of(cohort).exists()
