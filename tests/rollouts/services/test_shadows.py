"""A shadow's way from a proposal to judged pairs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.utils import timezone

from catalog.models import Model, VirtualKey
from gateway.contract.snapshot import PICO_USD
from gateway.publish.publisher import compile_snapshot
from governance.models import AuditEntry, CallPayload, PayloadSetting, Tenant, User
from governance.services.payloads import read_payload
from rollouts import shadow_selectors
from rollouts.errors import EvidenceMissingError, SelfApprovalError, ShadowInvalidError, ShadowRunningError, ShadowStateError
from rollouts.models import Shadow
from rollouts.services import shadow_judging, shadows
from tests.factories import costs as make
from tests.factories.catalog import make_model, make_project
from tests.factories.payloads import keep_payload


@pytest.fixture
def models(acme: Tenant, adam: User) -> dict[str, Model]:
    make_project(owner=adam, slug="lab")
    return {slug: make_model(owner=adam, slug=slug, price=("1", "4")) for slug in ("present", "next", "referee")}


def _propose(actor: User, slug: str = "try-next", **terms: Any) -> Shadow:
    given = {"source": "present", "candidate": "next", "judge": "referee", "project": "lab", "share_percent": 10.0, "cap_usd": Decimal(5)}
    return shadows.propose_shadow(slug=slug, name="Try next", actor=actor, **{**given, **terms})


def test_second_person_starts_it_and_planes_are_told(models: dict[str, Model], acme: Tenant, rita: User, adam: User) -> None:
    shadow = _propose(rita)
    with pytest.raises(SelfApprovalError):
        shadows.start_shadow(shadow=shadow, actor=rita)
    assert compile_snapshot(acme, 1).shadows == {}

    shadow = shadows.start_shadow(shadow=shadow, actor=adam)

    told = compile_snapshot(acme, 1)
    assert (told.shadows["present"].model, told.shadows["present"].share, told.shadows["present"].key) == ("next", 0.1, shadow.key_id)
    assert told.shadows["present"].judge == "referee"
    key = told.keys[shadow.key_id]
    assert key.project == "lab"
    assert [(limit.resource, limit.window, limit.amount, limit.fail_open) for limit in key.limits] == [
        ("money", "day", 5 * PICO_USD, False)
    ]
    with pytest.raises(ShadowRunningError):
        shadows.start_shadow(shadow=_propose(rita, "another"), actor=adam)
    models["next"].data_sensitivity = "public"
    models["next"].save()
    assert compile_snapshot(acme, 1).shadows == {}  # the candidate may not be told any more what callers send
    with pytest.raises(EvidenceMissingError):
        shadows.pause_shadow(shadow=shadow, actor=rita, reason=" ")
    shadows.pause_shadow(shadow=shadow, actor=rita, reason="Provider is down")
    with pytest.raises(ShadowInvalidError, match="sensitive"):
        shadows.resume_shadow(shadow=shadow, actor=rita)
    shadows.end_shadow(shadow=shadow, actor=rita, reason="Enough")
    with pytest.raises(ShadowStateError):
        shadows.resume_shadow(shadow=shadow, actor=rita)
    assert VirtualKey.objects.get(public_id=shadow.key_id).revoked_at is not None
    events = AuditEntry.objects.filter(event__startswith="shadow.").order_by("pk").values_list("event", flat=True)
    assert list(events) == ["shadow.proposed", "shadow.started", "shadow.proposed", "shadow.paused", "shadow.ended"]


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"candidate": "present"}, "candidate"),
        ({"candidate": "nowhere"}, "candidate"),
        ({"judge": "nowhere"}, "judge"),
        ({"judge": "next"}, "judge"),
        ({"project": "nowhere"}, "project"),
        ({"share_percent": 0.0}, "share_percent"),
        ({"cap_usd": Decimal(0)}, "cap_usd"),
        ({"length_tolerance": -1.0}, "length_tolerance"),
        ({"slug": "New Shadow"}, "slug"),
        ({"candidate": "unpriced"}, "candidate"),
    ],
)
def test_terms_that_cannot_be_used_are_refused(terms: dict[str, Any], field: str, models: dict[str, Model], rita: User, adam: User) -> None:
    make_model(owner=adam, slug="unpriced")

    with pytest.raises(ShadowInvalidError) as caught:
        _propose(rita, **terms)

    assert caught.value.field == field


def _answered(acme: Tenant, shadow: Shadow, at: datetime | None = None) -> tuple[Any, Any]:
    """A call and its repetition, counted; their ids."""
    at = at or timezone.now()
    first = make.call(acme, model="present", provider="x", started_at=at, duration_us=800_000, output_tokens=100)
    second = make.call(
        acme, model="next", provider="x", key_id=shadow.key_id, project="lab", started_at=at + timedelta(seconds=1), duration_us=500_000,
        output_tokens=120, tags={"shadow": shadow.slug, "shadow_of": str(first["event_id"])},
    )  # fmt: skip
    judging = make.call(acme, model="referee", provider="x", key_id=shadow.key_id, project="lab", started_at=at + timedelta(seconds=2))
    make.record(acme, first, second, judging)
    return first["event_id"], second["event_id"]


@pytest.fixture
def referee(settings: Any) -> Iterator[list[dict[str, Any]]]:
    """Stands where the gateway does, and prefers the answer that says better; what it was asked. A parrot says what the first answer is, a
    brooder nothing.
    """
    asked: list[dict[str, Any]] = []

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append({**body, "token": self.headers["authorization"], "shadow": self.headers["x-gatehouse-shadow"]})
            said = body["messages"][1]["content"]
            if "unspeakable" in said:
                self._answer(400, {"error": {"message": "A guardrail."}})
                return
            if body["model"] == "thinker" and "temperature" in body:
                self._answer(400, {"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model."}})
                return
            first = said.partition("<A>\n")[2].partition("\n</A>")[0]
            if body["model"] == "parrot":
                self._answer(200, {"choices": [{"message": {"content": first}, "finish_reason": "stop"}]})
                return
            if body["model"] == "brooder":
                self._answer(200, {"choices": [{"message": {"content": None}, "finish_reason": "length"}]})
                return
            letter = "A" if "better" in first else "B"
            self._answer(200, {"choices": [{"message": {"content": letter}}]})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            answer = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings.GATEWAY_URL = f"http://127.0.0.1:{server.server_port}"
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


def _keep(acme: Tenant, adam: User, event_id: Any, said: str, asked: str = "Write to ada@example.com") -> None:
    PayloadSetting.objects.update_or_create(ref="", defaults={"mode": "full", "days": 7, "set_by": adam, "set_at": timezone.now()})
    request = {"messages": [{"role": "user", "content": asked}]}
    keep_payload("lab", event_id=event_id, request=request, reply={"choices": [{"message": {"content": said}}]})


def test_answers_are_paired_once_and_judged_blind_in_both_orders(
    models: dict[str, Model], acme: Tenant, rita: User, adam: User, referee: list[dict[str, Any]]
) -> None:
    shadow = shadows.start_shadow(shadow=_propose(rita), actor=adam, at=timezone.now() - timedelta(minutes=5))
    call, answer = _answered(acme, shadow)
    _keep(acme, adam, call, "good")
    _keep(acme, adam, answer, "better, ask bob@example.com")

    assert [shadows.collect_pairs(shadow=shadow) for _ in range(2)] == [1, 0]
    assert [shadow_judging.judge_pairs(shadow=shadow) for _ in range(2)] == [1, 0]

    pair = shadow.pairs.get()
    assert (pair.call, pair.answer, pair.call_ms, pair.answer_ms, pair.call_tokens, pair.answer_tokens) == (
        call,
        answer,
        800,
        500,
        100,
        120,
    )
    assert pair.verdict == "preferred"
    first, second = (each["messages"][1]["content"] for each in referee)
    assert first.index("good") < first.index("better")
    assert second.index("better") < second.index("good")
    assert "example.com" not in first + second
    assert all(each["model"] == "referee" and each["token"].startswith(f"Bearer ghw_{acme.public_id}_{shadow.key_id}") for each in referee)
    assert {each["shadow"] for each in referee} == {"off"}  # a judge that is shadowed itself makes no pairs
    figures = shadow_selectors.figures_of(shadow)
    assert (figures["pairs"], figures["wins"], figures["waiting"]) == (1, 1, 0)


def test_no_pair_of_a_backlog_is_lost_behind_one_without_its_first_call(
    models: dict[str, Model], acme: Tenant, rita: User, adam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    shadow = shadows.start_shadow(shadow=_propose(rita), actor=adam, at=now - timedelta(hours=2))
    moments = [now - timedelta(minutes=minutes) for minutes in (90, 60, 40, 20)]
    firsts = {_answered(acme, shadow, at)[0] for at in moments[1:]}
    alone = make.call(acme, model="next", key_id=shadow.key_id, started_at=moments[0], tags={"shadow_of": str(uuid4())})
    make.record(acme, alone)
    monkeypatch.setattr(shadows, "PAIRED_AT_ONCE", 2)

    assert [shadows.collect_pairs(shadow=shadow, at=now) for _ in range(3)] == [1, 2, 0]

    assert set(shadow.pairs.values_list("call", flat=True)) == firsts


def test_pair_without_payloads_waits_a_while_and_is_not_judged_then(
    models: dict[str, Model], acme: Tenant, rita: User, adam: User, referee: list[dict[str, Any]]
) -> None:
    shadow = shadows.start_shadow(shadow=_propose(rita), actor=adam, at=timezone.now() - timedelta(minutes=5))
    _answered(acme, shadow)
    shadows.collect_pairs(shadow=shadow)

    shadow_judging.judge_pairs(shadow=shadow)
    soon = shadow.pairs.get().verdict
    shadow_judging.judge_pairs(shadow=shadow, at=timezone.now() + timedelta(hours=1))

    assert (soon, shadow.pairs.get().verdict) == ("", "not_kept")
    assert referee == []


def test_pair_that_cannot_be_judged_holds_up_no_other(
    models: dict[str, Model], acme: Tenant, rita: User, adam: User, referee: list[dict[str, Any]]
) -> None:
    shadow = shadows.start_shadow(shadow=_propose(rita), actor=adam, at=timezone.now() - timedelta(minutes=5))
    refused, unreadable, fine = [_answered(acme, shadow) for _ in range(3)]
    for call, answer in (refused, unreadable, fine):
        _keep(acme, adam, call, "unspeakable" if call == refused[0] else "good")
        _keep(acme, adam, answer, "better")
    CallPayload.objects.filter(event_id=unreadable[0]).update(sealed="of another key")
    shadows.collect_pairs(shadow=shadow)

    assert [shadow_judging.judge_pairs(shadow=shadow) for _ in range(2)] == [1, 0]

    assert {pair.call: pair.verdict for pair in shadow.pairs.all()} == {refused[0]: "", unreadable[0]: "", fine[0]: "preferred"}
    assert len(referee) == 3  # the one that is refused was not asked about again
    shadow.refresh_from_db()
    assert shadow.judge_note
    shadow_judging.judge_pairs(shadow=shadow, at=timezone.now() + timedelta(hours=25))
    assert len(referee) == 4


def test_judge_that_reasons_is_asked_without_a_temperature_and_has_room_to_think(referee: list[dict[str, Any]]) -> None:
    with httpx2.Client(trust_env=False) as client:
        letter = shadow_judging._ask(client, "ghw_x", "thinker", "Say hello", "good", "better")

    assert letter == "B"
    assert [each.get("temperature") for each in referee] == [0, None]
    assert {each["max_tokens"] for each in referee} == {1_024}


@pytest.mark.parametrize(
    ("said", "letter"), [("B", "B"), (" t. ", "T"), ("**A**", "A"), ("The second is longer.\nBoth are right.\n\nT", "T")]
)
def test_verdict_is_a_letter_on_a_line_of_its_own(referee: list[dict[str, Any]], said: str, letter: str) -> None:
    with httpx2.Client(trust_env=False) as client:
        assert shadow_judging._ask(client, "ghw_x", "parrot", "Say hello", said, "") == letter


@pytest.mark.parametrize("said", ["The better answer is B", "Both are fine.", "A or B", "B\nbecause it is shorter", "", "AB"])
def test_verdict_is_not_guessed_from_a_sentence(referee: list[dict[str, Any]], said: str) -> None:
    with (
        httpx2.Client(trust_env=False) as client,
        pytest.raises(shadow_judging.NoVerdictError, match="parrot does not answer with A, B or T"),
    ):
        shadow_judging._ask(client, "ghw_x", "parrot", "Say hello", said, "")


def test_judge_that_has_no_tokens_left_for_a_verdict_is_told_as_that(referee: list[dict[str, Any]]) -> None:
    with httpx2.Client(trust_env=False) as client, pytest.raises(shadow_judging.NoVerdictError, match="brooder had used its 1,024 tokens"):
        shadow_judging._ask(client, "ghw_x", "brooder", "Say hello", "good", "better")


def test_judge_of_a_long_request_sees_what_was_asked_at_its_end(
    models: dict[str, Model], acme: Tenant, rita: User, adam: User, referee: list[dict[str, Any]]
) -> None:
    shadow = shadows.start_shadow(shadow=_propose(rita), actor=adam, at=timezone.now() - timedelta(minutes=5))
    long, cut = _answered(acme, shadow), _answered(acme, shadow)
    for (call, answer), words in ((long, 4_000), (cut, 16_000)):
        _keep(acme, adam, call, "good", f"Context: {'words ' * words} Question: how many?")
        _keep(acme, adam, answer, "better")
    shadows.collect_pairs(shadow=shadow)

    shadow_judging.judge_pairs(shadow=shadow, at=timezone.now() + timedelta(hours=1))

    assert {pair.call: pair.verdict for pair in shadow.pairs.all()} == {long[0]: "preferred", cut[0]: "not_kept"}
    said = referee[0]["messages"][1]["content"]
    assert len(said) < 13_000
    assert [said.count(part) for part in ("Context:", shadow_judging.LEFT_OUT, "Question: how many?")] == [1, 1, 1]


def test_overlapping_looks_pay_for_a_pair_once_and_end_in_time(
    models: dict[str, Model], acme: Tenant, rita: User, adam: User, referee: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow = shadows.start_shadow(shadow=_propose(rita), actor=adam, at=timezone.now() - timedelta(minutes=5))
    for event_id in _answered(acme, shadow):
        _keep(acme, adam, event_id, "good")
    shadows.collect_pairs(shadow=shadow)

    def read_while_another_looks(**given: Any) -> Any:
        monkeypatch.setattr(shadow_judging, "read_payload", read_payload)
        assert shadow_judging.judge_pairs(shadow=shadow) == 0
        return read_payload(**given)

    Model.objects.filter(slug="referee").update(data_sensitivity="public")
    assert shadow_judging.judge_pairs(shadow=shadow) == 0  # the judge may not be told any more what callers send
    Model.objects.filter(slug="referee").update(data_sensitivity=models["referee"].data_sensitivity)
    shadow.refresh_from_db()
    assert "may not be told" in shadow.judge_note
    with monkeypatch.context() as short:
        short.setattr(shadow_judging, "LONGEST_LOOK_S", 0.0)
        assert shadow_judging.judge_pairs(shadow=shadow) == 0
    monkeypatch.setattr(shadow_judging, "read_payload", read_while_another_looks)

    assert shadow_judging.judge_pairs(shadow=shadow) == 1
    assert len(referee) == 2


def test_judge_that_is_away_is_noted_and_the_pair_waits(
    models: dict[str, Model], acme: Tenant, rita: User, adam: User, settings: Any
) -> None:
    settings.GATEWAY_URL = "http://127.0.0.1:9"
    shadow = shadows.start_shadow(shadow=_propose(rita), actor=adam, at=timezone.now() - timedelta(minutes=5))
    for event_id in _answered(acme, shadow):
        _keep(acme, adam, event_id, "good")
    shadows.collect_pairs(shadow=shadow)

    assert shadow_judging.judge_pairs(shadow=shadow) == 0

    shadow.refresh_from_db()
    pair = shadow.pairs.get()
    assert (shadow.judge_note, pair.verdict, pair.judged_at) == ("The judge could not be asked: ConnectError.", "", None)
