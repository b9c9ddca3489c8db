"""Running guardrails over the texts of a call, and saying what they found."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from gateway.contract.documents import MOST_VALUES, TooManyValuesError
from gateway.contract.events import Step
from gateway.contract.guardrails import Blocked, Finding, GatheredScan, Guard, Scan, StreamScan, scanned
from gateway.contract.places import STEP_MEMBERS, Place, Places
from gateway.contract.presidio import PresidioError
from gateway.contract.steps import at_once
from gateway.plane import big_json
from gateway.plane import text as answers
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.text.said import OnText, Said


async def scan_places(call: Call, guards: tuple[Guard, ...], places: Places, direction: str) -> Scan:
    """Scan every text where it stands, and record what was found. Refusal when a guardrail blocks."""
    scan = Scan(guards)
    if call.is_short and not places.documents and scan.is_by_patterns and scan.is_clean([text for _, _, text in places]):  # as most are
        note_findings(call, scan, direction)
        return scan
    try:
        if call.is_short:
            at_once(scanned(scan, places))
        else:
            await big_json.in_turns(scanned(scan, places))
        if any(guard.guardrail.presidio is not None for guard in guards):
            await _ask_presidio(call, scan, places, direction)
        if not places.is_written_back:
            await big_json.in_turns(places.write_back())
    except Blocked as blocked:
        raise _refusal(blocked.finding, direction) from blocked
    finally:
        note_findings(call, scan, direction)
    return scan


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

    def end_of_answer() -> None:
        if any(guard.guardrail.enforce for guard in guards):
            return  # what was not looked at was held, and not sent
        for said in stream.channels():
            stream.finish(said)
        for said in gathered.channels():
            gathered.finish(said, is_json=said.kind == "arguments")

    call.on_text, call.end_of_answer = on_text, end_of_answer


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
    """Look at the rest of an answer that broke off, and have Presidio look at all of it for guardrails that only monitor: nobody waited for it."""
    if call.end_of_answer is not None:
        call.end_of_answer()
    if call.heard and call.output_scan is not None:
        texts = {said: "".join(pieces) for said, pieces in call.heard.items()}
        await _ask_presidio(call, call.output_scan, _places(texts), "output", (False,))


async def _look_at(call: Call, places: Places) -> None:
    assert call.output_scan is not None
    try:
        await _ask_presidio(call, call.output_scan, places, "output", (True,))
        await big_json.in_turns(places.write_back())
    except Blocked as blocked:
        raise _refusal(blocked.finding, "output") from blocked


async def _ask_presidio(call: Call, scan: Scan, places: Places, direction: str, enforced: tuple[bool, ...] = (True, False)) -> None:
    """For each guardrail that wants it: what Presidio finds in texts that have passed the patterns, and what becomes of them where they stand.

    Raises Blocked, or Refusal when there was no answer and the guardrail lets nothing pass without one.
    """
    for guard, finding in zip(scan.guards, scan.findings, strict=True):
        settings = guard.guardrail.presidio
        if settings is None or guard.guardrail.enforce not in enforced or not (places or places.documents):
            continue
        began = time.perf_counter_ns()
        try:
            standing = await big_json.in_turns(_all_of(places))
            texts = [text for _, _, text in standing]
            found = await call.plane.presidio.find(settings, texts)
        except PresidioError as error:
            finding.is_incomplete, call.kept = True, None  # an answer that was not looked at is not given to others
            finding.is_refused = guard.guardrail.enforce and not settings.may_pass
            call.steps.append(Step(f"presidio:{guard.guardrail.name}", "unavailable", (time.perf_counter_ns() - began) // 1000, str(error)))
            if finding.is_refused:
                raise _unavailable(finding, direction, str(error)) from error
            continue
        call.steps.append(Step(f"presidio:{guard.guardrail.name}", "pass", (time.perf_counter_ns() - began) // 1000, direction))
        for number, hits in found.items():
            holder, at, text = standing[number]
            known = [] if guard.redacts else guard.hits(text)  # what is counted already
            new = [hit for hit in hits if not any(hit.start < each.end and each.start < hit.end for each in known)]
            if (clean := scan.take(guard, finding, text, new)) != text:
                holder[at] = clean


def _all_of(places: Places) -> Generator[None, None, list[Place]]:
    """Every text as it stands now, those in documents too. Raises PresidioError when they are too many."""
    found: list[Place] = []
    try:
        if places.are_too_many:
            raise TooManyValuesError
        for start in range(0, len(places), STEP_MEMBERS):
            found += [(holder, at, holder[at]) for holder, at, _ in places[start : start + STEP_MEMBERS]]
            yield
        for each in places.documents:
            for values in each.batches():
                found += [(each, at, text) for at, text in values]
                if len(found) > MOST_VALUES:
                    raise TooManyValuesError
                yield
    except TooManyValuesError as error:
        raise PresidioError("too many texts") from error
    return found


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
    for finding in scan.findings:
        found = finding.detail
        detail = f"{direction} {found}" if found else direction
        call.steps.append(Step(f"guardrail:{finding.guardrail.name}", finding.verdict, 0, detail))


def _refusal(finding: Finding, direction: str) -> Refusal:
    where = "The request" if direction == "input" else "The answer"
    what = ", ".join(entity.replace("_", " ") for entity in sorted(finding.counts))
    if finding.unjudged:
        message = f"{where} has more texts, or more strings, names and numbers in what a tool takes or gives, than the guardrail {finding.guardrail.name} looks at."
    elif finding.guardrail.kind == "size":
        message = f"{where} is longer than {finding.guardrail.max_characters:,} characters."
    else:
        message = f"{where} was stopped by the guardrail {finding.guardrail.name}: {what}."
    return Refusal("guardrail_blocked", message, scope=f"guardrail:{finding.guardrail.name}")
