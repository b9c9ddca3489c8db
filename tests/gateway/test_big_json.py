"""A long request is read and written in pieces, and means what it means to orjson."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator, Iterator
from random import Random
from typing import Any

import orjson
import pytest

from gateway.plane import big_json, http
from gateway.plane.big_json import BigJsonError, read_object, written
from gateway.plane.http import Message

PIECE = 24
"""So short that small examples have many."""
CHARACTERS = 'ab" \\/\n\t\x01,:[]{}é漢😀'
DAMAGE = (b"", b'"', b",", b"[", b"]", b"{", b"}", b"\\", b":", b"1", b"\xc3", b"\\ud83d", b"\\u", b" " * 40)


def some_text(chance: Random) -> str:
    return "".join(chance.choices(CHARACTERS, k=chance.choice((0, 1, 8, 20, 60, 90))))


def some_value(chance: Random, depth: int) -> Any:
    kind = chance.random() if depth else 0
    if kind < 0.5:
        return chance.choice((None, True, chance.randint(-(2**53), 2**53), chance.random(), some_text(chance)))
    if kind < 0.75:
        return [some_value(chance, depth - 1) for _ in range(chance.randint(0, 8))]
    return {some_text(chance): some_value(chance, depth - 1) for _ in range(chance.randint(0, 6))}


def some_object(chance: Random) -> dict[str, Any]:
    return {some_text(chance): some_value(chance, 3) for _ in range(chance.randint(0, 5))}


@pytest.fixture(autouse=True, scope="module")
def _short_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(big_json, "PIECE", PIECE)
        yield


def done(steps: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def read(data: bytes) -> Any:
    """None for what is no JSON object."""
    try:
        return done(read_object(data))
    except BigJsonError:
        return None


def read_at_once(data: bytes) -> Any:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


@pytest.mark.parametrize("seed", range(3))
def test_long_request_reads_and_writes_as_a_short_one(seed: int) -> None:
    chance = Random(seed)
    special = {"numbers": list(range(100)), "": "", "long " * 20: ["x" * 100, {}], "empty": [[], {}]}
    for value in ({}, special, *(some_object(chance) for _ in range(20))):
        data = json.dumps(value, indent=chance.choice((None, 1, 30)), ensure_ascii=chance.random() < 0.5).encode()

        assert list(read(data).items()) == list(value.items())
        assert b"".join(done(written(value))) == orjson.dumps(value)
        assert b"".join(done(written(value, is_sorted=True))) == b"".join(done(written(dict(reversed(value.items())), is_sorted=True)))


@pytest.mark.parametrize("seed", range(3))
def test_what_is_not_json_is_not_taken_for_it(seed: int) -> None:
    chance = Random(seed)
    for _ in range(15):
        data = json.dumps(some_object(chance), ensure_ascii=chance.random() < 0.5).encode()
        for put in DAMAGE:
            at = chance.randrange(len(data))

            damaged = data[:at] + put + data[at + chance.randint(0, 2) :]

            assert read(damaged) == read_at_once(damaged)


def test_no_step_is_longer_than_a_few_pieces() -> None:
    value = {
        "messages": [{"role": "user", "content": "rice " * 400}],
        "tools": [{"n": [number] * 9} for number in range(99)],
        "t": "x" * 999,
    }
    data = orjson.dumps(value)

    assert sum(1 for _ in read_object(data)) >= len(data) / PIECE
    assert sum(1 for _ in written(value)) >= len(data) / PIECE / 2
    assert max(map(len, done(written(value)))) <= 4 * PIECE


async def test_long_body_of_unknown_length_is_put_together_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(big_json, "TURN_S", 0)
    monkeypatch.setattr(big_json, "PIECE", 32 * 1024)
    value = {"messages": [{"role": "user", "content": "rice " * 400}] * 200}
    data = orjson.dumps(value)
    parts = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    messages = iter([{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts])
    turns, is_read = 0, False

    async def receive() -> Message:
        return next(messages)

    async def others() -> None:
        nonlocal turns
        while not is_read:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    read = await http.read_object(receive, {})
    is_read = True
    await waiting

    assert read == (value, len(data))
    assert turns >= len(parts)


@pytest.mark.parametrize("parts", [1, 3])
async def test_server_is_not_asked_for_more_than_the_declared_body(parts: int) -> None:
    data = b'{"model":"chat"}'
    size = -(-len(data) // parts)
    messages = iter([{"type": "http.request", "body": data[at : at + size], "more_body": True} for at in range(0, len(data), size)])

    async def receive() -> Message:
        return next(messages)

    assert await http.read_object(receive, {b"content-length": b"%d" % len(data)}) == ({"model": "chat"}, len(data))


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_what_is_nested_too_deeply_is_refused(opening: bytes) -> None:
    data = b'{"a":' + opening * 300 + b'"' + b"x" * 100
    deep: Any = "x" * 100
    for _ in range(300):
        deep = [deep]

    with pytest.raises(BigJsonError, match="too deeply"):
        done(read_object(data))
    with pytest.raises(BigJsonError, match="too deeply"):
        done(written(deep))
