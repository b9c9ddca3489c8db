"""What anybody can put into an address bar is an answer, never a failure."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from governance.models import Tenant, User
from tests.conftest import ClientFor

PAGES = ["build/keys/", "operate/models/", "operate/providers/", "build/tools/", "operate/projects/"]
LISTS = ["keys/", "models/", "providers/", "tools/", "tool-servers/", "projects/"]


def cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "value", [5, None, [], [False], [False, "x"], [False, "x", "y"], [True, None, None], [False, "\0"], {"a": 1}], ids=str
)
def test_cursor_that_is_not_ours_is_the_first_page(acme: Tenant, alice: User, client_for: ClientFor, value: Any) -> None:
    client = client_for(alice)

    assert {client.get(f"/o/acme/{path}?cursor={cursor(value)}").status_code for path in PAGES} == {200}


@pytest.mark.parametrize("text", ["x", "cD14", "cD0lMDA=", "", "%ff"])
def test_api_cursor_that_is_not_ours_is_refused(acme: Tenant, alice: User, api_for: ClientFor, text: str) -> None:
    client = api_for(alice)

    assert {client.get(f"/api/v1/{path}?cursor={text}").status_code for path in LISTS} <= {200, 400, 404}


def test_nul_in_an_address_is_refused(acme: Tenant, alice: User, client_for: ClientFor, api_for: ClientFor) -> None:
    browser, program = client_for(alice), api_for(alice)

    assert {browser.get(f"/o/acme/{path}?q=%00").status_code for path in PAGES} == {400}
    assert browser.get("/o/acme/models/a%00b/").status_code == 400
    assert program.get("/api/v1/models/a%00b/").json()["code"] == "invalid"


def test_nul_in_a_body_is_an_error_of_its_field(acme: Tenant, alice: User, client_for: ClientFor, api_for: ClientFor) -> None:
    page = client_for(alice).post("/o/acme/operate/projects/new/", {"name": "a\0b", "slug": "ab", "environment": "development"})
    answer = api_for(alice).post("/api/v1/projects/", json.dumps({"slug": "ab", "name": "a\0b"}), content_type="application/json")

    assert page.status_code == 422
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["name"])
