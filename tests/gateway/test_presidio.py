"""Presidio beside the plane: what its findings do to a call, what their absence does, and how its worker is kept.

The stand-in is a program that speaks the worker's frames; tests of the real one run where the extra is installed (`make soak` sees to it).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from gateway.contract import presidio, presidio_worker
from gateway.contract.events import Step
from gateway.contract.guardrails import Guard, Hit
from gateway.contract.places import STEP_MEMBERS, places_in_request
from gateway.contract.presidio import Ask, PresidioError, Told, hits_of, united
from gateway.contract.snapshot import Guardrail, Presidio
from gateway.contract.steps import at_once
from gateway.plane import presidio as beside
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.guarding import _all_of, look_afterwards, look_at_answer, look_at_stream, note_findings, scan_places, watch_answer
from gateway.plane.pipeline.record import record
from gateway.plane.presidio import PresidioWorker
from gateway.plane.sse import data_event
from gateway.plane.text.said import Said
from tests.gateway.conftest import Org

STAND_IN = """
import re, sys, time
from gateway.contract.presidio import Ask, Told, frame
import msgspec
asked = 0
while len(head := sys.stdin.buffer.read(4)) == 4:
    ask = msgspec.msgpack.decode(sys.stdin.buffer.read(int.from_bytes(head)), type=Ask)
    if "end" in ask.texts:
        sys.exit(1)
    asked += 1
    if "slow" in ask.texts or "hang" in ask.texts:
        time.sleep(0.3 if "slow" in ask.texts else 60)
    hits = [[("person", one.start(), one.end()) for one in re.finditer("Ada( Lovelace)?|Lovelace", text)]
            + [("email", one.start(), one.end()) for one in re.finditer(r"\\S+@\\S+", text)]
            + [("asked", 0, asked) for one in re.finditer("^How many", text)] for text in ask.texts]
    found = {at: each for at, each in enumerate(hits) if each}
    sys.stdout.buffer.write(frame(Told(ask.number, len(hits), found, "OSError" if "fail" in ask.texts else "")))
    sys.stdout.buffer.flush()
"""


def test_findings_that_overlap_are_one_over_all_of_it() -> None:
    found = [Hit("url", 4, 12), Hit("person", 0, 6), Hit("phone", 20, 30), Hit("date_time", 20, 24), Hit("ip", 12, 14)]

    assert united(found) == [Hit("url", 0, 12), Hit("ip", 12, 14), Hit("phone", 20, 30)]


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PresidioWorker]:
    monkeypatch.setattr(beside, "RESTART_S", 0)
    made = PresidioWorker([sys.executable, "-c", STAND_IN], is_installed=lambda: True)
    yield made
    await made.close()


async def test_worker_answers_or_says_why_there_is_no_answer(worker: PresidioWorker) -> None:
    settings = Presidio(time_limit_ms=5000)
    worker.prepare(settings)

    assert await worker.find(settings, ["nobody", "I am Ada Lovelace", ""]) == {1: [Hit("person", 5, 17)]}
    assert worker.state == "ok"
    with pytest.raises(PresidioError, match="no answer in time"):
        await worker.find(Presidio(time_limit_ms=50), ["slow"])
    with pytest.raises(PresidioError, match="OSError"):
        await worker.find(settings, ["fail"])
    with pytest.raises(PresidioError, match="has ended"):
        await worker.find(settings, ["end"])
    assert await worker.find(settings, ["Ada"]) == {0: [Hit("person", 0, 3)]}  # by a new one
    assert worker.failures == 3
    absent = PresidioWorker(is_installed=lambda: False)
    with pytest.raises(PresidioError, match="not installed"):
        await absent.find(settings, ["Ada"])
    assert absent.state == "missing"


async def test_worker_that_hangs_is_replaced_though_no_calls_overlap(worker: PresidioWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Presidio(time_limit_ms=2000)
    await worker.find(settings, ["Ada"])
    monkeypatch.setattr(beside, "STUCK_S", 0.3)

    with pytest.raises(PresidioError, match="no answer in time"):
        await worker.find(Presidio(time_limit_ms=20), ["hang"])
    with pytest.raises(PresidioError, match="has ended"):
        await worker.find(settings, ["Ada"])

    assert await worker.find(settings, ["Ada"]) == {0: [Hit("person", 0, 3)]}


async def test_worker_is_not_asked_what_nobody_waits_for_and_long_texts_hold_nobody_up(
    worker: PresidioWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, hasty = Presidio(time_limit_ms=5000), Presidio(time_limit_ms=20)
    await worker.find(settings, [""])  # the second that it is asked: the first was to load

    late = await asyncio.gather(*(worker.find(hasty, [text]) for text in ("slow", "Ada", "Lovelace")), return_exceptions=True)
    many = await asyncio.gather(*(worker.find(settings, [text]) for text in ("How many" + " or so" * 100, "How many?")))
    monkeypatch.setattr(beside, "MOST_ASKED_BYTES", 1000)
    with pytest.raises(PresidioError, match="too many calls wait"):
        await worker.find(settings, ["Ada" * 400])
    monkeypatch.setattr(beside, "MOST_CALLS", 2)
    crowd = await asyncio.gather(*(worker.find(settings, ["Ada"]) for _ in range(3)), return_exceptions=True)

    assert [str(error) for error in late] == ["no answer in time"] * 3
    assert many == [{0: [Hit("asked", 0, 5)]}, {0: [Hit("asked", 0, 4)]}]
    assert [str(told) for told in crowd].count("too many calls wait") == 1
    assert worker.failures == 5


@pytest.mark.parametrize("told", [Told(1, 1, {}), Told(1, 2, {2: []}), Told(1, 2, {}, "OSError")])
def test_answer_that_is_not_about_every_text_is_no_verdict(told: Told) -> None:
    with pytest.raises(PresidioError):
        hits_of(told, ["Ada", "Bob"])


def test_worker_stops_at_the_time_limit_of_what_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(entity_type="EMAIL_ADDRESS", start=0, end=2)
    library = SimpleNamespace(analyze=lambda *_, **__: [found])
    monkeypatch.setattr(presidio_worker, "_engine", lambda *_: library)  # the library, which is an extra

    assert presidio_worker.answer(Ask(1, Presidio(time_limit_ms=5000), ["Ada", ""])) == Told(1, 2, {0: [("email", 0, 2)]})
    assert presidio_worker.answer(Ask(2, Presidio(time_limit_ms=0), ["Ada"])) == Told(2, 0, {}, "TimeoutError")


def _call(worker: PresidioWorker, surface: Any = "chat") -> Call:
    call = Call(cast(Any, SimpleNamespace(presidio=worker)), "chat", {}, cast(Any, None), cast(Any, None), surface=surface)
    call.kept = []
    return call


def _guard(*, enforce: bool = True, action: Any = "redact", may_pass: bool = False, limit_ms: int = 5000) -> Guard:
    asked = Presidio(time_limit_ms=limit_ms, may_pass=may_pass)
    return Guard(Guardrail(name="names", kind="pii", enforce=enforce, action=action, on_output=True, presidio=asked))


def _guardrail_step(call: Call) -> Step:
    return next(step for step in call.steps if step.name == "guardrail:names")


async def test_requests_pass_patterns_and_then_presidio(worker: PresidioWorker) -> None:
    body = {
        "messages": [{"content": "Ada Lovelace, ada@acme.example"}, {"content": [{"type": "text", "text": "Ada"}]}],
        "system": "Be kind.",
    }
    redacting, watching, blocking = _call(worker), _call(worker), _call(worker)

    await scan_places(watching, (_guard(enforce=False),), at_once(places_in_request(body)), "input")
    assert "Lovelace" in str(body)
    with pytest.raises(Refusal, match="person"):
        await scan_places(blocking, (_guard(action="block"),), at_once(places_in_request({"input": "Who is Ada?"})), "input")
    await scan_places(redacting, (_guard(),), at_once(places_in_request(body)), "input")

    assert body["messages"] == [{"content": "[PERSON], [EMAIL]"}, {"content": [{"type": "text", "text": "[PERSON]"}]}]
    counted = "input email=1 person=2"  # the address once, though both find it
    assert (_guardrail_step(watching).verdict, _guardrail_step(watching).detail) == ("flagged", counted)
    assert (_guardrail_step(redacting).verdict, _guardrail_step(redacting).detail) == ("redacted", counted)
    assert _guardrail_step(blocking).verdict == "guardrail_blocked"
    assert [step.verdict for step in redacting.steps if step.name == "presidio:names"] == ["pass"]


async def test_missing_answer_is_never_a_pass_by_itself(worker: PresidioWorker) -> None:
    refused, passed, watched = _call(worker), _call(worker), _call(worker)

    def body() -> Any:
        return {"input": ["slow", "jo@acme.example"]}

    with pytest.raises(Refusal) as refusal:
        await scan_places(refused, (_guard(limit_ms=50),), at_once(places_in_request(body())), "input")
    await scan_places(passed, (_guard(limit_ms=50, may_pass=True),), at_once(places_in_request(body())), "input")
    await scan_places(watched, (_guard(limit_ms=50, enforce=False),), at_once(places_in_request({"input": "slow"})), "input")

    assert (refusal.value.code, refusal.value.status, refusal.value.scope) == ("guardrail_unavailable", 503, "guardrail:names")
    assert _guardrail_step(refused).verdict == "guardrail_unavailable"
    assert (_guardrail_step(passed).verdict, _guardrail_step(passed).detail) == ("redacted", "input email=1 presidio_unavailable=1")
    assert (_guardrail_step(watched).verdict, _guardrail_step(watched).detail) == ("unavailable", "input presidio_unavailable=1")
    assert [step.detail for step in passed.steps if step.verdict == "unavailable"] == ["no answer in time"]
    assert passed.kept is None  # what was not looked at is not given to others


STREAMS: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {"choices": [{"index": 0, "delta": {"content": "I am A"}}]},
        {"choices": [{"index": 0, "delta": {"content": "da."}, "finish_reason": "stop"}]},
    ],
    "messages": [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "I am A"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "da."}},
        {"type": "content_block_stop", "index": 0},
    ],
    "responses": [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "I am A"},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "da."},
        {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "I am Ada."},
        {
            "type": "response.completed",
            "response": {"output": [{"type": "message", "content": [{"type": "output_text", "text": "I am Ada."}]}]},
        },
    ],
}
WHOLE = {
    "chat": b'{"choices": [{"message": {"content": "I am Ada."}}]}',
    "messages": b'{"content": [{"type": "text", "text": "I am Ada."}]}',
    "responses": b'{"output": [{"type": "message", "content": [{"type": "output_text", "text": "I am Ada."}]}]}',
}


async def test_answers_of_every_surface_are_looked_at_whole_and_streamed(worker: PresidioWorker) -> None:
    for surface, events in STREAMS.items():
        enforced, watched = _call(worker, surface), _call(worker, surface)
        watch_answer(enforced, (_guard(),))
        watch_answer(watched, (_guard(enforce=False),))

        whole = await look_at_answer(enforced, WHOLE[surface])
        stream = await look_at_stream(enforced, b"".join(data_event(event) for event in events))

        assert b"I am [PERSON]." in whole
        assert b"I am [PERSON]." in stream
        assert b"Ada" not in whole + stream.replace(b"A", b"").replace(b"da", b"")
        assert enforced.output_scan is not None
        assert enforced.output_scan.findings[0].counts == {"person": 2}
        assert watched.on_text is not None
        assert [watched.on_text(Said("text", (0,)), piece) for piece in ("I am A", "da.")] == ["I am A", "da."]  # nobody waits
        await look_afterwards(watched)
        assert watched.output_scan is not None
        note_findings(watched, watched.output_scan, "output")
        assert (_guardrail_step(watched).verdict, _guardrail_step(watched).detail) == ("flagged", "output person=1")


async def test_time_of_monitoring_answers_is_not_the_calls(worker: PresidioWorker) -> None:
    await worker.find(Presidio(time_limit_ms=5000), ["Ada"])
    events: list[Any] = []
    call = _call(worker)
    call.plane = cast(Any, SimpleNamespace(presidio=worker, spool=events, metrics=SimpleNamespace(count=events.append)))
    call.served = cast(Any, SimpleNamespace(tenant="acme", version=1))
    watch_answer(call, (_guard(enforce=False),))
    assert call.on_text is not None
    call.on_text(Said("text", (0,)), "slow")

    await record(call)

    event = events[0]
    [took_us] = [step.micros for step in event.steps if step.name == "presidio:names"]
    assert took_us >= 300_000
    assert call.overhead_us - event.duration_us >= 300_000
    assert event.overhead_us == event.duration_us


ASK: Any = {"model": "chat", "messages": [{"role": "user", "content": "Call me at (415) 555-0132, says Ada."}]}


@pytest.mark.skipif(presidio.is_installed(), reason="Presidio is installed here")
def test_plane_without_presidio_refuses_or_says_that_nothing_was_looked_at(org: Org) -> None:
    org.change(guardrails=(Guardrail(name="names", kind="pii", enforce=True, action="redact", presidio=Presidio()),))
    refused = org.post(json=ASK)
    org.change_now(guardrails=(Guardrail(name="names", kind="pii", enforce=True, action="redact", presidio=Presidio(may_pass=True)),))
    passed = org.post(json=ASK)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "guardrail_unavailable")
    assert (refused.json()["error"]["scope"], refused.headers["retry-after"]) == ("guardrail:names", "2")
    assert passed.status_code == 200
    first, second = org.plane.wait_for_events(org.id, 2)
    assert (first["status"], first["error_code"], first["input_tokens"]) == ("refused", "guardrail_unavailable", None)
    assert ["guardrail:names", "unavailable", "input presidio_unavailable=1"] in [[step[0], step[1], step[3]] for step in second["steps"]]
    assert httpx2.get(f"{org.plane.url}/readyz", trust_env=False).json()["presidio"] == "missing"


def test_real_presidio_finds_without_a_network_or_a_model() -> None:
    pytest.importorskip("presidio_analyzer", reason='the extra "pii" is not installed')

    text = "Call me at (415) 555-0132 about passport 912803456."

    assert [(hit.entity, text[hit.start : hit.end]) for hit in presidio.find_once(Presidio(), text)] == [
        ("phone", "(415) 555-0132"),
        ("us_passport", "912803456"),
    ]
    assert presidio.find_once(Presidio(entities=("uk_nhs",)), "NHS number 401 023 2137") == [Hit("uk_nhs", 11, 23)]
    assert presidio.find_once(Presidio(), "NHS number 401 023 2137") == []
    with pytest.raises(PresidioError, match="ValueError"):
        presidio.find_once(Presidio(entities=("person",)), "Ada")  # nothing to look for is no verdict
    long = "word " * 8000 + "(415) 555-0132"
    assert [(hit.start, hit.end) for hit in presidio.find_once(Presidio(), long)] == [(40_000, 40_014)]


def test_plane_with_presidio_redacts_requests_and_streams(org: Org) -> None:
    pytest.importorskip("presidio_analyzer", reason='the extra "pii" is not installed')
    asked = Presidio(time_limit_ms=5000)
    org.change(
        guardrails=(Guardrail(name="names", kind="pii", enforce=True, action="redact", on_input=False, on_output=True, presidio=asked),)
    )
    answers = [org.post(json=ASK), org.post(json={**ASK, "stream": True})]
    org.change_now(guardrails=(Guardrail(name="names", kind="pii", enforce=True, action="redact", presidio=asked),))
    answers.append(org.post(json=ASK))

    assert [answer.status_code for answer in answers] == [200] * 3
    assert ["555-0132" in answer.text for answer in answers] == [False] * 3  # the sandbox repeats what it was asked
    assert ["PHONE" in answer.text for answer in answers] == [True] * 3
    events = org.plane.wait_for_events(org.id, 3)
    steps = [[step[1], step[3]] for event in events for step in event["steps"] if step[0] == "guardrail:names"]
    assert steps == [["redacted", "output phone=1"], ["redacted", "output phone=1"], ["redacted", "input phone=1"]]


def test_many_texts_are_put_together_in_steps() -> None:
    places = at_once(places_in_request({"input": ["Ada"] * 10 * STEP_MEMBERS}))
    steps = _all_of(places)

    assert sum(1 for _ in steps) == 10
