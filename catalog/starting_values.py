"""What the playground's parameters start from: what a run gets that changes nothing. Pure: no ORM, clock or network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

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
"""Where neither prompt nor model says: a try should not cost what a model's longest answer does."""
_STEPS = {"temperature": "0.1", "top_p": "0.05", "max_tokens": "1", "frequency_penalty": "0.1", "presence_penalty": "0.1"}
_OTHER_NAMES = {"max_completion_tokens": "max_tokens"}
_RIVALS = {"temperature": "top_p", "top_p": "temperature"}
"""The gateway fills in neither of them for a call that sets one, see `gateway.plane.defaults`."""


@dataclass(frozen=True)
class Parameter:
    """One field. Only what differs from `start` is sent, unless `is_sent`: what it starts from applies without being said."""

    name: str
    label: str
    start: str
    """Empty: nothing is set, or each model has its own."""
    origin: str
    """Where the value comes from, for people."""
    is_sent: bool = False
    rival: str = ""
    """The parameter which, once it is set, keeps this one's default away."""
    step: str = ""
    low: str = ""
    high: str = ""
    choices: tuple[str, ...] = ()


def parameters(defaults: Mapping[str, Mapping[str, Any]], prompt: Mapping[str, Any] | None) -> list[Parameter]:
    """`defaults` by model, `prompt` the parameters of the version that is tried; in the order of `PARAMETERS`."""
    of_models = {model: facts(Treatment(parameters=dict(each))) for model, each in defaults.items()}
    named = {_OTHER_NAMES.get(name, name): value for name, value in (prompt or {}).items()}
    of_prompt = {name: str(value) for name, value in named.items() if isinstance(value, str | int | float)}  # a version may say anything
    found = []
    for name, bounds in PARAMETERS.items():
        by_model = {model: "" if _RIVALS.get(name) in of_prompt else each.get(name, "") for model, each in of_models.items()}
        one = Parameter(name, LABELS[name], *_start(name, by_model, of_prompt, has_prompt=prompt is not None))
        if isinstance(bounds, tuple):
            found.append(replace(one, choices=bounds))
        else:
            found.append(replace(one, step=_STEPS[name], low=f"{bounds.low:.0f}", high=f"{bounds.high:.0f}"))
    return found


def said(rows: Iterable[Parameter]) -> str:
    """What is set before anything was changed: `Temperature 0.2, Most output tokens 400`."""
    return ", ".join(f"{one.label} {one.start}" for one in rows if one.start)


def _start(name: str, by_model: Mapping[str, str], of_prompt: Mapping[str, str], *, has_prompt: bool) -> tuple[str, str, bool, str]:
    """(start, origin, is_sent, rival) of a `Parameter`."""
    values = set(by_model.values())
    if name in of_prompt:
        return of_prompt[name], "the prompt's", False, ""
    if len(values) > 1:
        each = ", ".join(f"{model} {value or 'not set'}" for model, value in by_model.items())
        return "", f"each model's default: {each}", False, _RIVALS.get(name, "")
    if default := "".join(values):
        return default, "the model's default" if len(by_model) == 1 else "the models' default", False, _RIVALS.get(name, "")
    if name == "max_tokens" and not has_prompt:
        return MOST_OUTPUT, "the playground's", True, ""
    return "", "not set", False, ""
