"""Pure rules."""

from __future__ import annotations

import pytest

from catalog import lifecycle
from catalog.errors import WrongStatusError


@pytest.mark.parametrize(("status", "acts"), [
    ("draft", ["approve"]), ("submitted", ["approve", "redraft"]), ("approved", ["deprecate", "retire"]), ("deprecated", ["approve", "retire"]), ("retired", ["redraft"]),
])
def test_acts_follow_from_the_status(status: str, acts: list[str]) -> None:
    assert lifecycle.acts_for(status) == acts


def test_refused_act_says_what_would_be_needed() -> None:
    with pytest.raises(WrongStatusError, match="must be approved or deprecated"):
        lifecycle.next_status("draft", "retire")


def test_digest_ignores_order_and_unknown_fields() -> None:
    one = {"name": "a", "input_schema": {"x": 1, "y": 2}, "icons": ["new"]}
    other = {"input_schema": {"y": 2, "x": 1}, "name": "a"}

    assert lifecycle.definition_digest(one) == lifecycle.definition_digest(other)
    assert lifecycle.definition_digest(one) != lifecycle.definition_digest({**one, "description": "b"})


@pytest.mark.parametrize(("annotations", "kind"), [
    (None, "unknown"), ({}, "unknown"), ({"title": "x"}, "unknown"), ({"readOnlyHint": True}, "read"), ({"readOnlyHint": False}, "destroy"),
    ({"readOnlyHint": False, "destructiveHint": False}, "write"), ({"openWorldHint": True}, "destroy"),
])
def test_effect_is_read_from_the_hints(annotations: dict[str, bool] | None, kind: str) -> None:
    assert lifecycle.effect_of(annotations).kind == kind
