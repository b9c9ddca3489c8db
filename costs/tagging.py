"""What enforcing a required tag would have refused of calls that were made: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gateway.contract.tags import RequiredTag, TagRules, completed

MOST_GROUPS = 10
MOST_KEPT = 1_000
"""Groups in memory. Calls come most first, and a group has two rows at most (sent, and completed to the same): those left out are no larger."""


@dataclass(frozen=True)
class PastTags:
    """Calls that agree in key, project, agent and what was sent for the tag."""

    sent: Mapping[str, str]
    """By the caller, of the tag that is asked for; `*` where any value is right."""
    defaults: tuple[Mapping[str, str], ...]
    """Today's of the key and of the project."""
    facts: Mapping[str, str]
    calls: int
    cost: Decimal
    """USD over the priced calls."""
    example: str
    """The request id of one of them."""


@dataclass
class Preview:
    """Counts of calls; `covered` = tagged + missing + not allowed."""

    days: int
    calls: int = 0
    covered: int = 0
    missing: int = 0
    not_allowed: int = 0
    refused_cost: Decimal = Decimal()
    """USD of the calls that would have been refused."""
    groups: list[dict[str, Any]] = field(default_factory=list)
    """The largest refused ones: key, project, agent, found, value, calls, example."""

    @property
    def refused(self) -> int:
        return self.missing + self.not_allowed

    def as_json(self) -> dict[str, Any]:
        return {
            "days": self.days,
            "calls": self.calls,
            "covered": self.covered,
            "missing": self.missing,
            "not_allowed": self.not_allowed,
            "refused": self.refused,
            "refused_cost_usd": f"{self.refused_cost.normalize():f}",
            "groups": self.groups,
        }


def preview(required: RequiredTag, past: Iterable[PastTags], *, days: int) -> Preview:
    """Judge calls by one required tag, whatever its mode, with the defaults of today. `past` comes most calls first."""
    rules = TagRules([required])
    outcome = Preview(days)
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for one in past:
        outcome.calls += one.calls
        findings = rules.judge(completed(one.sent, *one.defaults), one.facts)
        if not findings:
            continue
        outcome.covered += one.calls
        [finding] = findings
        if finding.found == "ok":
            continue
        if finding.found == "missing":
            outcome.missing += one.calls
        else:
            outcome.not_allowed += one.calls
        outcome.refused_cost += one.cost
        named = {name: one.facts[name] for name in ("key", "project", "agent")} | {"found": finding.found, "value": finding.value}
        same = tuple(named.values())
        if same in groups or len(groups) < MOST_KEPT:
            group = groups.setdefault(same, named | {"calls": 0, "example": one.example})
            group["calls"] += one.calls
    outcome.groups = sorted(groups.values(), key=lambda group: (-group["calls"], group["example"]))[:MOST_GROUPS]
    return outcome
