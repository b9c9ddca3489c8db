"""Running guardrails over the texts of a call, and saying what they found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.contract.events import Step
from gateway.contract.guardrails import Blocked, Finding, GatheredScan, Guard, Places, Scan, StreamScan
from gateway.contract.presidio import PresidioError
from gateway.plane import text as answers
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.text import OnText, Said

WHOLE_CHARACTERS = 64 * 1024
"""A text up to this long is looked at as a whole, and a longer one in pieces of this length where what is found may be far apart."""
SLICE_CHARACTERS = 16 * 1024
"""What is found is short otherwise, so the pieces may be, too. Between them, which take under a millisecond, other calls get their turn: a prompt
of 10 MB must not hold them up."""
_SHORT = frozenset(("pii", "secrets", "size"))
"""Kinds of guardrails whose findings are short, or need no more than counting."""


async def scan_places(call: Call, guards: tuple[Guard, ...], places: Places, direction: str) -> None:
    """Scan every text where it stands, and record what was found. Refusal when a guardrail blocks."""
    scan = Scan(guards)
    since_turn = 0
    try:
        for holder, at, text in places:
            clean = scan.text(text) if len(text) <= WHOLE_CHARACTERS else await _in_slices(scan, text)
            if clean != text:
                holder[at] = clean
            since_turn += len(text)
            if since_turn > SLICE_CHARACTERS:
                since_turn = 0
                await asyncio.sleep(0)
        if any(guard.guardrail.presidio is not None for guard in guards):
            await _ask_presidio(call, scan, places, direction)
        places.write_back()
    except Blocked as blocked:
        raise _refusal(blocked.finding, direction) from blocked
    finally:
        note_findings(call, scan, direction)


async def _in_slices(scan: Scan, text: str) -> str:
    stream, parts, replaced = StreamScan(scan), [], _replaced(scan)
    step = SLICE_CHARACTERS if all(guard.guardrail.kind in _SHORT for guard in scan.guards) else WHOLE_CHARACTERS
    for start in range(0, len(text), step):
        parts.append(stream.feed(0, text[start : start + step]))
        await asyncio.sleep(0)
    parts.append(stream.finish(0))
    await asyncio.sleep(0)
    if _replaced(scan) == replaced:
        return text  # putting it together again would take longer than all of a piece
    whole = "".join(parts)
    await asyncio.sleep(0)
    return whole


def _replaced(scan: Scan) -> int:
    """How often something was replaced in what was scanned so far."""
    return sum(sum(finding.counts.values()) for guard, finding in zip(scan.guards, scan.findings, strict=True) if guard.redacts)


def watch_answer(call: Call, guards: tuple[Guard, ...]) -> None:
    """Have the answer's texts pass the guardrails on its way to the caller."""
    call.output_scan = scan = Scan(guards)
    stream, gathered = StreamScan(scan), GatheredScan(scan)
    if any(_asks(guard, enforced=False) for guard in guards):
        call.heard = {}

    def on_text(said: Said, piece: str) -> str:
        if call.heard is not None and piece:
            call.heard.setdefault(said, []).append(piece)
        try:
            if not said.is_gathered:
                return stream.feed(said, piece) if piece else stream.finish(said)
            is_json = said.kind == "arguments"
            return gathered.feed(said, piece, is_json=is_json) if piece else gathered.finish(said, is_json=is_json)
        except Blocked as blocked:
            raise _refusal(blocked.finding, "output") from blocked
        except OverflowError as error:  # what is not looked at is not let through
            raise Refusal("upstream_error", f"The provider sent {said.kind} of more than {GatheredScan.MOST:,} characters.") from error

    call.on_text = on_text


def _asks(guard: Guard, *, enforced: bool) -> bool:
    return guard.guardrail.presidio is not None and guard.guardrail.enforce is enforced


def is_gathered(call: Call) -> bool:
    """Whether the answer must be there as a whole before any of it is sent: Presidio reads whole texts, and is enforced."""
    return call.output_scan is not None and any(_asks(guard, enforced=True) for guard in call.output_scan.guards)


async def look_at_answer(call: Call, body: bytes) -> bytes:
    """An answer that is one JSON document, behind its patterns, as far as enforced guardrails ask Presidio too. Refusal."""
    return await _look_again(call, body, answers.whole) if is_gathered(call) else body


async def look_at_stream(call: Call, events: bytes) -> bytes:
    """The same for a whole stream of the caller's events. Refusal."""
    return await _look_again(call, events, answers.rewritten)


async def _look_again(call: Call, answer: bytes, passed: Callable[[str, bytes, OnText], bytes]) -> bytes:
    """Hear the answer out, ask Presidio about its texts, and say it again with what became of them."""
    heard: dict[Said, list[str]] = {}

    def listen(said: Said, piece: str) -> str:
        heard.setdefault(said, []).append(piece)
        return piece

    passed(call.surface, answer, listen)
    texts = {said: "".join(pieces) for said, pieces in heard.items()}
    await _look_at(call, _places(texts))
    return passed(call.surface, answer, lambda said, piece: "" if piece else texts.pop(said, ""))


def _places(texts: dict[Said, str]) -> Places:
    places = Places()
    for said, text in texts.items():
        if said.kind == "arguments":
            places.add_document(texts, said)
        else:
            places.append((texts, said, text))
    return places


async def look_afterwards(call: Call) -> None:
    """Have Presidio look at the answer for guardrails that only monitor: nobody waited for it."""
    if call.heard and call.output_scan is not None:
        texts = {said: "".join(pieces) for said, pieces in call.heard.items()}
        await _ask_presidio(call, call.output_scan, _places(texts), "output", (False,))


async def _look_at(call: Call, places: Places) -> None:
    assert call.output_scan is not None
    try:
        await _ask_presidio(call, call.output_scan, places, "output", (True,))
        places.write_back()
    except Blocked as blocked:
        raise _refusal(blocked.finding, "output") from blocked


async def _ask_presidio(call: Call, scan: Scan, places: Places, direction: str, enforced: tuple[bool, ...] = (True, False)) -> None:
    """For each guardrail that wants it: what Presidio finds in texts that have passed the patterns, and what becomes of them where they stand.

    Raises Blocked, or Refusal when there was no answer and the guardrail lets nothing pass without one.
    """
    for guard, finding in zip(scan.guards, scan.findings, strict=True):
        settings = guard.guardrail.presidio
        if settings is None or guard.guardrail.enforce not in enforced or not places:
            continue
        began = time.perf_counter_ns()
        texts = [holder[at] for holder, at, _ in places]
        try:
            found = await call.plane.presidio.find(settings, texts)
        except PresidioError as error:
            finding.is_incomplete, call.kept = True, None  # an answer that was not looked at is not given to others
            finding.is_refused = guard.guardrail.enforce and not settings.may_pass
            call.steps.append(Step(f"presidio:{guard.guardrail.name}", "unavailable", (time.perf_counter_ns() - began) // 1000, str(error)))
            if finding.is_refused:
                raise _unavailable(finding, direction, str(error)) from error
            continue
        call.steps.append(Step(f"presidio:{guard.guardrail.name}", "pass", (time.perf_counter_ns() - began) // 1000, direction))
        for (holder, at, _), text, hits in zip(places, texts, found, strict=True):
            known = [] if guard.redacts else guard.hits(text)  # what is counted already
            new = [hit for hit in hits if not any(hit.start < each.end and each.start < hit.end for each in known)]
            holder[at] = scan.take(guard, finding, text, new)


def _unavailable(finding: Finding, direction: str, reason: str) -> Refusal:
    name, what = finding.guardrail.name, "request" if direction == "input" else "answer"
    return Refusal(
        "guardrail_unavailable",
        f"The {what} could not be looked at by the guardrail {name}: Presidio gave no verdict ({reason}).",
        scope=f"guardrail:{name}",
        retry_after_s=2,
    )


def note_findings(call: Call, scan: Scan, direction: str) -> None:
    """One line of the record per guardrail. Names and counts only: what was found is never recorded."""
    call.steps += [
        Step(f"guardrail:{finding.guardrail.name}", finding.verdict, 0, " ".join(filter(None, (direction, finding.detail))))
        for finding in scan.findings
    ]


def _refusal(finding: Finding, direction: str) -> Refusal:
    where = "The request" if direction == "input" else "The answer"
    what = ", ".join(entity.replace("_", " ") for entity in sorted(finding.counts))
    if finding.guardrail.kind == "size":
        message = f"{where} is longer than {finding.guardrail.max_characters:,} characters."
    else:
        message = f"{where} was stopped by the guardrail {finding.guardrail.name}: {what}."
    return Refusal("guardrail_blocked", message, scope=f"guardrail:{finding.guardrail.name}")
