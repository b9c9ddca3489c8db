"""Pages of the catalog: who gets them, what they say, what bad input answers, page against fragment."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from catalog import panels
from catalog.hooks import Usage
from catalog.models import Project, Tool
from catalog.services import keys as key_services
from governance.models import Tenant, User
from tests.catalog.pages import HTMX, text_of
from tests.conftest import ClientFor
from tests.factories.catalog import make_key, make_model, make_provider, make_tool, make_tool_server

EMPTY_PAGES = {
    "operate/providers/": "No providers yet",
    "operate/models/": "No models yet",
    "operate/tools/": "No tools yet",
    "operate/keys/": "No keys yet",
    "operate/projects/": "No projects yet",
    "build/models/": "No models yet",
    "build/playground/": "No chat model yet",
    "build/keys/": "No keys yet",
    "build/tools/": "No tools yet",
    "build/first-call/": "No project yet",
    "build/keys/new/": "No project to make a key for",
}


NEXT_STEPS = {
    "build/models/": "/o/acme/operate/models/",
    "build/playground/": "/o/acme/operate/models/",
    "build/first-call/": "/o/acme/operate/projects/",
    "build/keys/new/": "/o/acme/operate/projects/",
}
"""Where an empty page sends whoever may do something about it."""


@pytest.mark.parametrize(("path", "url"), NEXT_STEPS.items(), ids=NEXT_STEPS)
def test_empty_page_leads_on_whoever_may_fill_it(acme: Tenant, alice: User, bob: User, client_for: ClientFor, path: str, url: str) -> None:
    owner, developer = (client_for(user).get(f"/o/acme/{path}") for user in (alice, bob))

    assert f'class="btn" href="{url}"' in text_of(owner)
    assert f'class="btn" href="{url}"' not in text_of(developer)
    assert "dmin" in text_of(developer)


@pytest.mark.parametrize(("path", "words"), EMPTY_PAGES.items(), ids=EMPTY_PAGES)
def test_empty_page_says_what_is_missing(acme: Tenant, alice: User, client_for: ClientFor, path: str, words: str) -> None:
    response = client_for(alice).get(f"/o/acme/{path}")

    assert response.status_code == 200
    assert words in text_of(response)


@pytest.mark.parametrize(
    "path", ["operate/models/", "build/models/", "operate/providers/", "operate/projects/", "build/tools/", "operate/tools/"]
)
def test_filter_that_matches_nothing_is_told_apart(furnished: dict[str, str], alice: User, client_for: ClientFor, path: str) -> None:
    response = client_for(alice).get(f"/o/acme/{path}?q=no-such-thing")

    assert "matches" in text_of(response)
    assert "yet</b>" not in text_of(response)


@pytest.mark.parametrize(
    ("path", "partial"),
    [
        ("operate/providers/", "provider-table"),
        ("operate/models/", "model-table"),
        ("build/models/", "model-table"),
        ("operate/tools/", "tool-table"),
        ("build/keys/", "key-table"),
        ("operate/projects/", "project-table"),
    ],
)
def test_fragment_is_only_the_list(furnished: dict[str, str], alice: User, client_for: ClientFor, path: str, partial: str) -> None:
    client = client_for(alice)

    page, fragment = client.get(f"/o/acme/{path}"), client.get(f"/o/acme/{path}", headers=HTMX)

    assert "<html" in text_of(page)
    assert "<html" not in text_of(fragment)
    assert f'id="{partial}"' in text_of(fragment)
    assert "HX-Request" in fragment["Vary"]


def test_pages_of_objects_open_for_members(furnished: dict[str, str], alice: User, bob: User, client_for: ClientFor) -> None:
    admin, developer = client_for(alice), client_for(bob)

    assert [admin.get(f"/o/acme/{path}").status_code for path in furnished.values()] == [200] * len(furnished)
    seen = {name: developer.get(f"/o/acme/{path}").status_code for name, path in furnished.items()}
    assert seen == {"provider": 403, "model": 200, "draft": 404, "project": 200, "key": 200, "server": 200, "tool": 200}


def test_somebody_elses_key_is_like_a_missing_one(furnished: dict[str, str], rita: User, sam: User, client_for: ClientFor) -> None:
    client = client_for(rita)

    theirs, missing = client.get(f"/o/acme/{furnished['key']}"), client.get("/o/acme/keys/nothing1/")

    assert theirs.status_code == missing.status_code == 404
    assert client_for(sam).get(f"/o/acme/{furnished['key']}").status_code == 200


def test_another_tenant_has_none_of_it(furnished: dict[str, str], charlie: User, client_for: ClientFor) -> None:
    client = client_for(charlie)

    statuses = {client.get(f"/o/{tenant}/{path}").status_code for tenant in ("acme", "globex") for name, path in furnished.items()}

    assert statuses == {404}


def test_operate_home_names_what_needs_somebody(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    client = client_for(alice)
    quiet = text_of(client.get("/o/acme/operate/home/"))
    make_provider(name="Broken One", check_ok=False, check_detail="No connection.")
    make_key(owner=alice, name="old key", days=2)
    make_tool(server=make_tool_server(owner=alice, namespace="handbook"), name="search", status=Tool.Status.SUSPENDED)

    loud = text_of(client.get("/o/acme/operate/home/"))

    assert "Catalog needs you" not in quiet
    for words in ("Broken One", "old key", "handbook__search"):
        assert words in loud


def test_project_heads_the_keys_that_it_counts(furnished: dict[str, str], alice: User, bob: User, client_for: ClientFor) -> None:
    key_services.open_playground_session(project=Project.objects.get(slug="checkout"), person=bob)

    response = client_for(alice).get(f"/o/acme/{furnished['project']}")

    text = text_of(response)
    assert "1 live key" in text
    assert [row.key.name for row in response.context["rows"]] == ["bob's key"]
    assert "<th>Owner</th>" in text
    assert "sort=" not in text
    assert "<th>Owner</th>" not in text_of(client_for(bob).get(f"/o/acme/{furnished['project']}"))


def test_build_home_leads_to_the_first_call(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    text = text_of(client_for(bob).get("/o/acme/build/home/"))

    assert "The first call arrived" in text
    assert "bob&#x27;s key" in text
    assert "3 of 4 steps to your first call through the gateway are done." in text
    used = [Usage(calls=1200, errors=3, cost_usd=Decimal("4.12")), Usage(calls=4)]
    said = panels.start_line({"called": True, "usage": used, "steps": []})
    assert said == "1,204 calls with your 2 keys in the last 30 days for $4.12, 3 failed."
    used = [Usage(calls=9, errors=1, refused=5), Usage(calls=2, refused=2)]
    said = panels.start_line({"called": True, "usage": used, "steps": []})
    assert said == "11 calls with your 2 keys in the last 30 days, 1 failed, 7 refused."
    used = [Usage(calls=10, cost_usd=Decimal("0.01")), Usage(calls=1000, unpriced_calls=1000), *[Usage()] * 198]
    said = panels.start_line({"called": True, "usage": used, "steps": []})
    assert said == "1,010 calls with your newest 200 keys in the last 30 days for at least $0.01, 0 failed."


def test_search_finds_what_the_person_may_see(furnished: dict[str, str], alice: User, rita: User, client_for: ClientFor) -> None:
    admin, other = client_for(alice), client_for(rita)

    assert "/models/sketch/" in text_of(admin.get("/o/acme/search/?q=sket"))
    assert "/models/sketch/" not in text_of(other.get("/o/acme/search/?q=sket"))
    assert "/keys/" in text_of(admin.get("/o/acme/search/?q=bob"))
    assert "/keys/" not in text_of(other.get("/o/acme/search/?q=bob's"))
    assert "/projects/checkout/" in text_of(other.get("/o/acme/search/?q=check"))
    assert "/tools/handbook/search/" in text_of(other.get("/o/acme/search/?q=handbook__se"))


@pytest.mark.parametrize(
    "path", ["operate/models/", "build/models/", "operate/providers/", "operate/tools/", "operate/projects/", "operate/keys/"]
)
def test_lists_ask_as_often_for_twenty_rows_as_for_two(
    acme: Tenant, alice: User, client_for: ClientFor, django_assert_max_num_queries: Any, django_assert_num_queries: Any, path: str
) -> None:
    def furnish(count: int) -> None:
        for _ in range(count):
            make_model(owner=alice)
            make_key(owner=alice)
            make_tool(server=make_tool_server(owner=alice))

    client = client_for(alice)
    furnish(2)
    client.get(f"/o/acme/{path}")
    with django_assert_max_num_queries(40) as captured:
        client.get(f"/o/acme/{path}")
    asked = len(captured)
    furnish(18)

    with django_assert_num_queries(asked):
        client.get(f"/o/acme/{path}")
