"""Treatments: what a variant of a flag that binds a model does to a call. Pure; portal and plane read a value by the same function.

A variant's value is the address of a model, or an object such as
`{"model": "chat-small", "prompt": "greeting@3", "parameters": {"temperature": 0.2}}`. A treatment never widens what a call may do: its model is
one that the key may call, its prompt another version of the prompt that the call asked for, and its most tokens a ceiling.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.contract.prompts import PromptError, parse_reference

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
"""Of reasoning, the least first; which of them a model knows is its provider's word."""
MOST_TOKENS = 1_000_000


@dataclass(frozen=True)
class Bounds:
    """Of a number; both ends belong to it."""

    low: float
    high: float
    is_whole: bool = False


PARAMETERS: dict[str, Bounds | tuple[str, ...]] = {
    "temperature": Bounds(0, 2),
    "top_p": Bounds(0, 1),
    "max_tokens": Bounds(1, MOST_TOKENS, is_whole=True),
    "frequency_penalty": Bounds(-2, 2),
    "presence_penalty": Bounds(-2, 2),
    "reasoning_effort": EFFORTS,
}
"""By our one name; each surface has its own, see `gateway.contract.surfaces`."""


class TreatmentError(ValueError):
    """The value of a variant is no treatment; the message says what is wrong."""


class Treatment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    model: str = ""
    """Its slug; empty leaves the model that the call names."""
    prompt: str = ""
    """A version as `greeting@3`; empty leaves the version that the call's label names."""
    parameters: dict[str, Any] = {}
    """Of `PARAMETERS`. `max_tokens` is the most, whatever the call says; the others are what a call gets that says nothing itself."""


def treatment_of(value: Any) -> Treatment:
    """Raises TreatmentError."""
    if isinstance(value, str):
        return Treatment(model=value)
    if not isinstance(value, dict):
        raise TreatmentError("A treatment is the address of a model, or an object with model, prompt and parameters.")
    unknown = sorted(value.keys() - {"model", "prompt", "parameters"})
    if unknown:
        raise TreatmentError(f"A treatment has model, prompt and parameters, not {', '.join(map(str, unknown))}.")
    model, prompt, parameters = value.get("model", ""), value.get("prompt", ""), value.get("parameters", {})
    if not isinstance(model, str) or not isinstance(prompt, str) or not isinstance(parameters, dict):
        raise TreatmentError("The model and the prompt of a treatment are texts, its parameters an object.")
    if prompt:
        try:
            parse_reference(prompt)
        except PromptError as error:
            raise TreatmentError(str(error)) from error
    return Treatment(model=model, prompt=prompt, parameters=checked_parameters(parameters))


def checked_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of `PARAMETERS`, in their order. Raises TreatmentError."""
    checked = {name: _checked(name, value) for name, value in given.items()}
    return {name: checked[name] for name in PARAMETERS if name in checked}


def said_parameters(given: Mapping[str, Any]) -> str:
    """For people, in the order of `PARAMETERS`, which the database does not keep: `temperature 0.2, max_tokens 400`."""
    return ", ".join(f"{name} {_said(given[name])}" for name in PARAMETERS if name in given)


def _checked(name: str, given: Any) -> Any:
    allowed = PARAMETERS.get(name)
    if allowed is None:
        raise TreatmentError(f"There is no parameter {name}; there are {', '.join(PARAMETERS)}.")
    if isinstance(allowed, tuple):
        if given not in allowed:
            raise TreatmentError(f"{name} is one of {', '.join(allowed)}.")
        return given
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not allowed.low <= given <= allowed.high or (allowed.is_whole and given != int(given)):
        raise TreatmentError(f"{name} is a {'whole ' if allowed.is_whole else ''}number from {allowed.low:,} to {allowed.high:,}.")
    return int(given) if allowed.is_whole else given


def prompt_of(treatments: Iterable[Treatment]) -> str:
    """Slug of the prompt whose versions they are; empty when they name none. Raises TreatmentError unless all name one, of the same prompt.

    All: a champion without a version would be whatever the label names next, and the comparison with it worth nothing.
    """
    slugs = {parse_reference(each.prompt)[0] if each.prompt else "" for each in treatments}
    if len(slugs) > 1:
        raise TreatmentError("Each variant names a version of the same prompt, the control too, or none does.")
    return slugs.pop() if slugs else ""


@dataclass(frozen=True)
class Comparison:
    """What the variants of one flag do, and so which of the calls to its model they can be compared on."""

    treatments: dict[str, Treatment]
    """By variant."""
    prompt: str
    """Slug; a call takes part when it asks for this prompt by a label. Empty: any call."""
    parameters: frozenset[str]
    """Of any treatment; a call that sets one of them itself (the most tokens excepted) takes no part."""


def comparison_of(variants: Mapping[str, Any]) -> Comparison:
    """Raises TreatmentError."""
    treatments = {}
    for name, value in variants.items():
        try:
            treatments[name] = treatment_of(value)
        except TreatmentError as error:
            raise TreatmentError(f"{name}: {error}") from error
    names = frozenset(parameter for each in treatments.values() for parameter in each.parameters)
    return Comparison(treatments, prompt_of(treatments.values()), names)


def facts(treatment: Treatment) -> dict[str, str]:
    """What a treatment says, by model, prompt and the parameters' names."""
    given = treatment.parameters
    said = {"model": treatment.model, "prompt": treatment.prompt, **{name: _said(given[name]) for name in PARAMETERS if name in given}}
    return {name: value for name, value in said.items() if value}


def _said(value: Any) -> str:
    """The same for equal values: 1 and 1.0 are one number, whichever was written."""
    return value if isinstance(value, str) else json.dumps(int(value) if value == int(value) else value)


def differences(control: Treatment, treatment: Treatment) -> list[tuple[str, str, str]]:
    """(what, of the control, of the treatment) for what is not the same; what a side leaves to the call is empty."""
    before, after = facts(control), facts(treatment)
    return [(name, before.get(name, ""), after.get(name, "")) for name in {**before, **after} if before.get(name) != after.get(name)]
