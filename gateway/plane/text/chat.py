"""Texts of chat completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.plane.sse import data_event
from gateway.plane.text.said import Kind, OnText, Said, Text, objects

_FIELDS: dict[str, Kind] = {"reasoning_content": "reasoning", "reasoning": "reasoning", "content": "text", "refusal": "text"}
_DETAILS = ("text", "summary")
"""Of `reasoning_details`, in which some servers say the reasoning again."""
_TOOL_FIELDS: tuple[tuple[str, str, Kind], ...] = (("function", "arguments", "arguments"), ("custom", "input", "text"))


def texts(answer: dict[str, Any]) -> Iterator[Text]:
    """What a whole answer says, in its order."""
    for choice in objects(answer.get("choices")):
        choice.pop("logprobs", None)  # they spell the text out
        yield from _texts_of(choice.get("index", 0), choice.get("message") or {})


def _texts_of(choice: int, message: dict[str, Any]) -> Iterator[Text]:
    """Of a message, or of a piece of one."""
    for name, kind in _FIELDS.items():
        if isinstance(message.get(name), str):
            yield Said(kind, (choice, name)), message, name
    yield from _listed_texts(choice, message)
    for number, call in enumerate(objects(message.get("tool_calls"))):
        yield from _tool_texts(choice, call.get("index", number), call.get("id"), call)
    if isinstance(tool := message.get("function_call"), dict) and isinstance(tool.get("arguments"), str):
        yield Said("arguments", (choice, "function_call")), tool, "arguments"


def _tool_texts(choice: int, index: Any, call_id: Any, call: dict[str, Any]) -> Iterator[Text]:
    for which, name, kind in _TOOL_FIELDS:
        if isinstance(tool := call.get(which), dict) and isinstance(tool.get(name), str):
            yield Said(kind, (choice, "tool_calls", index, which, name, call_id)), tool, name


def _listed_texts(choice: int, message: dict[str, Any]) -> Iterator[Text]:
    for part in objects(message.get("content")):  # as Mistral's models that reason write it
        if isinstance(part.get("text"), str):
            yield Said("text", (choice, "content", "text")), part, "text"
        for thought in objects(part.get("thinking")):
            if isinstance(thought.get("text"), str):
                yield Said("reasoning", (choice, "content", "thinking")), thought, "text"
    for number, detail in enumerate(objects(message.get("reasoning_details"))):
        for name in _DETAILS:
            if isinstance(detail.get(name), str):
                yield Said("reasoning", (choice, "reasoning_details", detail.get("index", number), name)), detail, name


def _append(delta: dict[str, Any], said: Said, held: str) -> None:
    """Say the rest of a text in a piece of its message, whose other fields may be there as null."""
    _, name, *at = said.place
    if name == "tool_calls":
        index, which, field_name, _ = at
        delta[name] = [*(delta.get(name) or ()), {"index": index, which: {field_name: held}}]
    elif name == "function_call":
        tool = delta.get(name) or {}
        delta[name] = {**tool, "arguments": (tool.get("arguments") or "") + held}
    elif name == "reasoning_details":
        delta[name] = [*(delta.get(name) or ()), {"index": at[0], "type": f"reasoning.{at[1]}", at[1]: held}]
    elif at or isinstance(delta.get(name), list):
        part = {"type": "text", "text": held}
        before = delta.get(name)
        parts = before if isinstance(before, list) else [{"type": "text", "text": before}] if before else []
        delta[name] = [*parts, {"type": "thinking", "thinking": [part]} if at == ["thinking"] else part]
    else:
        delta[name] = (delta.get(name) or "") + held


class Chat:
    """A stream's events, passed through one by one."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._open: dict[Said, None] = {}
        """Texts that have begun and not ended, in order."""
        self._ids: dict[tuple[int, Any], Any] = {}
        """Of the tool call that is being said, by choice and index."""
        self._head: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> Iterator[bytes]:
        for choice in objects(event.get("choices")):
            if not isinstance(choice.get("delta"), dict):
                choice["delta"] = {}
            choice.pop("logprobs", None)  # they spell the text out
            self._pass(choice.get("index", 0), choice["delta"], is_last=bool(choice.get("finish_reason")))
            self._head = event
        yield data_event(event)

    def _pass(self, choice: int, delta: dict[str, Any], *, is_last: bool) -> None:
        fed = set[Said]()
        if calls := objects(delta.get("tool_calls")):
            delta["tool_calls"] = list(self._pass_calls(choice, calls, fed))
        for said, holder, name in list(_texts_of(choice, delta)):
            if said.place[1] != "tool_calls":
                self._feed(said, holder, name, fed)
        # Texts of the message follow each other; calls of several tools may be written side by side.
        mine = [said for said in self._open if said.place[0] == choice]
        for said in mine if is_last else [said for said in mine if fed and said not in fed and said.place[1] in _FIELDS]:
            self._end(said, delta)

    def _pass_calls(self, choice: int, calls: list[dict[str, Any]], fed: set[Said]) -> Iterator[dict[str, Any]]:
        """Some servers give several calls the same index, or none: one with another id ends the one before, whose rest stands in front of it."""
        for number, call in enumerate(calls):
            index = call.get("index", number)
            if call.get("id") and call["id"] != self._ids.get((choice, index)):
                self._ids[choice, index] = call["id"]
                rest: dict[str, Any] = {}
                for said in [said for said in self._open if said.place[:3] == (choice, "tool_calls", index)]:
                    self._end(said, rest)
                yield from rest.get("tool_calls", ())
            for said, tool, name in list(_tool_texts(choice, index, self._ids.get((choice, index)), call)):
                self._feed(said, tool, name, fed)
            yield call

    def _feed(self, said: Said, holder: dict[str, Any], name: str, fed: set[Said]) -> None:
        if holder[name]:
            holder[name] = self._on_text(said, holder[name])
            self._open[said] = None
            fed.add(said)

    def _end(self, said: Said, delta: dict[str, Any]) -> None:
        del self._open[said]
        if held := self._on_text(said, ""):
            _append(delta, said, held)

    def rest(self) -> Iterator[bytes]:
        """Of choices whose end was not told."""
        for choice in dict.fromkeys(said.place[0] for said in self._open):
            delta: dict[str, Any] = {}
            for said in [said for said in self._open if said.place[0] == choice]:
                self._end(said, delta)
            if delta:
                head = {name: value for name, value in self._head.items() if name in ("id", "object", "created", "model")}
                yield data_event({**head, "choices": [{"index": choice, "delta": delta, "finish_reason": None}]})
