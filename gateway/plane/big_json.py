"""Large JSON read and written a piece at a time, so that a long prompt holds up nobody else.

A JSON library keeps the process to itself until it is done: 15 ms for one text of 10 MB, 130 ms for as many numbers. Here each step does
one piece, and between steps other calls get their turn. Every piece is the library's own work, so that a request means the same as a
short one; ours is only to find where it may be cut: between the members of a large object or list, and between the characters of a text.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import re
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

LARGE_BYTES = 256 * 1024
"""From here on pieces pay. A request that is shorter takes under a millisecond."""
SHORT_BYTES = 2048
"""To look through so much takes about a turn: it is done at once. Three guardrails (personal data, secrets, injection) were measured to take
0.7 ms for prose of that size, and 1.0 ms for digits or addresses."""
PIECE = 32 * 1024
"""Bytes or characters of one step, about."""
TURN_S = 0.001
"""After so long the others get their turn."""
MOST_DEPTH = 254
"""What is nested deeper is not written by orjson, either."""

_SHORT = rb'"[^"\\]{0,4000}+(?:\\.[^"\\]{0,400}+){0,40}+"'
"""A string that is looked past as a whole. Bounded, as all patterns here, so that one step is short."""
_GAP = rb'[^"\[\]{}]{0,400}+'
_FLAT = rb"(?:%b%b){0,16}+%b" % (_GAP, _SHORT, _GAP)
_TOKEN = re.compile(rb"\{%b\}|\[%b\]|%b|[\"\[\]{}]" % (_FLAT, _FLAT, _SHORT), re.DOTALL)
"""A short object or list without others in it, a short string, or where something else begins or ends."""
_CHARACTERS = re.compile(
    rb"(?:[^\"\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\[^u])*+", re.DOTALL
)
"""What a string holds, up to its end or as far as the last whole character."""
_CLOSES = {b"}": b"{", b"]": b"["}
_WHITE = b" \t\r\n"
T = TypeVar("T")
Data = bytes | mmap.mmap


class BigJsonError(ValueError):
    """It is no JSON object, or nested too deeply."""


async def others_turn() -> None:
    """Let other calls go on.

    `asyncio.sleep(0)` is not enough: the server's own threads need the interpreter's lock to bring requests in and answers out, and the loop
    has taken it again before they wake. Measured with prompts of 10 MB, the slowest small call beside them waits 360 ms with `sleep(0)`,
    300 ms with a millisecond's sleep, 209 ms with the lock let go for a moment, and 16 ms with both.
    """
    time.sleep(0.00005)  # lets go of the lock
    await asyncio.sleep(0.001)


class Turn:
    """That of one who has a lot to do."""

    def __init__(self) -> None:
        self._ends = time.perf_counter() + TURN_S

    @property
    def is_over(self) -> bool:
        return time.perf_counter() > self._ends

    async def pass_on(self) -> None:
        """Let others have theirs, and begin another one."""
        await others_turn()
        self._ends = time.perf_counter() + TURN_S


async def in_turns(steps: Generator[None, None, T]) -> T:
    """Do the steps, and let others have their turn in between."""
    turn = Turn()
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        if turn.is_over:
            await turn.pass_on()


# Reading


@dataclass(slots=True)
class _Part:
    """A list, an object or a text that is longer than a piece; also one of which that is not known yet."""

    kind: bytes
    """The byte that it begins with."""
    start: int
    end: int = 0
    cut_at: list[int] = field(default_factory=list)
    """Commas between its members, about a piece apart."""
    children: list[_Part] = field(default_factory=list)
    """Those of its members that are longer than a piece, in order."""
    text: str | None = None
    """What a long string says."""


def read_object(data: Data) -> Generator[None, None, dict[str, Any]]:
    """The JSON object in `data`, as orjson reads it. BigJsonError."""
    root = yield from _outline(data)
    read: dict[str, Any] = yield from _read(data, root, os.urandom(8).hex())
    return read


def _outline(data: Data) -> Generator[None, None, _Part]:
    """The object that the data is, with all that is long in it."""
    around: list[_Part] = []
    at = rested_at = 0
    while True:
        window = min(at + PIECE, len(data))
        token = _TOKEN.search(data, at, window)
        begins = token.start() if token else window
        if not around:
            if (token is not None and token[0][:1] != b"{") or data[at:begins].strip(_WHITE):
                raise BigJsonError("it is not an object")
        elif begins - (around[-1].cut_at or _NO_CUTS)[-1] > PIECE and begins - around[-1].start > PIECE:
            comma = data.rfind(b",", at, begins)
            around[-1].cut_at += [comma] if comma >= 0 else []
        if token is None:
            if window == len(data):
                raise BigJsonError("it ends too early")
            at = window
        elif token[0] == b'"':
            text = yield from _text(data, begins)
            at = text.end
            around[-1].children += [text] if text.text is not None else []
        elif len(token[0]) > 1 and around:
            at = token.end()
        else:
            at = token.end()
            ended = _bracket(token[0], begins, at, around)
            if ended is not None:
                if data[at:].strip(_WHITE):
                    raise BigJsonError(f"there is something behind the object at byte {at}")
                return ended
        if at - rested_at > PIECE:
            rested_at = at
            yield


_NO_CUTS = (0,)


def _bracket(token: bytes, begins: int, ends: int, around: list[_Part]) -> _Part | None:
    """Something begins or ends; the whole, when it has ended."""
    if token in (b"{", b"["):
        if len(around) >= MOST_DEPTH:
            raise BigJsonError("it is nested too deeply")
        around.append(_Part(token, begins))
        return None
    if token not in _CLOSES:  # a short object in a lot of white space
        return _Part(b"{", begins, ends)
    ended = around.pop()
    ended.end = ends
    if ended.kind != _CLOSES[token]:
        raise BigJsonError(f"a bracket does not fit at byte {begins}")
    if not around:
        return ended
    if ends - ended.start > PIECE:
        around[-1].children.append(ended)
    return None


def _text(data: Data, start: int) -> Generator[None, None, _Part]:
    """The string that begins there. What it says is only read when it is long."""
    pieces: list[str] = []
    at = start + 1
    while True:
        window = min(at + PIECE, len(data))
        end = data.find(b'"', at, window)
        end = end if end >= 0 else window
        if data.find(b"\\", at, end) >= 0:
            found = _CHARACTERS.match(data, at, window)
            assert found is not None  # of no characters, if of none else
            end = found.end()
        if data[end : end + 1] == b'"':
            if pieces:
                pieces.append(_piece_of_text(data, at, end))
            return _Part(b'"', start, end + 1, text="".join(pieces) if pieces else None)
        while end > at and data[end : end + 1] and data[end] & 0xC0 == 0x80:  # in the middle of a character
            end -= 1
        if end == at:
            raise BigJsonError(f"a string is not as it should be at byte {at}")
        pieces.append(_piece_of_text(data, at, end))
        at = end
        yield


def _piece_of_text(data: Data, start: int, end: int) -> str:
    try:
        piece: str = orjson.loads(b'"%b"' % data[start:end])
    except orjson.JSONDecodeError as error:
        raise BigJsonError(f"a string is not as it should be behind byte {start}: {error.msg}") from error
    return piece


def _read(data: Data, part: _Part, nonce: str) -> Generator[None, None, Any]:
    """What a part says, read between its cuts; long members are read on their own and stand as `nonce` and a number meanwhile."""
    if part.kind == b'"':
        return part.text
    is_object = part.kind == b"{"
    whole: Any = {} if is_object else []
    starts, ends = [part.start + 1, *(comma + 1 for comma in part.cut_at)], [*part.cut_at, part.end - 1]
    children = iter([*part.children, None])
    child = next(children)
    for start, end in zip(starts, ends, strict=True):
        at, pieces, long = start, [part.kind], dict[str, Any]()
        while child is not None and child.start < end:
            name = f"{nonce}{child.start}"
            pieces += [data[at : child.start], b'"%b"' % name.encode()]
            at, long[name] = child.end, (yield from _read(data, child, nonce))
            child = next(children)
        try:
            members = orjson.loads(b"".join([*pieces, data[at:end], b"}" if is_object else b"]"]))
        except orjson.JSONDecodeError as error:
            raise BigJsonError(f"{error.msg} behind byte {start}") from error
        if part.cut_at and not members:
            raise BigJsonError(f"there is nothing between commas at byte {start}")
        if is_object:
            whole |= _with_long_members(members, long) if long else members
        else:
            whole += [long.get(each, each) if isinstance(each, str) else each for each in members] if long else members
        yield
    return whole


def _with_long_members(members: dict[str, Any], long: dict[str, Any]) -> dict[str, Any]:
    found = {long.get(name, name): long.get(each, each) if isinstance(each, str) else each for name, each in members.items()}
    if not all(isinstance(name, str) for name in found):
        raise BigJsonError("a name is not a string")
    return found


# Writing


def written(value: Any, *, is_sorted: bool = False) -> Generator[None, None, list[bytes]]:
    """`value` as JSON, in pieces. BigJsonError when it is nested too deeply.

    `is_sorted`: names in order, so that what is equal is written alike.
    """
    parts: list[bytes] = []
    yield from _write(value, parts, orjson.OPT_SORT_KEYS if is_sorted else 0, MOST_DEPTH)
    return parts


def _write(value: Any, parts: list[bytes], option: int, depth: int) -> Generator[None, None, None]:
    if isinstance(value, str):
        parts.append(b'"')
        for start in range(0, len(value), PIECE):
            parts.append(orjson.dumps(value[start : start + PIECE])[1:-1])
            yield
        parts.append(b'"')
    elif isinstance(value, dict):
        members = sorted(value.items()) if option else value.items()
        yield from _write_object(members, parts, option, depth)
    elif isinstance(value, list):
        yield from _write_list(value, parts, option, depth)
    else:
        parts.append(orjson.dumps(value, option=option))


def _write_object(members: Any, parts: list[bytes], option: int, depth: int) -> Generator[None, None, None]:
    few: dict[str, Any] = {}
    opening, weight = b"{", 0
    for name, each in members:
        its_weight = len(name) + _weight(each, depth)
        if few and weight + its_weight > PIECE:
            parts += [opening, orjson.dumps(few, option=option)[1:-1]]
            few, opening, weight = {}, b",", 0
            yield
        if its_weight > PIECE:
            parts += [opening, orjson.dumps(name), b":"]
            yield from _write(each, parts, option, depth - 1)
            opening = b","
        else:
            few[name] = each
            weight += its_weight
    parts += [opening, orjson.dumps(few, option=option)[1:-1]] if few or opening == b"{" else []
    parts.append(b"}")


def _write_list(members: list[Any], parts: list[bytes], option: int, depth: int) -> Generator[None, None, None]:
    few: list[Any] = []
    opening, weight = b"[", 0
    for each in members:
        its_weight = _weight(each, depth)
        if few and weight + its_weight > PIECE:
            parts += [opening, orjson.dumps(few, option=option)[1:-1]]
            few, opening, weight = [], b",", 0
            yield
        if its_weight > PIECE:
            parts.append(opening)
            yield from _write(each, parts, option, depth - 1)
            opening = b","
        else:
            few.append(each)
            weight += its_weight
    parts += [opening, orjson.dumps(few, option=option)[1:-1]] if few or opening == b"[" else []
    parts.append(b"]")


def _weight(value: Any, depth: int) -> int:
    """About how many bytes it is written in; of more than a piece only that it is."""
    if isinstance(value, str):
        return len(value) + 4
    if not isinstance(value, dict | list):
        return 4
    if depth == 0:
        raise BigJsonError("it is nested too deeply")
    weight = 4
    if isinstance(value, dict):
        for name, each in value.items():
            weight += len(name) + 4 + _weight(each, depth - 1)
            if weight > PIECE:
                break
    else:
        for each in value:
            weight += _weight(each, depth - 1)
            if weight > PIECE:
                break
    return weight
