"""Models with their deployments, price and cache, and the road from one status to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from catalog.cli.client import Api
from catalog.cli.errors import CliError, RefusedError
from catalog.cli.kinds.kind import SOMEBODY_ELSE, Kind, Live, Options
from catalog.cli.kinds.values import changed, exact, only, plain, same, wire
from catalog.cli.manifests import Document

_MODEL = (
    "name",
    "description",
    "capabilities",
    "context_window",
    "max_output_tokens",
    "feature_class",
    "data_sensitivity",
    "environment",
    "default_parameters",
    "tags",
)
_CACHE = ("ttl_s", "scope", "embedding", "threshold", "sample_percent")
_LEAVING = ("retires_on", "successor")
_SHARE = ("weight", "priority", "requests_per_minute", "tokens_per_minute", "is_enabled")
ROADS: dict[tuple[str, str], tuple[str, ...]] = {
    ("draft", "submitted"): ("check", "submit"),
    ("draft", "approved"): ("check", "submit", "approve"),
    ("draft", "deprecated"): ("check", "submit", "approve", "deprecate"),
    ("submitted", "approved"): ("check", "submit", "approve"),
    ("submitted", "draft"): ("return",),
    ("approved", "deprecated"): ("deprecate",),
    ("approved", "retired"): ("retire",),
    ("deprecated", "approved"): ("reinstate",),
    ("deprecated", "retired"): ("retire",),
    ("retired", "draft"): ("redraft",),
    ("retired", "approved"): ("redraft", "check", "submit", "approve"),
}
"""Acts that lead from one status to another. What is not here, such as a served model becoming a draft, is refused."""


def _model_spec(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in _MODEL},
        "status": row["status"],
        "prices": {slug: _exact_price(price) for slug, price in row["prices"].items()},
        "cache": {name: row[f"cache_{name}"] for name in _CACHE},
        "leaving": {name: row[name] for name in _LEAVING} if row["status"] == "deprecated" else None,
        "deployments": [
            {"provider": one["provider"], "upstream_model": one["upstream_model"], **{name: one[name] for name in _SHARE}}
            for one in row["deployments"]
        ],
    }


def _exact_price(price: Mapping[str, Any]) -> dict[str, Any]:
    return {name: exact(str(value)) for name, value in price.items()}


def _model_normal(document: Document) -> Document:
    """`price` said as one of `prices`: what it means stands in the manifest alone. CliError when one provider is given two."""
    if "price" not in document.spec:
        return document
    spec = dict(document.spec)
    price, prices = spec.pop("price"), spec.get("prices", {})
    if not spec["deployments"]:
        raise CliError(f"{document.where}: {document}: `price` is one at a deployment, and there is none.")
    first = min(spec["deployments"], key=lambda one: (not one.get("is_enabled", True), one.get("priority", 0)))["provider"]
    if _exact_price(prices.get(first, price)) != _exact_price(price):
        raise CliError(f"{document.where}: {document}: `price` and `prices` differ for {first}, which is tried first.")
    return replace(document, spec=spec | {"prices": {first: price, **prices}})


def _model_path(name: str) -> str:
    return f"models/{quote(name, safe='')}/"


def _upstream(deployment: Mapping[str, Any]) -> tuple[str, str]:
    return deployment["provider"], deployment["upstream_model"]


def _create_model(api: Api, document: Document, options: Options) -> list[str]:
    first = document.spec["deployments"][0]
    body = {
        "slug": document.name,
        "provider": first["provider"],
        "upstream_model": first["upstream_model"],
        **_sent(only(document.spec, _MODEL), document),
    }
    return _change_model(api, document, Live(document.name, _model_spec(row := api.call("POST", "models/", body)), row), options)


def _change_model(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    spec, path = document.spec, _model_path(document.name)
    body = _sent(changed(spec, live, _MODEL), document)
    if "tags" in body:
        body["tags"] = {**live.spec["tags"], **spec["tags"]}
    if body:
        api.call("PATCH", path, body)
    switched_on = _change_deployments(api, document, live, options)
    _set_prices(api, document)
    cache = {**live.spec["cache"], **spec.get("cache", {})}
    if not same(cache, live.spec["cache"]):
        api.call("PUT", f"{path}cache/", wire(cache))
    waits = _agree_to_changes(api, document, described=bool(body), switched_on=switched_on)
    stopped = _go(api, document, _road(document, live))
    if not stopped and spec.get("status", live.spec["status"]) == "deprecated":
        _announce(api, document, live)
    return [*waits, *stopped]


def _set_prices(api: Api, document: Document) -> None:
    """Once its deployments are as they are to be."""
    if not document.spec.get("prices"):
        return
    path = _model_path(document.name)
    present = api.call("GET", path)["prices"]
    for provider, price in document.spec["prices"].items():
        if provider not in present or not same(price, _exact_price(present[provider])):
            api.call("PUT", f"{path}prices/{provider}/", wire(price))


def _sent(body: dict[str, Any], document: Document) -> dict[str, Any]:
    """Parameters are free JSON, whose numbers are no texts."""
    return {**body, "default_parameters": plain(document.spec["default_parameters"])} if "default_parameters" in body else body


def _announce(api: Api, document: Document, live: Live) -> None:
    """What callers of a deprecated model are told; what the manifest leaves out stays."""
    told = live.spec["leaving"] or {"retires_on": None, "successor": ""}
    wanted = {**told, **(document.spec.get("leaving") or {})}
    if not same(wanted, told):
        api.call("PUT", f"{_model_path(document.name)}leaving/", wanted)


def _go(api: Api, document: Document, acts: Iterable[str]) -> list[str]:
    path = _model_path(document.name)
    for act in acts:
        try:
            api.call("POST", f"{path}{act}/", None if act == "check" else {"comment": "by manifest"})
        except RefusedError as refused:
            if act != "approve" or refused.code not in SOMEBODY_ELSE:
                raise
            return [f"{document} is submitted, not {document.spec['status']} yet: {refused.detail}"]
    return []


def _agree_to_changes(api: Api, document: Document, *, described: bool, switched_on: set[int]) -> list[str]:
    """Approve what this manifest made a served model wider by, where somebody else asked for the same; else it waits.

    What somebody asked for and the manifest does not say is left to people.
    """
    if not described and not switched_on:
        return []
    path, waits = _model_path(document.name), []
    row = api.call("GET", path)
    asked = [
        review
        for review in row["waiting"]
        if (review["kind"] in ("facts", "parameters") and described and _says(document, _facts_after(review, row)))
        or review["deployment"] in switched_on
    ]
    if any(review["deployment"] for review in asked):
        api.call("POST", f"{path}check/")
    for review in asked:
        try:
            # The manifest's later lines may have changed the model since it was asked; the same again changes nothing.
            fresh = api.call("POST", f"model-reviews/{review['id']}/again/")
            api.call("POST", f"model-reviews/{fresh['id']}/approve/", {"comment": "by manifest"})
        except RefusedError as refused:
            if refused.code not in (*SOMEBODY_ELSE, "not_checked"):
                raise
            what = "described anew" if review["kind"] == "facts" else f"given deployment {review['deployment']}"
            waits.append(f"{document} is not {what} yet: {refused.detail}")
    return waits


def _facts_after(review: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """What the model's facts will be: parameters that were proposed go over those that it has."""
    facts = review["facts"]
    return {name: {**row[name], **facts[name]} for name in facts} if review["kind"] == "parameters" else facts


def _says(document: Document, facts: Mapping[str, Any]) -> bool:
    return all(name in document.spec and same(document.spec[name], value) for name, value in facts.items())


def _check_model(document: Document, live: Live | None) -> None:
    _road(document, live)
    if live is None and not document.spec["deployments"]:
        raise CliError(f"{document.where}: {document}: a model is made with its first deployment.")
    unknown = document.spec.get("prices", {}).keys() - {one["provider"] for one in document.spec["deployments"]}
    if unknown:
        raise CliError(f"{document.where}: {document}: `prices` names {', '.join(sorted(unknown))}, which none of its deployments is at.")
    if document.spec.get("leaving") and document.spec.get("status", live.spec["status"] if live else "draft") != "deprecated":
        raise CliError(f"{document.where}: {document}: only a model that is deprecated is leaving.")


def _road(document: Document, live: Live | None) -> tuple[str, ...]:
    present = live.spec["status"] if live else "draft"
    wanted = document.spec.get("status", present)
    if present == wanted:
        return ()
    if (present, wanted) not in ROADS:
        raise CliError(f"{document.where}: {document}: a model that is {present} does not become {wanted}.")
    return ROADS[present, wanted]


def _change_deployments(api: Api, document: Document, live: Live, options: Options) -> set[int]:
    """Returns the ids of those that were to be switched on."""
    switched_on = set()
    path = f"{_model_path(document.name)}deployments/"
    present = {_upstream(row): row for row in live.row["deployments"]}
    for wanted in document.spec["deployments"]:
        row = present.pop(_upstream(wanted), None)
        share = only(wanted, _SHARE)
        if row is None:
            row = api.call("POST", path, {"provider": wanted["provider"], "upstream_model": wanted["upstream_model"], **share})
            share.setdefault("is_enabled", True)
        other = {name: value for name, value in share.items() if row[name] != value}
        if other:
            api.call("PATCH", f"{path}{row['id']}/", other)
        if other.get("is_enabled"):
            switched_on.add(row["id"])
    if options.prune:
        for row in present.values():
            api.call("DELETE", f"{path}{row['id']}/")
    return switched_on


def _remove_model(api: Api, live: Live) -> None:
    path = _model_path(live.name)
    if live.spec["status"] == "draft":
        api.call("DELETE", path)
    else:
        api.call("POST", f"{path}retire/", {"comment": "by manifest"})


MODEL = Kind(
    "Model",
    "models/",
    _model_spec,
    _create_model,
    _change_model,
    _remove_model,
    removal="retire",
    normal=_model_normal,
    check=_check_model,
    is_gone=lambda row: row["status"] == "retired",
    comes_after=lambda document: bool(document.spec.get("leaving") or document.spec.get("cache", {}).get("embedding")),
)
