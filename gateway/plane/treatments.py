"""What a variant does to a call: another version of the prompt that it asks for, and parameters within what the call and the model allow."""

from __future__ import annotations

from typing import Any

from gateway.contract.snapshot import Model
from gateway.contract.surfaces import FIELDS, MESSAGES_EFFORTS, MESSAGES_TEMPERATURE, MOST_OUTPUT, MOST_OUTPUT_NAMES
from gateway.contract.treatments import Comparison, Treatment
from gateway.plane.call import Call
from gateway.plane.prompts import other_version, place_version, written_bytes
from gateway.plane.usage import asked_output, estimate_input


def why_outside(call: Call, compared: Comparison) -> str:
    """Why the variants can't be compared on this call, whichever of them it would get; empty when they can.

    The same for all variants, so that a call is either in every arm's count or in none: else the arms would not be alike.
    """
    if compared.prompt:
        asked = call.prompt
        if asked is None or asked.slug != compared.prompt or asked.is_pinned:
            return f"the call asks for no label of the prompt {compared.prompt}"
    if not compared.parameters:
        return ""
    fields = FIELDS.get(call.surface)
    if fields is None:
        return f"{call.surface} has no such parameters"
    for name in sorted(compared.parameters):
        if name not in fields or (call.surface == "messages" and not _messages_know(name, compared)):
            return f"{call.surface} has no such {name}"
        if name != "max_tokens" and _is_own(call, fields[name]):
            return f"the call sets {name} itself"
    return ""


def _messages_know(name: str, compared: Comparison) -> bool:
    given = [each.parameters[name] for each in compared.treatments.values() if name in each.parameters]
    if name == "reasoning_effort":
        return all(value in MESSAGES_EFFORTS for value in given)
    return name != "temperature" or all(value <= MESSAGES_TEMPERATURE for value in given)


def _is_own(call: Call, field: str) -> bool:
    """Does the caller say it, rather than the prompt?"""
    head, _, rest = field.partition(".")
    if head not in call.body or (call.prompt is not None and head in call.prompt.added):
        return False
    value = call.body[head]
    return not rest or not isinstance(value, dict) or rest in value


def why_not_applied(call: Call, treatment: Treatment) -> str:
    """Why the call can't have the treatment's version of its prompt; empty when it can."""
    return other_version(call, treatment.prompt)[1] if treatment.prompt else ""


def apply_treatment(call: Call, treatment: Treatment) -> None:
    """Do to the call what the treatment says beside its model, to which the call is bound by now."""
    if not treatment.prompt and not treatment.parameters:
        return
    model = call.model
    if treatment.prompt:
        version, _ = other_version(call, treatment.prompt)
        assert version is not None
        place_version(call, version)
    for name, value in treatment.parameters.items():
        _set(call, name, value, model)
    call.body_bytes += written_bytes(treatment.parameters)  # about: some are written over
    call.input_estimate = estimate_input(call.body_bytes, model.context_window if model else None)
    if call.kind == "chat":
        call.output_estimate = asked_output(call.body, call.surface, model.max_output_tokens if model else 0)


def _set(call: Call, name: str, value: Any, model: Model | None) -> None:
    body, field = call.body, FIELDS[call.surface][name]
    if name == "max_tokens":
        _cap_output(call, min(value, model.max_output_tokens) if model else value)
        return
    put(body, field, value)


def put(body: dict[str, Any], field: str, value: Any) -> None:
    """Set a field of `FIELDS`."""
    head, _, rest = field.partition(".")
    if rest:
        body[head] = {**(body.get(head) or {}), rest: value}
    else:
        body[head] = value


def _cap_output(call: Call, most: int) -> None:
    """Under every name that some surface has for it, since servers know more names than the protocol; and under one that this surface has."""
    body, added = call.body, call.prompt.added if call.prompt is not None else frozenset()
    if not any(name in body for name in MOST_OUTPUT[call.surface]):
        body[FIELDS[call.surface]["max_tokens"]] = most
        call.is_limit_ours = True
    for name in MOST_OUTPUT_NAMES:
        if name in body:
            before = body[name]
            is_less = name not in added and isinstance(before, int | float) and not isinstance(before, bool) and 0 < before < most
            body[name] = before if is_less else most  # null is no limit, to some servers -1 is none, and some read a number from a text
