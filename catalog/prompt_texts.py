"""Pure rules of prompts: how people write their messages, what a version's digest is, and what differs between two. No ORM, clock or network."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog.errors import InvalidValueError
from gateway.contract.prompts import PLACE, ROLES, variables_in

MOST_CHARACTERS = 100_000
MOST_MESSAGES = 50
MOST_WORK = 3_000_000
"""Pairs of equal lines or words that one comparison looks at: 0.2 to 0.6 s, measured."""
RESERVED = ("model", "messages", "input", "prompt", "stream", "stream_options", "user", "metadata")
"""What a version's parameters can't be: each call says it itself, or the version does elsewhere."""
_HEAD = re.compile(rf"^\[({'|'.join(ROLES)})\][ \t]*$", re.MULTILINE)
_WORD = re.compile(r"\w+|\s+|[^\w\s]")


def parse_messages(text: str) -> list[dict[str, str]]:
    """Messages as people write them: `[system]`, `[user]` or `[assistant]` on a line of its own begins one; text before the first is the user's.

    Raises InvalidValueError.
    """
    text = text.replace("\r\n", "\n")  # as browsers send it
    heads = list(_HEAD.finditer(text))
    first = text[: heads[0].start()] if heads else text
    messages = [{"role": "user", "content": first.strip()}] if first.strip() else []
    for place, head in enumerate(heads):
        end = heads[place + 1].start() if place + 1 < len(heads) else len(text)
        messages.append({"role": head[1], "content": text[head.end() : end].strip()})
    return checked_messages(messages)


def format_messages(messages: Sequence[Mapping[str, str]]) -> str:
    """The same the other way round."""
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)


def checked_messages(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Raises InvalidValueError unless they can be sent."""
    if not 1 <= len(messages) <= MOST_MESSAGES:
        raise InvalidValueError(f"A prompt has 1 to {MOST_MESSAGES} messages.", field="messages")
    for message in messages:
        if message["role"] not in ROLES:
            raise InvalidValueError(f"The role of a message is {', '.join(ROLES)}.", field="messages")
        if not message["content"].strip():
            raise InvalidValueError(f"The {message['role']} message is empty.", field="messages")
        rest = PLACE.sub("", message["content"])
        if "{{" in rest:
            raise InvalidValueError("A place for a variable is {{name}}: a letter or underscore first, then also digits.", field="messages")
    if sum(len(message["content"]) for message in messages) > MOST_CHARACTERS:
        raise InvalidValueError(f"A prompt has {MOST_CHARACTERS:,} characters at most.", field="messages")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def checked_parameters(parameters: Any) -> dict[str, Any]:
    """Raises InvalidValueError."""
    if not isinstance(parameters, dict):
        raise InvalidValueError('Parameters are a JSON object, such as {"temperature": 0.2}.', field="parameters")
    taken = [name for name in RESERVED if name in parameters]
    if taken:
        raise InvalidValueError(f"{', '.join(taken)} can't be a parameter of a prompt.", field="parameters")
    if len(json.dumps(parameters)) > MOST_CHARACTERS:
        raise InvalidValueError(f"Parameters have {MOST_CHARACTERS:,} characters at most.", field="parameters")
    return parameters


def digest(content: Mapping[str, Any], model: str, parameters: Mapping[str, Any]) -> str:
    """sha256 of the canonical version: sorted keys, no white space."""
    canonical = json.dumps([content, model, parameters], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def variables_of(content: Mapping[str, Any]) -> list[str]:
    return variables_in(message["content"] for message in content.get("messages", []))


def as_text(content: Mapping[str, Any], model: str, parameters: Mapping[str, Any]) -> str:
    """All of a version as lines, for people and for comparing."""
    head = [f"model: {model or 'as the call says'}"]
    head += [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in parameters.items()]
    body = format_messages(content["messages"]) if "messages" in content else json.dumps(content["flow"], indent=2, ensure_ascii=False)
    return "\n".join([*head, "", body])


Piece = tuple[str, bool]
"""Text, and whether it is on this side only."""


@dataclass(frozen=True)
class DiffRow:
    """One line of either side; None where the side has none."""

    before: list[Piece] | None
    after: list[Piece] | None

    @property
    def is_same(self) -> bool:
        return self.before == self.after


@dataclass
class _Work:
    left: int = MOST_WORK


class _Matcher(difflib.SequenceMatcher[str]):
    """Looks for what is the same while there is work left; the rest counts as changed."""

    def __init__(self, before: Sequence[str], after: Sequence[str], work: _Work) -> None:
        self.before, self.times, self.work = before, Counter(after), work
        super().__init__(None, before, after, autojunk=False)

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> difflib.Match:
        if self.work.left > 0:  # each item of this part is held against all its likes on the other side
            self.work.left -= sum(1 + self.times[item] for item in self.before[alo:ahi])
        if self.work.left <= 0:
            return difflib.Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


def side_by_side(before: str, after: str) -> list[DiffRow]:
    """Two texts line by line; within lines that were changed, word by word. Takes about a second at most: of texts that repeat themselves
    and differ much, what lies between the first and the last difference may be shown as changed as a whole."""
    left, right, work = before.split("\n"), after.split("\n"), _Work()
    rows: list[DiffRow] = []
    for act, a, b, c, d in _opcodes(left, right, work):
        if act == "equal":
            rows += [DiffRow([(line, False)], [(line, False)]) for line in left[a:b]]
            continue
        for place in range(max(b - a, d - c)):
            old = left[a + place] if a + place < b else None
            new = right[c + place] if c + place < d else None
            if old is None or new is None:
                rows.append(DiffRow(None if old is None else [(old, True)], None if new is None else [(new, True)]))
            else:
                rows.append(_words(old, new, work))
    return rows


def _words(old: str, new: str, work: _Work) -> DiffRow:
    left, right = _WORD.findall(old), _WORD.findall(new)
    before: list[Piece] = []
    after: list[Piece] = []
    for act, a, b, c, d in _opcodes(left, right, work):
        if b > a:
            before.append(("".join(left[a:b]), act != "equal"))
        if d > c:
            after.append(("".join(right[c:d]), act != "equal"))
    return DiffRow(before, after)


def _opcodes(left: Sequence[str], right: Sequence[str], work: _Work) -> list[tuple[str, int, int, int, int]]:
    """As `SequenceMatcher.get_opcodes`; what is the same at both ends costs nothing of the work."""
    most = min(len(left), len(right))
    head = next((place for place in range(most) if left[place] != right[place]), most)
    tail = next((place for place in range(most - head) if left[-1 - place] != right[-1 - place]), most - head)
    middle = _Matcher(left[head : len(left) - tail], right[head : len(right) - tail], work).get_opcodes()
    found = [("equal", 0, head, 0, head)] if head else []
    found += [(act, a + head, b + head, c + head, d + head) for act, a, b, c, d in middle]
    return [*found, ("equal", len(left) - tail, len(left), len(right) - tail, len(right))] if tail else found
