"""Prompts by the newest version of their content, and its labels."""

from __future__ import annotations

from typing import Any

from catalog.cli.client import Api
from catalog.cli.errors import CliError, RefusedError
from catalog.cli.kinds.kind import SOMEBODY_ELSE, Kind, Live, Options, picked
from catalog.cli.kinds.values import changed, plain, refuse_change
from catalog.cli.manifests import Document

_CONTENT = ("messages", "flow", "model", "parameters")


def _prompts(api: Api) -> dict[str, Live]:
    """With the newest version's content, which only the versions' own address shows."""
    found = {}
    for row in api.rows("prompts/"):
        newest = api.call("GET", f"prompts/{row['slug']}/versions/{row['newest_version']}/")
        spec = {**{name: row[name] for name in ("name", "description", "kind")}, **{name: newest[name] for name in _CONTENT}}
        spec["labels"] = sorted(name for name, number in row["labels"].items() if number == row["newest_version"])
        found[row["slug"]] = Live(row["slug"], spec, {**row, "newest": newest})
    return found


def _create_prompt(api: Api, document: Document, options: Options) -> list[str]:
    if "flow" in document.spec and document.spec.get("kind") != "flow":
        raise CliError(f"{document.where}: {document}: only kind: flow has a flow.")
    said = {name: document.spec[name] for name in ("name", "description", "kind", "note", *_CONTENT) if name in document.spec}
    api.call("POST", "prompts/", {"slug": document.name, **plain(said)})
    return _promote(api, document, api.call("GET", f"prompts/{document.name}/versions/1/"), [])


def _change_prompt(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    refuse_change(document, live, ("kind",))
    said, path = changed(document.spec, live, ("name", "description")), f"prompts/{document.name}/"
    if said:
        api.call("PATCH", path, said)
    version: dict[str, Any] = live.row["newest"]
    if changed(document.spec, live, _CONTENT):
        kept = {name: version[name] for name in _CONTENT if version[name] not in (None, "", {})}
        version = api.call(
            "POST",
            f"{path}versions/",
            {**kept, **plain({name: document.spec[name] for name in (*_CONTENT, "note") if name in document.spec})},
        )
    return _promote(api, document, version, live.spec["labels"] if version["number"] == live.row["newest_version"] else [])


def _promote(api: Api, document: Document, version: dict[str, Any], labels: list[str]) -> list[str]:
    """Submit the version, approve it where that is somebody else's text, and move the labels that it is to have."""
    wanted = [name for name in document.spec.get("labels", []) if name not in labels]
    path = f"prompts/{document.name}/"
    if not wanted:
        return []
    status = version["status"]
    if status == "draft":
        status = api.call("POST", f"{path}versions/{version['number']}/submit/")["status"]
    try:
        if status == "submitted":
            api.call("POST", f"{path}versions/{version['number']}/approve/")
        for name in wanted:
            api.call("PUT", f"{path}labels/{name}/", {"version": version["number"]})
    except RefusedError as refused:
        if refused.code not in SOMEBODY_ELSE:
            raise
        return [f"{document} version {version['number']} is submitted, not {' or '.join(wanted)} yet: {refused.detail}"]
    return []


class _Prompts(Kind):
    def live(self, api: Api) -> dict[str, Live]:
        return _prompts(api)


PROMPT = _Prompts(
    "Prompt",
    "prompts/",
    picked(),
    _create_prompt,
    _change_prompt,
    lambda api, live: api.call("POST", f"prompts/{live.name}/archive/"),
    removal="archive",
    not_compared=("note",),
    comes_after=lambda document: "flow" in document.spec,
)
