"""What a served model is bound to, what makes that wider, and who may agree to it. No ORM, clock or network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from catalog.errors import SelfApprovalError

Binding = Mapping[str, str]
"""What to its text: the facts by their names, `deployment <provider>/<upstream model>`, `price at <provider>`, `guardrail <name>`."""
FACT_WORDS = {
    "capabilities": "Can do",
    "feature_class": "Needs consent for",
    "data_sensitivity": "Data up to",
    "environment": "Environment",
    "default_parameters": "Default parameters",
}
FACTS = tuple(FACT_WORDS)
SENSITIVITIES = ("public", "internal", "confidential", "restricted")
"""The least first."""


def digest(binding: Binding) -> str:
    """sha256 of the canonical JSON: sorted keys, no white space."""
    return hashlib.sha256(json.dumps(binding, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class Change:
    """One part of a binding before and after; empty where it is not there."""

    what: str
    before: str
    after: str

    @property
    def widens(self) -> bool:
        """Whether more may happen than before: more data, other upstreams, another class of features, less of a guardrail; or another thing."""
        kind = self.what.partition(" ")[0]
        if kind == "capabilities":
            return bool(_words(self.after) - _words(self.before))
        if kind == "data_sensitivity":
            return self.before not in SENSITIVITIES or SENSITIVITIES.index(self.after) > SENSITIVITIES.index(self.before)
        if kind == "default_parameters":
            return True  # what is more of it is for people to judge, its end too
        if kind == "guardrail":
            return bool(self.before)  # whether another setting of it is stricter is for people to judge
        return kind != "price" and bool(self.after)


def _words(text: str) -> set[str]:
    return {word for word in text.split(", ") if word}


def changes(before: Binding, after: Binding) -> list[Change]:
    """Parts that differ: facts first, then by name."""
    names = sorted(before.keys() | after.keys(), key=lambda name: (name not in FACTS, name))
    found = (Change(name, before.get(name, ""), after.get(name, "")) for name in names)
    return [change for change in found if change.before != change.after]


def holds_for(seen: Binding, present: Binding) -> bool:
    """Whether what was agreed to covers this: it is the same, or less, at the same prices."""
    return not any(change.widens or change.what.startswith("price ") for change in changes(seen, present))


def is_wider(before: Binding, after: Binding) -> bool:
    return any(change.widens for change in changes(before, after))


SECOND_PERSON, OTHER_HAND, ALONE = "second_person", "other_hand", "alone"


def basis_of(*, actor: int, asked_by: int, changed_by: Collection[int], approvers: Collection[int]) -> str:
    """On what the actor may agree: as somebody who neither asked nor made any of the changes, or as the nearest to it that there is.

    `approvers` are all who may approve models here. While one of them had no part in it, nobody else agrees. Where all had one, whoever did
    not ask; whoever asked only when nobody else may approve at all. Raises SelfApprovalError.
    """
    had_a_part = {asked_by, *changed_by}
    if actor not in had_a_part:
        return SECOND_PERSON
    if set(approvers) - had_a_part:
        raise SelfApprovalError("Somebody else approves what you submitted or changed.")
    if actor != asked_by:
        return OTHER_HAND
    if set(approvers) - {asked_by}:
        raise SelfApprovalError("You submitted it: somebody else approves it.")
    return ALONE
