"""Providers that speak the Anthropic protocol: asked in their own words, and published as such."""

from __future__ import annotations

import pytest

from catalog.models import Provider
from catalog.services import models, providers
from gateway.publish.publisher import compile_snapshot
from governance.models import AuditEntry, Tenant, User
from tests.factories.catalog import make_model, make_provider
from tests.gateway.conftest import SandboxUpstream

ANTHROPIC = Provider.Dialect.ANTHROPIC


def test_checks_use_the_protocol_of_the_provider(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    provider = make_provider(base_url=sandbox.base_url(), secret="sandbox-secret", dialect=ANTHROPIC)
    model = make_model(owner=alice, provider=provider, capabilities=["chat"])

    checked, _, names = providers.check_provider(provider=provider, actor=alice)
    [(deployment, trace)] = models.check_model(model=model, actor=alice)

    assert checked.check_ok
    assert "sandbox-small" in names
    assert deployment.check_ok
    assert [step.detail for step in trace.steps if step.name == "answer"] == ["in the Anthropic shape"]
    assert trace.input_tokens == sandbox.journal()[-1]["input_tokens"]


def test_check_in_the_wrong_protocol_says_so(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    embedder = make_model(
        owner=alice,
        provider=make_provider(base_url=sandbox.base_url(), secret="sandbox-secret", dialect=ANTHROPIC),
        capabilities=["embeddings"],
    )
    stranger = make_provider(slug="stranger", base_url=f"{sandbox.url}/journal/v1", secret="sandbox-secret", dialect=ANTHROPIC)

    [(_, trace)] = models.check_model(model=embedder, actor=alice)
    _, other, _ = providers.check_provider(provider=stranger, actor=alice)

    assert trace.summary == "The Anthropic protocol knows no embeddings."
    assert not other.ok


@pytest.mark.parametrize(("kind", "dialect"), [("anthropic", "anthropic"), ("openai", "openai"), ("openai_compatible", "openai")])
def test_kind_decides_the_dialect_unless_told(acme: Tenant, alice: User, kind: str, dialect: str) -> None:
    told = providers.create_provider(slug="told", name="T", base_url="https://a.example/v1", kind=kind, dialect="anthropic", actor=alice)
    untold = providers.create_provider(slug="untold", name="U", base_url="https://b.example/v1", kind=kind, actor=alice)

    assert (told.dialect, untold.dialect) == ("anthropic", dialect)


def test_another_dialect_keeps_the_secret_and_voids_what_was_checked(acme: Tenant, alice: User) -> None:
    provider = make_provider(base_url="https://one.example/v1", secret="kept", check_ok=True)
    make_model(owner=alice, provider=provider)

    changed = providers.change_provider(provider=provider, name="X", base_url=provider.base_url, dialect=ANTHROPIC, actor=alice)

    assert changed.open_secret() == "kept"
    assert changed.check_ok is None
    assert provider.deployments.get().check_ok is None
    assert AuditEntry.objects.latest("sequence").details["after"]["dialect"] == "anthropic"


def test_dialect_is_published(acme: Tenant, alice: User) -> None:
    make_model(owner=alice, slug="claude", provider=make_provider(dialect=ANTHROPIC))

    [deployment] = compile_snapshot(acme, 1).models["claude"].deployments

    assert deployment.dialect == "anthropic"
