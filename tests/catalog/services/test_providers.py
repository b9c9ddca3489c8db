"""Providers: secrets stay where they belong, checks are real calls, private hosts are refused."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from catalog import upstream
from catalog.errors import NameTakenError, OutboundRefusedError
from catalog.services import providers
from governance.models import AuditEntry, Tenant, User
from tests.factories.catalog import make_model, make_provider
from tests.gateway.conftest import SandboxUpstream


def test_secret_is_sealed_and_opens_only_on_purpose(acme: Tenant, alice: User) -> None:
    provider = providers.create_provider(
        slug="openai", name="OpenAI", base_url="https://api.openai.com/v1/", secret="sk-very-secret", actor=alice
    )

    assert provider.base_url == "https://api.openai.com/v1"
    assert "sk-very-secret" not in provider.sealed_secret
    assert provider.open_secret() == "sk-very-secret"
    assert "sk-very-secret" not in str(AuditEntry.objects.latest("sequence").details)


def test_slug_is_used_once(acme: Tenant, alice: User) -> None:
    make_provider(slug="openai")

    with pytest.raises(NameTakenError) as refused:
        providers.create_provider(slug="openai", name="Another", base_url="https://example.com/v1", actor=alice)

    assert refused.value.field == "slug"


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.7:8080/v1",
        "https://[::1]/v1",
        "https://[::ffff:10.0.0.1]/v1",
        "http://example.com/v1",
        "https://example.com:8443/v1",
        "https://user:pass@example.com/v1",
        "ftp://example.com/v1",
        "https://0x7f000001/v1",
    ],
)
def test_url_that_may_not_be_called_is_refused(acme: Tenant, alice: User, settings: Any, url: str) -> None:
    settings.OUTBOUND_ALLOW = []
    provider = make_provider(base_url=url)

    _, trace, _ = providers.check_provider(provider=provider, actor=alice)

    assert not trace.ok
    assert trace.steps[-1].name in ("resolve", "connect")


@pytest.mark.parametrize("url", ["http://10.0.0.7:8080/v1", "http://127.0.0.1/v1", "https://[fd00::1]/v1"])
def test_private_address_is_refused_at_once(acme: Tenant, alice: User, settings: Any, url: str) -> None:
    settings.OUTBOUND_ALLOW = []

    with pytest.raises(OutboundRefusedError) as refused:
        providers.create_provider(slug="inside", name="Inside", base_url=url, actor=alice)

    assert refused.value.field == "base_url"


def test_name_that_resolves_to_loopback_is_refused_when_it_is_called(acme: Tenant, alice: User, settings: Any) -> None:
    settings.OUTBOUND_ALLOW = []
    provider = make_provider(base_url="https://localhost/v1")

    _, trace, _ = providers.check_provider(provider=provider, actor=alice)

    assert trace.blocked
    assert "private address" in trace.summary


def test_new_url_voids_the_secret(acme: Tenant, alice: User) -> None:
    provider = make_provider(base_url="https://one.example/v1", secret="for one", check_ok=True)
    make_model(owner=alice, provider=provider)

    changed = providers.change_provider(provider=provider, name="X", base_url="https://two.example/v1", actor=alice)

    assert changed.open_secret() == ""
    assert changed.check_ok is None
    assert provider.deployments.get().check_ok is None
    assert AuditEntry.objects.latest("sequence").details["secret"] == "voided"


def test_new_url_with_new_secret_keeps_the_new_one(acme: Tenant, alice: User) -> None:
    provider = make_provider(base_url="https://one.example/v1", secret="for one")

    changed = providers.change_provider(provider=provider, name="X", base_url="https://two.example/v1", secret="for two", actor=alice)

    assert changed.open_secret() == "for two"


def test_same_url_keeps_the_secret(acme: Tenant, alice: User) -> None:
    provider = make_provider(base_url="https://one.example/v1", secret="for one")

    changed = providers.change_provider(provider=provider, name="Renamed", base_url="https://one.example/v1/", actor=alice)

    assert changed.open_secret() == "for one"


def test_check_lists_the_models_of_a_real_server(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    provider = make_provider(base_url=sandbox.base_url(), secret="sandbox-secret")

    checked, trace, names = providers.check_provider(provider=provider, actor=alice)

    assert checked.check_ok
    assert checked.check_ms is not None
    assert "sandbox-small" in names
    assert [step.name for step in trace.steps] == ["resolve", "connect", "status", "first byte", "answer"]


def test_check_with_a_wrong_key_says_so(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    provider = make_provider(base_url=sandbox.base_url(), secret="wrong")

    checked, trace, names = providers.check_provider(provider=provider, actor=alice)

    assert checked.check_ok is False
    assert names == []
    assert "401" in trace.summary
    assert "Incorrect API key" in checked.check_detail


def test_check_of_a_closed_port_says_where_it_ended(acme: Tenant, alice: User) -> None:
    provider = make_provider(base_url="http://127.0.0.1:9/v1")

    _, trace, _ = providers.check_provider(provider=provider, actor=alice)

    assert [(step.name, step.ok) for step in trace.steps] == [("resolve", True), ("connect", False)]
    assert "No connection" in trace.summary
    assert "Correct host and port of the base URL" in trace.summary


class _Refusing(BaseHTTPRequestHandler):
    """Answers with the status that its path names; with none, never."""

    def do_GET(self) -> None:
        status = int(self.path.split("/")[1])
        if not status:
            time.sleep(1)
            return
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "secret", "words"),
    [
        (401, "", "it wants an API key. Give one on the provider's page."),
        (401, "k", "the API key is not accepted. Give another one on the provider's page."),
        (403, "k", "the API key is not accepted, or has no right to this. See to both in the provider's account."),
        (404, "k", "Compare the name with the provider's list, and the base URL up to its version."),
        (429, "k", "Raise the quota there, or try again later."),
        (503, "k", "the fault is the provider's. Try again later."),
        (0, "k", "No answer within 0 s. The server is slow: try again."),
    ],
)
def test_check_that_fails_says_what_to_do(
    acme: Tenant, alice: User, monkeypatch: pytest.MonkeyPatch, status: int, secret: str, words: str
) -> None:
    monkeypatch.setattr(upstream, "CHECK_TIMEOUT_S", 0.3)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        provider = make_provider(base_url=f"http://127.0.0.1:{server.server_port}/{status}", secret=secret)

        _, trace, _ = providers.check_provider(provider=provider, actor=alice)
        server.shutdown()

    assert words in trace.summary


def test_check_of_a_server_that_is_no_provider(acme: Tenant, alice: User, everything_url: str) -> None:
    provider = make_provider(base_url=everything_url.removesuffix("/mcp"))

    checked, trace, _ = providers.check_provider(provider=provider, actor=alice)

    assert checked.check_ok is False
    assert "404" in trace.summary


def test_secret_is_replaced_and_removed(acme: Tenant, alice: User) -> None:
    provider = make_provider(secret="old")

    replaced = providers.set_secret(provider=provider, secret="new", actor=alice)
    removed = providers.set_secret(provider=provider, secret="", actor=alice)

    assert replaced.open_secret() == "new"
    assert removed.open_secret() == ""
    assert removed.secret_set_at is None
