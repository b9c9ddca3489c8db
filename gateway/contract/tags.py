"""Tags that calls must carry: what they are completed from, and what is found of each. Pure; planes and replays use the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Literal

import msgspec

Found = Literal["ok", "missing", "not_allowed"]
Fact = Literal["", "environment", "cost_centre", "project", "owner", "agent"]
"""What the gateway knows of a call without being told: of its project, its key and its agent."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
MOST_SENT = 16
"""In the caller's header."""
MOST_DEFAULTS = 8
"""On a key, and on a project."""
MOST_TAGS = 40
"""In a record: sent, completed, and the gateway's own."""
MOST_CHARACTERS = 128
COMPLETED_STEP = "tags:completed"
"""Of a call's record, when something was; its detail names what, with spaces between."""
STEP = "tags:required"
"""Of a call's record, when a required tag covers it; its detail is `<tag>=<Found>` for each, with spaces between."""


class RequiredTag(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: int
    values: tuple[str, ...] = ()
    """What it may be; `*`, `?` and `[0-9]` stand for other characters. Empty: anything but nothing."""
    projects: tuple[str, ...] = ()
    """Slugs of the projects whose calls must carry it; empty: all."""
    environments: tuple[str, ...] = ()
    """The same of their projects' environments."""
    fact: Fact = ""
    """Stands in for the tag where neither the caller nor a default says it."""
    enforce_from: float | None = None
    """Seconds since the epoch, UTC, from when a call without it is refused; None: it is only counted."""


class Finding(msgspec.Struct, frozen=True):
    required: RequiredTag
    found: Found
    value: str = ""

    def refuses(self, at: float) -> bool:
        """Whether a call at this time (seconds since the epoch) is refused for it."""
        return self.found != "ok" and self.required.enforce_from is not None and self.required.enforce_from <= at


class TagRules:
    """Required tags, made ready. A pattern is matched in linear time, whatever it and the tag are."""

    def __init__(self, required: Iterable[RequiredTag]) -> None:
        self._rules = [(one, *_compiled(one.values)) for one in required]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def judge(self, tags: dict[str, str], facts: Mapping[str, str | None]) -> list[Finding]:
        """What is found of every required tag that covers the call; `tags` gets those that a fact stands in for."""
        findings = []
        project, environment = facts.get("project"), facts.get("environment")
        for one, values, pattern in self._rules:
            if (one.projects and project not in one.projects) or (one.environments and environment not in one.environments):
                continue
            value = tags.get(one.name) or (facts.get(one.fact) if one.fact else "") or ""
            if not value:
                findings.append(Finding(one, "missing"))
                continue
            tags[one.name] = value
            is_allowed = not one.values or value in values or (pattern is not None and pattern.match(value) is not None)
            findings.append(Finding(one, "ok" if is_allowed else "not_allowed", value))
        return findings


def completed(sent: Mapping[str, str], *defaults: Mapping[str, str]) -> dict[str, str]:
    """What was sent, with defaults (the nearest first) for what was not, or was sent empty."""
    tags = dict(sent)
    for given in defaults:
        for name, value in given.items():
            if not tags.get(name):
                tags[name] = value
    return tags


def detail(findings: Iterable[Finding]) -> str:
    return " ".join(f"{finding.required.name}={finding.found}" for finding in findings)


def _compiled(values: tuple[str, ...]) -> tuple[frozenset[str], re.Pattern[str] | None]:
    patterns = [value for value in values if any(mark in value for mark in "*?[")]
    # fnmatch makes every star but the last an atomic group: there is no way back, and so no value that takes long.
    return frozenset(values), re.compile("|".join(f"(?:{translate(pattern)})" for pattern in patterns)) if patterns else None
