"""Limits, known by what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.cli.client import Api
from catalog.cli.kinds.kind import Kind, Live, Options, delete, picked
from catalog.cli.manifests import Document

_LIMIT = ("scope", "ref", "resource", "window", "amount", "fail_open", "is_enabled", "note")


def _limit_identity(name: str, spec: Mapping[str, Any]) -> str:
    ref = "" if spec["scope"] == "tenant" else spec.get("ref", "")
    window = "" if spec["resource"] == "concurrent" else spec.get("window", "")
    return "/".join((spec["scope"], ref, spec["resource"], window))


def _limit_name(row: dict[str, Any]) -> str:
    return "-".join(part for part in (row["scope"], row["ref"], row["resource"], row["window"]) if part)


def _create_limit(api: Api, document: Document, options: Options) -> list[str]:
    row = api.call("POST", "limits/", {name: value for name, value in document.spec.items() if name != "is_enabled"})
    if document.spec.get("is_enabled") is False:
        _put_limit(api, row, {"is_enabled": False})
    return []


def _put_limit(api: Api, row: dict[str, Any], spec: Mapping[str, Any]) -> None:
    names = ("amount", "fail_open", "is_enabled", "note")
    api.call("PUT", f"limits/{row['id']}/", {name: spec.get(name, row[name]) for name in names})


def _change_limit(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    _put_limit(api, live.row, document.spec)
    return []


LIMIT = Kind(
    "Limit",
    "limits/",
    picked(*_LIMIT),
    _create_limit,
    _change_limit,
    delete("limits/"),
    name_of=_limit_name,
    identity=_limit_identity,
)
