"""What an audit entry says, in lines that people read: fields by name, and what changed from what to what. Pure: no ORM, no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

DIGEST = re.compile(r"[0-9a-f]{40,}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Fact:
    """One line of an entry."""

    name: str
    """Empty for a change of the target as a whole, for example of its status."""
    value: str = ""
    """What it is, or became. Empty is said as nothing."""
    before: str = ""
    is_change: bool = False


def facts(details: Mapping[str, Any]) -> list[Fact]:
    """Changes first. Services write them as `before` with `after`, as `before` with the fields after it, or as `changes`."""
    rest = dict(details)
    changes = _changes(rest)
    return changes + [Fact(_name(name), text(value)) for name, value in rest.items() if text(value)]


def _changes(rest: dict[str, Any]) -> list[Fact]:
    """Takes what says a change out of `rest`."""
    found: list[Fact] = []
    if "before" in rest and "after" in rest:
        found += _between("", rest.pop("before"), rest.pop("after"))
    elif isinstance(rest.get("before"), dict):
        before = rest.pop("before")
        found += _between("", before, {name: rest.pop(name, None) for name in before})
    changes = rest.get("changes")
    if isinstance(changes, dict) and all(isinstance(pair, list) and len(pair) == 2 for pair in changes.values()):
        for name, (before, after) in rest.pop("changes").items():
            found += _between(name, before, after)
    elif isinstance(changes, list) and all(isinstance(item, dict) and {"what", "before", "after"} <= set(item) for item in changes):
        for item in rest.pop("changes"):
            found += _between(item["what"], item["before"], item["after"])
    return found


def _between(name: str, before: Any, after: Any) -> list[Fact]:
    """Two dicts field by field, without what stayed; anything else as a whole."""
    if not (isinstance(before, dict | None) and isinstance(after, dict | None)) or before is after is None:
        return [Fact(_name(name), text(after), text(before), is_change=True)]
    before, after = before or {}, after or {}
    return [
        Fact(_name(f"{name} {field}" if name else field), text(after.get(field)), text(before.get(field)), is_change=True)
        for field in dict.fromkeys([*before, *after])
        if before.get(field) != after.get(field)
    ]


def _name(name: str) -> str:
    return name.replace("_", " ")


def text(value: Any) -> str:
    """A value as people write it; nothing is empty. A digest is cut: in full it stands in the CSV and the API."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return ""
    if isinstance(value, Mapping):
        return "; ".join(f"{_name(str(name))} {text(item)}" for name, item in value.items() if text(item))
    if isinstance(value, list):
        return ", ".join(filter(None, map(text, value)))
    if isinstance(value, str) and DIGEST.fullmatch(value):
        return f"{value[:12]}…"
    if isinstance(value, str) and MOMENT.match(value):
        return _moment(value)
    return str(value)


def _moment(value: str) -> str:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:  # looks like a moment and is text
        return value
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at.tzinfo else value
