"""Policies by the newest version of their text."""

from __future__ import annotations

from typing import Any

from catalog.cli.client import Api
from catalog.cli.errors import RefusedError
from catalog.cli.kinds.kind import Kind, Live, Options, delete
from catalog.cli.kinds.values import changed, only, refuse_change
from catalog.cli.manifests import Document

_VERSION = ("when", "require", "reason")


def _policy_spec(row: dict[str, Any]) -> dict[str, Any]:
    return {"description": row["description"], "is_critical": row["is_critical"], "mode": row["mode"]}


def _policies(api: Api) -> dict[str, Live]:
    """With the newest version's text, which only a policy's own address shows."""
    found = {}
    for listed in api.rows("policies/"):
        row = api.call("GET", f"policies/{listed['id']}/")
        newest = max(row["versions"], key=lambda version: version["number"])
        name = f"{row['namespace']}.{row['name']}"
        found[name] = Live(name, {**{one: newest[one] for one in _VERSION}, **_policy_spec(row)}, {**row, "newest": newest})
    return found


def _create_policy(api: Api, document: Document, options: Options) -> list[str]:
    namespace, _, name = document.name.partition(".")
    body = {one: value for one, value in document.spec.items() if one != "mode"}
    row = api.call("POST", "policies/", {"namespace": namespace, "name": name, **body})
    return _set_mode(api, document, row["id"], "off", replayed=False)


def _change_policy(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    refuse_change(document, live, ("description", "is_critical"))
    spec, row = document.spec, live.row
    version: dict[str, Any] = row["newest"]
    if changed(spec, live, _VERSION):
        texts = {**{one: version[one] for one in _VERSION}, **only(spec, (*_VERSION, "note"))}
        version = api.call("POST", f"policies/{row['id']}/versions/", texts)
    in_force = row["active_version"] == version["number"]
    present = row["mode"] if in_force or row["mode"] == "off" else ""
    return _set_mode(api, document, row["id"], present, replayed=version["replayed_at"] is not None)


def _set_mode(api: Api, document: Document, policy: int, present: str, *, replayed: bool) -> list[str]:
    wanted = document.spec.get("mode")
    if wanted is None or wanted == present:
        return []
    if wanted == "enforce" and not replayed:
        api.call("POST", f"policies/{policy}/replay/", {})
    try:
        api.call("POST", f"policies/{policy}/mode/", {"mode": wanted, "reason": "by manifest"})
    except RefusedError as refused:
        if wanted != "enforce" or refused.code != "policy_state":
            raise
        return [f"{document} is written and replayed, not in force: {refused.detail}"]
    return []


class _Policies(Kind):
    def live(self, api: Api) -> dict[str, Live]:
        return _policies(api)


POLICY = _Policies("Policy", "policies/", _policy_spec, _create_policy, _change_policy, delete("policies/"), not_compared=("note",))
