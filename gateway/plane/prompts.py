"""A call that names a prompt gets its messages, its model and its parameters from the snapshot, before anything else is read of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.contract import prompts as contract
from gateway.contract.events import Step
from gateway.contract.names import PROMPT_TAG
from gateway.contract.surfaces import FIELDS, MOST_OUTPUT_NAMES
from gateway.plane.call import Call
from gateway.plane.errors import Refusal

SURFACES = ("chat", "responses")
_HOSTED = "pmpt_"
"""Prompts that OpenAI keeps go on to OpenAI as they are."""


@dataclass(slots=True)
class AskedPrompt:
    """The prompt that stands at the beginning of a call's body, so that a flag can put another version in its place."""

    slug: str
    is_pinned: bool
    """The call names a number, not a label: no flag changes that."""
    variables: dict[str, Any]
    messages: int
    """How many of the body's messages are the prompt's."""
    added: frozenset[str]
    """Fields of the body that the version's parameters gave."""


def resolve_prompt(call: Call, body: dict[str, Any]) -> bool:
    """Put the prompt that the body names in its place; True when there was one. Refusal when the call can't have it.

    `call.body_bytes` follows by what was put in and taken out: the body may be long, and is not written whole to know its length.
    """
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
    label = contract.DEFAULT_LABEL if wanted is None else str(wanted)
    version = _find(call, slug, label)
    try:
        messages = contract.render(version, variables or {})
    except contract.PromptError as error:
        raise Refusal("invalid_request", str(error), param=f"prompt.{error.field}") from error
    del body["prompt"]
    added = _fill(call, body, version)
    call.body_bytes += written_bytes(_fields(body, added)) - written_bytes({"prompt": asked})
    if version.model and "model" not in body:
        body["model"] = version.model
        call.body_bytes += written_bytes({"model": version.model})
    call.body_bytes += written_bytes(messages)
    _place(call, body, messages)
    is_pinned = label not in call.served.snapshot.prompts[slug].labels if call.served else True
    call.prompt = AskedPrompt(slug, is_pinned, variables or {}, len(messages), added)
    named = contract.reference(slug, version.number)
    call.tags = {**call.tags, PROMPT_TAG: named}
    call.steps.append(Step("prompt", "pass", (time.perf_counter_ns() - began) // 1000, named))
    return True


def _find(call: Call, slug: str, wanted: str) -> contract.Version:
    assert call.served is not None
    prompt = call.served.snapshot.prompts.get(slug)
    if prompt is None and slug in call.served.snapshot.flows:
        raise Refusal("prompt_not_found", f"{slug} is a flow, which programs read: GET /v1/prompts/{slug}.", param="prompt.id")
    if prompt is None:
        raise Refusal("prompt_not_found", f"There is no prompt {slug[:80]} with an approved version.", param="prompt.id")
    version = prompt.find(wanted)
    if version is None:
        raise not_approved(prompt, slug, wanted, "prompt.version")
    return version


def not_approved(of: contract.Prompt | contract.Flow, slug: str, wanted: str, param: str) -> Refusal:
    """What a call is told that asks for a version which is not served."""
    known = ", ".join([*sorted(of.labels), *map(str, sorted(of.versions, reverse=True)[:10])])
    what = "flow" if isinstance(of, contract.Flow) else "prompt"
    return Refusal("prompt_not_found", f"The {what} {slug} has no approved version {wanted[:80]}. There are: {known}.", param=param)


def _fill(call: Call, body: dict[str, Any], version: contract.Version) -> frozenset[str]:
    """Names of the version's parameters that the call does not give itself, now in the body.

    The most tokens have several names, and OpenAI refuses a request with two of them: they are one parameter, sent once, under the name
    that surface and host know.
    """
    given = {name: value for name, value in orjson.loads(version.parameters).items() if name not in body}
    most = [given.pop(name) for name in MOST_OUTPUT_NAMES if name in given]
    if most and not any(name in body for name in MOST_OUTPUT_NAMES):
        given[FIELDS[call.surface]["max_tokens"]] = most[0]
        call.is_limit_ours = True
    body.update(given)
    return frozenset(given)


def other_version(call: Call, wanted: str) -> tuple[contract.Version | None, str]:
    """The version that `greeting@3` names, for a call that asks for a label of that prompt; or why it can't have it."""
    assert call.served is not None
    assert call.prompt is not None
    slug, number = contract.parse_reference(wanted)
    prompt = call.served.snapshot.prompts.get(slug)
    version = prompt.versions.get(number) if prompt is not None else None
    if version is None:
        return None, f"{wanted} is not served"
    try:
        contract.check_variables(version, call.prompt.variables)
    except contract.PromptError as error:
        return None, f"{wanted}: {error}"
    return version, ""


def place_version(call: Call, version: contract.Version) -> None:
    """Put another version's messages and parameters where those of the label's were; the call's model stays."""
    asked, body = call.prompt, call.body
    assert asked is not None
    messages = contract.render(version, asked.variables)
    name = "messages" if call.surface == "chat" else "input"
    before = written_bytes(_fields(body, asked.added)) + written_bytes(body[name][: asked.messages])
    for each in asked.added:
        body.pop(each, None)
    asked.added = _fill(call, body, version)
    call.body_bytes += written_bytes(_fields(body, asked.added)) + written_bytes(messages) - before
    body[name] = [*messages, *body[name][asked.messages :]]
    asked.messages = len(messages)
    call.tags = {**call.tags, PROMPT_TAG: contract.reference(asked.slug, version.number)}


def _fields(body: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: body[name] for name in names if name in body}


def written_bytes(part: dict[str, Any] | list[Any]) -> int:
    """By how much a body grows that is given these fields, or messages: each with its comma, without the brackets around."""
    return len(orjson.dumps(part)) - 1 if part else 0


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
