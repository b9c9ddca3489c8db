"""From manifests and what is live to a plan that people can read, and from a plan to acts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from catalog.cli.client import Api
from catalog.cli.errors import UsageError
from catalog.cli.kinds import KINDS
from catalog.cli.kinds.kind import Kind, Live, Options
from catalog.cli.kinds.values import same
from catalog.cli.manifests import Document


@dataclass(frozen=True)
class Change:
    """One thing that is not as wanted."""

    sign: str
    """`+` made, `~` changed, `-` removed."""
    title: str
    lines: list[str]
    act: Callable[[], list[str]] | None
    """Returns what waits for somebody else; None can't be done."""
    ready: Callable[[], None] = lambda: None
    """Raises CliError when it can't be done here."""


@dataclass
class Plan:
    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0

    def text(self) -> Iterator[str]:
        for change in self.changes:
            yield f"{change.sign} {change.title}"
            yield from (f"    {line}" for line in change.lines)
        signs = [change.sign for change in self.changes]
        yield f"{signs.count('+')} to make, {signs.count('~')} to change, {signs.count('-')} to remove, {self.unchanged} as wanted."


WHOLE = ("parameters", "default_parameters", "flow", "variants")
"""Free JSON: compared as one, because a field that is left out is not there."""
PARTS = {"deployments": ("provider", "upstream_model"), "rollback_rules": ("text", "clear_percent", "cooldown_minutes")}
"""Lists of things of their own, by what each is known by: their order means nothing, and only `--prune` removes one."""


def flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields by path."""
    found: dict[str, Any] = {}
    for name, value in spec.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and name not in WHOLE:
            found |= flat(value, f"{path}.")
        elif name in PARTS:
            for one in value:
                rest = {field: part for field, part in one.items() if field not in PARTS[name]}
                at = f"{path}[{'/'.join(str(one[field]) for field in PARTS[name])}]"
                found[at] = "there"
                found |= flat(rest, f"{at}.")
        else:
            found[path] = value
    return found


def differences(wanted: Mapping[str, Any], present: Mapping[str, Any], not_compared: Sequence[str] = ()) -> list[str]:
    """One line for each field that the manifest names and that is another now."""
    before = flat(present)
    lines = []
    for path, value in flat({name: one for name, one in wanted.items() if name not in not_compared}).items():
        if path not in before:
            lines.append(f"+ {path}: {shown(value)}" if value not in (None, "", []) else "")
        elif path == "labels" and set(value) <= set(before[path]):
            continue  # others may stand for it, too
        elif not same(value, before[path]):
            lines.append(f"~ {path}: {shown(before[path])} → {shown(value)}")
    return [line for line in lines if line]


def shown(value: Any) -> str:
    if value in (None, [], {}):
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {shown(one)}" for name, one in value.items())
    if isinstance(value, list) and isinstance(value[0], Mapping):
        return " | ".join(shown(one) for one in value)
    if isinstance(value, str):
        return repr(value) if value == "" or value != value.strip() or "\n" in value else value
    return "yes" if value is True else "no" if value is False else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def make(api: Api, documents: Iterable[Document], options: Options) -> Plan:
    """Compare. Only kinds that stand in the manifests are read, and with `prune` only their strangers removed."""
    plan, removals = Plan(), []
    by_kind: dict[str, list[Document]] = {}
    for document in documents:
        by_kind.setdefault(document.kind, []).append(KINDS[document.kind].normal(document))
    for name, found in by_kind.items():
        _refuse_twice(KINDS[name], found)
    for kind in (kind for name, kind in KINDS.items() if name in by_kind):
        live = kind.live(api)
        for document in sorted(by_kind[kind.name], key=kind.comes_after):
            present = live.pop(kind.identity(document.name, document.spec), None)
            change = _change(api, kind, document, present, options)
            if change is None:
                plan.unchanged += 1
            else:
                plan.changes.append(change)
        if options.prune:
            strangers = [one for one in live.values() if not kind.is_gone(one.row) and kind.is_stranger(one, by_kind[kind.name])]
            removals.append([_removal(api, kind, one) for one in strangers])
    plan.changes += [change for group in reversed(removals) for change in group]
    return plan


def _refuse_twice(kind: Kind, documents: Sequence[Document]) -> None:
    first: dict[str, Document] = {}
    for document in documents:
        before = first.setdefault(kind.identity(document.name, document.spec), document)
        if before is not document:
            raise UsageError(f"{document.where}: {document} is the same {kind.name.lower()} as {before} at {before.where}")


def _change(api: Api, kind: Kind, document: Document, live: Live | None, options: Options) -> Change | None:
    kind.check(document, live)
    hidden = [f"+ {line}" for line in kind.hidden(document, live, options)]
    if live is None:
        lines = differences(document.spec, {}, kind.not_compared)
        create = partial(kind.create, api, document, options)
        return Change("+", str(document), [*lines, *hidden], create, partial(kind.ready, document, options))
    lines = differences(document.spec, live.spec, kind.not_compared) + hidden
    if options.prune:
        named = [name for name in PARTS if name in document.spec]
        wanted, present = (flat({name: spec[name] for name in named}) for spec in (document.spec, live.spec))
        lines += [f"- {path}" for path, value in present.items() if value == "there" and path not in wanted]
    if not lines:
        return None
    return Change("~", str(document), lines, lambda: kind.change(api, document, live, options))


def _removal(api: Api, kind: Kind, live: Live) -> Change:
    if kind.remove is None:
        return Change("-", f"{kind.name} {live.name}", ["stays: the server keeps these for ever"], None)
    remove = kind.remove

    def act() -> list[str]:
        remove(api, live)
        return []

    return Change("-", f"{kind.name} {live.name}", [kind.removal], act)


def export(api: Api, kinds: Iterable[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, name and spec of everything that is live. Secrets never leave the server: a reference stands where one is."""
    for name in kinds:
        for live in KINDS[name].live(api).values():
            if KINDS[name].is_gone(live.row):
                continue
            spec = {field: value for field, value in live.spec.items() if value not in (None, "", [])}
            if "deployments" in live.spec:  # a draft may have none, and says so
                spec["deployments"] = [
                    {field: value for field, value in one.items() if value is not None} for one in live.spec["deployments"]
                ]
            if live.row.get("has_secret") and live.row.get("credential") == "key":
                spec["secretFrom"] = {"env": f"GATEHOUSE_SECRET_{live.name.upper().replace('-', '_')}"}
            yield name, live.name, spec
