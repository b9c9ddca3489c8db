"""Pages of providers: added, checked, changed."""

from __future__ import annotations

import pytest
from django.contrib.messages import get_messages

from catalog.models import Provider
from governance.models import Tenant, User
from tests.catalog.pages import HTMX, text_of
from tests.conftest import ClientFor
from tests.factories.catalog import make_provider
from tests.gateway.conftest import SandboxUpstream


def test_provider_is_added_by_form(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    body = {"name": "OpenAI", "slug": "openai", "kind": "openai", "base_url": "https://api.openai.com/v1", "secret": "sk-secret"}

    response = client_for(alice).post("/o/acme/operate/providers/new/", body, follow=True)

    assert Provider.objects.get().open_secret() == "sk-secret"
    assert "sk-secret" not in text_of(response)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("base_url", "http://10.0.0.7/v1", "private address"),
        ("base_url", "not a url", "valid URL"),
        ("slug", "No Spaces", "slug"),
        ("name", "", "required"),
    ],
)
def test_bad_provider_comes_back_with_422(acme: Tenant, alice: User, client_for: ClientFor, field: str, value: str, words: str) -> None:
    body = {"name": "X", "slug": "x", "kind": "openai", "base_url": "https://example.com/v1", field: value}

    response = client_for(alice).post("/o/acme/operate/providers/new/", body, headers=HTMX)

    assert response.status_code == 422
    assert words in text_of(response)
    assert 'id="provider-form"' in text_of(response)
    assert not Provider.objects.exists()


def test_check_shows_the_trace(acme: Tenant, alice: User, client_for: ClientFor, sandbox: SandboxUpstream) -> None:
    make_provider(slug="sandbox", base_url=sandbox.base_url(), secret="sandbox-secret")

    response = client_for(alice).post("/o/acme/operate/providers/sandbox/check/", headers=HTMX)

    assert "Answered in" in text_of(response)
    assert "sandbox-small" in text_of(response)


def test_changed_url_says_that_the_key_is_gone(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_provider(slug="one", base_url="https://one.example/v1", secret="s")

    response = client_for(alice).post("/o/acme/operate/providers/one/edit/", {"name": "One", "base_url": "https://two.example/v1"})

    assert "give a new one" in str(next(iter(get_messages(response.wsgi_request))))
