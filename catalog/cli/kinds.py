"""What a manifest's kinds are on the server: reading them in the manifest's own words, and making them so.

Every act is a call of the REST API, so the rules, the audit log and the second person are the same as on the pages.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from catalog.cli.client import Api
from catalog.cli.errors import CliError, RefusedError
from catalog.cli.manifests import Document, secret_of


@dataclass(frozen=True)
class Live:
    """One thing as it is now."""

    name: str
    spec: dict[str, Any]
    row: dict[str, Any] = field(default_factory=dict)
    """As the API shows it."""


@dataclass(frozen=True)
class Options:
    """What the command line says about applying."""

    prune: bool = False
    set_secrets: bool = False
    base: Path = Path()
    show: Callable[[str], None] | None = None
    """Takes a line with a new secret; None: secrets may not be shown."""


@dataclass
class Kind:
    """How one kind is read and made."""

    name: str
    path: str
    spec_of: Callable[[dict[str, Any]], dict[str, Any]]
    create: Callable[[Api, Document, Options], list[str]]
    """Returns what waits for somebody else."""
    change: Callable[[Api, Document, Live, Options], list[str]]
    remove: Callable[[Api, Live], None] | None = None
    """None: the server keeps it for ever."""
    removal: str = "remove"
    name_of: Callable[[dict[str, Any]], str] = lambda row: str(row["slug"])
    identity: Callable[[str, Mapping[str, Any]], str] = lambda name, _spec: name
    is_gone: Callable[[dict[str, Any]], bool] = lambda _row: False
    """What was removed as far as the server can: never pruned, never exported."""
    hidden: Callable[[Document, Live | None, Options], list[str]] = lambda _document, _live, _options: []
    """Lines of the plan on what can't be compared."""
    not_compared: tuple[str, ...] = ()
    """Fields that the server never shows, or that only come with a change of others."""
    normal: Callable[[Document], Document] = lambda document: document
    """The same with what is meant where nothing is said."""
    ready: Callable[[Document, Options], None] = lambda _document, _options: None
    """Raises CliError when it can't be made here; asked before anything is made."""
    is_stranger: Callable[[Live, Sequence[Document]], bool] = lambda _live, _documents: True
    """Whether it goes when `--prune` is given and none of the manifests names it."""

    def live(self, api: Api) -> dict[str, Live]:
        """By identity."""
        found = {}
        for row in api.rows(self.path):
            name, spec = self.name_of(row), self.spec_of(row)
            found[self.identity(name, spec)] = Live(name, spec, row)
        return found


def wire(value: Any) -> Any:
    """Exact numbers travel as texts."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {name: wire(one) for name, one in value.items()}
    return [wire(one) for one in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """Numbers of free JSON, such as a temperature, travel as numbers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and "." not in str(value) else float(value)
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def exact(text: str | None) -> Decimal | None:
    """A number of the API without the zeros that its column adds."""
    return None if text is None else Decimal(format(Decimal(text).normalize(), "f"))


def _only(spec: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: wire(spec[name]) for name in names if name in spec}


def _changed(spec: Mapping[str, Any], live: Live, names: Iterable[str]) -> dict[str, Any]:
    return {name: wire(spec[name]) for name in names if name in spec and not same(spec[name], live.spec.get(name))}


def same(wanted: Any, present: Any) -> bool:
    """Numbers by value, whether they came as number or text; empty and missing are the same."""
    if isinstance(wanted, bool) or isinstance(present, bool):
        return wanted is present
    if wanted in (None, "", [], {}) and present in (None, "", [], {}):
        return True
    if isinstance(wanted, Mapping) and isinstance(present, Mapping):
        return wanted.keys() == present.keys() and all(same(value, present[name]) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(present, list):
        return len(wanted) == len(present) and all(map(same, wanted, present))
    if isinstance(present, Decimal) and isinstance(wanted, int | str | Decimal):
        return Decimal(wanted) == present
    if isinstance(wanted, Decimal) and isinstance(present, int | float):
        return wanted == Decimal(str(present))
    return bool(wanted == present)


def _refuse_change(document: Document, live: Live, names: Iterable[str]) -> None:
    stuck = [name for name in names if name in document.spec and not same(document.spec[name], live.spec.get(name))]
    if stuck:
        raise CliError(f"{document.where}: {document}: {', '.join(stuck)} can't be changed here once it exists.")


# Providers

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
    return bool(_changed(document.spec, live, ("base_url", "credential")))


def _hidden_secret(document: Document, live: Live | None, options: Options) -> list[str]:
    if not _sends_secret(document, live, options):
        return []
    references = {"secret": document.spec["secretFrom"]} if "secretFrom" in document.spec else document.spec["credentialsFrom"]
    return [f"{name}: (from {', '.join(f'{how} {what}' for how, what in one.items())})" for name, one in references.items()]


def _create_provider(api: Api, document: Document, options: Options) -> list[str]:
    spec = document.spec
    body = {"slug": document.name, "name": document.name, **_only(spec, (*_PROVIDER, "project")), **_provider_secret(document, options)}
    api.call("POST", "providers/", body)
    return []


def _change_provider(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    _refuse_change(document, live, ("kind",))
    body = _changed(document.spec, live, _PROVIDER)
    if _sends_secret(document, live, options):
        body |= _provider_secret(document, options)
        if "credential" in document.spec:
            body["credential"] = document.spec["credential"]
    if body:
        api.call("PATCH", f"providers/{document.name}/", body)
    return []


# Projects

_PROJECT = ("name", "description", "cost_centre", "environment", "keys_by_request", "requests_per_minute", "monthly_budget_usd")


def _project_spec(row: dict[str, Any]) -> dict[str, Any]:
    spec = {name: row[name] for name in _PROJECT}
    return {**spec, "monthly_budget_usd": exact(row["monthly_budget_usd"]), "enabled": row["is_enabled"]}


def _create_project(api: Api, document: Document, options: Options) -> list[str]:
    api.call("POST", "projects/", {"slug": document.name, **_only(document.spec, _PROJECT)})
    if document.spec.get("enabled") is False:
        _switch_project(api, document.name, enabled=False)
    return []


def _change_project(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    body = _changed(document.spec, live, _PROJECT)
    if body:
        api.call("PATCH", f"projects/{document.name}/", body)
    if "enabled" in document.spec and document.spec["enabled"] != live.spec["enabled"]:
        _switch_project(api, document.name, enabled=document.spec["enabled"])
    return []


def _switch_project(api: Api, name: str, *, enabled: bool) -> None:
    api.call("POST", f"projects/{name}/switch/", {"enabled": enabled, "reason": "by manifest"})


# Models

_MODEL = ("name", "description", "capabilities", "context_window", "max_output_tokens", "feature_class", "data_sensitivity", "environment")
_CACHE = ("ttl_s", "scope", "embedding", "threshold", "sample_percent")
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
    price = row["price"]
    return {
        **{name: row[name] for name in _MODEL},
        "status": row["status"],
        "price": {name: exact(value) for name, value in price.items()} if price else None,
        "cache": {name: row[f"cache_{name}"] for name in _CACHE},
        "deployments": [
            {"provider": one["provider"], "upstream_model": one["upstream_model"], **{name: one[name] for name in _SHARE}}
            for one in row["deployments"]
        ],
    }


def _model_path(name: str) -> str:
    return f"models/{quote(name, safe='')}/"


def _upstream(deployment: Mapping[str, Any]) -> tuple[str, str]:
    return deployment["provider"], deployment["upstream_model"]


def _create_model(api: Api, document: Document, options: Options) -> list[str]:
    first = document.spec["deployments"][0]
    body = {"slug": document.name, "provider": first["provider"], "upstream_model": first["upstream_model"], **_only(document.spec, _MODEL)}
    return _change_model(api, document, Live(document.name, _model_spec(row := api.call("POST", "models/", body)), row), options)


def _change_model(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    spec, path = document.spec, _model_path(document.name)
    acts = _road(document, live)
    body = _changed(spec, live, _MODEL)
    if body:
        api.call("PATCH", path, body)
    switched_on = _change_deployments(api, document, live, options)
    if "price" in spec and not _is_price(spec["price"], live.spec["price"]):
        row = api.call("GET", path)
        first = next((one for one in row["deployments"] if one["is_enabled"]), row["deployments"][0])
        api.call("PUT", f"{path}prices/{first['provider']}/", wire(spec["price"]))
    cache = {**live.spec["cache"], **spec.get("cache", {})}
    if not same(cache, live.spec["cache"]):
        api.call("PUT", f"{path}cache/", wire(cache))
    return [*_agree_to_changes(api, document, described=bool(body), switched_on=switched_on), *_go(api, document, acts)]


_SOMEBODY_ELSE = ("self_approval", "permission_denied")
"""Codes of refusals that another person does not meet."""


def _go(api: Api, document: Document, acts: Iterable[str]) -> list[str]:
    path = _model_path(document.name)
    for act in acts:
        try:
            api.call("POST", f"{path}{act}/", None if act == "check" else {"comment": "by manifest"})
        except RefusedError as refused:
            if act != "approve" or refused.code not in _SOMEBODY_ELSE:
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
    asked = [
        review
        for review in api.call("GET", path)["waiting"]
        if (review["kind"] == "facts" and described and _says(document, review["facts"])) or review["deployment"] in switched_on
    ]
    if any(review["deployment"] for review in asked):
        api.call("POST", f"{path}check/")
    for review in asked:
        try:
            # The manifest's later lines may have changed the model since it was asked; the same again changes nothing.
            fresh = api.call("POST", f"model-reviews/{review['id']}/again/")
            api.call("POST", f"model-reviews/{fresh['id']}/approve/", {"comment": "by manifest"})
        except RefusedError as refused:
            if refused.code not in (*_SOMEBODY_ELSE, "not_checked"):
                raise
            what = "described anew" if review["kind"] == "facts" else f"given deployment {review['deployment']}"
            waits.append(f"{document} is not {what} yet: {refused.detail}")
    return waits


def _says(document: Document, facts: Mapping[str, Any]) -> bool:
    return all(name in document.spec and same(document.spec[name], value) for name, value in facts.items())


def _is_price(wanted: Mapping[str, Any], present: Mapping[str, Any] | None) -> bool:
    return present is not None and all(same(value, present[name]) for name, value in wanted.items())


def _road(document: Document, live: Live) -> tuple[str, ...]:
    present, wanted = live.spec["status"], document.spec.get("status", live.spec["status"])
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
        share = _only(wanted, _SHARE)
        if row is None:
            row = api.call("POST", path, {"provider": wanted["provider"], "upstream_model": wanted["upstream_model"], **share})
            share.setdefault("is_enabled", True)
        changed = {name: value for name, value in share.items() if row[name] != value}
        if changed:
            api.call("PATCH", f"{path}{row['id']}/", changed)
        if changed.get("is_enabled"):
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


# Keys

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
    body = _only(spec, (*_KEY, "lifetime_days"))
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
    _refuse_change(document, live, _KEY)
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


# Limits

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


# Guardrails

_GUARDRAIL = (
    "kind", "mode", "action", "scope", "ref", "on_input", "on_output", "entities", "terms", "threshold", "max_characters",
)  # fmt: skip


def _create_guardrail(api: Api, document: Document, options: Options) -> list[str]:
    api.call("POST", "guardrails/", {"name": document.name, **wire(document.spec)})
    return []


def _change_guardrail(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    _refuse_change(document, live, ("kind",))
    api.call("PUT", f"guardrails/{live.row['id']}/", {"name": document.name, **live.spec, **wire(document.spec)})
    return []


# Policies

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
    _refuse_change(document, live, ("description", "is_critical"))
    spec, row = document.spec, live.row
    version: dict[str, Any] = row["newest"]
    if _changed(spec, live, _VERSION):
        texts = {**{one: version[one] for one in _VERSION}, **_only(spec, (*_VERSION, "note"))}
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


# Prompts

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
    _refuse_change(document, live, ("kind",))
    said, path = _changed(document.spec, live, ("name", "description")), f"prompts/{document.name}/"
    if said:
        api.call("PATCH", path, said)
    version: dict[str, Any] = live.row["newest"]
    if _changed(document.spec, live, _CONTENT):
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
        if refused.code not in _SOMEBODY_ELSE:
            raise
        return [f"{document} version {version['number']} is submitted, not {' or '.join(wanted)} yet: {refused.detail}"]
    return []


class _Prompts(Kind):
    def live(self, api: Api) -> dict[str, Live]:
        return _prompts(api)


class _Policies(Kind):
    def live(self, api: Api) -> dict[str, Live]:
        return _policies(api)


def _delete(path: str) -> Callable[[Api, Live], None]:
    def remove(api: Api, live: Live) -> None:
        api.call("DELETE", f"{path}{live.row['id']}/")

    return remove


def _picked(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {name: row[name] for name in names}


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "Provider",
            "providers/",
            _picked(*_PROVIDER),
            _create_provider,
            _change_provider,
            hidden=_hidden_secret,
            not_compared=("secretFrom", "credentialsFrom", "project"),
        ),
        Kind(
            "Project",
            "projects/",
            _project_spec,
            _create_project,
            _change_project,
            lambda api, live: _switch_project(api, live.name, enabled=False),
            removal="switch off",
            is_gone=lambda row: not row["is_enabled"],
        ),
        Kind(
            "Model",
            "models/",
            _model_spec,
            _create_model,
            _change_model,
            _remove_model,
            removal="retire",
            is_gone=lambda row: row["status"] == "retired",
        ),
        _Keys(
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
        ),
        Kind(
            "Limit",
            "limits/",
            _picked(*_LIMIT),
            _create_limit,
            _change_limit,
            _delete("limits/"),
            name_of=_limit_name,
            identity=_limit_identity,
        ),
        Kind(
            "Guardrail",
            "guardrails/",
            _picked(*_GUARDRAIL),
            _create_guardrail,
            _change_guardrail,
            _delete("guardrails/"),
            name_of=lambda row: str(row["name"]),
        ),
        _Prompts(
            "Prompt",
            "prompts/",
            _picked(),
            _create_prompt,
            _change_prompt,
            lambda api, live: api.call("POST", f"prompts/{live.name}/archive/"),
            removal="archive",
            not_compared=("note",),
        ),
        _Policies("Policy", "policies/", _policy_spec, _create_policy, _change_policy, _delete("policies/"), not_compared=("note",)),
    )
}
"""In the order in which they are made, because the later ones name the earlier; removed the other way round."""
