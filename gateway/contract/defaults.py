"""Which default parameters of its model a call gets. Pure: the plane fills them in, and the portal shows them, by the same function."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gateway.contract.surfaces import FIELDS, MESSAGES_EFFORTS, MESSAGES_TEMPERATURE, MOST_OUTPUT_NAMES
from gateway.contract.treatments import PARAMETERS

SAMPLING = ("temperature", "top_p")
"""A call that sets one of them means it: upstreams advise, or, as Anthropic's newer models do, insist that the other is then left alone.
Of two defaults the first goes there."""


def defaults_given(
    defaults: Mapping[str, Any], body: Mapping[str, Any], *, surface: str, dialects: Collection[str], max_output_tokens: int
) -> dict[str, Any]:
    """Of `defaults`, what a call with this body leaves open; by our names, in the order of `PARAMETERS`, which a database does not keep.

    `dialects` are those of the model's deployments. What the surface or one of them does not know is left out: a default never makes a call
    fail. Embeddings, and counting of tokens, write nothing and get none.
    """
    fields = FIELDS.get(surface, {})
    is_anthropic = "anthropic" in dialects
    speaks_anthropic = is_anthropic or surface == "messages"
    is_sampled = any(fields.get(name) in body for name in SAMPLING) or (speaks_anthropic and _thinks(body))
    given: dict[str, Any] = {}
    for name in PARAMETERS:
        field, value = fields.get(name), defaults.get(name)
        if field is None or value is None or (speaks_anthropic and not _anthropic_knows(name, value)) or (name in SAMPLING and is_sampled):
            continue
        if name == "max_tokens":
            value = min(value, max_output_tokens)
            is_set = any(body.get(each) is not None for each in MOST_OUTPUT_NAMES) or value <= _thoughts(body)
        else:
            is_set = _is_set(body, field)
        if not is_set:
            given[name] = value
            is_sampled = is_sampled or (name in SAMPLING and is_anthropic)
    return given


def _thinks(body: Mapping[str, Any]) -> bool:
    """In the Anthropic protocol thinking takes no other temperature than its own; chat passes the field on to it."""
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") != "disabled"


def _thoughts(body: Mapping[str, Any]) -> int:
    """Tokens that the call gives to thinking; the most tokens, of which they are a part, must be more."""
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return budget if isinstance(budget, int) else 0


def _is_set(body: Mapping[str, Any], field: str) -> bool:
    head, _, rest = field.partition(".")
    value = body.get(head)
    return head in body and (not rest or not isinstance(value, dict) or rest in value)


def _anthropic_knows(name: str, value: Any) -> bool:
    if name == "temperature":
        return bool(value <= MESSAGES_TEMPERATURE)
    return name not in ("frequency_penalty", "presence_penalty") and (name != "reasoning_effort" or value in MESSAGES_EFFORTS)
