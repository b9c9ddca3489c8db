"""Providers on Azure, Vertex AI and Bedrock: where they are, what proves us there, and checks against servers that look closely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from catalog.errors import InvalidValueError, OutboundRefusedError
from catalog.models import Provider
from catalog.platforms import OFFERS, completed_url
from catalog.services import models, providers
from gateway.contract.credentials import EntraId
from gateway.publish.publisher import compile_snapshot
from governance.models import AuditEntry, Tenant, User
from tests.factories.catalog import make_model, make_provider
from tests.gateway import clouds
from tests.gateway.clouds import Clouds

ENTRA = {"tenant_id": "a-tenant", "client_id": "an-application", "client_secret": "entra-s3cret"}
AWS = {"access_key_id": "AKID", "secret_access_key": "wr0ng"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Clouds]:
    with clouds.running() as server:
        yield server


def _facts(cloud: Clouds, name: str) -> dict[str, Any]:
    """What `create_provider` is given for one of each."""
    keys = {"access_key_id": clouds.AWS.access_key_id, "secret_access_key": clouds.AWS.secret_access_key}
    azure = {"kind": "azure_openai", "base_url": f"{cloud.url}/azure/openai"}
    aws = {"kind": "bedrock", "region": clouds.REGION, "base_url": cloud.url}
    vertex = {"kind": "vertex_ai", "region": "europe-west4", "base_url": cloud.url}
    known: dict[str, dict[str, Any]] = {
        "azure": {**azure, "secret": clouds.AZURE_KEY},
        "azure-dated": {**azure, "secret": clouds.AZURE_KEY, "api_version": clouds.API_VERSION},
        "azure-entra": {**azure, "credential": "entra_id", "credentials": {**ENTRA, "token_url": f"{cloud.url}/entra/token"}},
        "vertex": {**vertex, "credentials": {"service_account": cloud.service_account_file()}},
        "vertex-claude": {**vertex, "dialect": "anthropic", "credentials": {"service_account": cloud.service_account_file()}},
        "bedrock": {**aws, "credentials": {**keys, "session_token": clouds.AWS.session_token}},
        "bedrock-openai": {**aws, "dialect": "openai", "credential": "key", "secret": clouds.BEDROCK_KEY},
    }
    return known[name]


NAMES = ("azure", "azure-dated", "azure-entra", "vertex", "vertex-claude", "bedrock", "bedrock-openai")


@pytest.mark.parametrize("name", NAMES)
def test_account_is_made_checked_and_published(acme: Tenant, alice: User, cloud: Clouds, name: str) -> None:
    provider = providers.create_provider(slug=name, name=name, actor=alice, **_facts(cloud, name))
    make_model(owner=alice, slug="m", provider=provider, upstream_model="some-model", capabilities=["chat"])

    checked, trace, names = providers.check_provider(provider=provider, actor=alice)
    [(deployment, tried)] = models.check_model(model=provider.deployments.get().model, actor=alice)
    [published] = compile_snapshot(acme, 1).models["m"].deployments

    assert checked.check_ok, trace
    assert names
    assert deployment.check_ok, tried
    assert tried.input_tokens
    assert ("token" in [step.name for step in trace.steps]) == (provider.credential in ("entra_id", "service_account"))
    assert (published.platform, published.credential) == (provider.platform, provider.credential)
    assert (published.sealed_secret, published.api_version) == (provider.sealed_secret, provider.api_version)


def test_nothing_shows_a_credential(acme: Tenant, alice: User, cloud: Clouds) -> None:
    made = [providers.create_provider(slug=name, name=name, actor=alice, **_facts(cloud, name)) for name in NAMES]

    told = str([entry.details for entry in AuditEntry.objects.all()]) + str([vars(provider) for provider in made])
    secrets = (clouds.AZURE_KEY, clouds.BEDROCK_KEY, "entra-s3cret", clouds.AWS.secret_access_key, "PRIVATE KEY", clouds.AWS.session_token)
    assert [secret for secret in secrets if secret in told] == []
    labels = {provider.slug: provider.credential_label for provider in made}
    assert labels["azure-entra"] == "an-application"
    assert labels["vertex"] == clouds.SERVICE_ACCOUNT
    assert labels["bedrock"] == clouds.AWS.access_key_id


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("azure", {"secret": "wr0ng"}, "the API key is not accepted"),
        ("azure-entra", {"credentials": {**ENTRA, "client_secret": "wr0ng"}}, "No access token: the token service refused"),
        ("bedrock", {"credentials": AWS}, "the credential is not accepted"),
        ("vertex", {"credentials": {}}, "no credential is set"),
    ],
)
def test_check_says_what_is_wrong_with_a_credential(
    acme: Tenant, alice: User, cloud: Clouds, name: str, wrong: dict[str, Any], words: str
) -> None:
    facts = _facts(cloud, name)
    if "token_url" in facts.get("credentials", {}):
        wrong["credentials"]["token_url"] = facts["credentials"]["token_url"]
    provider = providers.create_provider(slug=name, name=name, actor=alice, project="acme", **{**facts, **wrong})

    checked, trace, _ = providers.check_provider(provider=provider, actor=alice)

    assert checked.check_ok is False
    assert words in trace.summary
    assert "wr0ng" not in trace.summary


@pytest.mark.parametrize(
    ("kind", "given", "url"),
    [
        ("azure_openai", {"base_url": "https://r.openai.azure.com/"}, "https://r.openai.azure.com/openai/v1"),
        ("azure_openai", {"base_url": "https://r.openai.azure.com/openai/v1"}, "https://r.openai.azure.com/openai/v1"),
        ("azure_openai", {"base_url": "https://r.openai.azure.com", "api_version": "v"}, "https://r.openai.azure.com/openai"),
        ("azure_openai", {"base_url": "https://r.services.ai.azure.com", "dialect": "anthropic"}, "https://r.services.ai.azure.com/anthropic/v1"),
        ("vertex_ai", {"region": "europe-west4", "project": "acme"}, "https://europe-west4-aiplatform.googleapis.com/v1/projects/acme/locations/europe-west4"),
        ("vertex_ai", {"base_url": "https://x.p.googleapis.com/v1", "region": "r", "project": "p"}, "https://x.p.googleapis.com/v1/projects/p/locations/r"),
        ("vertex_ai", {"region": "global", "project": "acme"}, "https://aiplatform.googleapis.com/v1/projects/acme/locations/global"),
        ("vertex_ai", {"base_url": "https://x.p.googleapis.com/v1/projects/a/locations/b/endpoints/openapi"}, "https://x.p.googleapis.com/v1/projects/a/locations/b"),
        ("bedrock", {"region": "eu-central-1"}, "https://bedrock-runtime.eu-central-1.amazonaws.com"),
        ("bedrock", {"region": "us-east-1", "base_url": "https://bedrock-mantle.us-east-1.api.aws/v1"}, "https://bedrock-mantle.us-east-1.api.aws/v1"),
        ("openai", {"base_url": "https://api.openai.com/v1/"}, "https://api.openai.com/v1"),
    ],
)  # fmt: skip
def test_base_url_is_completed(kind: str, given: dict[str, str], url: str) -> None:
    known = {"base_url": "", "dialect": "openai", "region": "", "project": "", "api_version": ""}

    assert completed_url(kind, **{**known, **given}) == url


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"kind": "openai"}, "base_url"),
        ({"kind": "azure_openai", "base_url": "https://r.openai.azure.com/some/path"}, "api_version"),
        ({"kind": "azure_openai", "base_url": "https://r.openai.azure.com/openai/v1", "api_version": "2024-10-21"}, "api_version"),
        ({"kind": "vertex_ai", "project": "acme"}, "region"),
        ({"kind": "vertex_ai", "region": "europe-west4"}, "project"),
        ({"kind": "vertex_ai", "region": "a/../b", "project": "acme"}, "region"),
        ({"kind": "vertex_ai", "region": "a", "base_url": "https://x.p.googleapis.com/v1/projects/a/locations/b"}, "region"),
        ({"kind": "bedrock"}, "region"),
        ({"kind": "bedrock", "region": "eu-west-1", "base_url": "https://bedrock-runtime.eu-central-1.amazonaws.com"}, "region"),
        ({"kind": "bedrock", "region": "eu-west-1", "credentials": {"access_key_id": "AKID"}}, "secret_access_key"),
        ({"kind": "bedrock", "region": "eu-west-1", "secret": "s"}, "secret"),
        ({"kind": "openai", "base_url": "https://a.example/v1", "credential": "aws_keys"}, "credential"),
        ({"kind": "openai", "base_url": "https://a.example/v1", "credentials": {"tenant_id": "t"}}, "tenant_id"),
    ],
)
def test_what_is_missing_or_wrong_is_named(acme: Tenant, alice: User, given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValueError) as refused:
        providers.create_provider(slug="x", name="X", actor=alice, **given)

    assert refused.value.field == field
    assert not Provider.objects.exists()


def test_token_service_must_be_one_that_may_be_called(acme: Tenant, alice: User, settings: Any) -> None:
    settings.OUTBOUND_ALLOW = []

    with pytest.raises(OutboundRefusedError) as refused:
        providers.create_provider(
            slug="x", name="X", kind="azure_openai", base_url="https://r.openai.azure.com", actor=alice, credential="entra_id",
            credentials={**ENTRA, "token_url": "http://169.254.169.254/token"},
        )  # fmt: skip

    assert refused.value.field == "token_url"


@pytest.mark.parametrize(
    ("dialect", "scope"), [("openai", "https://cognitiveservices.azure.com/.default"), ("anthropic", "https://ai.azure.com/.default")]
)
def test_tokens_are_for_what_the_protocol_is_served_by(acme: Tenant, alice: User, dialect: str, scope: str) -> None:
    provider = providers.create_provider(
        slug="x", name="X", kind="azure_openai", base_url="https://r.services.ai.azure.com", dialect=dialect, actor=alice,
        credential="entra_id", credentials=ENTRA,
    )  # fmt: skip

    credential = provider.open_credential()

    assert isinstance(credential, EntraId)
    assert credential.scope == scope


def test_credential_is_replaced_by_one_of_another_kind(acme: Tenant, alice: User, cloud: Clouds) -> None:
    provider = providers.create_provider(slug="azure", name="A", actor=alice, **_facts(cloud, "azure"))

    given = providers.set_secret(provider=provider, credential="entra_id", credentials=ENTRA, actor=alice)
    entry = AuditEntry.objects.latest("sequence")
    removed = providers.set_secret(provider=provider, actor=alice)

    assert (given.credential, given.credential_label) == ("entra_id", "an-application")
    assert entry.details["credential_label"] == "an-application"
    assert "entra-s3cret" not in str(entry.details)
    assert (removed.credential, removed.credential_label, removed.sealed_secret) == ("entra_id", "", "")


def test_other_address_or_kind_voids_what_was_known(acme: Tenant, alice: User, cloud: Clouds) -> None:
    provider = providers.create_provider(slug="aws", name="A", actor=alice, **_facts(cloud, "bedrock"))
    Provider.objects.update(check_ok=True)
    kept = providers.change_provider(provider=provider, name="B", base_url=cloud.url, region=clouds.REGION, actor=alice)
    sealed, was_ok = kept.sealed_secret, kept.check_ok

    elsewhere = providers.change_provider(provider=provider, name="B", base_url=cloud.url, region="us-east-1", actor=alice)
    moved = providers.change_provider(provider=provider, name="B", base_url=f"{cloud.url}/x", region="us-east-1", actor=alice)

    assert was_ok
    assert (elsewhere.sealed_secret, elsewhere.check_ok) == (sealed, None)
    assert (moved.sealed_secret, moved.credential_label) == ("", "")


def test_every_kind_is_offered_with_known_words() -> None:
    assert OFFERS.keys() == set(Provider.Kind.values)
    for offer in OFFERS.values():
        assert set(offer.credentials) <= set(Provider.Credential.values)
        assert set(offer.dialects) <= set(Provider.Dialect.values)


def test_check_uses_the_newer_name_where_a_model_wants_it(acme: Tenant, alice: User, cloud: Clouds) -> None:
    provider = make_provider(kind="azure_openai", base_url=f"{cloud.url}/azure/openai/v1", secret=clouds.AZURE_KEY)
    model = make_model(owner=alice, provider=provider, upstream_model="reasoning", capabilities=["chat"])

    [(deployment, trace)] = models.check_model(model=model, actor=alice)

    assert deployment.check_ok, trace
