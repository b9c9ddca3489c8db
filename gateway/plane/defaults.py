"""Parameters that a model has for calls which set none, put into a call in its surface's own words."""

from __future__ import annotations

from typing import Any

from gateway.contract.snapshot import Model
from gateway.contract.treatments import PARAMETERS, said_parameters
from gateway.plane.call import Call
from gateway.plane.prompts import written_bytes
from gateway.plane.treatments import FIELDS, MESSAGES_EFFORTS, MESSAGES_TEMPERATURE, put
from gateway.plane.usage import MOST_OUTPUT_NAMES, asked_output

_SAMPLING = ("temperature", "top_p")
"""A call that sets one of them means it: upstreams advise, or, as Anthropic's newer models do, insist that the other is then left alone.
Of two defaults the first goes there."""


def apply_defaults(call: Call, model: Model) -> str:
    """Fill in what the call, its prompt and its flag leave open; what was given, for the call's record. Only of a model that has defaults.

    What the surface or the protocol of one of the model's deployments does not know is left out: a default never makes a call fail.
    """
    fields = FIELDS.get(call.surface)
    if fields is None:  # embeddings, and counting of tokens, write nothing
        return ""
    is_anthropic = any(each.dialect == "anthropic" for each in model.deployments)
    speaks_anthropic = is_anthropic or call.surface == "messages"
    is_sampled = any(fields[name] in call.body for name in _SAMPLING) or (speaks_anthropic and _thinks(call))
    given: dict[str, Any] = {}
    for name in PARAMETERS:  # in their order, which a database does not keep
        field, value = fields.get(name), model.defaults.get(name)
        if field is None or value is None or (speaks_anthropic and not _anthropic_knows(name, value)) or (name in _SAMPLING and is_sampled):
            continue
        is_set = _limits_output(call.body) if name == "max_tokens" else _is_set(call.body, field)
        if not is_set and not (name == "max_tokens" and value <= _thoughts(call)):
            given[name] = min(value, model.max_output_tokens) if name == "max_tokens" else value
            put(call.body, field, given[name])
            call.defaulted = (*call.defaulted, field)
            is_sampled = is_sampled or (name in _SAMPLING and is_anthropic)
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


def _thinks(call: Call) -> bool:
    """In the Anthropic protocol thinking takes no other temperature than its own; chat passes the field on to it."""
    thinking = call.body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") != "disabled"


def _thoughts(call: Call) -> int:
    """Tokens that the call gives to thinking; the most tokens, of which they are a part, must be more."""
    thinking = call.body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return budget if isinstance(budget, int) else 0


def _limits_output(body: dict[str, Any]) -> bool:
    return any(body.get(each) is not None for each in MOST_OUTPUT_NAMES)


def _is_set(body: dict[str, Any], field: str) -> bool:
    head, _, rest = field.partition(".")
    value = body.get(head)
    return head in body and (not rest or not isinstance(value, dict) or rest in value)


def _anthropic_knows(name: str, value: Any) -> bool:
    if name == "temperature":
        return bool(value <= MESSAGES_TEMPERATURE)
    return name not in ("frequency_penalty", "presence_penalty") and (name != "reasoning_effort" or value in MESSAGES_EFFORTS)
