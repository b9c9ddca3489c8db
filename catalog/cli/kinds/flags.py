"""Flags: who is exposed to what, and the rules that roll it back.

What a flag is stays as it was made. Another exposure is a change, which waits for a second person where the flag's policy says so; whoever
applies the same manifest next and may agree, agrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from catalog.cli.client import Api
from catalog.cli.errors import CliError, RefusedError
from catalog.cli.kinds.kind import SOMEBODY_ELSE, Kind, Live, Options
from catalog.cli.kinds.values import plain, refuse_change, same, wire
from catalog.cli.manifests import Document

_FLAG = ("title", "description", "kind", "variants", "control", "feature_class", "sticky", "policy", "model", "rollout")
_RULE = ("text", "clear_percent", "cooldown_minutes")
_RULE_DEFAULTS = {"clear_percent": 10, "cooldown_minutes": 30, "is_dry_run": False}
_WATCHES = ("armed", "frozen")


def _flag_spec(row: dict[str, Any]) -> dict[str, Any]:
    return {**{name: row[name] for name in _FLAG}, "exposure": _exposure(row["exposure"]), "rollback_rules": []}


def _exposure(shown: Mapping[str, Any]) -> dict[str, Any]:
    """With whole percentages as whole numbers."""
    weights = {name: _percent(share) for name, share in shown["weights"].items()}
    return {**shown, "percentage": _percent(shown["percentage"]), "weights": weights}


def _percent(share: float) -> float | int:
    return int(share) if share == int(share) else share


def _flag_normal(document: Document) -> Document:
    spec = dict(document.spec)
    if "variants" in spec:
        spec["variants"] = {name: _treatment(plain(value), spec) for name, value in spec["variants"].items()}
    if "weights" in spec.get("exposure", {}):
        spec["exposure"] = {**spec["exposure"], "weights": {name: share for name, share in spec["exposure"]["weights"].items() if share}}
    if "rollback_rules" in spec:
        spec["rollback_rules"] = [{**_RULE_DEFAULTS, **rule, "text": rule["text"].strip()} for rule in spec["rollback_rules"]]
    return replace(document, spec=spec)


def _treatment(value: Any, spec: Mapping[str, Any]) -> Any:
    """As the server keeps it: the model that the flag binds stands where the manifest names none."""
    if not spec.get("model") or not isinstance(value, dict):
        return value
    return {"model": spec["model"], **{name: one for name, one in value.items() if one not in ("", {})}}


def _path(name: str) -> str:
    return f"flags/{quote(name, safe='')}/"


def _create_flag(api: Api, document: Document, options: Options) -> list[str]:
    body = {"key": document.name, **{name: document.spec[name] for name in _FLAG if name in document.spec}}
    row = api.call("POST", "flags/", body)
    return _change_flag(api, document, Live(document.name, _flag_spec(row), {**row, "rules": []}), options)


def _change_flag(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    """Rules first, so that exposure rises under their eyes."""
    refuse_change(document, live, _FLAG)
    if "rollback_rules" in document.spec:
        _change_rules(api, document, live, options)
    return _change_exposure(api, document, live)


def _change_rules(api: Api, document: Document, live: Live, options: Options) -> None:
    present = {rule_known_by(row): row for row in live.row["rules"]}
    for wanted in document.spec["rollback_rules"]:
        row = present.pop(rule_known_by(wanted), None)
        if row is None:
            api.call("POST", "rollback-rules/", {"flag": document.name, **wanted})
        elif row["is_dry_run"] != wanted["is_dry_run"]:
            if row["state"] not in _WATCHES:
                raise CliError(f"{document.where}: {document}: “{row['text']}” is {row['state']}; somebody arms it by hand first.")
            api.call("POST", f"rollback-rules/{row['id']}/arm/", {"is_dry_run": wanted["is_dry_run"]})
    if options.prune:
        for row in present.values():
            api.call("DELETE", f"rollback-rules/{row['id']}/")


def rule_known_by(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    """A rule is never edited, so that one with another of these is another rule."""
    return tuple(rule[name] for name in _RULE)


def _change_exposure(api: Api, document: Document, live: Live) -> list[str]:
    spec, path = document.spec, _path(document.name)
    wanted: dict[str, Any] = spec.get("exposure", {})
    parts = {name: wire(value) for name, value in wanted.items() if not same(value, live.spec["exposure"][name])}
    if not parts:
        return []
    waiting = api.call("GET", path)["waiting"]
    if waiting is not None:
        return _agree(api, document, waiting, {**live.spec["exposure"], **wanted})
    said = {name: spec[name] for name in ("phase",) if name in spec}
    # Worked out from what the plan showed: refused when somebody else has changed it since.
    body = {"exposure": parts, "reason": spec.get("reason", "by manifest"), "seen_version": live.row["version"], **said}
    change = api.call("POST", f"{path}changes/", body)
    why = "; ".join(change["raises"]) or "the flag wants two people for every change"
    return [] if change["status"] == "applied" else [_waits(document, change, why)]


def _agree(api: Api, document: Document, change: Mapping[str, Any], meant: Mapping[str, Any]) -> list[str]:
    """Approve what somebody else proposed, where the manifest says the same of every part."""
    unsaid = _unsaid(document.spec, change, meant)
    if unsaid:
        raise CliError(f"{document.where}: {document}: change #{change['number']} {unsaid}. Somebody decides it, or takes it back, first.")
    try:
        api.call("POST", f"{_path(document.name)}changes/{change['number']}/approve/", {"comment": "by manifest"})
    except RefusedError as refused:
        if refused.code not in (*SOMEBODY_ELSE, "phase_not_reached"):
            raise
        return [_waits(document, change, refused.detail)]
    return []


def _unsaid(spec: Mapping[str, Any], change: Mapping[str, Any], meant: Mapping[str, Any]) -> str:
    """What a waiting change does that the manifest does not say; empty when there is nothing."""
    if not all(same(meant[name], value) for name, value in _exposure(change["exposure"]).items()):
        return "waits with another exposure"
    if change["label"]:
        return f"moves the label {change['label']} to {change['prompt']}, too"
    if "phase" in spec and change["phase"] != spec["phase"]:
        return f"waits for {'the phase ' + change['phase'] if change['phase'] else 'no phase'}, not for {spec['phase']}"
    return ""


def _waits(document: Document, change: Mapping[str, Any], why: str) -> str:
    return f"{document} is not exposed as written yet, waiting for a second person: change #{change['number']}: {why}"


class _Flags(Kind):
    def live(self, api: Api) -> dict[str, Live]:
        """With the rules that watch them."""
        found = super().live(api)
        for live in found.values():
            live.row["rules"] = []
        for rule in api.rows("rollback-rules/"):
            live = found[rule["flag"]]
            live.row["rules"].append(rule)
            live.spec["rollback_rules"].append({name: rule[name] for name in (*_RULE, "is_dry_run")})
        return found


FLAG = _Flags(
    "Flag",
    "flags/",
    _flag_spec,
    _create_flag,
    _change_flag,
    lambda api, live: api.call("POST", f"{_path(live.name)}archive/"),
    removal="archive",
    name_of=lambda row: str(row["key"]),
    is_gone=lambda row: row["archived_at"] is not None,
    not_compared=("reason", "phase"),
    normal=_flag_normal,
)
