"""What the fields of the playground start from."""

from __future__ import annotations

from catalog.starting_values import LABELS, parameters
from gateway.contract.treatments import PARAMETERS


def test_every_parameter_has_a_field_with_its_bounds() -> None:
    found = {one.name: one for one in parameters({"a": {}}, None)}

    assert list(found) == list(PARAMETERS) == list(LABELS)
    assert (found["temperature"].low, found["temperature"].high, found["frequency_penalty"].low) == ("0", "2", "-2")
    assert found["reasoning_effort"].choices == PARAMETERS["reasoning_effort"]
    assert [one.name for one in found.values() if one.is_sent] == ["max_tokens"]  # what the gateway would not fill in


def test_default_that_the_gateway_leaves_out_beside_the_prompts_is_none() -> None:
    found = {
        one.name: one
        for one in parameters({"a": {"top_p": 0.9}}, {"temperature": 1, "max_completion_tokens": 9, "stop": ["x"], "top_p": None})
    }

    assert (found["top_p"].start, found["temperature"].start, found["max_tokens"].start) == ("", "1", "9")


def test_sampling_default_names_what_keeps_it_away() -> None:
    found = {one.name: one for one in parameters({"a": {"top_p": 0.9, "max_tokens": 5}}, None)}

    assert (found["top_p"].rival, found["temperature"].rival, found["max_tokens"].rival) == ("temperature", "", "")


def test_models_that_agree_share_a_start() -> None:
    found = {one.name: one for one in parameters({"a": {"temperature": 1}, "b": {"temperature": 1.0}}, None)}

    assert (found["temperature"].start, found["temperature"].origin) == ("1", "the models' default")
