"""How a kind of manifest is read from the server in the manifest's own words, and made so.

Every act is a call of the REST API, so the rules, the audit log and the second person are the same as on the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog.cli.client import Api
from catalog.cli.manifests import Document


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
    check: Callable[[Document, Live | None], None] = lambda _document, _live: None
    """Raises CliError when what there is can't become so; asked for the plan, so `diff` says it, too."""
    ready: Callable[[Document, Options], None] = lambda _document, _options: None
    """Raises CliError when it can't be made here; asked before anything is made."""
    comes_after: Callable[[Document], bool] = lambda _document: False
    """Whether it names others of its kind, which are made before it."""
    is_stranger: Callable[[Live, Sequence[Document]], bool] = lambda _live, _documents: True
    """Whether it goes when `--prune` is given and none of the manifests names it."""

    def live(self, api: Api) -> dict[str, Live]:
        """By identity."""
        found = {}
        for row in api.rows(self.path):
            name, spec = self.name_of(row), self.spec_of(row)
            found[self.identity(name, spec)] = Live(name, spec, row)
        return found


SOMEBODY_ELSE = ("self_approval", "permission_denied")
"""Codes of refusals that another person does not meet."""


def delete(path: str) -> Callable[[Api, Live], None]:
    def remove(api: Api, live: Live) -> None:
        api.call("DELETE", f"{path}{live.row['id']}/")

    return remove


def picked(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {name: row[name] for name in names}
