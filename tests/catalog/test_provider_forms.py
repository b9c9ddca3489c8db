"""The form of a new provider asks what its kind needs, and nothing gives a credential back: page and API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from catalog.models import Provider
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories.catalog import make_provider
from tests.gateway import clouds
from tests.gateway.clouds import Clouds

NEW = "/o/acme/operate/providers/new/"
ENTRA = {"tenant_id": "a-tenant", "client_id": "an-application", "client_secret": "entra-s3cret"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Clouds]:
    with clouds.running() as server:
        yield server


def _inputs(response: Any) -> set[str]:
    return set(response.context["form"].fields)


@pytest.mark.parametrize(
    ("query", "asked", "not_asked"),
    [
        ("template=openai", {"base_url", "secret"}, {"api_version", "project", "client_secret"}),
        ("template=azure_openai", {"secret", "api_version"}, {"client_secret", "project"}),
        ("template=azure_openai&credential=entra_id", {"tenant_id", "client_id", "client_secret", "token_url"}, {"secret"}),
        ("template=vertex_ai", {"project", "service_account", "region"}, {"secret", "api_version"}),
        ("template=bedrock", {"access_key_id", "secret_access_key", "session_token"}, {"secret"}),
        ("template=bedrock&credential=key", {"secret", "region"}, {"access_key_id"}),
        ("template=openai&credential=aws_keys", {"secret"}, {"access_key_id"}),
        ("template=nonsense", {"secret", "base_url"}, {"project"}),
    ],
)
def test_form_asks_what_the_kind_needs(
    acme: Tenant, alice: User, client_for: ClientFor, query: str, asked: set[str], not_asked: set[str]
) -> None:
    client = client_for(alice)

    page, wizard = client.get(f"{NEW}?{query}"), client.get(f"/o/acme/operate/models/new/?step=1&{query}")

    for response in (page, wizard):
        assert asked <= _inputs(response)
        assert not not_asked & _inputs(response)
        assert f'name="{asked.copy().pop()}"' in response.content.decode()


def test_vertex_is_added_by_the_wizard(acme: Tenant, alice: User, client_for: ClientFor, cloud: Clouds) -> None:
    body = {"name": "Vertex", "slug": "vertex", "kind": "vertex_ai", "dialect": "anthropic", "region": "europe-west4"}

    response = client_for(alice).post(
        "/o/acme/operate/models/new/?step=1", {**body, "base_url": cloud.url, "service_account": cloud.service_account_file()}
    )

    provider = Provider.objects.get()
    assert response["Location"].endswith("?provider=vertex&step=2")
    assert provider.base_url == cloud.url + clouds.PLACE
    assert (provider.dialect, provider.credential, provider.credential_label) == ("anthropic", "service_account", clouds.SERVICE_ACCOUNT)


def test_form_with_errors_does_not_give_a_credential_back(acme: Tenant, alice: User, client_for: ClientFor, cloud: Clouds) -> None:
    file = cloud.service_account_file()
    bodies = [
        {"kind": "vertex_ai", "region": "", "service_account": file},
        {"kind": "bedrock", "region": "", "access_key_id": "AKID", "secret_access_key": "aws-s3cret"},
        {"kind": "azure_openai", "credential": "entra_id", "base_url": "no url", **ENTRA},
    ]

    responses = [client_for(alice).post(NEW, {"name": "X", "slug": "x", **body}) for body in bodies]

    assert [response.status_code for response in responses] == [422] * 3
    told = "".join(response.content.decode() for response in responses)
    assert "PRIVATE KEY" not in told
    assert "s3cret" not in told
    assert "an-application" in told


def test_wrong_file_is_said_at_its_field(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    body = {"name": "X", "slug": "x", "kind": "vertex_ai", "region": "europe-west4", "service_account": '{"type": "authorized_user"}'}

    response = client_for(alice).post(NEW, body)

    assert response.status_code == 422
    assert "not the file of a service account" in str(response.context["form"].errors["service_account"])


def test_credential_is_replaced_on_the_page_by_another_kind(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_provider(slug="azure", kind="azure_openai", base_url="https://r.openai.azure.com/openai/v1", secret="old")
    client, url = client_for(alice), "/o/acme/operate/providers/azure/"

    asked = client.get(f"{url}?credential=entra_id")
    half = client.post(f"{url}secret/", {"credential": "entra_id", "tenant_id": "t"})
    done = client.post(f"{url}secret/", {"credential": "entra_id", **ENTRA}, follow=True)

    assert b'name="client_secret"' in asked.content
    assert half.status_code == 422
    assert Provider.objects.get().credential_label == "an-application"
    assert b"an-application" in done.content
    assert b"entra-s3cret" not in done.content


def test_page_of_a_structured_credential_asks_for_no_key(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_provider(slug="aws", kind="bedrock", credential="aws_keys", region="eu-west-1", base_url="https://bedrock.example", secret="{}")
    client, url = client_for(alice), "/o/acme/operate/providers/aws/"

    changed = client.post(f"{url}edit/", {"name": "New name", "base_url": "https://bedrock.example", "region": "eu-west-1"})

    assert changed.status_code == 302
    assert "secret" not in client.get(url).context["form"].fields
    assert Provider.objects.get().open_secret() == "{}"


def test_api_takes_credentials_and_shows_whose_they_are(acme: Tenant, alice: User, api_for: ClientFor, cloud: Clouds) -> None:
    client = api_for(alice)
    keys = {"access_key_id": clouds.AWS.access_key_id, "secret_access_key": clouds.AWS.secret_access_key}

    made = _send(client.post, "", {"slug": "aws", "name": "AWS", "kind": "bedrock", "region": "eu-central-1", "credentials": keys})
    half = _send(client.put, "aws/secret/", {"credentials": {"access_key_id": "AKID"}})
    other = _send(client.put, "aws/secret/", {"credential": "key", "secret": "bedrock-s3cret"})
    nothing = _send(client.put, "aws/secret/", {})

    assert made.status_code == 201, made.content
    assert made.json() | {"credential": "aws_keys", "credential_label": "AKIDEXAMPLE", "has_secret": True} == made.json()
    assert made.json()["base_url"] == "https://bedrock-runtime.eu-central-1.amazonaws.com"
    assert (half.status_code, list(half.json()["fields"])) == (422, ["secret_access_key"])
    assert other.json() | {"credential": "key", "credential_label": "", "has_secret": True} == other.json()
    assert (nothing.status_code, list(nothing.json()["fields"])) == (400, ["secret"])
    told = made.content + half.content + other.content + client.get("/api/v1/providers/").content
    assert clouds.AWS.secret_access_key.encode() not in told
    assert b"bedrock-s3cret" not in told


def _send(act: Any, path: str, body: dict[str, Any]) -> Any:
    return act(f"/api/v1/providers/{path}", json.dumps(body), content_type="application/json")
