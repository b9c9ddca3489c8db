"""A call that names a prompt gets its messages, its model and its parameters from the snapshot, before anything else is read of it."""

from __future__ import annotations

import time
from typing import Any

import orjson

from gateway.contract import prompts as contract
from gateway.contract.events import Step
from gateway.contract.names import PROMPT_TAG
from gateway.plane.call import Call
from gateway.plane.errors import Refusal

SURFACES = ("chat", "responses")
_HOSTED = "pmpt_"
"""Prompts that OpenAI keeps go on to OpenAI as they are."""


def resolve_prompt(call: Call, body: dict[str, Any]) -> bool:
    """Put the prompt that the body names in its place; True when there was one. Refusal when the call can't have it."""
    asked = body.get("prompt")
    if call.surface not in SURFACES or not isinstance(asked, dict):
        return False
    slug = asked.get("id")
    if isinstance(slug, str) and slug.startswith(_HOSTED):
        return False
    began = time.perf_counter_ns()
    if not isinstance(slug, str) or not slug or asked.keys() - {"id", "version", "variables"}:
        raise Refusal("invalid_request", "prompt must have an id, and may have a version and variables.", param="prompt")
    wanted, variables = asked.get("version"), asked.get("variables")
    if wanted is not None and not isinstance(wanted, str | int):
        raise Refusal("invalid_request", "The version of a prompt is a label or a number.", param="prompt.version")
    if variables is not None and not isinstance(variables, dict):
        raise Refusal("invalid_request", "The variables of a prompt are an object.", param="prompt.variables")
    version = _find(call, slug, contract.DEFAULT_LABEL if wanted is None else str(wanted))
    try:
        messages = contract.render(version, variables or {})
    except contract.PromptError as error:
        raise Refusal("invalid_request", str(error), param=f"prompt.{error.field}") from error
    del body["prompt"]
    for name, value in orjson.loads(version.parameters).items():
        body.setdefault(name, value)
    if version.model:
        body.setdefault("model", version.model)
    _place(call, body, messages)
    named = contract.reference(slug, version.number)
    call.tags = {**call.tags, PROMPT_TAG: named}
    call.steps.append(Step("prompt", "pass", (time.perf_counter_ns() - began) // 1000, named))
    return True


def _find(call: Call, slug: str, wanted: str) -> contract.Version:
    assert call.served is not None
    prompt = call.served.snapshot.prompts.get(slug)
    if prompt is None:
        raise Refusal("prompt_not_found", f"There is no prompt {slug[:80]} with an approved version.", param="prompt.id")
    version = prompt.find(wanted)
    if version is None:
        known = ", ".join([*sorted(prompt.labels), *map(str, sorted(prompt.versions, reverse=True)[:10])])
        raise Refusal(
            "prompt_not_found", f"The prompt {slug} has no approved version {wanted[:80]}. There are: {known}.", param="prompt.version"
        )
    return version


def _place(call: Call, body: dict[str, Any], messages: list[dict[str, str]]) -> None:
    """The prompt's messages come first, the call's own after them."""
    name = "messages" if call.surface == "chat" else "input"
    own = body.get(name)
    if own is None:
        own = []
    elif name == "input" and isinstance(own, str):
        own = [{"role": "user", "content": own}]
    elif not isinstance(own, list):
        raise Refusal("invalid_request", f"{name} must be a list.", param=name)
    body[name] = [*messages, *own]
