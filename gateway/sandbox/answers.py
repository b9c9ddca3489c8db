"""What the sandbox answers, before it is put into a protocol: small talk, a tool call, or an instance of a schema.

A tool is called when the caller forces it, or when the last message is a person's and names it. The same request gets the same answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from gateway.sandbox import talk

_IMAGES = frozenset({"image_url", "image", "input_image"})


@dataclass(frozen=True)
class Ask:
    """A request, without its protocol."""

    messages: list[Any]
    tools: dict[str, Any]
    """Schema of the input by the tool's name."""
    forced: str = ""
    """A tool's name, `any`, `none`, or empty for the model's choice."""
    schema: dict[str, Any] | None = None
    """What the text must be an instance of."""
    limit: Any = None
    """The most tokens of the answer, if that is a number."""
    system: str = ""


@dataclass(frozen=True)
class Answer:
    parts: list[str]
    """The text in the pieces in which it is streamed; empty for a tool call."""
    calls: list[tuple[str, str]]
    """Tool name and arguments as JSON text."""
    stop: Literal["stop", "length", "tools"]
    input_tokens: int
    output_tokens: int

    @property
    def text(self) -> str:
        return "".join(self.parts)


def answer(ask: Ask) -> Answer:
    input_tokens = talk.prompt_tokens(ask.messages) + talk.count_tokens(ask.system)
    last = ask.messages[-1] if isinstance(ask.messages[-1], dict) else {}
    names = _called(ask, last)
    if names:
        calls = [(name, json.dumps(instance(ask.tools[name], name))) for name in names]
        return Answer([], calls, "tools", input_tokens, sum(talk.count_tokens(name + given) for name, given in calls))
    text = talk.answer(ask.messages) if ask.schema is None else json.dumps(instance(ask.schema, "sandbox"))
    seen = _images(last.get("content"))
    if seen and ask.schema is None:
        text = f"I see {seen} image{'s' if seen > 1 else ''}. {text}"
    parts, stop = talk.pieces(text), "stop"
    if isinstance(ask.limit, int):
        while len(parts) > 1 and talk.count_tokens("".join(parts)) > ask.limit:
            parts, stop = parts[:-1], "length"
    return Answer(parts, [], "length" if stop == "length" else "stop", input_tokens, talk.count_tokens("".join(parts)))


def _called(ask: Ask, last: dict[str, Any]) -> list[str]:
    content = last.get("content")
    is_result = isinstance(content, list) and any(isinstance(part, dict) and part.get("type") == "tool_result" for part in content)
    if last.get("role") != "user" or is_result or ask.forced == "none":
        return []
    if ask.forced in ask.tools:
        return [ask.forced]
    named = [name for name in ask.tools if name in talk.text_of(content)]
    return named or (list(ask.tools)[:1] if ask.forced == "any" else [])


def _images(content: Any) -> int:
    return sum(isinstance(part, dict) and part.get("type") in _IMAGES for part in content) if isinstance(content, list) else 0


def instance(schema: Any, word: str) -> Any:
    """Something that fits a JSON schema of the plain kind: required and other properties alike, the first of an enumeration."""
    if not isinstance(schema, dict):
        return word
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance(inner, name) for name, inner in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [instance(schema.get("items"), word)]
    return {"integer": 1, "number": 1.5, "boolean": True, "null": None}.get(kind, word)
