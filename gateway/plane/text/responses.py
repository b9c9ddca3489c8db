"""Texts of OpenAI's responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.plane.sse import named_event
from gateway.plane.text.said import Kind, OnText, Said, Text, objects, pass_object

_ITEM_FIELDS: dict[str, tuple[tuple[str, Kind], ...]] = {
    "function_call": (("arguments", "arguments"),),
    "mcp_call": (("arguments", "arguments"), ("output", "text")),
    "custom_tool_call": (("input", "text"),),
    "code_interpreter_call": (("code", "text"),),
    "mcp_approval_request": (("arguments", "arguments"),),
}
_BROUGHT = frozenset(("output", "outputs", "result", "results", "pending_safety_checks", "acknowledged_safety_checks"))
"""Of calls of tools: not what the model wrote, but what came of it."""
_PART_FIELDS = ("text", "refusal", "transcript")
_SOUND = ("response.audio", "response.output_audio")
_DONE_FIELDS = (*_PART_FIELDS, "arguments", "input", "code", "command", "diff")


def texts(answer: dict[str, Any]) -> Iterator[Text]:
    """What a whole answer says, in its order. Arguments may be an object rather than a text."""
    for index, item in enumerate(objects(answer.get("output"))):
        yield from _item_texts(index, item)


def _item_texts(output: Any, item: dict[str, Any]) -> Iterator[Text]:
    of_parts: Kind = "reasoning" if item.get("type") == "reasoning" else "text"
    for list_name in ("summary", "content"):
        for index, part in enumerate(objects(item.get(list_name))):
            yield from _part_texts(Said(of_parts, (output, list_name, index)), part)
    for name, kind in _ITEM_FIELDS.get(item.get("type", ""), ()):
        if isinstance(item.get(name), str):
            yield Said(kind, (output, name)), item, name
    if str(item.get("type")).endswith(("_call", "_request")):  # the commands, patches and clicks of tools, of unknown ones too
        for name in [name for name, value in item.items() if isinstance(value, dict | list) and value and name not in _BROUGHT]:
            yield Said("arguments", (output, name)), item, name


def _part_texts(said: Said, part: dict[str, Any]) -> Iterator[Text]:
    yield from ((said, part, name) for name in _PART_FIELDS if isinstance(part.get(name), str))


def _said_in(event: dict[str, Any], stem: str) -> Said:
    """Which text an event is about: `stem` is its type without what happens to the text."""
    output = event.get("output_index")
    if "summary" in stem:
        return Said("reasoning", (output, "summary", event.get("summary_index")))
    if "content_index" in event:
        return Said("reasoning" if "reasoning" in stem else "text", (output, "content", event["content_index"]))
    for name in ("arguments", "input", "code"):
        if stem.endswith(name):
            return Said("arguments" if name == "arguments" else "text", (output, name))
    return Said("text", (output, stem, event.get("command_index")))


class Responses:
    """A stream's events, passed through one by one. The protocol says each text several times: in deltas, at the end of the part, of the item, and of the whole response."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._sent: dict[Said, str] = {}
        """What was let through so far."""
        self._objects: dict[tuple[Said, bytes], Any] = {}
        """The same of what is no text, by what it was: it grows between its beginning and its end."""
        self._open: set[Said] = set()

    def __call__(self, event: dict[str, Any]) -> Iterator[bytes]:
        stem, _, act = str(event.get("type", "")).rpartition(".")
        event.pop("logprobs", None)  # they spell the text out
        if isinstance(part := event.get("part"), dict):
            self._replace(_part_texts(_said_in(event, f"{stem}.{part.get('type')}"), part), is_last=act == "done")
        elif isinstance(item := event.get("item"), dict):
            self._replace(_item_texts(event.get("output_index"), item), is_last=act == "done")
        elif isinstance(event.get("response"), dict):
            for index, item in enumerate(objects(event["response"].get("output"))):
                self._replace(_item_texts(index, item), is_last=True)
        elif act == "delta" and isinstance(event.get("delta"), str) and stem not in _SOUND:
            said = _said_in(event, stem)
            event["delta"] = self._on_text(said, event["delta"])
            self._sent[said] = self._sent.get(said, "") + event["delta"]
            self._open.add(said)
        elif act == "done":
            yield from self._done(event, stem)
        elif act == "added":
            said = _said_in(event, stem)
            self._replace(((said, event, name) for name in _DONE_FIELDS if isinstance(event.get(name), str)), is_last=False)
        yield named_event(event)

    def rest(self) -> Iterator[bytes]:
        """None: what is not at its end has broken off."""
        return iter(())

    def _done(self, event: dict[str, Any], stem: str) -> Iterator[bytes]:
        said = _said_in(event, stem)
        if said in self._open and (held := self._finish(said)):
            delta = {name: value for name, value in event.items() if name not in _DONE_FIELDS}
            yield named_event({**delta, "type": f"{stem}.delta", "delta": held})
        self._replace(((said, event, name) for name in _DONE_FIELDS if isinstance(event.get(name), str)), is_last=True)

    def _finish(self, said: Said) -> str:
        self._open.discard(said)
        held = self._on_text(said, "")
        self._sent[said] = self._sent.get(said, "") + held
        return held

    def _object(self, said: Said, before: Any) -> Any:
        known = (said, orjson.dumps(before, option=orjson.OPT_SORT_KEYS))
        if known not in self._objects:
            self._objects[known] = pass_object(Said(said.kind, (*said.place, len(self._objects))), before, self._on_text)
        return self._objects[known]

    def _replace(self, found: Iterator[Text], *, is_last: bool) -> None:
        """Texts that are said again become what was sent of them; one that no delta told is looked at here."""
        for said, holder, name in found:
            holder.pop("logprobs", None)
            if not isinstance(holder[name], str):
                holder[name] = self._object(said, holder[name])
                continue
            if is_last and said in self._open:
                self._finish(said)
            elif said not in self._sent and holder[name]:
                told = self._on_text(said, holder[name]) + self._on_text(said, "")
                if not is_last:  # as it begins: what follows is added to it
                    holder[name] = told
                    continue
                self._sent[said] = told
            holder[name] = self._sent.get(said, "")
