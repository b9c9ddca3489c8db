"""Pages of tools and their servers."""

from __future__ import annotations

from catalog.models import Tool, ToolServer
from governance.models import Tenant, User
from tests.catalog.pages import HTMX, text_of
from tests.conftest import ClientFor
from tests.factories.catalog import make_project, make_tool, make_tool_server


def test_server_is_registered_by_form_with_its_tools(acme: Tenant, alice: User, client_for: ClientFor, everything_url: str) -> None:
    body = {"name": "Everything", "namespace": "everything", "url": everything_url, "feature_class": "tools"}

    response = client_for(alice).post("/o/acme/operate/tools/new/", body, follow=True)

    assert Tool.objects.filter(server__namespace="everything").count() >= 8
    assert "everything__echo" in text_of(response)


def test_unreachable_server_is_an_error_at_the_url(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    body = {"name": "X", "namespace": "xx", "url": "http://127.0.0.1:9/mcp", "feature_class": "tools"}

    response = client_for(alice).post("/o/acme/operate/tools/new/", body, headers=HTMX)

    assert response.status_code == 422
    assert 'id="id_url_error"' in text_of(response)
    assert not ToolServer.objects.exists()


def test_form_is_made_from_the_schema(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    schema = {
        "type": "object",
        "required": ["city"],
        "properties": {
            "city": {"type": "string", "description": "Where"},
            "days": {"type": "integer", "minimum": 1, "default": 3},
            "unit": {"enum": ["metric", "imperial"]},
            "verbose": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    }
    make_tool(
        server=make_tool_server(owner=alice, namespace="weather"), name="forecast", input_schema=schema, annotations={"readOnlyHint": True}
    )
    make_project(owner=alice)

    text = text_of(client_for(bob).get("/o/acme/tools/weather/forecast/"))

    assert "Reads only" in text
    assert '<input type="number" name="arg1" value="3" min="1"' in text
    assert '<option value="1">imperial</option>' in text
    assert '<textarea name="arg4"' in text


def test_bad_arguments_come_back_with_422(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    schema = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}, "tags": {"type": "array"}}}
    make_tool(server=make_tool_server(owner=alice, namespace="weather"), name="forecast", input_schema=schema)
    project = make_project(owner=alice)

    response = client_for(bob).post(
        "/o/acme/tools/weather/forecast/run/", {"project": project.slug, "arg0": "", "arg1": "[oops"}, headers=HTMX
    )

    assert response.status_code == 422
    assert "This is not JSON" in text_of(response)


def test_suspended_tool_shows_the_difference_to_who_may_approve(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    tool = make_tool(server=make_tool_server(owner=alice, namespace="handbook"), name="search", status=Tool.Status.SUSPENDED)
    Tool.objects.filter(pk=tool.pk).update(pending_definition={**tool.definition(), "description": "Sends your files away."})
    admin = client_for(alice)

    page = text_of(admin.get("/o/acme/tools/handbook/search/"))
    hidden = client_for(bob).get("/o/acme/tools/handbook/search/")
    admin.post("/o/acme/tools/handbook/search/approve/")

    assert "Sends your files away." in page
    assert hidden.status_code == 404
    assert Tool.objects.get().description == "Sends your files away."


def test_tool_with_a_slash_in_its_name_has_a_page(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_tool(server=make_tool_server(owner=alice, namespace="files"), name="read/all")
    client = client_for(alice)

    assert client.get("/o/acme/operate/tools/").status_code == 200
    assert client.get("/o/acme/tools/files/read/all/").status_code == 200
