"""What the fields of the playground start from."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.starting_values import LABELS, Parameter, Tried, parameters
from gateway.contract.treatments import PARAMETERS


def fields(models: dict[str, Tried], prompt: dict[str, Any] | None = None) -> dict[str, Parameter]:
    return {one.name: one for one in parameters(models, prompt)}


def tried(*dialects: str, **defaults: Any) -> Tried:
    return Tried(defaults, dialects or ("openai",), max_output_tokens=4096)


def test_every_parameter_has_a_field_with_its_bounds() -> None:
    found = fields({"a": tried()})

    assert list(found) == list(PARAMETERS) == list(LABELS)
    assert (found["temperature"].low, found["temperature"].high, found["frequency_penalty"].low) == ("0", "2", "-2")
    assert found["reasoning_effort"].choices == PARAMETERS["reasoning_effort"]
    assert [one.name for one in found.values() if one.sent_to] == ["max_tokens"]  # what the gateway would not fill in


@pytest.mark.parametrize(
    ("defaults", "starts"),
    [
        ({"temperature": 0.2, "top_p": 0.9, "frequency_penalty": 0.5}, {"temperature": "0.2"}),
        ({"temperature": 1.5, "top_p": 0.9}, {"top_p": "0.9"}),
        ({"reasoning_effort": "minimal", "presence_penalty": 1}, {}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ],
)
def test_default_that_a_deployment_of_anthropic_is_not_sent_is_none(defaults: dict[str, Any], starts: dict[str, str]) -> None:
    found = fields({"a": tried("openai", "anthropic", **defaults)}, {})

    assert {name: one.start for name, one in found.items() if one.start} == starts


def test_default_that_the_gateway_leaves_out_beside_the_prompts_is_none() -> None:
    found = fields({"a": tried(top_p=0.9)}, {"temperature": 1, "max_completion_tokens": 9, "stop": ["x"], "top_p": None})

    assert (found["top_p"].start, found["temperature"].start, found["max_tokens"].start) == ("", "1", "9")


def test_default_is_none_where_the_prompt_thinks() -> None:
    found = fields({"a": tried("anthropic", temperature=0.2, max_tokens=400)}, {"thinking": {"type": "enabled", "budget_tokens": 2000}})

    assert (found["temperature"].start, found["max_tokens"].start) == ("", "")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [400, None])
def test_parameter_of_the_prompt_is_sent_by_the_prompts_own_name(name: str, value: int | None) -> None:
    assert fields({"a": tried()}, {name: value})["max_tokens"].field == name
    assert fields({"a": tried()}, {"temperature": 1})["max_tokens"].field == "max_tokens"


def test_default_above_the_models_most_output_starts_at_that() -> None:
    assert fields({"a": tried(max_tokens=9000)})["max_tokens"].start == "4096"


def test_sampling_default_names_what_keeps_it_away() -> None:
    found = fields({"a": tried(top_p=0.9, max_tokens=5)})

    assert (found["top_p"].rival, found["temperature"].rival, found["max_tokens"].rival) == ("temperature", "", "")


def test_models_that_agree_share_a_start() -> None:
    found = fields({"a": tried(temperature=1), "b": tried(temperature=1.0)})

    assert (found["temperature"].start, found["temperature"].origin) == ("1", "the models' default")


def test_models_without_a_most_of_their_own_are_sent_the_playgrounds() -> None:
    mixed = fields({"a": tried(max_tokens=400), "b": tried()})["max_tokens"]
    bare = fields({"a": tried(), "b": tried()})["max_tokens"]
    own = fields({"a": tried(max_tokens=400)})["max_tokens"]
    prompted = fields({"a": tried(max_tokens=400), "b": tried()}, {})["max_tokens"]

    assert (mixed.start, mixed.sent, mixed.sent_to) == ("", "800", ("b",))
    assert mixed.origin == "each model's default: a 400, b 800 (the playground's)"
    assert (bare.start, bare.sent, bare.sent_to, bare.origin) == ("800", "800", ("a", "b"), "the playground's")
    assert (own.start, own.sent, own.sent_to) == ("400", "", ())
    assert (prompted.start, prompted.sent_to, prompted.origin) == ("", (), "each model's default: a 400, b not set")
