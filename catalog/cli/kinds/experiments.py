"""Experiments on flags. Their terms are fixed when they are made; a manifest starts them, and people decide."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from catalog.cli.client import Api
from catalog.cli.errors import RefusedError
from catalog.cli.kinds.kind import Kind, Live, Options
from catalog.cli.kinds.values import plain, refuse_change
from catalog.cli.manifests import Document

_TERMS = (
    "name", "hypothesis", "flag", "champion", "metric", "better", "effect", "guardrails", "minimum_units", "max_days", "method", "auto_promote",
    "label", "expected_latency_delta", "expected_quality_gain",
)  # fmt: skip


def _experiment_spec(row: dict[str, Any]) -> dict[str, Any]:
    return {**{name: row[name] for name in _TERMS}, "started": row["status"] != "draft"}


def _create_experiment(api: Api, document: Document, options: Options) -> list[str]:
    said = {name: document.spec[name] for name in _TERMS if name in document.spec}
    api.call("POST", "experiments/", {"slug": document.name, "name": document.name, **plain(said)})
    return _start(api, document) if document.spec.get("started") else []


def _change_experiment(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    refuse_change(document, live, (*_TERMS, "started") if live.spec["started"] else _TERMS)
    return _start(api, document) if not live.spec["started"] else []


def _start(api: Api, document: Document) -> list[str]:
    try:
        api.call("POST", f"experiments/{document.name}/start/")
    except RefusedError as refused:
        flag = api.call("GET", f"flags/{quote(document.spec['flag'], safe='')}/")
        if refused.code != "no_split" or flag["waiting"] is None:
            raise
        return [f"{document} is a draft, waiting for change #{flag['waiting']['number']} of its flag: {refused.detail}"]
    return []


def _remove_experiment(api: Api, live: Live) -> None:
    """A draft is discarded; one that runs counts no further calls, and its decision stays with people."""
    path = f"experiments/{live.name}/"
    if live.row["status"] == "draft":
        api.call("DELETE", path)
    else:
        api.call("POST", f"{path}stop/", {"reason": "by manifest"})


EXPERIMENT = Kind(
    "Experiment",
    "experiments/",
    _experiment_spec,
    _create_experiment,
    _change_experiment,
    _remove_experiment,
    removal="discard the draft, or stop",
    is_gone=lambda row: row["status"] in ("stopped", "decided"),
)
