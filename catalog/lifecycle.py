"""Pure rules of the catalog: a model's status, a tool's definition and what changed in it. No ORM, clock or network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.errors import WrongStatusError

# act: (statuses it may start from, status it leads to)
TRANSITIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "submit": (("draft", "submitted"), "submitted"),
    "approve": (("submitted",), "approved"),
    "return": (("submitted",), "draft"),
    "deprecate": (("approved",), "deprecated"),
    "reinstate": (("deprecated",), "approved"),
    "retire": (("approved", "deprecated"), "retired"),
    "redraft": (("retired",), "draft"),
}
ACT_WORDS = {"return": "return to draft", "redraft": "reopen"}
CAPABILITIES = ("chat", "embeddings", "vision", "tools", "json")


def next_status(status: str, act: str) -> str:
    """The status after `act`; WrongStatusError when the act does not fit."""
    sources, target = TRANSITIONS[act]
    if status not in sources:
        raise WrongStatusError(f"You can't {ACT_WORDS.get(act, act)} a model that is {status}. It must be {' or '.join(sources)}.")
    return target


def acts_for(status: str) -> list[str]:
    """What can be done with a model of this status, in the order of the table."""
    return [act for act, (sources, _) in TRANSITIONS.items() if status in sources]


DEFINITION_FIELDS = ("name", "title", "description", "input_schema", "output_schema", "annotations")


def definition_digest(definition: Mapping[str, Any]) -> str:
    """sha256 of the canonical definition: known fields, sorted keys, no white space."""
    canonical = json.dumps(
        {name: definition.get(name) for name in DEFINITION_FIELDS}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class FieldChange:
    """One field of a tool's definition before and after."""

    field: str
    before: str
    after: str


def definition_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldChange]:
    """Fields that differ, as text that people can compare."""
    return [
        FieldChange(name, _text(before.get(name)), _text(after.get(name)))
        for name in DEFINITION_FIELDS
        if before.get(name) != after.get(name)
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class DiscoveryDiff:
    """What a discovery found against what was known; tool names."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Suspended until somebody approves the new definition."""
    restored: list[str] = field(default_factory=list)
    """Back with the definition that was approved before."""
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    @property
    def is_quiet(self) -> bool:
        return not (self.new or self.changed or self.restored or self.removed)


@dataclass(frozen=True)
class Effect:
    """What a tool does to the world, in plain words, from its own hints."""

    kind: str
    """read, write, destroy or unknown"""
    title: str
    text: str


def effect_of(annotations: Mapping[str, Any] | None) -> Effect:
    """Read the hints of MCP's ToolAnnotations. They are claims of the server, not guarantees.

    Defaults of the specification: readOnlyHint false, destructiveHint true, idempotentHint false, openWorldHint true.
    """
    hints = annotations or {}
    known = [name for name in ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint") if hints.get(name) is not None]
    if not known:
        return Effect(
            "unknown", "Effect not declared", "The server does not say whether this tool changes anything. Treat it as if it could."
        )
    world = " It reaches systems outside the server." if hints.get("openWorldHint", True) else " It stays within the server's own data."
    if hints.get("readOnlyHint"):
        return Effect("read", "Reads only", "The server says that this tool changes nothing." + world)
    again = " Running it twice is the same as once." if hints.get("idempotentHint") else " Running it twice acts twice."
    if hints.get("destructiveHint", True):
        return Effect("destroy", "May destroy", "The server says that this tool may change or delete what exists." + again + world)
    return Effect("write", "Adds", "The server says that this tool adds, and changes or deletes nothing." + again + world)
