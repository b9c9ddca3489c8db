"""What a model wrote into an answer, passed through `Call.on_text` on its way to the caller: texts, reasoning, and the arguments of tool calls.

One place for every surface, and after any translation: what is judged here is what the caller would have read. Only calls with an
`on_text` come here at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from gateway.plane.errors import Refusal
from gateway.plane.sse import EventReader, data_event, named_event
from gateway.plane.upstream.dialects import Tap
from gateway.plane.usage import Usage

Kind = Literal["text", "reasoning", "thinking", "arguments"]
"""`thinking` is reasoning that its provider signed, `arguments` is JSON."""


class Said(NamedTuple):
    """One of the texts of an answer."""

    kind: Kind
    place: tuple[Any, ...]
    """Where it stands, in the terms of its surface."""

    @property
    def is_gathered(self) -> bool:
        """Can it only be judged as a whole? JSON stays JSON, and a signed thought is passed on as it is, or not at all."""
        return self.kind in ("arguments", "thinking")


class OnText(Protocol):
    def __call__(self, said: Said, piece: str, /) -> str:
        """What may be sent of a text, given its next piece.

        Called once more with "" where the text ends, so that pieces may be held back until enough was seen. A whole answer is one piece.
        """


Text = tuple[Said, dict[str, Any], str]
"""A text, the object that holds it and the name of the field."""


def whole(surface: str, body: bytes, on_text: OnText) -> bytes:
    """An answer that is one JSON document, with its texts passed through."""
    answer = orjson.loads(body)
    for said, holder, name in list(texts(surface, answer)):
        holder.pop("logprobs", None)  # they spell the text out
        before = holder[name]
        if isinstance(before, str):
            holder[name] = on_text(said, before) + on_text(said, "")
        else:
            holder[name] = _object(said, before, on_text)
        if said.kind == "thinking" and holder[name] != before:
            answer["content"] = [block for block in answer["content"] if block is not holder]
    return orjson.dumps(answer)


def _object(said: Said, arguments: Any, on_text: OnText) -> Any:
    """Arguments that are not written as a text."""
    try:
        before = orjson.dumps(arguments).decode()
    except orjson.JSONEncodeError as error:  # what was read may be nested deeper than what can be written
        raise Refusal("upstream_error", "The provider sent an answer that is nested too deeply.") from error
    after = on_text(said, before) + on_text(said, "")
    return arguments if after == before else orjson.loads(after)


def rewritten(surface: str, events: bytes, on_text: OnText) -> bytes:
    """A whole stream of the caller's events, with its texts passed through."""
    rewriter = Rewriter(surface, on_text)
    return rewriter.feed(events) + rewriter.flush()


def texts(surface: str, answer: dict[str, Any]) -> Iterator[Text]:
    """What a whole answer says, in its order. Arguments may be an object rather than a text."""
    if surface == "chat":
        for choice in _objects(answer.get("choices")):
            choice.pop("logprobs", None)
            yield from _chat_texts(choice.get("index", 0), choice.get("message") or {})
    elif surface == "messages":
        for index, block in enumerate(_objects(answer.get("content"))):
            if kind := _block_kind(block):
                said = Said("reasoning" if kind == "thinking" and not block.get("signature") else kind, (index,))
                yield from ((said, block, name) for name in (_BLOCK_FIELDS[kind],) if name in block)
    elif surface == "responses":
        for index, item in enumerate(_objects(answer.get("output"))):
            yield from _item_texts(index, item)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


class Rewriter:
    """Takes the caller's events apart, passes their texts through and puts them together again."""

    def __init__(self, surface: str, on_text: OnText) -> None:
        self._reader = EventReader()
        self._rewrite = _REWRITES[surface](on_text)

    def feed(self, data: bytes) -> bytes:
        return b"".join([piece for payload in self._reader.feed(data) for piece in self._rewritten(payload)])

    def flush(self) -> bytes:
        rest = self._reader.flush()
        return b"".join([*(self._rewritten(rest) if rest else ()), *self._rewrite.rest()])

    def _rewritten(self, payload: bytes) -> Iterator[bytes]:
        if payload == b"[DONE]":
            yield from self._rewrite.rest()
            yield b"data: [DONE]\n\n"
            return
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            # Text that cannot be read cannot be judged, so it is not let through.
            raise Refusal("upstream_error", "The provider sent an event that is not valid JSON.") from error
        yield from self._rewrite(event)


class TextTap:
    """Around another tap: what it gives goes through a Rewriter."""

    def __init__(self, surface: str, inner: Tap, on_text: OnText) -> None:
        self._inner = inner
        self._rewriter = Rewriter(surface, on_text)

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def text_bytes(self) -> int:
        return self._inner.text_bytes

    @property
    def is_failed(self) -> bool:
        return self._inner.is_failed

    @property
    def is_done(self) -> bool:
        return self._inner.is_done

    def feed(self, data: bytes) -> bytes:
        return self._rewriter.feed(self._inner.feed(data))

    def flush(self) -> bytes:
        return self._rewriter.feed(self._inner.flush()) + self._rewriter.flush()


# --- chat completions ---

_CHAT_FIELDS: dict[str, Kind] = {"reasoning_content": "reasoning", "reasoning": "reasoning", "content": "text", "refusal": "text"}
_DETAILS = ("text", "summary")
"""Of `reasoning_details`, in which some servers say the reasoning again."""
_TOOL_FIELDS: tuple[tuple[str, str, Kind], ...] = (("function", "arguments", "arguments"), ("custom", "input", "text"))


def _chat_texts(choice: int, message: dict[str, Any]) -> Iterator[Text]:
    """Of a message, or of a piece of one."""
    for name, kind in _CHAT_FIELDS.items():
        if isinstance(message.get(name), str):
            yield Said(kind, (choice, name)), message, name
    yield from _listed_texts(choice, message)
    for number, call in enumerate(_objects(message.get("tool_calls"))):
        yield from _tool_texts(choice, call.get("index", number), call.get("id"), call)
    if isinstance(tool := message.get("function_call"), dict) and isinstance(tool.get("arguments"), str):
        yield Said("arguments", (choice, "function_call")), tool, "arguments"


def _tool_texts(choice: int, index: Any, call_id: Any, call: dict[str, Any]) -> Iterator[Text]:
    for which, name, kind in _TOOL_FIELDS:
        if isinstance(tool := call.get(which), dict) and isinstance(tool.get(name), str):
            yield Said(kind, (choice, "tool_calls", index, which, name, call_id)), tool, name


def _listed_texts(choice: int, message: dict[str, Any]) -> Iterator[Text]:
    for part in _objects(message.get("content")):  # as Mistral's models that reason write it
        if isinstance(part.get("text"), str):
            yield Said("text", (choice, "content", "text")), part, "text"
        for thought in _objects(part.get("thinking")):
            if isinstance(thought.get("text"), str):
                yield Said("reasoning", (choice, "content", "thinking")), thought, "text"
    for number, detail in enumerate(_objects(message.get("reasoning_details"))):
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


class _Chat:
    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._open: dict[Said, None] = {}
        """Texts that have begun and not ended, in order."""
        self._ids: dict[tuple[int, Any], Any] = {}
        """Of the tool call that is being said, by choice and index."""
        self._head: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> Iterator[bytes]:
        for choice in _objects(event.get("choices")):
            if not isinstance(choice.get("delta"), dict):
                choice["delta"] = {}
            choice.pop("logprobs", None)  # they spell the text out
            self._pass(choice.get("index", 0), choice["delta"], is_last=bool(choice.get("finish_reason")))
            self._head = event
        yield data_event(event)

    def _pass(self, choice: int, delta: dict[str, Any], *, is_last: bool) -> None:
        fed = set[Said]()
        if calls := _objects(delta.get("tool_calls")):
            delta["tool_calls"] = list(self._pass_calls(choice, calls, fed))
        for said, holder, name in list(_chat_texts(choice, delta)):
            if said.place[1] != "tool_calls":
                self._feed(said, holder, name, fed)
        # Texts of the message follow each other; calls of several tools may be written side by side.
        mine = [said for said in self._open if said.place[0] == choice]
        for said in mine if is_last else [said for said in mine if fed and said not in fed and said.place[1] in _CHAT_FIELDS]:
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


# --- messages ---

_BLOCK_FIELDS: dict[Kind, str] = {"text": "text", "thinking": "thinking", "arguments": "input"}
_DELTAS: dict[Kind, tuple[str, str]] = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "arguments": ("input_json_delta", "partial_json"),
}


def _block_kind(block: dict[str, Any]) -> Kind | None:
    kind = block.get("type")
    if kind in ("text", "thinking"):
        return "text" if kind == "text" else "thinking"
    return "arguments" if isinstance(kind, str) and kind.endswith("tool_use") else None


@dataclass(slots=True)
class _Block:
    """One that has begun and not ended."""

    kind: Kind
    start: dict[str, Any] | None = None
    """The event that begins it, while nothing of it was sent."""
    heard: list[str] = field(default_factory=list)
    """Of a thought, to compare it with what was sent of it."""
    sent: list[str] = field(default_factory=list)
    is_ended: bool = False
    """Its text is: a signature follows."""
    is_dropped: bool = False

    @property
    def is_changed(self) -> bool:
        return "".join(self.heard) != "".join(self.sent)


class _Messages:
    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._blocks: dict[int, _Block] = {}
        """The open ones, by the provider's index."""
        self._dropped = 0
        """Blocks that were left out: those behind them move up."""

    def __call__(self, event: dict[str, Any]) -> Iterator[bytes]:
        index = event.get("index", 0)
        if event.get("type") == "content_block_start":
            self._begin(index, event)
        block = self._blocks.get(index) if "index" in event else None
        if block is None:
            yield self._moved(event, index)
        elif event["type"] == "content_block_delta":
            yield from self._delta(index, block, event)
        elif event["type"] == "content_block_stop":
            del self._blocks[index]
            yield from self._end(index, block)
            if block.is_dropped:
                self._dropped += 1
            else:
                yield from self._started(block, index)
                yield self._moved(event, index)
        elif block.kind != "thinking":
            yield from self._started(block, index)

    def rest(self) -> Iterator[bytes]:
        """None: what is not at its end has broken off."""
        return iter(())

    def _begin(self, index: int, event: dict[str, Any]) -> None:
        begun = event.get("content_block") or {}
        kind = _block_kind(begun)
        if kind is None:
            return
        self._blocks[index] = block = _Block(kind, event)
        if kind == "arguments":
            if begun.get("input"):
                begun["input"] = _object(Said(kind, (index, "start")), begun["input"], self._on_text)
        elif begun.get(kind):
            begun[kind] = self._passed(index, block, begun[kind])

    def _delta(self, index: int, block: _Block, event: dict[str, Any]) -> Iterator[bytes]:
        kind, name = _DELTAS[block.kind]
        delta = event.get("delta") or {}
        if delta.get("type") == kind:
            delta[name] = self._passed(index, block, delta.get(name) or "")
            if block.kind == "thinking" and not delta[name]:
                return
        elif delta.get("type") == "signature_delta" and delta.get("signature"):
            yield from self._end(index, block, is_signed=True)
            if block.is_changed:
                return
        if not block.is_dropped:
            yield from self._started(block, index)
            yield self._moved(event, index)

    def _passed(self, index: int, block: _Block, piece: str) -> str:
        out = self._on_text(Said(block.kind, (index,)), piece) if piece else ""
        if block.kind == "thinking":
            block.heard.append(piece)
            block.sent.append(out)
        return out

    def _end(self, index: int, block: _Block, *, is_signed: bool = False) -> Iterator[bytes]:
        """The rest of its text. A signed thought that was changed is left out; if something of it was sent before, its signature is."""
        if block.is_ended:
            return
        block.is_ended = True
        held = self._on_text(Said(block.kind, (index,)), "")
        block.sent.append(held)
        block.is_dropped = is_signed and block.is_changed and block.start is not None
        if held and not block.is_dropped:
            kind, name = _DELTAS[block.kind]
            yield from self._started(block, index)
            yield self._moved({"type": "content_block_delta", "index": index, "delta": {"type": kind, name: held}}, index)

    def _started(self, block: _Block, index: int) -> Iterator[bytes]:
        start, block.start = block.start, None
        if start is not None:
            yield self._moved(start, index)

    def _moved(self, event: dict[str, Any], index: int) -> bytes:
        return named_event({**event, "index": index - self._dropped} if "index" in event and self._dropped else event)


# --- responses ---

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


def _item_texts(output: Any, item: dict[str, Any]) -> Iterator[Text]:
    of_parts: Kind = "reasoning" if item.get("type") == "reasoning" else "text"
    for list_name in ("summary", "content"):
        for index, part in enumerate(_objects(item.get(list_name))):
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


class _Responses:
    """The protocol says each text several times: in deltas, at the end of the part, of the item, and of the whole response."""

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
            for index, item in enumerate(_objects(event["response"].get("output"))):
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
            self._objects[known] = _object(Said(said.kind, (*said.place, len(self._objects))), before, self._on_text)
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


_Rewrite = _Chat | _Messages | _Responses
_REWRITES: dict[str, Callable[[OnText], _Rewrite]] = {
    "chat": _Chat,
    "messages": _Messages,
    "responses": _Responses,
}
