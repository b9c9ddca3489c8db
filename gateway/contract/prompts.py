"""Prompts that a call names instead of carrying: what a version is, and what becomes of it with a call's variables.

A call asks for `{"prompt": {"id": "greeting", "version": "production", "variables": {"name": "Ada"}}}`, the shape of OpenAI's responses. The version
is a label or a number; left out it is the label `production`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

DEFAULT_LABEL = "production"
ROLES = ("system", "developer", "user", "assistant")
PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\}\}")
MOST_VALUE_CHARACTERS = 200_000


class PromptError(ValueError):
    """The call can't have this prompt. `field` is where in its `prompt`."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Message(msgspec.Struct, frozen=True, array_like=True):
    role: str
    content: str
    """With `{{variable}}` places."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """An approved version. It never changes."""

    number: int
    messages: tuple[Message, ...]
    model: str = ""
    """What a call that names no model calls; empty leaves it to the call."""
    parameters: str = "{}"
    """JSON text of an object: fields of the request that the call does not give itself."""


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    labels: dict[str, int]
    """Such as production, to a version's number."""
    versions: dict[int, Version]

    def find(self, wanted: str) -> Version | None:
        """By label or number."""
        return self.versions.get(_number(self.labels, wanted))


class FlowVersion(msgspec.Struct, frozen=True, kw_only=True):
    """An approved version of a flow's configuration. It never changes."""

    number: int
    document: str
    """JSON text of an object, for the program that runs the flow."""
    model: str = ""
    parameters: str = "{}"
    models: tuple[str, ...] = ()
    """Slugs of all models that it names: a key that may not call one of them does not read it."""
    tools: tuple[str, ...] = ()
    """Namespaces of the tools that it names, likewise."""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    labels: dict[str, int]
    versions: dict[int, FlowVersion]

    def find(self, wanted: str) -> FlowVersion | None:
        """By label or number."""
        return self.versions.get(_number(self.labels, wanted))


def _number(labels: Mapping[str, int], wanted: str) -> int:
    """Of a label, or the number itself; 0, which no version has, of anything else."""
    number = labels.get(wanted)
    if number is None and wanted.isascii() and wanted.isdecimal() and len(wanted) < 10:
        number = int(wanted)
    return number or 0


def reference(slug: str, number: int) -> str:
    """A version's name in events (tag `prompt`), and of an arm of an experiment: `greeting@3`."""
    return f"{slug}@{number}"


def parse_reference(text: str) -> tuple[str, int]:
    """Slug and number of `greeting@3`. Raises PromptError."""
    slug, at, number = text.rpartition("@")
    if not at or not slug or not (number.isascii() and number.isdecimal()) or not 0 < len(number) < 10 or int(number) < 1:
        raise PromptError(f"{text!r} names no version of a prompt; one is named like greeting@3.")
    return slug, int(number)


def variables_in(texts: Iterable[str]) -> list[str]:
    """Names of the places, in the order of their first use."""
    return list(dict.fromkeys(name for text in texts for name in PLACE.findall(text)))


def check_variables(version: Version, given: Mapping[str, Any]) -> None:
    """PromptError when one is missing or unknown, or no text or number."""
    wanted = variables_in(message.content for message in version.messages)
    missing = [name for name in wanted if name not in given]
    if missing:
        raise PromptError(f"The prompt needs a value for {', '.join(missing)}.", "variables")
    unknown = sorted(set(given) - set(wanted))
    if unknown:
        raise PromptError(f"The prompt has no variable {', '.join(unknown)}.", "variables")
    for name, value in given.items():
        _text(name, value)


def render(version: Version, given: Mapping[str, Any]) -> list[dict[str, str]]:
    """The messages with every place filled, once: what a value holds is never taken for a place. PromptError when one is missing or unknown."""
    check_variables(version, given)
    values = {name: _text(name, value) for name, value in given.items()}
    return [
        {"role": message.role, "content": PLACE.sub(lambda place: values[place.group(1)], message.content)} for message in version.messages
    ]


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise PromptError(f"The variable {name} must be a text or a number.", "variables")
    text = str(value)
    if len(text) > MOST_VALUE_CHARACTERS:
        raise PromptError(f"The variable {name} is longer than {MOST_VALUE_CHARACTERS:,} characters.", "variables")
    return text
