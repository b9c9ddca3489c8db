"""Projects; one that goes is switched off."""

from __future__ import annotations

from typing import Any

from catalog.cli.client import Api
from catalog.cli.kinds.kind import Kind, Live, Options
from catalog.cli.kinds.values import changed, exact, only
from catalog.cli.manifests import Document

_PROJECT = ("name", "description", "cost_centre", "environment", "keys_by_request", "requests_per_minute", "monthly_budget_usd")


def _project_spec(row: dict[str, Any]) -> dict[str, Any]:
    spec = {name: row[name] for name in _PROJECT}
    return {**spec, "monthly_budget_usd": exact(row["monthly_budget_usd"]), "enabled": row["is_enabled"]}


def _create_project(api: Api, document: Document, options: Options) -> list[str]:
    api.call("POST", "projects/", {"slug": document.name, **only(document.spec, _PROJECT)})
    if document.spec.get("enabled") is False:
        _switch_project(api, document.name, enabled=False)
    return []


def _change_project(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    body = changed(document.spec, live, _PROJECT)
    if body:
        api.call("PATCH", f"projects/{document.name}/", body)
    if "enabled" in document.spec and document.spec["enabled"] != live.spec["enabled"]:
        _switch_project(api, document.name, enabled=document.spec["enabled"])
    return []


def _switch_project(api: Api, name: str, *, enabled: bool) -> None:
    api.call("POST", f"projects/{name}/switch/", {"enabled": enabled, "reason": "by manifest"})


PROJECT = Kind(
    "Project",
    "projects/",
    _project_spec,
    _create_project,
    _change_project,
    lambda api, live: _switch_project(api, live.name, enabled=False),
    removal="switch off",
    is_gone=lambda row: not row["is_enabled"],
)
