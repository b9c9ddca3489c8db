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
"""Of all lists and objects, and these themselves, that are looked through in one step."""
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

    @property
    def are_too_many(self) -> bool:
        """More than are looked at: some were not even looked for. So many belong to no conversation, only to an attack."""
        return len(self) + len(self.documents) > MOST_VALUES

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
            yield
        left_out = dict[int, tuple[list[Any], set[int]]]()
        for number, (holder, block, before) in enumerate(self._signed, 1):
            if block.get("thinking") != before:
                left_out.setdefault(id(holder), (holder, set()))[1].add(id(block))
            if number % STEP_MEMBERS == 0:
                yield
        for holder, blocks in left_out.values():
            holder[:] = [each for each in holder if id(each) not in blocks] or [{"type": "text", "text": LEFT_OUT}]
            yield


def places_in_request(body: dict[str, Any]) -> Generator[None, None, Places]:
    """Each text of a request body that goes to a model, in steps."""
    found = Places()
    holders: list[_Holder] = []
    for name in _SPOKEN:
        if name not in body:
            continue
        value = body[name]
        if isinstance(value, str):
            found.append((body, name, value))
        elif isinstance(value, _HOLDERS):
            holders.append(value)
    return _find_places(holders, _MAX_DEPTH, found)


def places_in(values: list[Any]) -> Generator[None, None, Places]:
    """Each text in a list: the contents of a tool's result. In steps."""
    return _find_places([values], _MAX_DEPTH + 1, Places())


def places_in_data(holder: Any, at: Any, most_values: int = MOST_VALUES) -> Places:
    """Each string, name and number of what stands there: a tool's arguments."""
    found = Places()
    found.add_document(holder, at, most_values)
    return found


def _find_places(holders: list[_Holder], depth: int, found: Places) -> Generator[None, None, Places]:  # noqa: PLR0912 - see below
    """Those under `holders`, level by level. Ends early when they are too many.

    One function, written for speed: it runs on the road of every call. Each list or object is gone through once and as a whole, so that
    what was seen is counted by its length; only a long one is cut.
    """
    seen, append, not_text = 0, found.append, _NOT_TEXT
    while holders and depth:
        below: list[_Holder] = []
        for holder in holders:
            size = len(holder)
            seen += size + 1
            if seen > STEP_MEMBERS:
                yield
                if found.are_too_many:
                    return found
                seen = size + 1
            if isinstance(holder, list):
                for index, each in enumerate(holder) if size <= STEP_MEMBERS else _in_steps(enumerate(holder), found):
                    if isinstance(each, str):
                        append((holder, index, each))
                    elif isinstance(each, dict):
                        if each.get("signature"):
                            found.add_signed(holder, each)
                        below.append(each)
                    elif isinstance(each, list):
                        below.append(each)
                    elif each is _STEP_ENDS:
                        yield
                continue
            for name, each in holder.items() if size <= STEP_MEMBERS else _in_steps(holder.items(), found):
                if isinstance(each, str):
                    if name in not_text:
                        continue
                    if name == "arguments":
                        found.add_document(holder, name)
                    else:
                        append((holder, name, each))
                elif isinstance(each, _HOLDERS):
                    if name in _ARGUMENTS and isinstance(each, dict):
                        found.add_document(holder, name)
                    elif name not in not_text or name in _MAY_HOLD_TEXT:
                        below.append(each)
                elif each is _STEP_ENDS:
                    yield
        holders, depth = below, depth - 1
    return found


def _in_steps(members: Iterable[tuple[Any, Any]], found: Places) -> Iterator[tuple[Any, Any]]:
    """With `_STEP_ENDS` in between."""
    left = iter(members)
    while not found.are_too_many and (step := list(islice(left, STEP_MEMBERS))):
        yield from step
        yield None, _STEP_ENDS
