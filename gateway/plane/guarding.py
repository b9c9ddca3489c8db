"""Running guardrails over the texts of a call, and saying what they found."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable

from gateway.contract.events import Step
from gateway.contract.guardrails import Blocked, Finding, Guard, Place, Scan, StreamScan
from gateway.plane.call import Call
from gateway.plane.errors import Refusal

WHOLE_CHARACTERS = 64 * 1024
"""A text up to this long is looked at as a whole, and a longer one in pieces of this length where what is found may be far apart."""
SLICE_CHARACTERS = 16 * 1024
"""What is found is short otherwise, so the pieces may be, too. Between them, which take under a millisecond, other calls get their turn: a prompt
of 10 MB must not hold them up."""
_SHORT = frozenset(("pii", "secrets", "size"))
"""Kinds of guardrails whose findings are short, or need no more than counting."""


async def scan_places(call: Call, guards: tuple[Guard, ...], places: Iterable[Place], direction: str) -> None:
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
    except Blocked as blocked:
        raise _refusal(blocked.finding, direction) from blocked
    finally:
        note_findings(call, scan, direction)


async def _in_slices(scan: Scan, text: str) -> str:
    stream, parts = StreamScan(scan), []
    step = SLICE_CHARACTERS if all(guard.guardrail.kind in _SHORT for guard in scan.guards) else WHOLE_CHARACTERS
    for start in range(0, len(text), step):
        parts.append(stream.feed(0, text[start : start + step]))
        await asyncio.sleep(0)
    whole = "".join([*parts, stream.finish(0)])
    await asyncio.sleep(0)
    return whole


def watch_answer(call: Call, guards: tuple[Guard, ...]) -> None:
    """Have the answer's text pass the guardrails on its way to the caller."""
    call.output_scan = scan = Scan(guards)
    stream = StreamScan(scan)

    def on_text(text: Hashable, piece: str) -> str:
        try:
            return stream.feed(text, piece) if piece else stream.finish(text)
        except Blocked as blocked:
            raise _refusal(blocked.finding, "output") from blocked

    call.on_text = on_text


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
