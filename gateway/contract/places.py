"""Where the text of a call stands, whatever the dialect, and how what replaces it comes there."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from gateway.contract.documents import MOST_VALUES, Document, document

_SPOKEN = ("messages", "system", "input", "instructions", "prompt")
"""What carries text to a model, over OpenAI chat, responses and embeddings and Anthropic messages."""
_NOT_TEXT = frozenset(
    ("role", "type", "id", "name", "tool_call_id", "tool_use_id", "call_id", "url", "image_url", "file_id", "media_type", "mime_type",
     "data", "file_data", "encrypted_content", "signature", "format", "detail", "cache_control", "status", "object", "model")
)  # fmt: skip
"""Everything else is text: a field that nobody here knew is scanned, not passed by."""
_MAY_HOLD_TEXT = frozenset(("data", "format", "detail"))
"""Of those that are not text themselves: an object of that name may hold some."""
_ARGUMENTS = frozenset(("arguments", "input"))
"""What a tool was called with, as an object. (A text of the first name is JSON, and one of the second is not.)"""
_HOLDERS = (dict, list)
_MAX_DEPTH = 64

LEFT_OUT = "[REDACTED]"
"""Stands in a message of which nothing else is left: providers refuse one without content."""

Place = tuple[Any, Any, str]
"""The list, object or document that holds a text, its index or name there, and the text."""


class Places(list[Place]):
    """The texts of a call where they stand, and the documents, which hold more. What a scan changed reaches the call with `write_back`."""

    def __init__(self) -> None:
        super().__init__()
        self.documents: list[Document] = []
        self._signed: list[tuple[list[Any], dict[str, Any], Any]] = []

    def add_document(self, holder: Any, at: Any, most_values: int = MOST_VALUES) -> None:
        """All of a value or of a JSON text that a tool is called with, or answers: its names are the tool's own, so none is left out."""
        self.documents.append(document(holder, at, most_values))

    def add_signed(self, holder: list[Any], block: dict[str, Any]) -> None:
        self._signed.append((holder, block, block.get("thinking")))

    def write_back(self) -> Generator[None, None, None]:
        """In steps. A signed thought is valid only as it was, and may be left out: one that was changed is.

        Source: Anthropic, "Building with extended thinking", preserving thinking blocks.
        """
        for each in self.documents:
            yield from each.write_back()
        for holder, block, before in self._signed:
            if block.get("thinking") != before:
                holder[:] = [each for each in holder if each is not block] or [{"type": "text", "text": LEFT_OUT}]


def places_in_request(body: dict[str, Any]) -> Places:
    """Each text of a request body that goes to a model."""
    found = Places()
    for name in _SPOKEN:
        value = body.get(name)
        if isinstance(value, str):
            found.append((body, name, value))
        elif isinstance(value, _HOLDERS):
            _find_places(value, _MAX_DEPTH, found)
    return found


def places_in(value: Any) -> Places:
    """Each text under a value: the contents of a tool's result."""
    found = Places()
    _find_places([value], _MAX_DEPTH + 1, found)
    return found


def places_in_data(holder: Any, at: Any, most_values: int = MOST_VALUES) -> Places:
    """Each string, name and number of what stands there: a tool's arguments."""
    found = Places()
    found.add_document(holder, at, most_values)
    return found


def _find_places(holder: Any, depth: int, found: Places) -> None:
    """Written for speed: it runs on the road of every call."""
    if isinstance(holder, list):
        for index, value in enumerate(holder):
            if isinstance(value, str):
                found.append((holder, index, value))
            elif depth > 1 and isinstance(value, _HOLDERS):
                if "signature" in value and isinstance(value, dict) and value["signature"]:
                    found.add_signed(holder, value)
                _find_places(value, depth - 1, found)
        return
    for name, value in holder.items():
        if isinstance(value, str):
            if name == "arguments":
                found.add_document(holder, name)
            elif name not in _NOT_TEXT:
                found.append((holder, name, value))
        elif depth > 1 and isinstance(value, _HOLDERS) and (name not in _NOT_TEXT or name in _MAY_HOLD_TEXT):
            if name in _ARGUMENTS and isinstance(value, dict):
                found.add_document(holder, name)
            else:
                _find_places(value, depth - 1, found)
