"""JSON taken apart into what it says: strings, names and numbers, each by itself, and put together again.

A text that is replaced inside of JSON must leave JSON behind: within a string it is escaped as one, and instead of a number stands a string.
What is not replaced keeps its bytes, so that a request of which nothing was changed still finds the provider's cache.

All of it goes in short steps, with no more in memory than where the values stand: arguments of many megabytes hold up nobody else.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Generator, Iterable, Iterator
from typing import Any

STEP_CHARACTERS = 16 * 1024
"""Of one step, about."""
STEP_VALUES = 128
MOST_VALUES = 2**18
"""Strings, names and numbers of one document. One that has more is not judged."""

Batch = list[tuple[Any, str]]
"""Where values stand in their document, and what they say: as many as one step may look at. None where a step came to no end."""
Batches = Generator[Batch, None, None]

_WHITE = r"[ \t\r\n]{0,400}+"
_ESCAPED = r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
_STRING = rf'"[^"\\\x00-\x1f]{{0,4000}}+(?:{_ESCAPED}[^"\\\x00-\x1f]{{0,400}}+){{0,40}}+"(?={_WHITE}(?:[:,\]}}]|\Z))'
_NUMBER = rf"-?\d[\d.eE+-]{{0,4000}}+(?={_WHITE}(?:[,\]}}]|\Z))"
_STEP = re.compile(rf"[ \t\r\n\[\]{{}},:]{{0,4000}}+(?:({_STRING}|{_NUMBER})|(?:true|false|null)(?={_WHITE}(?:[,\]}}]|\Z)))?+")
"""What stands between values, and the next one. Bounded, as the others here, so that one step is short; a longer string is read in pieces."""
_INSIDE = re.compile(rf'(?:[^"\\\x00-\x1f]++|{_ESCAPED})*+')
_BEHIND = re.compile(rf"{_WHITE}(?:[:,\]}}]|\Z)")
_NAME = re.compile(rf"{_WHITE}:")
_OPENS = re.compile(rf"{_WHITE}[\[{{]")
_HEX = "[0-9a-fA-F]"
_WHOLE = re.compile(
    rf"(?:[^\\]++|\\[^u]|\\u[dD][89abAB]{_HEX}{{2}}(?:\\u[dD][c-fC-F]{_HEX}{{2}}|(?=.{{6}}))|\\u(?![dD][89abAB]){_HEX}{{4}}"
    rf"|\\u(?!{_HEX}{{4}})(?=.{{4}}))*+",
    re.DOTALL,
)
"""As far as the last whole character: none is cut that is written as an escape, or two."""
_ESCAPE = re.compile(r"\\(?:u00([2-7][0-9A-Fa-f])|(.))", re.DOTALL)


class TooManyValuesError(ValueError):
    """The document has more values than are looked at."""


class Document(ABC):
    """A JSON text, or a value that can be one, where it stands: `holder[at]`. What it says comes in batches, and is replaced by its place."""

    __slots__ = ()

    @abstractmethod
    def batches(self) -> Batches:
        """Every string, name and number, replaced ones as they were replaced. TooManyValuesError."""

    @abstractmethod
    def __setitem__(self, spot: Any, text: str) -> None: ...

    @abstractmethod
    def write_back(self) -> Generator[None, None, None]:
        """Put what was replaced where the document stands, in steps."""


def document(holder: Any, at: Any, most_values: int = MOST_VALUES) -> Document:
    return TextDocument(holder, at, most_values) if isinstance(holder[at], str) else ValueDocument(holder, at, most_values)


class TextDocument(Document):
    """A text that is not JSON, as one that was cut off, is one text as it stands."""

    __slots__ = ("_at", "_changed", "_holder", "_is_json", "_most", "_source", "_taken")

    def __init__(self, holder: Any, at: Any, most_values: int) -> None:
        self._holder, self._at, self._most = holder, at, most_values
        self._source: str = holder[at]
        self._is_json = False
        self._changed: dict[tuple[int, int], str] = {}
        """By the first and the last place of what stood there."""
        self._taken: set[str] = set()

    def batches(self) -> Batches:
        spans = yield from self._spans()
        self._is_json = spans is not None
        if spans is None:
            whole = (0, len(self._source))
            yield [(whole, self._changed[whole] if whole in self._changed else (yield from _without_escapes(self._source)))]
            return
        batch: Batch = []
        size = 0
        for start, end in zip(spans[::2], spans[1::2], strict=True):
            if end - start > STEP_CHARACTERS:
                text = yield from _decoded(self._source, start + 1, end - 1)
                yield [((start, end), self._changed.get((start, end), text))]
                continue
            text = self._source[start:end] if self._source[start] != '"' else _unescaped(self._source[start + 1 : end - 1])
            if text[:1] == "[" and _NAME.match(self._source, end):
                self._taken.add(text)
            batch.append(((start, end), self._changed.get((start, end), text)))
            size += end - start
            if len(batch) == STEP_VALUES or size > STEP_CHARACTERS:
                yield batch
                batch, size = [], 0
        yield batch

    def __setitem__(self, spot: tuple[int, int], text: str) -> None:
        self._changed[spot] = text

    def write_back(self) -> Generator[None, None, None]:
        if not self._changed:
            return
        names, parts, last = _Names(self._taken), list[str](), 0
        for number, ((start, end), text) in enumerate(sorted(self._changed.items())):
            if not self._is_json:
                said = text
            elif self._source[start] == '"' and _NAME.match(self._source, end):
                said = json.dumps(names.given(self._source[start:end], text), ensure_ascii=False)
            else:
                said = json.dumps(text, ensure_ascii=False)
            parts += [self._source[last:start], said]
            last = end
            if number % STEP_VALUES == 0:
                yield
        self._holder[self._at] = "".join([*parts, self._source[last:]])
        self._changed.clear()

    def _spans(self) -> Generator[Batch, None, array[int] | None]:
        """Where each value begins and ends; None when it is no JSON. (That brackets fit is not looked at: it makes no difference here.)"""
        source, spans, at, rested_at, steps = self._source, array("L"), 0, 0, 0
        while at < len(source):
            step = _STEP.match(source, at)
            assert step is not None  # of no characters, if of none else
            start, end = step.span(1)
            before, at = at, step.end()
            if start < 0 and source[at : at + 1] == '"':
                start, end = at, (yield from _end_of_string(source, at))
                at = end
            if at <= before:
                return None
            if start >= 0:
                spans.extend((start, end))
                if len(spans) > 2 * self._most:
                    raise TooManyValuesError
            steps += 1
            if steps % STEP_VALUES == 0 or at - rested_at > STEP_CHARACTERS:
                rested_at = at
                yield []
        return spans if len(spans) <= 2 or _OPENS.match(source) else None


class ValueDocument(Document):
    """A value, however deeply it is nested."""

    __slots__ = ("_at", "_changed", "_holder", "_most", "_taken")

    def __init__(self, holder: Any, at: Any, most_values: int) -> None:
        self._holder, self._at, self._most = holder, at, most_values
        self._changed: dict[tuple[int, Any, bool], tuple[Any, str]] = {}
        self._taken: set[str] = set()

    def batches(self) -> Batches:
        batch: Batch = []
        size = found = 0
        for number, each in enumerate(_walk(self._holder, self._at)):
            if each is not None:
                (holder, at, is_name), text = each
                if is_name and text[:1] == "[":
                    self._taken.add(text)
                changed = self._changed.get((id(holder), at, is_name))
                text = changed[1] if changed else text
                if len(text) > STEP_CHARACTERS:
                    yield [(each[0], text)]
                else:
                    batch.append((each[0], text))
                    size += len(text)
                found += 1
                if found > self._most:
                    raise TooManyValuesError
            if number % STEP_VALUES == STEP_VALUES - 1 or size > STEP_CHARACTERS:
                yield batch
                batch, size = [], 0
        yield batch

    def __setitem__(self, spot: tuple[Any, Any, bool], text: str) -> None:
        holder, at, is_name = spot
        self._changed[id(holder), at, is_name] = (holder, text)

    def write_back(self) -> Generator[None, None, None]:
        names, renamed = _Names(self._taken), dict[int, tuple[dict[str, Any], dict[str, str]]]()
        for number, ((_, at, is_name), (holder, text)) in enumerate(self._changed.items()):
            if is_name:
                renamed.setdefault(id(holder), (holder, {}))[1][at] = names.given(at, text)
            else:
                holder[at] = text
            if number % STEP_VALUES == 0:
                yield
        self._changed.clear()
        for holder, given in renamed.values():
            members = dict[str, Any]()
            for number, (name, value) in enumerate(holder.items()):
                members[given.get(name, name)] = value
                if number % STEP_VALUES == 0:
                    yield
            holder.clear()
            holder.update(members)


class _Names:
    """Names that were replaced: different ones stay different, or one member would take another's place."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._given: dict[str, str] = {}
        self._taken = set(taken)
        self._last: dict[str, int] = {}

    def given(self, before: str, after: str) -> str:
        """`[EMAIL]` for the first name, `[EMAIL_2]` for the next one."""
        if before not in self._given:
            name = after
            while name in self._taken:
                number = self._last[after] = self._last.get(after, 1) + 1
                name = f"{after[:-1]}_{number}]" if after.endswith("]") else f"{after}_{number}"
            self._taken.add(name)
            self._given[before] = name
        return self._given[before]


def _walk(holder: Any, at: Any) -> Iterator[tuple[tuple[Any, Any, bool], str] | None]:
    """Each text with where it stands and whether it is a name; None for what is no text."""
    around: list[Iterator[tuple[Any, Any, Any]]] = [iter(((holder, at, holder[at]),))]
    while around:
        for inside, name, value in around[-1]:
            if isinstance(inside, dict) and len(around) > 1:
                yield (inside, name, True), name
            if isinstance(value, str):
                yield (inside, name, False), value
            elif isinstance(value, int | float) and not isinstance(value, bool):
                yield (inside, name, False), repr(value)
            elif isinstance(value, dict | list):
                around.append(_members(value))
                break
            else:
                yield None
        else:
            around.pop()
            yield None


def _members(holder: dict[str, Any] | list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    return ((holder, name, value) for name, value in (holder.items() if isinstance(holder, dict) else enumerate(holder)))


def _end_of_string(source: str, start: int) -> Generator[Batch, None, int]:
    """Behind the string that begins there; 0 when it has no end, or is no JSON."""
    at = start + 1
    while True:
        found = _INSIDE.match(source, at, at + STEP_CHARACTERS)
        assert found is not None  # of no characters, if of none else
        if source[found.end() : found.end() + 1] == '"':
            return found.end() + 1 if _BEHIND.match(source, found.end() + 1) else 0
        if found.end() == at:
            return 0
        at = found.end()
        yield []


def _decoded(source: str, start: int, end: int) -> Generator[Batch, None, str]:
    """What a long string says, whose text is there."""
    pieces = []
    for piece in _pieces(source, start, end):
        pieces.append(_unescaped(piece))
        yield []
    return "".join(pieces)


def _unescaped(text: str) -> str:
    said: str = json.loads(f'"{text}"') if "\\" in text else text
    return said


def _without_escapes(text: str) -> Generator[Batch, None, str]:
    """With characters for the escapes of what is plain ASCII, which says the same in JSON: an address can be written without its `@`."""
    if "\\u00" not in text:
        return text
    pieces = []
    for piece in _pieces(text, 0, len(text)):
        pieces.append(_ESCAPE.sub(_plain, piece))
        yield []
    return "".join(pieces)


def _pieces(source: str, start: int, end: int) -> Iterator[str]:
    while end - start > STEP_CHARACTERS:
        whole = _WHOLE.match(source, start, start + STEP_CHARACTERS)
        assert whole is not None  # of no characters, if of none else
        yield source[start : whole.end()]
        start = whole.end()
    yield source[start:end]


def _plain(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16)) if match[1] else ""
    return character if character and character not in '"\\\x7f' else match[0]
