"""Tags of models: set by people and programs, looked for by everybody."""

from __future__ import annotations

import re

import pytest

from catalog.models import Model
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor
from tests.factories.catalog import make_model, make_provider

CHANGE = {
    "name": "Small", "capabilities": ["chat"], "max_output_tokens": "1000", "data_sensitivity": "internal", "feature_class": "assistants",
    "environment": "production",
}  # fmt: skip


def test_tags_are_set_on_the_page_and_found_by(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    make_model(owner=alice, slug="small")
    make_model(owner=alice, slug="other", tags={"use": "coding"})
    client, developer = client_for(alice), client_for(bob)

    assert client.post("/o/acme/models/small/edit/", {**CHANGE, "tags": "use=drafting\n team = search \n"}).status_code == 302
    page = developer.get("/o/acme/models/small/").content.decode()
    listed = developer.get("/o/acme/build/models/?tag=use%3Ddrafting").content.decode()

    assert Model.objects.get(slug="small").tags == {"team": "search", "use": "drafting"}
    assert AuditEntry.objects.get(event="model.changed").details["after"]["tags"] == {"team": "search", "use": "drafting"}
    assert 'href="/o/acme/build/models/?tag=use%3Ddrafting">use=drafting</a>' in page
    assert set(re.findall(r'href="/o/acme/models/([a-z]+)/"', listed)) == {"small"}
    assert "use=coding (1)" in listed
    assert "use=drafting\n" in client.get("/o/acme/models/small/?tab=edit").content.decode()  # to be changed again


@pytest.mark.parametrize(
    ("tags", "said"),
    [("drafting", "drafting is not name=value."), ("two words=x", "two words is no name of a tag"), ("use=", "must be printable")],
)
def test_what_is_no_tag_comes_back_with_what_was_typed(acme: Tenant, alice: User, client_for: ClientFor, tags: str, said: str) -> None:
    make_model(owner=alice, slug="small")

    answer = client_for(alice).post("/o/acme/models/small/edit/", {**CHANGE, "tags": tags})

    assert (answer.status_code, said in answer.content.decode(), f">\n{tags}<" in answer.content.decode()) == (422, True, True)


def test_wizard_asks_for_tags(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_provider(slug="cloud")
    client, step = client_for(alice), "/o/acme/operate/models/new/?provider=cloud&step=2"

    client.post(step, {"upstream_model": "gpt-small", "slug": "small", "capabilities": ["chat"], "tags": "use=drafting"})
    again = client.get("/o/acme/operate/models/new/?draft=small&step=2").content.decode()
    client.post("/o/acme/operate/models/new/?draft=small&step=3", {**CHANGE, "input_per_million": "", "output_per_million": ""})

    assert ">\nuse=drafting<" in again
    assert Model.objects.get(slug="small").tags == {"use": "drafting"}


def test_tags_by_api(acme: Tenant, alice: User, api_for: ClientFor) -> None:
    make_model(owner=alice, slug="small", tags={"use": "coding"})
    api = api_for(alice)

    changed = api.patch("/api/v1/models/small/", {"tags": {"use": "drafting"}}, content_type="application/json")
    kept = api.patch("/api/v1/models/small/", {"description": "Short texts."}, content_type="application/json")
    refused = api.patch("/api/v1/models/small/", {"tags": {"two words": "x"}}, content_type="application/json")

    assert changed.json()["tags"] == kept.json()["tags"] == {"use": "drafting"}
    assert refused.status_code == 422
    assert [row["slug"] for row in api.get("/api/v1/models/?tag=use=drafting").json()["results"]] == ["small"]
    assert api.get("/api/v1/models/?tag=use=coding").json()["results"] == api.get("/api/v1/models/?tag=use").json()["results"] == []
