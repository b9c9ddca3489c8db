"""What the playground's parameters start from: what a run gets that changes nothing. Pure: no ORM, clock or network."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.contract.defaults import SAMPLING, defaults_given
from gateway.contract.surfaces import FIELDS
from gateway.contract.surfaces import MOST_OUTPUT as OUTPUT_NAMES
from gateway.contract.treatments import PARAMETERS, Treatment, facts

LABELS = {
    "temperature": "Temperature",
    "top_p": "Top p",
    "max_tokens": "Most output tokens",
    "frequency_penalty": "Frequency penalty",
    "presence_penalty": "Presence penalty",
    "reasoning_effort": "Reasoning effort",
}
MOST_OUTPUT = "800"
"""For models without a default, where no prompt is tried: a try should not cost what a model's longest answer does."""
_STEPS = {"temperature": "0.1", "top_p": "0.05", "max_tokens": "1", "frequency_penalty": "0.1", "presence_penalty": "0.1"}
_RIVALS = dict(zip(SAMPLING, reversed(SAMPLING), strict=True))


@dataclass(frozen=True)
class Tried:
    """What of a model decides which of its defaults a run gets."""

    defaults: Mapping[str, Any]
    dialects: Collection[str]
    """Of the deployments that the gateway calls."""
    max_output_tokens: int


@dataclass(frozen=True)
class Parameter:
    """One field. Only what differs from `start` is sent, unless the model is in `sent_to`: what it starts from applies without being said."""

    name: str
    label: str
    field: str
    """By which a run sends it: as the prompt calls it, so that a run never has it under two names."""
    start: str
    """Empty: nothing is set, or each model has its own."""
    origin: str
    """Where the value comes from, for people."""
    sent: str = ""
    """What a run that changes nothing sends to the models in `sent_to`."""
    sent_to: tuple[str, ...] = ()
    rival: str = ""
    """The parameter which, once it is set, keeps this one's default away."""
    step: str = ""
    low: str = ""
    high: str = ""
    choices: tuple[str, ...] = ()


def parameters(models: Mapping[str, Tried], prompt: Mapping[str, Any] | None) -> list[Parameter]:
    """`models` by slug, `prompt` the parameters of the version that is tried; in the order of `PARAMETERS`."""
    body = prompt or {}
    of_models = {slug: facts(Treatment(parameters=_given(model, body))) for slug, model in models.items()}
    found = []
    for name, bounds in PARAMETERS.items():
        field = _field(name, body)
        own = body.get(field)
        if isinstance(own, str | int | float):  # a version may say anything
            one = Parameter(name, LABELS[name], field, str(own), "the prompt's")
        else:
            by_model = {slug: given.get(name, "") for slug, given in of_models.items()}
            one = _of_models(name, field, by_model, fill=MOST_OUTPUT if name == "max_tokens" and prompt is None else "")
        if isinstance(bounds, tuple):
            found.append(replace(one, choices=bounds))
        else:
            found.append(replace(one, step=_STEPS[name], low=f"{bounds.low:.0f}", high=f"{bounds.high:.0f}"))
    return found


def said(rows: Iterable[Parameter]) -> str:
    """What is set before anything was changed: `Temperature 0.2, Most output tokens 400`."""
    return ", ".join(f"{one.label} {one.start}" for one in rows if one.start)


def _given(model: Tried, body: Mapping[str, Any]) -> dict[str, Any]:
    return defaults_given(model.defaults, body, surface="chat", dialects=model.dialects, max_output_tokens=model.max_output_tokens)


def _field(name: str, body: Mapping[str, Any]) -> str:
    names = OUTPUT_NAMES["chat"] if name == "max_tokens" else (FIELDS["chat"][name],)
    return next((each for each in names if each in body), name)


def _of_models(name: str, field: str, by_model: Mapping[str, str], *, fill: str) -> Parameter:
    """Of the models' defaults; `fill`, if there is one, is sent to those that have none."""
    bare = tuple(slug for slug, value in by_model.items() if fill and not value)
    rival = _RIVALS.get(name, "") if any(by_model.values()) else ""
    start = fill
    if len(set(by_model.values())) > 1:
        missing = f"{fill} (the playground's)" if fill else "not set"
        start, origin = "", f"each model's default: {', '.join(f'{slug} {value or missing}' for slug, value in by_model.items())}"
    elif default := "".join(set(by_model.values())):
        start, origin = default, "the model's default" if len(by_model) == 1 else "the models' default"
    else:
        origin = "the playground's" if fill else "not set"
    return Parameter(name, LABELS[name], field, start, origin, fill if bare else "", bare, rival)
