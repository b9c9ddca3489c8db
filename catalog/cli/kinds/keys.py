"""Keys of programs; their secrets are shown once, or written to a file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from catalog.cli.client import Api
from catalog.cli.errors import CliError, RefusedError
from catalog.cli.kinds.kind import Kind, Live, Options
from catalog.cli.kinds.values import exact, only, refuse_change
from catalog.cli.manifests import Document

_KEY = ("name", "project", "owner", "models", "tools", "requests_per_minute", "monthly_budget_usd")


def _key_spec(row: dict[str, Any]) -> dict[str, Any]:
    return {**{name: row[name] for name in (*_KEY, "tags")}, "monthly_budget_usd": exact(row["monthly_budget_usd"])}


def _key_normal(document: Document) -> Document:
    spec = {"name": document.name, **document.spec, "owner": document.spec["owner"].lower()}
    scopes = {name: sorted(set(spec[name])) for name in ("models", "tools") if isinstance(spec.get(name), list)}
    return replace(document, spec=spec | scopes)


def _key_identity(name: str, spec: Mapping[str, Any]) -> str:
    return "/".join((spec["owner"], spec["project"], spec["name"]))


def _key_file(document: Document, options: Options) -> Path | None:
    return options.base / document.spec["secretTo"]["file"] if "secretTo" in document.spec else None


def _key_ready(document: Document, options: Options) -> None:
    file = _key_file(document, options)
    if file is None:
        if options.show is None:
            raise CliError(f"{document.where}: {document}: say where its secret goes: secretTo in the manifest, or --show-secrets.")
    elif file.exists():
        raise CliError(f"{document.where}: {document}: {file} exists already; a new secret would take its place. Move it away first.")
    elif not file.parent.is_dir():
        raise CliError(f"{document.where}: {document}: there is no folder {file.parent}.")


def _key_hidden(document: Document, live: Live | None, options: Options) -> list[str]:
    if live is not None:
        return []
    goes = f"(to file {document.spec['secretTo']['file']}, readable by you only)" if "secretTo" in document.spec else "(shown once)"
    return [f"secret: {goes}"]


def _create_key(api: Api, document: Document, options: Options) -> list[str]:
    """The file is there before the key is, so that no secret is lost; when no key is made, it goes again."""
    spec, file = document.spec, _key_file(document, options)
    body = only(spec, (*_KEY, "lifetime_days"))
    handle = None
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) if file else None
    except OSError as error:
        raise CliError(f"{document.where}: {document}: {file} can't be written: {error.strerror}") from error
    try:
        made = api.call("POST", "keys/", body)
    except BaseException as error:
        if file is not None and handle is not None:
            os.close(handle)
            file.unlink()
        if isinstance(error, CliError) and not isinstance(error, RefusedError):
            raise CliError(
                f"{error} Whether {document} was made is not known: look for it, and revoke it when it is there, since its secret is lost."
            ) from error
        raise
    if handle is not None:
        with os.fdopen(handle, "w") as out:
            out.write(f"{made['secret']}\n")
    elif options.show is not None:
        options.show(f"secret of {document}, shown this once: {made['secret']}")
    if spec.get("tags"):
        api.call("PUT", f"keys/{made['key']['id']}/tags/", {"tags": spec["tags"]})
    return []


def _change_key(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    refuse_change(document, live, _KEY)
    api.call("PUT", f"keys/{live.row['id']}/tags/", {"tags": {**live.spec["tags"], **document.spec["tags"]}})
    return []


def _key_is_stranger(live: Live, documents: Sequence[Document]) -> bool:
    """Only of a person and project that the manifests name, too: somebody else's keys are nobody's strangers."""
    return any((one.spec["owner"], one.spec["project"]) == (live.spec["owner"], live.spec["project"]) for one in documents)


class _Keys(Kind):
    def live(self, api: Api) -> dict[str, Live]:
        """Keys of programs that work: those that ended are made anew. Of several of one name the newest is meant."""
        rows = [row for row in api.rows(self.path, {"state": "active"}) if row["purpose"] == "standard"]
        names, found = Counter(row["name"] for row in rows), {}
        for row in rows:
            spec = self.spec_of(row)
            identity = self.identity(row["name"], spec)
            name = row["name"] if names[row["name"]] == 1 else f"{row['name']} {row['id']}"
            found[identity if identity not in found else f"{identity}#{row['id']}"] = Live(name, spec, row)
        return found


KEY = _Keys(
    "Key",
    "keys/",
    _key_spec,
    _create_key,
    _change_key,
    lambda api, live: api.call("POST", f"keys/{live.row['id']}/revoke/"),
    removal="revoke",
    identity=_key_identity,
    hidden=_key_hidden,
    not_compared=("secretTo", "lifetime_days"),
    normal=_key_normal,
    ready=_key_ready,
    is_stranger=_key_is_stranger,
)
