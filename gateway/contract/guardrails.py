"""Guardrails: what is found in the text of a call, and what is done about it.

Pure functions over text, used by the plane, by the portal's test box and by tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from gateway.contract.detectors import INJECTION, KEY_BEGIN, KEY_END_BEGUN, KEY_RUN, LONGEST, LONGEST_OTHER, MOST_KEY, PII, SECRETS
from gateway.contract.documents import TooManyValuesError
from gateway.contract.places import Place, Places, places_in, places_in_data
from gateway.contract.snapshot import Guardrail
from gateway.contract.steps import at_once


@dataclass(frozen=True, slots=True)
class Hit:
    """One finding in one text, as the half-open span [start, end)."""

    entity: str
    start: int
    end: int


UNAVAILABLE = "presidio_unavailable"
"""Counted among what was found: scans in which the second engine did not answer."""
UNJUDGED = "not_judged"
"""Counted among what was found: arguments and results of tools that have more values than are looked at."""


@dataclass(slots=True)
class Finding:
    """What one guardrail found in a call so far."""

    guardrail: Guardrail
    counts: dict[str, int] = field(default_factory=dict)
    """Entity to how often."""
    is_incomplete: bool = False
    """Its second engine was asked and did not answer."""
    is_refused: bool = False
    """And therefore the call is refused."""
    unjudged: int = 0
    """Documents that have too many values. An enforced guardrail refuses them."""

    @property
    def detail(self) -> str:
        """`email=2 card=1`: read by the rollup, so the form is part of the contract."""
        if not (self.counts or self.is_incomplete or self.unjudged):
            return ""
        counts = self.counts | ({UNAVAILABLE: 1} if self.is_incomplete else {}) | ({UNJUDGED: self.unjudged} if self.unjudged else {})
        return " ".join(f"{entity}={count}" for entity, count in sorted(counts.items()))

    @property
    def verdict(self) -> str:
        """For the record: `pass`, `flagged`, `redacted`, `unavailable` (nothing found, but not everything was looked at) or the code of the refusal."""
        if self.is_refused:
            return "guardrail_unavailable"
        if self.unjudged and self.guardrail.enforce:
            return "guardrail_blocked"
        if not self.counts:
            return "unavailable" if self.is_incomplete or self.unjudged else "pass"
        if not self.guardrail.enforce:
            return "flagged"
        return "redacted" if self.guardrail.action == "redact" else "guardrail_blocked"


_DIGIT = re.compile(r"\d")
PIECE_CHARACTERS = 2048
"""What is longer is looked through in pieces: three guardrails (personal data, secrets, injection) take about a millisecond for one of ordinary
text, and what takes longer must not hold up other calls."""
MOST_SPACE = 100
"""White space between two words of a blocked phrase."""


class Guard:
    """One guardrail made ready to scan."""

    MOST_OPEN = MOST_KEY + 100
    """Characters of a private key with its first line and all but the end of its last."""
    __slots__ = ("_detectors", "guardrail")

    def __init__(self, guardrail: Guardrail) -> None:
        self.guardrail = guardrail
        book = PII if guardrail.kind == "pii" else SECRETS if guardrail.kind == "secrets" else {}
        self._detectors = [(name, *book[name], LONGEST.get(name, LONGEST_OTHER)) for name in guardrail.entities or book if name in book]
        if guardrail.kind == "topics":
            self._detectors += _terms_detectors(guardrail.terms)

    @property
    def redacts(self) -> bool:
        return self.guardrail.enforce and self.guardrail.action == "redact" and self.guardrail.kind in ("pii", "secrets")

    def hits(self, text: str) -> list[Hit]:
        """Everything found in one text, by place, without overlaps (the longer one stays)."""
        found: list[Hit] = []
        has_digit = _DIGIT.search(text) is not None
        for name, hint, pattern, holds, _ in self._detectors:
            if has_digit if hint == "0" else hint in text:
                found += [Hit(name, match.start(), match.end()) for match in pattern.finditer(text) if holds(match.group())]
        if self.guardrail.kind == "injection":
            marks = [(weight, Hit(name, match.start(), match.end())) for name, weight, each in INJECTION if (match := each.search(text))]
            found = self._suspected(marks)
        return _without_overlaps(found) if found else found

    def pieces(self, text: str) -> Generator[tuple[str, list[Hit]], None, None]:
        """A long text in pieces, each with what is found in it, by its place in the piece: the same as in the whole, and nothing lies in two.

        Each pattern goes on where it was, and is shown as much beyond the piece as its longest match needs. Whether phrases amount to a
        suspicion is known at the end of the text, so they stand with an empty last piece.
        """
        begins = [0] * len(self._detectors)
        marks: dict[str, tuple[float, Hit]] = {}
        done = 0
        for ends in range(PIECE_CHARACTERS, len(text) + PIECE_CHARACTERS, PIECE_CHARACTERS):
            found: list[Hit] = []
            # What must hold a digit has it there. (An IPv6 address may do without, and is then found beside other digits only.)
            has_digit = _DIGIT.search(text, ends - PIECE_CHARACTERS, ends + LONGEST_OTHER) is not None
            for number, (name, hint, pattern, holds, longest) in enumerate(self._detectors):
                begin = begins[number]
                if begin < ends and (has_digit if hint == "0" else text.find(hint, begin, ends + longest) >= 0):
                    for match in _begun(text, hint, pattern, begin, ends, longest):
                        begin = match.end()
                        if holds(match.group()):
                            found.append(Hit(name, match.start(), begin))
                begins[number] = max(begin, ends)
            if self.guardrail.kind == "injection":
                self._mark(marks, text, ends)
            found = _without_overlaps(found, done)
            cut = max([done, ends, *(hit.end for hit in found[-1:])])
            yield text[done:cut], [Hit(hit.entity, hit.start - done, hit.end - done) for hit in found]
            done = cut
        if marks:
            yield "", self._suspected(list(marks.values()))

    def open_from(self, text: str) -> int:
        """Where a private key begins whose last line may still follow the text; the text's length without one."""
        if not any(name == "private_key" for name, *_ in self._detectors) or "-----BEGIN " not in text:
            return len(text)
        for begin in KEY_BEGIN.finditer(text, max(0, len(text) - self.MOST_OPEN)):
            run = KEY_RUN.match(text, begin.end())
            assert run is not None  # of no characters, if of none else
            is_open = run.end() == len(text) or KEY_END_BEGUN.fullmatch(text, run.end()) is not None
            if is_open and run.end() - run.start() <= MOST_KEY:
                return begin.start()
        return len(text)

    @staticmethod
    def _mark(marks: dict[str, tuple[float, Hit]], text: str, ends: int) -> None:
        """Note which phrases begin in the piece that ends there, once each."""
        for name, weight, pattern in INJECTION:
            if name not in marks:
                match = pattern.search(text, ends - PIECE_CHARACTERS, ends + LONGEST.get(name, LONGEST_OTHER))
                if match and match.start() < ends:
                    marks[name] = weight, Hit(name, match.start(), match.end())

    def _suspected(self, marks: list[tuple[float, Hit]]) -> list[Hit]:
        return [hit for _, hit in marks] if min(1.0, sum(weight for weight, _ in marks)) >= self.guardrail.threshold else []


def _begun(text: str, hint: str, pattern: re.Pattern[str], begin: int, ends: int, longest: int) -> Iterator[re.Match[str]]:
    """Matches that begin in [begin, ends). Where a pattern looks far, none is tried that begins beyond: the next pieces try it."""
    if not (hint and longest > PIECE_CHARACTERS):
        yield from takewhile(lambda match: match.start() < ends, pattern.finditer(text, begin, ends + longest))
        return
    while (begin := text.find(hint, begin, ends + len(hint) - 1)) >= 0:
        if match := pattern.match(text, begin, ends + longest):
            yield match
        begin = match.end() if match else begin + 1


def _terms_detectors(terms: Iterable[str]) -> list[tuple[str, str, re.Pattern[str], Callable[[str], bool], int]]:
    phrases = [term.split() for term in terms if term.strip()]
    if not phrases:
        return []
    words = sorted((rf"\s{{1,{MOST_SPACE}}}".join(map(re.escape, phrase)) for phrase in phrases), key=len, reverse=True)
    longest = max(sum(map(len, phrase)) + MOST_SPACE * len(phrase) for phrase in phrases)
    return [("topic", "", re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE), lambda _: True, longest)]


def _without_overlaps(hits: list[Hit], begin: int = 0) -> list[Hit]:
    """In order; the longer one of two stays, and none that starts before `begin`."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, hit.start - hit.end)):
        if hit.start >= begin:
            kept.append(hit)
            begin = hit.end
    return kept


def redact(text: str, hits: Iterable[Hit]) -> str:
    """Each hit replaced by `[EMAIL]` and the like; hits are in order and apart."""
    parts, last = [], 0
    for hit in hits:
        parts += [text[last : hit.start], f"[{hit.entity.upper()}]"]
        last = hit.end
    return "".join([*parts, text[last:]])


class GuardSet:
    """The guardrails of one snapshot. Which apply to a call is looked up by its project, model and agent."""

    __slots__ = ("_by_scope", "_chosen")
    MOST_CHOSEN = 2048

    def __init__(self, guardrails: Iterable[Guardrail]) -> None:
        self._by_scope: dict[tuple[str, str], list[Guard]] = {}
        for guardrail in guardrails:
            scope = (guardrail.scope, "" if guardrail.scope == "tenant" else guardrail.scope_name)
            self._by_scope.setdefault(scope, []).append(Guard(guardrail))
        self._chosen: dict[tuple[str, str, str], tuple[tuple[Guard, ...], tuple[Guard, ...]]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_scope)

    def of(self, *, project: str, model: str, agent: str) -> tuple[tuple[Guard, ...], tuple[Guard, ...]]:
        """Those on the input and those on the output."""
        asked = (project, model, agent)
        chosen = self._chosen.get(asked)
        if chosen is None:
            scopes = (("tenant", ""), ("project", project), ("model", model), ("agent", agent))
            every = [guard for scope in scopes for guard in self._by_scope.get(scope, ())]
            chosen = (
                tuple(guard for guard in every if guard.guardrail.on_input),
                tuple(guard for guard in every if guard.guardrail.on_output),
            )
            if len(self._chosen) >= self.MOST_CHOSEN:  # agents name themselves: no unbounded memory
                self._chosen.clear()
            self._chosen[asked] = chosen
        return chosen


class Blocked(Exception):
    """A guardrail that blocks has found something."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.guardrail.name)
        self.finding = finding


_APART = "\n\0"
"""Between texts that are looked at together: no finding that is held to a rule reaches over it."""


class Scan:
    """One direction of one call: texts go in, come out redacted, and findings add up.

    Raises Blocked at the first hit of an enforced guardrail that blocks.
    """

    __slots__ = ("_characters", "findings", "guards")

    def __init__(self, guards: Iterable[Guard]) -> None:
        self.guards = tuple(guards)
        self.findings = [Finding(guard.guardrail) for guard in self.guards]
        self._characters = 0

    def text(self, text: str) -> str:
        """One whole text, or as much of a stream as is decided."""
        self._characters += len(text)
        for guard, finding in zip(self.guards, self.findings, strict=True):
            if guard.guardrail.kind == "size":
                self._size(guard.guardrail, finding)
                continue
            text = self.take(guard, finding, text, guard.hits(text))
        return text

    def in_pieces(self, text: str) -> Generator[None, None, str]:
        """The same for a long text, in short steps."""
        self._characters += len(text)
        for guard, finding in zip(self.guards, self.findings, strict=True):
            if guard.guardrail.kind == "size":
                self._size(guard.guardrail, finding)
                continue
            parts, is_changed = [], False
            for piece, hits in guard.pieces(text):
                parts.append(self.take(guard, finding, piece, hits) if hits else piece)
                is_changed = is_changed or parts[-1] is not piece
                yield
            if is_changed:  # to put it together takes longer than a step
                text = "".join(parts)
        return text

    def short_texts(self, texts: list[str]) -> list[str]:
        """The same for several. Most hold nothing: that is seen at one look, and each is looked at by itself only when it is not so.

        The list itself comes back when nothing is found in it.
        """
        if len(texts) < 2 or not self.is_clean(texts):
            return [self.text(text) for text in texts]
        self._characters += sum(map(len, texts))
        for guard, finding in zip(self.guards, self.findings, strict=True):
            if guard.guardrail.kind == "size":
                self._size(guard.guardrail, finding)
        return texts

    def is_clean(self, texts: list[str]) -> bool:
        """Whether no pattern finds anything in several short texts."""
        joined = _APART.join(texts)
        return not any(guard.hits(joined) for guard in self.guards)

    @property
    def is_by_patterns(self) -> bool:
        """Nothing but patterns judges: no size is counted, and no second engine is asked."""
        return not any(guard.guardrail.kind == "size" or guard.guardrail.presidio is not None for guard in self.guards)

    def leave_unjudged(self) -> None:
        """There are too many texts, or values of a document. Raises Blocked where a guardrail is enforced: what is not looked at is not let through."""
        for finding in self.findings:
            finding.unjudged += 1
        for finding in self.findings:
            if finding.guardrail.enforce:
                raise Blocked(finding)

    @staticmethod
    def take(guard: Guard, finding: Finding, text: str, hits: list[Hit]) -> str:
        """Count what a guardrail found in a text, and do what it does about it. Raises Blocked."""
        for hit in hits:
            finding.counts[hit.entity] = finding.counts.get(hit.entity, 0) + 1
        if hits and guard.redacts:
            return redact(text, hits)
        if hits and guard.guardrail.enforce:
            raise Blocked(finding)
        return text

    def _size(self, guardrail: Guardrail, finding: Finding) -> None:
        if self._characters > guardrail.max_characters:
            finding.counts["characters"] = self._characters
            if guardrail.enforce:
                raise Blocked(finding)


class StreamScan:
    """The same over a stream: what could still become part of a finding is held back until it is decided.

    A text is let go up to the last line or sentence end, or up to a white space that MARGIN characters follow; never inside of
    a finding; a private key is held back to its last line. Without a guardrail that changes or stops anything nothing is held back.
    """

    HOLD = 256
    """Characters that wait for a sentence to end."""
    MARGIN = 64
    """No finding that holds white space is longer, but a private key."""
    MOST = 8192
    """Of one text without any white space, or that may be one private key."""
    __slots__ = ("_held", "_holds", "_scan")

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._holds = any(guard.guardrail.enforce for guard in scan.guards)
        self._held: dict[Any, str] = {}

    def feed(self, channel: Any, delta: str) -> str:
        """What may be sent now of one channel (a choice's text)."""
        held = self._held.get(channel, "") + delta
        cut = self._safe_cut(held)
        self._held[channel] = held[cut:]
        if not cut:
            return "" if self._holds else delta
        clean = self._scan.text(held[:cut])
        return clean if self._holds else delta

    def finish(self, channel: Any) -> str:
        """The rest of a channel."""
        held = self._held.pop(channel, "")
        if not held:
            return ""
        clean = self._scan.text(held)
        return clean if self._holds else ""

    def channels(self) -> list[Any]:
        """Those with something held back."""
        return [channel for channel, held in self._held.items() if held]

    def _safe_cut(self, held: str) -> int:
        cut = 1 + max(held.rfind("\n"), held.rfind(". "), held.rfind("? "), held.rfind("! "))
        if not cut and len(held) > self.HOLD:
            cut = 1 + held.rfind(" ", 0, len(held) - self.MARGIN)
            if not cut and len(held) > self.MOST:
                cut = len(held) - self.MARGIN
        cut = min([cut, *(guard.open_from(held) for guard in self._scan.guards)])
        if cut:
            spanning = [hit for guard in self._scan.guards for hit in guard.hits(held) if hit.start < cut < hit.end]
            cut = min([cut, *(hit.start for hit in spanning)])
            if not cut and len(held) > self.MOST:  # as long as a finding gets: it is let go, or it would be held for ever
                cut = max(hit.end for hit in spanning)
        return cut


SHORT_CHARACTERS = 1024
"""Texts that are shorter are looked at together."""
TOGETHER = 128


def scanned(scan: Scan, places: Places) -> Generator[None, None, None]:
    """Scan every text where it stands, in steps. Raises Blocked."""
    if places.are_too_many:
        scan.leave_unjudged()
    batch: list[Place] = []
    size = 0
    for place in places:
        batch.append(place)
        size += len(place[2])
        if len(batch) == TOGETHER or size > PIECE_CHARACTERS:
            yield from _scan_batch(scan, batch)
            batch, size = [], 0
    yield from _scan_batch(scan, batch)
    for each in places.documents:
        try:
            for values in each.batches():
                yield from _scan_batch(scan, [(each, at, text) for at, text in values])
        except TooManyValuesError:
            scan.leave_unjudged()


def _scan_batch(scan: Scan, batch: list[Place]) -> Generator[None, None, None]:
    short = [place for place in batch if len(place[2]) < SHORT_CHARACTERS]
    texts = [text for _, _, text in short]
    if (cleaned := scan.short_texts(texts)) is not texts:
        for (holder, at, text), clean in zip(short, cleaned, strict=True):
            if clean != text:
                holder[at] = clean
    yield
    if len(short) == len(batch):
        return
    for holder, at, text in batch:
        if len(text) >= SHORT_CHARACTERS:
            clean = scan.text(text) if len(text) <= PIECE_CHARACTERS else (yield from scan.in_pieces(text))
            if clean != text:
                holder[at] = clean
            yield


class GatheredScan:
    """The same for texts that can only be judged as a whole: nothing of them is let go before their end.

    Arguments of tool calls are JSON, in which a finding may not be cut out of a number or stand half behind an escape; signed thoughts are
    valid only as they were. Without a guardrail that changes or stops anything nothing is held back.
    """

    MOST = 2**18
    """Characters of one text. Models write less; what goes on is refused where it would have to be held. It is judged in one step, so it is bounded."""
    MOST_VALUES = 2**13
    """In the JSON of one tool call, for the same reason."""
    __slots__ = ("_held", "_holds", "_scan", "_sizes")

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._holds = any(guard.guardrail.enforce for guard in scan.guards)
        self._held: dict[Any, list[str]] = {}
        self._sizes: dict[Any, int] = {}

    def feed(self, channel: Any, piece: str, *, is_json: bool) -> str:
        """What may be sent now. OverflowError for a text that is too long to be held."""
        self._held.setdefault(channel, []).append(piece)
        self._sizes[channel] = self._sizes.get(channel, 0) + len(piece)
        if self._sizes[channel] > self.MOST:
            if self._holds:
                raise OverflowError
            self.finish(channel, is_json=is_json)  # only counted: as well in two parts
        return "" if self._holds else piece

    def channels(self) -> list[Any]:
        """Those with something that was not looked at."""
        return list(self._held)

    def finish(self, channel: Any, *, is_json: bool) -> str:
        """The rest of a channel."""
        self._sizes.pop(channel, None)
        holder = ["".join(self._held.pop(channel, ()))]
        if holder[0]:
            places = places_in_data(holder, 0, self.MOST_VALUES) if is_json else at_once(places_in(holder))
            at_once(scanned(self._scan, places))
            at_once(places.write_back())
        return holder[0] if self._holds else ""
