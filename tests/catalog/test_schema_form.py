"""Forms made from JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.schema_form import ArgumentsForm


def arguments(schema: dict[str, Any], **given: str) -> dict[str, Any]:
    form = ArgumentsForm(schema, given)
    assert form.is_valid(), form.errors
    return form.arguments()


@pytest.mark.parametrize(
    ("rule", "text", "value"),
    [
        ({"type": "string"}, " kept as typed ", " kept as typed "),
        ({"type": "integer"}, "3", 3),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "boolean"}, "0", True),
        ({"type": "boolean"}, "1", False),
        ({"enum": ["a", 2, None]}, "1", 2),
        ({"oneOf": [{"const": "x", "title": "Ex"}, {"const": "y"}]}, "1", "y"),
        ({"type": "array"}, "[1, 2]", [1, 2]),
        ({"type": "object"}, '{"a": null}', {"a": None}),
        ({"type": ["string", "null"]}, "t", "t"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "4", 4),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, '"t"', "t"),
        ({}, "true", True),
        ({"const": "only"}, "0", "only"),
    ],
)
def test_value_has_the_type_of_its_rule(rule: dict[str, Any], text: str, value: Any) -> None:
    assert arguments({"properties": {"it": rule}, "required": ["it"]}, arg0=text) == {"it": value}


@pytest.mark.parametrize("rule", [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"enum": ["a"]}, {"type": "array"}, {}])
def test_what_is_left_empty_is_left_out(rule: dict[str, Any]) -> None:
    assert arguments({"properties": {"it": rule}}, arg0="") == {}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"type": "integer"}, "1.5"),
        ({"type": "integer", "minimum": 1}, "0"),
        ({"type": "array"}, "{}"),
        ({"type": "object"}, "[]"),
        ({"type": "object"}, "{"),
        ({"enum": ["a"]}, "7"),
        ({"type": "string", "maxLength": 2}, "abc"),
    ],
)
def test_wrong_value_is_an_error_of_its_field(rule: dict[str, Any], text: str) -> None:
    form = ArgumentsForm({"properties": {"it": rule}}, {"arg0": text})

    assert not form.is_valid()
    assert "arg0" in form.errors


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"properties": None},
        {"properties": {"x": True}},
        {"type": "object", "properties": {"a b/c": {"type": "string"}}, "required": "x"},
    ],
)
def test_odd_schema_still_makes_a_form(schema: dict[str, Any]) -> None:
    assert arguments(schema) == {}
