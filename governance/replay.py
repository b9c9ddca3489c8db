"""What a policy would have done to calls that were made: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.contract.policies import PolicySet
from gateway.contract.snapshot import Policy
from governance.call_figures import PastCalls

MOST_GROUPS = 10


@dataclass
class Replay:
    """Counts of calls; `calls` = covered + not covered + unknown."""

    days: int
    calls: int = 0
    covered: int = 0
    denied: int = 0
    errors: int = 0
    """Could not be evaluated, for example for want of a tag: in force they would be refused."""
    unknown: int = 0
    """Calls that reached no provider, while the policy asks where they go."""
    groups: list[dict[str, Any]] = field(default_factory=list)
    """The largest refused groups: attributes, calls, example."""

    @property
    def refused(self) -> int:
        return self.denied + self.errors

    def as_json(self) -> dict[str, Any]:
        return {
            "days": self.days,
            "calls": self.calls,
            "covered": self.covered,
            "denied": self.denied,
            "errors": self.errors,
            "unknown": self.unknown,
            "groups": self.groups,
        }


def replay(policy: Policy, past: Iterable[PastCalls], *, days: int) -> Replay:
    """Play calls against one policy, whatever its mode."""
    policies = PolicySet([policy])
    uses_egress = bool(policies.about_egress)
    outcome = Replay(days)
    refused: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for group in past:
        outcome.calls += group.calls
        if uses_egress and not group.attributes["egress"]["host"]:
            outcome.unknown += group.calls
            continue
        decisions = policies.decide(dict(group.attributes), egress=uses_egress)
        if not decisions:
            continue
        decision = decisions[0]
        outcome.covered += group.calls
        if decision.verdict == "pass":
            continue
        if decision.verdict in ("policy_error", "would_error"):
            outcome.errors += group.calls
        else:
            outcome.denied += group.calls
        refused[decision.attributes] += group.calls
        examples.setdefault(decision.attributes, group.example)
    outcome.groups = [
        {"attributes": attributes, "calls": calls, "example": examples[attributes]}
        for attributes, calls in refused.most_common(MOST_GROUPS)
    ]
    return outcome


def looks_at_time(*expressions: str) -> bool:
    """Whether past calls must be kept apart by weekday and hour."""
    return any("time" in expression for expression in expressions)
