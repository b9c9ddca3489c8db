"""What the playground tells of a run once the gateway has recorded it, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from catalog.models import Project, VirtualKey
from catalog.services import keys, prompts
from governance.models import PayloadSetting, Tenant, User
from tests.catalog.pages import text_of
from tests.conftest import ClientFor
from tests.factories import costs as make
from tests.factories.catalog import make_model, make_project

RUN = "/o/acme/build/playground/runs/req-1/"


@pytest.fixture
def project(acme: Tenant, alice: User) -> Project:
    return make_project(owner=alice, slug="checkout")


def ran(tenant: Tenant, key: VirtualKey, **fields: Any) -> None:
    make.record(tenant, make.call(tenant, request_id="req-1", key_id=key.public_id, **fields))


def test_run_tells_its_exact_cost_and_what_guardrails_found(
    acme: Tenant, project: Project, alice: User, bob: User, client_for: ClientFor
) -> None:
    make.prices(alice, input="0.15", output="0")
    key = keys.open_playground_session(project=project, person=bob).key
    steps = [
        ["guardrail:personal-data", "redacted", 0, "input card=1 email=2"],
        ["guardrail:no-secrets", "pass", 0, "input"],
        ["guardrail:personal-data", "flagged", 0, "output person_name=1"],
        ["guardrail:short", "guardrail_blocked", 0, "output characters=9000"],
        ["failover", "pass", 0, "1:503 → 2"],
        ["call_upstream", "pass", 9, "1:503 2:200"],
    ]
    ran(acme, key, input_tokens=1, output_tokens=0, steps=steps)

    answer = client_for(bob).get(RUN)

    body = answer.json()
    assert client_for(bob).get(body.pop("url")).status_code == 200
    assert body == {
        "provider": "openai",
        "cost_usd": "0.00000015",
        "is_cached": False,
        "failovers": 1,
        "guardrails": 3,
        "findings": [
            {"guardrail": "personal-data", "verdict": "redacted", "direction": "input", "found": "1 card, 2 email"},
            {"guardrail": "personal-data", "verdict": "flagged", "direction": "output", "found": "1 person name"},
            {"guardrail": "short", "verdict": "guardrail_blocked", "direction": "output", "found": "9000 characters"},
        ],
    }
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"provider": "elsewhere"}, {"cost_usd": None, "is_cached": False}),
        ({"usage_source": "cache", "provider": None}, {"cost_usd": "0", "is_cached": True, "provider": ""}),
        ({**make.REFUSED}, {"cost_usd": "0", "guardrails": 0, "findings": []}),
    ],
)
def test_run_without_a_price_from_the_cache_or_refused(
    fields: dict[str, Any], expected: dict[str, Any], acme: Tenant, project: Project, alice: User, bob: User, client_for: ClientFor
) -> None:
    make.prices(alice)
    ran(acme, keys.open_playground_session(project=project, person=bob).key, **fields)

    body = client_for(bob).get(RUN).json()

    assert {name: body[name] for name in expected} == expected


def test_only_own_runs_of_the_playground_are_told(acme: Tenant, project: Project, alice: User, bob: User, client_for: ClientFor) -> None:
    ran(acme, keys.open_playground_session(project=project, person=alice).key)
    ran(acme, make.key(bob))

    answer = client_for(bob).get(RUN)

    assert (answer.status_code, answer.json()["code"], answer["Cache-Control"]) == (202, "not_recorded", "no-store")
    assert client_for(alice).get(RUN).status_code == 200


def test_link_to_a_project_that_is_off_says_for_which_one_runs_count(
    acme: Tenant, project: Project, alice: User, bob: User, client_for: ClientFor
) -> None:
    make_model(owner=alice, slug="small")
    make_project(owner=alice, slug="closed", is_enabled=False)

    closed, known = (client_for(bob).get(f"/o/acme/build/playground/?project={slug}").content.decode() for slug in ("closed", "checkout"))

    assert "There is no project" in closed
    assert 'Runs count for <b class="gh-strong">checkout</b>' in closed
    assert "There is no project" not in known


def test_version_of_a_prompt_is_tried_before_it_is_approved(
    acme: Tenant, project: Project, alice: User, bob: User, client_for: ClientFor
) -> None:
    make_model(owner=alice, slug="brief")
    make_model(owner=alice, slug="talker")
    prompt = prompts.create_prompt(
        slug="greeting", name="Greeting", messages=[{"role": "system", "content": "Greet {{name}}."}], model="talker", actor=bob
    )
    version = prompts.submit_version(version=prompt.versions.get(), actor=bob)
    client, page = client_for(bob), "/o/acme/build/playground/"

    def data(query: str) -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"{page}?{query}").context["data"]
        return found

    tried = client.get(f"{page}?prompt=greeting@1").content.decode()
    drafted = data("prompt=greeting@1")
    prompts.approve_version(version=version, actor=alice)
    approved = data("prompt=greeting@1&model=brief")

    assert "Greet {{name}}." in tried
    assert 'data-variable="name"' in tried
    assert drafted["prompt"] == {
        "id": "greeting", "version": "1", "messages": [{"role": "system", "content": "Greet {{name}}."}], "parameters": {}, "served": False,
    }  # fmt: skip
    assert list(drafted["models"]) == ["talker"]  # the version's own, unless another is chosen
    assert (approved["prompt"]["served"], list(approved["models"])) == (True, ["brief"])
    assert "/build/playground/?prompt=greeting%401" in client.get("/o/acme/prompts/greeting/").content.decode()
    for wrong in ("greeting@2", "greeting", "nothing@1"):
        assert f'no version <b class="gh-strong">{wrong}</b>' in client.get(f"{page}?prompt={wrong}").content.decode()
    prompts.archive_prompt(prompt=prompt, actor=alice)
    assert data("prompt=greeting@1")["prompt"] is None


def test_parameters_begin_with_what_a_run_gets_anyway(
    acme: Tenant, project: Project, alice: User, bob: User, client_for: ClientFor
) -> None:
    make_model(owner=alice, slug="calm", default_parameters={"max_tokens": 400, "temperature": 0.2, "reasoning_effort": "low"})
    make_model(owner=alice, slug="plain")
    prompts.create_prompt(
        slug="greeting",
        name="Greeting",
        messages=[{"role": "user", "content": "Hi"}],
        model="calm",
        parameters={"temperature": 1},
        actor=bob,
    )
    client, page = client_for(bob), "/o/acme/build/playground/"

    def starts(query: str) -> dict[str, tuple[str, str]]:
        return {one.name: (one.start, one.origin) for one in client.get(f"{page}?{query}").context["parameters"]}

    one, two, none, prompted = (starts(query) for query in ("model=calm", "model=calm&model=plain", "model=plain", "prompt=greeting@1"))
    shown = client.get(f"{page}?model=calm").content.decode()

    assert one["temperature"] == ("0.2", "the model's default")
    assert one["max_tokens"] == ("400", "the model's default")
    assert one["reasoning_effort"] == ("low", "the model's default")
    assert one["top_p"] == ("", "not set")
    assert two["temperature"] == ("", "each model's default: calm 0.2, plain not set")
    assert none["max_tokens"] == ("800", "the playground's")
    assert prompted["temperature"] == ("1", "the prompt's")
    assert prompted["max_tokens"] == ("400", "the model's default")
    assert 'id="pg-values">Temperature 0.2, Most output tokens 400, Reasoning effort low<' in shown
    assert "<option selected>low</option>" in shown


def test_page_says_what_is_kept_of_its_prompts(acme: Tenant, project: Project, alice: User, bob: User, client_for: ClientFor) -> None:
    make_model(owner=alice, slug="small")
    page = "/o/acme/build/playground/?project=checkout"

    before = client_for(bob).get(page).content.decode()
    PayloadSetting.objects.create(ref="", mode="full", days=3, set_by=alice, set_at=timezone.now())
    after = client_for(bob).get(page).content.decode()

    assert 'prompts <b class="gh-strong">not stored</b>' in before
    assert 'prompts <b class="gh-strong">stored for 3 days</b>' in after


def test_playground_shows_the_chosen_models(furnished: dict[str, str], alice: User, bob: User, client_for: ClientFor) -> None:
    make_model(owner=alice, slug="large")

    response = client_for(bob).get("/o/acme/build/playground/?model=small&model=large&model=unknown")

    text = text_of(response)
    assert 'data-model="small"' in text
    assert 'data-model="large"' in text
    assert "There is no chat model" in text
    assert "ghw_" not in text


def test_session_is_given_by_post_and_not_stored(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    response = client_for(bob).post("/o/acme/build/playground/session/", {"project": "checkout"})

    assert response.json()["token"].startswith("ghw_")
    assert response["Cache-Control"] == "no-store"


def test_session_for_a_project_that_is_off_is_refused(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    Project.objects.update(is_enabled=False)

    response = client_for(bob).post("/o/acme/build/playground/session/", {"project": "checkout"})

    assert (response.status_code, response.json()["code"]) == (409, "project_off")
