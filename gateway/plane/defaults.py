"""Parameters that a model has for calls which set none, put into a call in its surface's own words."""

from __future__ import annotations

from typing import Any

from gateway.contract.defaults import defaults_given
from gateway.contract.snapshot import Model
from gateway.contract.surfaces import FIELDS
from gateway.contract.treatments import said_parameters
from gateway.plane.call import Call
from gateway.plane.prompts import written_bytes
from gateway.plane.treatments import put
from gateway.plane.usage import asked_output


def apply_defaults(call: Call, model: Model) -> str:
    """Fill in what the call, its prompt and its flag leave open; what was given, for the call's record. Only of a model that has defaults."""
    given = defaults_given(
        model.defaults,
        call.body,
        surface=call.surface,
        dialects={each.dialect for each in model.deployments},
        max_output_tokens=model.max_output_tokens,
    )
    for name, value in given.items():
        field = FIELDS[call.surface][name]
        put(call.body, field, value)
        call.defaulted = (*call.defaulted, field)
    if "max_tokens" in given and call.kind == "chat":
        call.is_limit_ours = True
        call.output_estimate = asked_output(call.body, call.surface, model.max_output_tokens)
    call.body_bytes += written_bytes(given)
    return f"defaults: {said_parameters(given)}" if given else ""


def without_defaults(call: Call) -> dict[str, Any]:
    """The body as it would be sent to a model that has none: for whoever sends it to another one."""
    body = dict(call.body)
    for field in call.defaulted:
        head, _, rest = field.partition(".")
        value = body.pop(head)
        if rest and (others := {name: each for name, each in value.items() if name != rest}):
            body[head] = others
    return body
