"""JSON taken apart into what it says: strings, names and numbers, each by itself, and put together again.

A text that is replaced inside of JSON must leave JSON behind: within a string it is escaped as one, and instead of a number stands a string.
What is not replaced keeps its bytes, so that a request of which nothing was changed still finds the provider's cache.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

_TOKEN = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+"|-?\d[\d.eE+-]*+)')
"""A string or a number of valid JSON."""
_ESCAPE = re.compile(r"\\(?:u00([2-7][0-9A-Fa-f])|(.))", re.DOTALL)


class Document:
    """A JSON text, or a value that can be one, where it stands: `holder[at]`. Its texts are read and replaced by their number.

    A text that is not JSON, as one that was cut off, is one text as it stands.
    """

    __slots__ = ("_at", "_changed", "_holder", "_is_json", "_is_value", "_parts")

    def __init__(self, holder: Any, at: Any) -> None:
        self._holder, self._at = holder, at
        value = holder[at]
        self._is_value = not isinstance(value, str)
        source = json.dumps(value, ensure_ascii=False) if self._is_value else value  # numbers of any size, which orjson has not
        self._is_json = self._is_value or _is_json(source)
        # Every second part is a token: what the pattern is in parentheses for.
        self._parts: list[str] = _TOKEN.split(source) if self._is_json else [_without_escapes(source)]
        self._changed: dict[int, str] = {}
        """The number of each part that was replaced, and its text."""

    def texts(self) -> Iterator[tuple[int, str]]:
        """Each text and its number."""
        numbers = range(1, len(self._parts), 2) if self._is_json else range(1)
        return ((number, self[number]) for number in numbers)

    def __getitem__(self, number: int) -> str:
        if number in self._changed:
            return self._changed[number]
        part = self._parts[number]
        if not self._is_json or part[0] != '"':
            return part
        text: str = json.loads(part) if "\\" in part else part[1:-1]
        return text

    def __setitem__(self, number: int, text: str) -> None:
        if text != self[number]:
            self._changed[number] = text

    def write_back(self) -> None:
        """Put what was replaced where the document stands."""
        if not self._changed:
            return
        for number, text in self._changed.items():
            self._parts[number] = json.dumps(text, ensure_ascii=False) if self._is_json else text
        self._changed.clear()
        said = "".join(self._parts)
        self._holder[self._at] = json.loads(said) if self._is_value else said


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _without_escapes(text: str) -> str:
    """With characters for the escapes of what is plain ASCII, which says the same in JSON: an address can be written without its `@`."""
    if "\\u00" not in text:
        return text
    return _ESCAPE.sub(_plain, text)


def _plain(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16)) if match[1] else ""
    return character if character and character not in '"\\\x7f' else match[0]
