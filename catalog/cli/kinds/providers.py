"""Providers; their secrets travel one way."""

from __future__ import annotations

from typing import Any

from catalog.cli.client import Api
from catalog.cli.kinds.kind import Kind, Live, Options, picked
from catalog.cli.kinds.values import changed, only, refuse_change
from catalog.cli.manifests import Document, secret_of

_PROVIDER = ("name", "kind", "dialect", "base_url", "region", "api_version", "credential")


def _provider_secret(document: Document, options: Options) -> dict[str, Any]:
    spec = document.spec
    given: dict[str, Any] = {}
    if "secretFrom" in spec:
        given["secret"] = secret_of(spec["secretFrom"], options.base)
    if "credentialsFrom" in spec:
        given["credentials"] = {name: secret_of(one, options.base) for name, one in spec["credentialsFrom"].items()}
    return given


def _has_reference(document: Document) -> bool:
    return "secretFrom" in document.spec or "credentialsFrom" in document.spec


def _sends_secret(document: Document, live: Live | None, options: Options) -> bool:
    if not _has_reference(document):
        return False
    if live is None or options.set_secrets or not live.row["has_secret"]:
        return True
    # Another address or kind of credential voids the present one, so the reference is followed again.
    return bool(changed(document.spec, live, ("base_url", "credential")))


def _hidden_secret(document: Document, live: Live | None, options: Options) -> list[str]:
    if not _sends_secret(document, live, options):
        return []
    references = {"secret": document.spec["secretFrom"]} if "secretFrom" in document.spec else document.spec["credentialsFrom"]
    return [f"{name}: (from {', '.join(f'{how} {what}' for how, what in one.items())})" for name, one in references.items()]


def _create_provider(api: Api, document: Document, options: Options) -> list[str]:
    spec = document.spec
    body = {"slug": document.name, "name": document.name, **only(spec, (*_PROVIDER, "project")), **_provider_secret(document, options)}
    api.call("POST", "providers/", body)
    return []


def _change_provider(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    refuse_change(document, live, ("kind",))
    body = changed(document.spec, live, _PROVIDER)
    if _sends_secret(document, live, options):
        body |= _provider_secret(document, options)
        if "credential" in document.spec:
            body["credential"] = document.spec["credential"]
    if body:
        api.call("PATCH", f"providers/{document.name}/", body)
    return []


PROVIDER = Kind(
    "Provider",
    "providers/",
    picked(*_PROVIDER),
    _create_provider,
    _change_provider,
    hidden=_hidden_secret,
    not_compared=("secretFrom", "credentialsFrom", "project"),
)
