"""Pure rules."""

from __future__ import annotations

import re

import pytest

from catalog import lifecycle
from catalog.errors import WrongStatusError
from tests.bootstrap import ROOT


@pytest.mark.parametrize(
    ("status", "acts"),
    [
        ("draft", ["submit"]),
        ("submitted", ["submit", "approve", "return"]),
        ("approved", ["deprecate", "retire"]),
        ("deprecated", ["reinstate", "retire"]),
        ("retired", ["redraft"]),
    ],
)
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


@pytest.mark.parametrize(
    ("annotations", "kind"),
    [
        (None, "unknown"),
        ({}, "unknown"),
        ({"title": "x"}, "unknown"),
        ({"readOnlyHint": True}, "read"),
        ({"readOnlyHint": False}, "destroy"),
        ({"readOnlyHint": False, "destructiveHint": False}, "write"),
        ({"openWorldHint": True}, "destroy"),
    ],
)
def test_effect_is_read_from_the_hints(annotations: dict[str, bool] | None, kind: str) -> None:
    assert lifecycle.effect_of(annotations).kind == kind


def test_every_error_code_and_event_is_documented() -> None:
    page = (ROOT / "docs" / "catalog.md").read_text()
    codes = set(re.findall(r'code = "(\w+)"', (ROOT / "catalog" / "errors.py").read_text()))
    events = {
        event
        for path in (ROOT / "catalog" / "services").glob("*.py")
        for event in re.findall(r'"((?:provider|model|deployment|project|virtual_key|tool_server|tool)\.[a-z_]+)"', path.read_text())
    }

    documented = {f"{noun}.{act}" for noun, acts in re.findall(r"`([a-z_]+)\.([a-z_|]+)`", page) for act in acts.split("|")}

    assert codes == set(re.findall(r"^\| `(\w+)` \| \d+ \|", page, re.MULTILINE))
    assert events
    assert events <= documented
