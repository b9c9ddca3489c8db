"""Where the text of a call stands, whatever the dialect, and how what replaces it comes there."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import islice
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
_Holder = dict[str, Any] | list[Any]
_MAX_DEPTH = 64
STEP_MEMBERS = 2048
"""Of one list or object that are looked through in one step."""
STEP_HOLDERS = 512
"""Lists and objects that are: most are small."""
_STEP_ENDS = object()

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

    @property
    def is_written_back(self) -> bool:
        """Nothing is left for `write_back`: all texts stand in the call itself."""
        return not (self.documents or self._signed)

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


def places_in_request(body: dict[str, Any]) -> Generator[None, None, Places]:
    """Each text of a request body that goes to a model, in steps."""
    found = Places()
    for name in _SPOKEN:
        if name not in body:
            continue
        value = body[name]
        if isinstance(value, str):
            found.append((body, name, value))
        elif isinstance(value, _HOLDERS):
            yield from _find_places(value, _MAX_DEPTH, found)
    return found


def places_in(value: Any) -> Generator[None, None, Places]:
    """Each text under a value: the contents of a tool's result. In steps."""
    found = Places()
    yield from _find_places([value], _MAX_DEPTH + 1, found)
    return found


def places_in_data(holder: Any, at: Any, most_values: int = MOST_VALUES) -> Places:
    """Each string, name and number of what stands there: a tool's arguments."""
    found = Places()
    found.add_document(holder, at, most_values)
    return found


def _find_places(value: _Holder, depth: int, found: Places) -> Generator[None, None, None]:
    """Written for speed: it runs on the road of every call. A loop of its own, since a step may end anywhere: one list may hold millions."""
    holders = 0
    around = [(value, _members(value))]
    while around:
        holder, members = around[-1]
        inner = _look_through(holder, members, len(around) < depth, found)
        if inner is None:
            around.pop()
        elif inner is _STEP_ENDS:
            yield
        else:
            around.append((inner, _members(inner)))
            holders += 1
            if holders % STEP_HOLDERS == 0:
                yield


def _look_through(holder: _Holder, members: Iterable[tuple[Any, Any]], may_go_deeper: bool, found: Places) -> Any:
    """As far as the next list or object to go into, which it returns, or `_STEP_ENDS`; None at the end."""
    is_list = isinstance(holder, list)
    for name, each in members:
        if isinstance(each, str):
            if name == "arguments":
                found.add_document(holder, name)
            elif is_list or name not in _NOT_TEXT:
                found.append((holder, name, each))
        elif isinstance(each, _HOLDERS):
            if not may_go_deeper or (name in _NOT_TEXT and name not in _MAY_HOLD_TEXT):
                continue
            if name in _ARGUMENTS and isinstance(each, dict):
                found.add_document(holder, name)
                continue
            if isinstance(holder, list) and "signature" in each and isinstance(each, dict) and each["signature"]:
                found.add_signed(holder, each)
            return each
        elif each is _STEP_ENDS:
            return each
    return None


def _members(holder: _Holder) -> Iterable[tuple[Any, Any]]:
    """Names or indexes, and what stands there. In a long one `_STEP_ENDS` stands in between."""
    members = enumerate(holder) if isinstance(holder, list) else iter(holder.items())
    return members if len(holder) <= STEP_MEMBERS else _in_steps(members)


def _in_steps(members: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    while step := list(islice(members, STEP_MEMBERS)):
        yield from step
        yield None, _STEP_ENDS
