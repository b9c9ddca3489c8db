from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance.metrics import NO_DATA
from governance.models import User
from rollouts import board_selectors, figures, gate_record, gate_selectors
from rollouts.models import Criterion, Gate, Rollout
from rollouts.services import attestations, waivers
from tests.conftest import ClientFor
from tests.factories import rollouts as make

GATE = "/o/acme/release/rollouts/small/gates/1/"


def test_record_says_on_every_form_what_the_decision_rests_on(
    ready_gate: Gate, people: Any, readings: make.Board, client_for: ClientFor, api_for: ClientFor
) -> None:
    readings.readings["test.overhead"] = make.BAD_OVERHEAD
    make.evaluate(ready_gate)
    overhead = Criterion.objects.get(gate=ready_gate, key="overhead")
    asked = waivers.request_waiver(
        criterion=overhead, reason="Fix | on Monday.", until=timezone.now() + timedelta(days=7), actor=people.rita.user
    )
    waivers.decide_waiver(waiver=asked, approve=True, person=people.adam)
    make.go(ready_gate, "product", people.rita)
    feedback = Criterion.objects.get(gate=ready_gate, key="feedback")
    attestations.attest(criterion=feedback, met=False, note_text="Not yet.", person=people.rita)  # voids the signature
    client = client_for(people.bob.user)

    file = client.get(f"{GATE}record.json").json()
    record = file["record"]
    address = record["today"]["query"]
    page, markdown = client.get(f"{GATE}record/?{address}").content.decode(), client.get(f"{GATE}record.md?{address}")
    api = api_for(people.bob.user).get(f"/api/v1/rollouts/small/gates/1/record/?{address}").json()

    assert api == file
    assert file["record_hash"] == gate_record.hash_of(record)
    assert file["record_hash"] in page
    assert file["record_hash"] in markdown.content.decode()
    assert [each["verdict"] for each in record["criteria"]] == ["fail", "waived", "pass", "pass"]
    assert record["missing_signatures"] == ["product", "engineering"]
    assert record["signatures"][0]["voided_at"]
    assert "Voided" in page
    assert "Not signed" in page
    assert record["today"]["differences"] == []
    assert "Same verdict" in page
    assert "Fix | on Monday." in page
    assert "Fix | on Monday." in markdown.content.decode()
    assert "| waived (without the waiver: fail) | Overhead (Engineering) | 53.8 ms |" in markdown.content.decode()
    assert markdown["Content-Disposition"] == 'attachment; filename="small-gate-1.md"'
    assert [each["met"] for each in record["attestations"]] == [True, True, False]


def test_record_of_a_gate_that_was_never_judged_lists_what_will_be_asked(rollout: Rollout, client_for: ClientFor, rita: User) -> None:
    gate = make.gate_of(rollout, 2)
    record = gate_record.gate_record(gate, gate_record.as_of(gate, {}, now=timezone.now()))
    page = client_for(rita).get(f"{GATE.replace('/1/', '/2/')}record/").content.decode()

    assert record["evaluation"] is None
    assert record["today"]["sentence"] == "Not reached yet"
    assert record["criteria"][0]["verdict"] is None
    assert "| not evaluated | Overhead (Engineering) |" in gate_record.markdown(record)
    assert "What will be asked" in page
    assert "Not evaluated yet" in page
    assert client_for(rita).get(f"{GATE.replace('/1/', '/9/')}record.json").status_code == 404


def test_record_is_made_again_whatever_happened_since(ready_gate: Gate, people: Any, readings: make.Board, client_for: ClientFor) -> None:
    def record(**query: str) -> dict[str, Any]:
        gate = make.gate_of(ready_gate.rollout)
        gate.rollout.owner  # noqa: B018 - the page's gate has it
        return gate_record.gate_record(gate, gate_record.as_of(gate, query, now=timezone.now()))

    readings.readings["test.overhead"] = make.BAD_OVERHEAD
    make.evaluate(ready_gate)
    overhead = Criterion.objects.get(gate=ready_gate, key="overhead")
    until = timezone.now() + timedelta(days=7)
    waiver = waivers.request_waiver(criterion=overhead, reason="Fix on Monday.", until=until, actor=people.rita.user)
    asked_for = record()
    waiver = waivers.decide_waiver(waiver=waiver, approve=True, person=people.adam)
    make.go(ready_gate, "product", people.rita)
    printed = record()
    waivers.end_waiver(waiver=waiver, actor=people.adam.user)  # voids the signature
    make.evaluate(ready_gate)
    User.objects.filter(pk=people.rita.user.pk).update(name="Somebody Else")

    for before in (asked_for, printed):
        again = record(**dict(parse_qsl(before["today"]["query"])))
        assert json.loads(json.dumps({**again, "today": {}})) == {**before, "today": {}}
        assert gate_record.hash_of(again) == gate_record.hash_of(before)
        assert again["today"]["sentence"] == before["today"]["sentence"]
    assert gate_record.with_names(again)["signatures"][0]["by"] == "Somebody Else"
    assert [printed["waivers"][0]["approved"], asked_for["waivers"][0]["approved"]] == [True, None]
    assert record(at=printed["as_of"])["evaluation"] == printed["evaluation"]
    with CaptureQueriesContext(connection) as asked:
        now = record()
    assert len(asked) <= 7  # the gate among them
    assert printed["today"]["sentence"] != now["today"]["sentence"]
    assert len({gate_record.hash_of(each) for each in (asked_for, printed, now)}) == 3
    client = client_for(people.bob.user)
    for wrong in ("at=2999-01-01T00:00:00Z", "at=2026-01-01T00:00", "at=2026-13-01T00:00:00Z", "evaluation=beef"):
        assert client.get(f"{GATE}record.json?{wrong}").status_code == 404


def test_course_shows_what_was_read_since_the_gate_opened(gate: Gate, readings: make.Board, client_for: ClientFor, bob: User) -> None:
    start = timezone.now()
    for day, reading in enumerate([make.BAD_OVERHEAD, NO_DATA, make.GOOD_OVERHEAD, make.GOOD_OVERHEAD], start=1):
        readings.readings["test.overhead"] = reading
        make.evaluate(gate, at=start + timedelta(days=day))
    with CaptureQueriesContext(connection) as asked:
        course = gate_selectors.course_of(make.gate_of(gate.rollout))
    questions = len(asked)
    page = client_for(bob).get(GATE).content.decode()

    assert course is not None
    assert course.values["overhead"] == [53.8, None, 12.0, 12.0]
    assert questions == 2  # the gate and its course
    assert "3 of 4 readings since" in page
    assert "lowest 12 ms, highest 53.8 ms" in page


def test_course_is_drawn_with_its_gaps_and_its_threshold() -> None:
    drawn = figures.course([10.0, None, 20.0, 30.0], threshold=25, unit="ms", since="Nov 1")
    far = figures.course([10.0, 11.0], threshold=5_000, unit="ms", since="Nov 1")
    flat = figures.course([7.0, 7.0], threshold=7, unit="count", since="Nov 1")

    assert drawn is not None
    assert drawn.lines == ["0.0,15.0 1.0,15.0", "88.0,8.0 132.0,1.0"]
    assert drawn.threshold == 4.5
    assert far is not None
    assert far.threshold is None
    assert flat is not None
    assert flat.lines == ["0.0,8.0 132.0,8.0"]
    assert figures.course([None, 3.0], threshold=1, unit="ms", since="Nov 1") is None


def test_board_says_whom_the_flags_of_a_rollout_reach(rollout: Rollout, rita: User, adam: User, client_for: ClientFor) -> None:
    now = timezone.now()
    without = board_selectors.board([rollout], membership=None, now=now)[0].exposure
    flag = make.make_flag(rita, rollout=rollout)
    off = board_selectors.board([rollout], membership=None, now=now)[0].exposure
    make.change_exposure(flag, rita, adam, on=True, percentage=8_000, regions=("eu",))
    exposed = board_selectors.board([rollout], membership=None, now=now)[0].exposure
    pages = [client_for(rita).get(f"/o/acme/release/rollouts/{view}").content.decode() for view in ("", "?view=list")]

    assert without is None
    assert off is not None
    assert (off.share, off.short) == (0.0, "0%")
    assert exposed is not None
    assert (exposed.share, exposed.short, exposed.text) == (8.0, "8%", "ai.search.rerank-1: 8% in eu")
    assert all("ai.search.rerank-1: 8% in eu" in page for page in pages)
