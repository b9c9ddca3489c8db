"""The programme's page and endpoints, the drill, and the question that people are asked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from django_tenants.utils import schema_context

from gateway.publish import publisher
from governance.models import AuditEntry, Effect, Tenant, User
from rollouts import errors, tasks
from rollouts import programme_selectors as selectors
from rollouts.models import Cohort, SurveyAnswer
from rollouts.services import surveys
from tests.conftest import ClientFor, TenantClient
from tests.factories import cohorts as make

URL = "/platform/cohorts/partners/"
API = "/api/v1/platform/cohorts/partners/"


@pytest.fixture
def cohort(acme: Tenant, olga: User, rita: User) -> Cohort:
    """Acme is active for ten days."""
    at = timezone.now() - timedelta(days=10)
    with schema_context("public"):
        cohort = make.make_cohort(olga)
        make.enrol(cohort, acme, operator=olga, person=rita, at=at)
        make.activate(cohort, operator=olga, other=make.second_operator(), at=at)
    return cohort


def test_drill_is_timed_to_the_last_process_and_changes_nothing_but_its_number(
    cohort: Cohort, acme: Tenant, olga: User, client_for: ClientFor, platform_api: TenantClient
) -> None:
    before = publisher.compile_snapshot(acme, 1)

    client_for(olga).post(f"{URL}drill/")

    after = publisher.compile_snapshot(acme, 1)
    assert (after.drill > before.drill, after.flags) == (True, before.flags)
    assert selectors.drills_of(cohort)[0].verdict == "waiting"
    effect = Effect.objects.get(is_drill=True, tenant=acme)
    effect.effective_at, effect.planes = effect.decided_at + timedelta(seconds=2), 3
    effect.save()
    drill = platform_api.get(f"{API}programme/").json()["drills"][0]
    assert (drill["by"], drill["organisations"], drill["slowest_s"], drill["rto_s"], drill["verdict"]) == ("Olga", 1, 2.0, 3600.0, "pass")
    assert "2.0 s" in client_for(olga).get(f"{URL}programme/").content.decode()
    tasks.drill_cohorts()
    assert [drill.by for drill in selectors.drills_of(cohort)] == ["the schedule", "Olga"]


def test_nobody_active_is_no_drill(acme: Tenant, olga: User, platform_api: TenantClient) -> None:
    with schema_context("public"):
        make.make_cohort(olga)

    assert platform_api.post(f"{API}programme/").json()["code"] == "cohort_state"
    assert platform_api.get(f"{API}programme/").json()["funnel"][0] == {"key": "invited", "count": 0, "of": 0, "share": None}


def test_person_is_asked_once_in_sixty_days_and_never_named(
    cohort: Cohort, acme: Tenant, bob: User, olga: User, client_for: ClientFor, platform_api: TenantClient
) -> None:
    client, home = client_for(bob), "/o/acme/build/home/"
    assert "How satisfied are you with Design partners?" in client.get(home).content.decode()

    client.post("/o/acme/surveys/answer/", {"question": "csat...partners", "score": "4", "comment": "Quick, but hard to set up"})

    assert "How satisfied" not in client.get(home).content.decode()
    assert SurveyAnswer.objects.values_list("score", "on").get() == (4, timezone.now().date())
    with schema_context("public"), pytest.raises(errors.SurveyNotDueError):
        surveys.dismiss(tenant=acme, person=bob)
    later = selectors.question_for(acme, bob, at=timezone.now() + timedelta(days=61))
    assert later is not None
    assert later.kind == "nps"
    page = client_for(olga).get(f"{URL}programme/").content.decode()
    assert "Quick, but hard to set up" in page
    assert "1 of 5 answers" in page
    assert "Bob" not in page
    assert [row["comment"] for row in platform_api.get(f"{API}comments/").json()["results"]] == ["Quick, but hard to set up"]


def test_question_can_be_put_away_and_the_organisation_can_switch_it_off(
    cohort: Cohort, acme: Tenant, rita: User, bob: User, fay: User, api_for: ClientFor, client_for: ClientFor
) -> None:
    def send(user: User, method: str, body: object = None) -> tuple[int, object]:
        answer = getattr(api_for(user), method)("/api/v1/survey/", body)
        return answer.status_code, answer.json()

    assert send(fay, "post", {"question": "csat...partners", "score": 6})[1]["code"] == "survey_score"  # type: ignore[index]
    client_for(bob).post("/o/acme/surveys/answer/", {"dismiss": "yes"})
    assert api_for(bob).get("/api/v1/survey/").json() == {"question": None, "is_allowed": True}
    assert send(bob, "put", {"is_allowed": False})[0] == 403

    assert send(rita, "put", {"is_allowed": False}) == (200, {"question": None, "is_allowed": False})

    assert send(fay, "post", {"question": "csat...partners", "score": 5})[0] == 409
    assert AuditEntry.objects.filter(event="survey.switched_off", actor=rita).count() == 1
    client_for(rita).post("/o/acme/release/cohorts/surveys/", {"wanted": "yes"})
    assert selectors.has_surveys(acme)
    assert selectors.question_for(acme, fay, at=timezone.now() - timedelta(days=5)) is None  # not settled by then


def test_page_asks_few_questions(
    cohort: Cohort, acme: Tenant, olga: User, client_for: ClientFor, django_assert_max_num_queries: object
) -> None:
    with django_assert_max_num_queries(16):  # type: ignore[operator]  # a fixture without a public type
        assert client_for(olga).get(f"{URL}programme/").status_code == 200
