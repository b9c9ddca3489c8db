"""What widens a model, and who may agree to it."""

from __future__ import annotations

import pytest

from catalog import bindings
from catalog.errors import SelfApprovalError
from catalog.models import Model

BEFORE = {
    "capabilities": "chat, tools", "data_sensitivity": "internal", "environment": "staging", "feature_class": "assistants",
    "deployment one/small": "https://one.example/v1, region eu", "price at one": "$ 1 in, 2 out", "guardrail pii": "pii: redact on input",
}  # fmt: skip


@pytest.mark.parametrize(
    ("what", "after", "widens"),
    [
        ("capabilities", "chat", False),
        ("capabilities", "chat, tools, vision", True),
        ("data_sensitivity", "public", False),
        ("data_sensitivity", "restricted", True),
        ("environment", "production", True),
        ("deployment one/small", "https://one.example/v1, region us", True),
        ("deployment one/small", "", False),
        ("deployment two/small", "https://two.example/v1", True),
        ("price at one", "$ 9 in, 9 out", False),
        ("guardrail pii", "", True),
        ("guardrail pii", "pii: block on input", True),
        ("guardrail secrets", "secrets: block on input", False),
    ],
)
def test_what_widens(what: str, after: str, widens: bool) -> None:
    changed = {name: text for name, text in {**BEFORE, what: after}.items() if text}

    [change] = bindings.changes(BEFORE, changed)

    assert (change.what, change.after, change.widens) == (what, after, widens)
    assert bindings.is_wider(BEFORE, changed) is widens
    assert bindings.holds_for(BEFORE, changed) is not (widens or what.startswith("price"))
    assert bindings.digest(changed) != bindings.digest(BEFORE) == bindings.digest(dict(reversed(BEFORE.items())))


@pytest.mark.parametrize(
    ("actor", "changed_by", "approvers", "basis"),
    [
        (2, {1}, {1, 2}, "second_person"),
        (1, {1}, {1, 2}, None),
        (1, {1}, {1}, "alone"),
        (1, {2}, {1, 2, 3}, None),
        (2, {2}, {1, 2, 3}, None),
        (3, {2}, {1, 2, 3}, "second_person"),
        (2, {2}, {1, 2}, "other_hand"),
        (1, {2}, {1, 2}, None),
        (1, set(), {2}, None),
        (2, {2, 3}, {1, 2, 3, 4}, None),
        (2, {2, 3}, {1, 2, 3}, "other_hand"),
    ],
)
def test_who_may_agree_to_what_1_asked_for(actor: int, changed_by: set[int], approvers: set[int], basis: str | None) -> None:
    if basis is None:
        with pytest.raises(SelfApprovalError):
            bindings.basis_of(actor=actor, asked_by=1, changed_by=changed_by, approvers=approvers)
    else:
        assert bindings.basis_of(actor=actor, asked_by=1, changed_by=changed_by, approvers=approvers) == basis


def test_words_of_both_sides_agree() -> None:
    assert list(bindings.SENSITIVITIES) == Model.Sensitivity.values
