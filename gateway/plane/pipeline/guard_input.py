from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gateway.contract.events import Step
from gateway.contract.guardrails import Blocked, Finding, Guard, Place, Scan, StreamScan, places_in, places_in_request
from gateway.plane.call import Call
from gateway.plane.errors import Refusal

SLICE_CHARACTERS = 64 * 1024
"""Between slices of this size other calls get their turn: a prompt of 10 MB must not hold them up."""


async def guard_input(call: Call) -> str:
    """What is sent passes the guardrails of its project, model and agent: redacted in place, recorded, or refused.

    The same walk over the body serves every dialect; a tool's arguments are text as well.
    """
    served, key = call.served, call.key
    assert served is not None
    assert key is not None
    if not served.guards:
        return ""
    model = call.model.slug if call.model else ""
    inputs, outputs = served.guards.of(project=key.project, model=model, agent=call.agent or "")
    call.output_guards = outputs
    if not inputs:
        return ""
    places = places_in(call.arguments) if call.kind == "tool" else places_in_request(call.body)
    await scan_places(call, inputs, places, "input")
    return ""


async def scan_places(call: Call, guards: tuple[Guard, ...], places: Iterable[Place], direction: str) -> bool:
    """Scan every text where it stands; true when one was changed. Refusal when a guardrail blocks."""
    scan = Scan(guards)
    changed, since_turn = False, 0
    try:
        for holder, at, text in places:
            clean = scan.text(text) if len(text) <= SLICE_CHARACTERS else await _in_slices(scan, text)
            if clean != text:
                holder[at] = clean
                changed = True
            since_turn += len(text)
            if since_turn > SLICE_CHARACTERS:
                since_turn = 0
                await asyncio.sleep(0)
    except Blocked as blocked:
        raise refusal_of(blocked.finding, direction) from blocked
    finally:
        note_findings(call, scan.findings, direction)
    return changed


async def _in_slices(scan: Scan, text: str) -> str:
    stream, parts = StreamScan(scan), []
    for start in range(0, len(text), SLICE_CHARACTERS):
        parts.append(stream.feed(0, text[start : start + SLICE_CHARACTERS]))
        await asyncio.sleep(0)
    return "".join([*parts, stream.finish(0)])


def note_findings(call: Call, findings: Iterable[Finding], direction: str) -> None:
    """One line of the record per guardrail. Names and counts only: what was found is never recorded."""
    call.steps += [
        Step(f"guardrail:{finding.guardrail.name}", finding.verdict, 0, " ".join(filter(None, (direction, finding.detail))))
        for finding in findings
    ]


def refusal_of(finding: Finding, direction: str) -> Refusal:
    where = "The request" if direction == "input" else "The answer"
    what = ", ".join(entity.replace("_", " ") for entity in sorted(finding.counts))
    if finding.guardrail.kind == "size":
        message = f"{where} is longer than {finding.guardrail.max_characters:,} characters."
    else:
        message = f"{where} was stopped by the guardrail {finding.guardrail.name}: {what}."
    return Refusal("guardrail_blocked", message, scope=f"guardrail:{finding.guardrail.name}")
