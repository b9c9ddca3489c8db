"""What is kept of what calls say: nothing but what the mode allows, sealed, and never at the caller's expense."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import orjson
import psycopg
import pytest
from mcp_types import CallToolResult, TextContent

from gateway.contract import payloads
from gateway.contract.events import PayloadEvent
from gateway.contract.names import PAYLOAD_TABLE
from gateway.contract.payloads import CUT, MOST_CHARACTERS, Payload, clean, seal, strictest, unseal
from gateway.contract.sealing import Sealer, UnsealError
from gateway.contract.snapshot import Guardrail, PayloadMode, PayloadRule
from gateway.plane.assembly import assembled
from gateway.plane.call import Call
from gateway.plane.http import Message
from gateway.plane.ingress.calls import _prepare
from gateway.plane.payloads import MOST_REPLY_BYTES, Watch, _sealed, _Waiting, waiting_bytes
from tests import bootstrap
from tests.gateway.conftest import Org, wait_until

SEALER = Sealer([bootstrap.SECRETS["SEALING_KEYS"]])
CARD = "4111 1111 1111 1111"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIB\n-----END PRIVATE KEY-----"


def test_strictest_mode_and_shortest_time_hold() -> None:
    rules = [PayloadRule(mode="full", days=3), PayloadRule(mode="redacted", days=30)]

    assert strictest(*rules) == PayloadRule(mode="redacted", days=3)


def test_redacted_reaches_every_text_name_and_number() -> None:
    said = {
        "messages": [{"role": "user", "content": f"I am jo@acme.example, card {CARD}"}],
        "arguments": {"jo@acme.example": 4111111111111111, "n": 7, "ok": True},
        "key": f"see {PEM} and {PEM.replace(chr(10), chr(92) + 'n')}.",
    }

    kept, is_cut = clean(said, "redacted")

    text = orjson.dumps(kept).decode()
    assert not is_cut
    assert kept["messages"][0] == {"role": "user", "content": "I am [EMAIL], card [CARD]"}
    assert kept["arguments"] == {"[EMAIL]": "[CARD]", "n": 7, "ok": True}
    assert not any(part in text for part in ("jo@", "4111", "MIIE", "BKcw"))
    assert clean(said, "full") == (said, False)


@pytest.mark.parametrize("mode", ["none", "metadata"])
def test_modes_that_keep_nothing_clean_nothing(mode: PayloadMode) -> None:
    with pytest.raises(ValueError, match="keeps no payload"):
        clean({"messages": []}, mode)


def test_what_is_too_long_is_cut_without_half_a_finding() -> None:
    for mode in ("redacted", "full"):
        words = "word " * (MOST_CHARACTERS // 5 - 8)
        kept, is_cut = clean({"text": f"{words}. jo.from.accounting@acme.example"}, mode)
        assert is_cut
        assert kept["text"].endswith(CUT)
        assert ("jo.fr" in kept["text"]) is (mode == "full")
    many, is_cut = clean([[]] * 100_000, "full")
    assert is_cut
    assert len(many) < MOST_CHARACTERS


def test_pictures_files_and_vectors_are_never_kept() -> None:
    said = {"image": "data:image/png;base64," + "A" * 900, "file": "QUJD" * 300, "embedding": [0.5] * 1536, "short": [1, 2]}

    kept, _ = clean(said, "full")

    assert kept == {
        "image": "[922 characters of data]",
        "file": "[1,200 characters of data]",
        "embedding": "[1,536 numbers]",
        "short": [1, 2],
    }


def test_sealed_text_opens_for_its_own_call_only(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = Payload(event_id="e1", tenant="t1", request={"a": "secret words"}, reply=None)
    sealed = seal(SEALER, payload)
    assert sealed is not None

    assert "secret" not in sealed
    assert unseal(SEALER, sealed, event_id="e1", tenant="t1") == payload
    for event_id, tenant in (("e2", "t1"), ("e1", "t2")):
        with pytest.raises(UnsealError):
            unseal(SEALER, sealed, event_id=event_id, tenant=tenant)
    monkeypatch.setattr(payloads, "MOST_SEALED_BYTES", 10)
    assert seal(SEALER, payload) is None


def _stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("surface", "events", "expected"),
    [
        (
            "chat",
            [
                {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "jo@ac"}}]},
                {"choices": [{"index": 0, "delta": {"content": "me.example", "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}}]},
                {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}, "finish_reason": "stop"}]},
            ],
            {
                "id": "c",
                "choices": [
                    {
                        "message": {"role": "assistant", "content": "jo@acme.example", "tool_calls": {"0": {"name": "f", "arguments": "{}"}}},
                        "finish_reason": "stop",
                    }
                ],
            },
        ),
        (
            "messages",
            [
                {"type": "message_start", "message": {"id": "m", "model": "x"}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "jo@ac"}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "me.example"}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            ],
            {"id": "m", "model": "x", "stop_reason": "end_turn", "content": [{"type": "text", "text": "jo@acme.example"}]},
        ),
        (
            "responses",
            [{"type": "response.output_text.delta", "delta": "jo@ac"}, {"type": "response.output_text.delta", "delta": "me.example"}],
            {"output": ["jo@acme.example"]},
        ),
        ("responses", [{"type": "response.completed", "response": {"id": "r", "output": [1]}}], {"id": "r", "output": [1]}),
    ],
)  # fmt: skip
def test_stream_is_put_together_again(surface: str, events: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    assert assembled(surface, _stream(*events)) == expected


async def test_all_that_waits_is_counted_and_a_reply_too_long_is_called_cut() -> None:
    chunks = [b'{"model": "m", "input": "', b"a" * 5000, b'"}']

    async def receive() -> Message:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Message) -> None:
        pass

    watch = Watch(PayloadRule(mode="full", days=1), "demo", send)
    nowhere = cast("Any", None)
    chat, tool = Call(nowhere, "chat", {}, receive, send), Call(nowhere, "tool", {}, receive, send)
    chat.served = cast("Any", SimpleNamespace(snapshot=SimpleNamespace(models={})))
    await _prepare(chat)
    await watch.send({"type": "http.response.body", "body": b"b" * 300})
    tool.arguments = {"say": "a" * 700}
    tool.result = CallToolResult(content=[TextContent(type="text", text="b" * 9000)])

    assert waiting_bytes(chat, watch) == 5027 + 300  # sent in chunks, without a declared length
    assert 9700 < waiting_bytes(tool, watch) < 10_500
    await watch.send({"type": "http.response.body", "body": b"b" * MOST_REPLY_BYTES})
    event = PayloadEvent(
        event_id="e1", tenant="t1", at=0.0, expires_at=1.0, project="demo", key_id="k", model="m", mode="full", subject="", sealed=""
    )
    sealed = _sealed(_Waiting(watch.rule, event, "chat", False, {}, watch.parts, watch.is_too_long, 0), SEALER)
    assert sealed is not None
    assert unseal(SEALER, sealed, event_id="e1", tenant="t1") == Payload(event_id="e1", tenant="t1", request={}, reply=None, is_cut=True)
    assert waiting_bytes(chat, watch) == 5027


def kept_of(org: Org, count: int) -> list[dict[str, Any]]:
    """Rows that have arrived, opened, in the order of their calls."""

    def rows() -> list[dict[str, Any]]:
        with psycopg.connect(org.plane.database_url, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(f"select * from {PAYLOAD_TABLE} where tenant = %s order by at", [org.id]).fetchall()

    found = wait_until(lambda: (waiting := rows()) and len(waiting) >= count and waiting, 10, f"{count} payloads") or []
    for row in found:
        row["payload"] = unseal(SEALER, row["sealed"], event_id=str(row["event_id"]), tenant=org.id)
    return found


def test_texts_are_kept_as_the_rule_of_the_project_says(org: Org) -> None:
    ask = {"model": "chat", "messages": [{"role": "user", "content": f"Charge {CARD} for jo@acme.example"}], "user": "u-7"}
    org.change(payloads={"demo": PayloadRule(mode="redacted", days=2)})
    plain, streamed = org.post(json=ask), org.post(json={**ask, "stream": True})
    org.post(json={**ask, "model": "nowhere"})
    org.change_now(payloads={"demo": PayloadRule(mode="full", days=2)})
    full = org.post(json=ask)
    org.change_now(payloads={})
    org.post(json=ask)

    first, second, refused, last = kept_of(org, 4)

    assert plain.status_code == full.status_code == 200
    assert first["payload"].request["messages"][0]["content"] == "Charge [CARD] for [EMAIL]"
    answer = first["payload"].reply["choices"][0]["message"]["content"]
    assert CARD in plain.text
    assert "[CARD]" in answer
    assert second["payload"].reply["choices"][0]["message"]["content"] == answer
    assert "[DONE]" in streamed.text
    assert refused["payload"].reply is None
    assert last["payload"].request["messages"][0]["content"].startswith(f"Charge {CARD}")
    assert last["payload"].reply == full.json()
    assert {row["subject"] for row in (first, second, refused, last)} == {first["subject"]} != {""}
    assert round((first["expires_at"] - first["at"]).total_seconds()) == 2 * 86400
    events = org.plane.wait_for_events(org.id, 5)
    assert [str(row["event_id"]) for row in (first, second, refused, last)] == [str(event["event_id"]) for event in events[:4]]
    said = [[step[3] for step in event["steps"] if step[0] == "payload"] for event in events]
    assert said == [["redacted"], ["redacted"], ["redacted"], ["full"], []]
    assert not any(CARD in str(event) for event in events)


def test_none_keeps_what_was_counted_out_of_the_record_too(org: Org) -> None:
    watch = Guardrail(name="watch", kind="pii")
    ask = {"model": "chat", "messages": [{"role": "user", "content": "jo@acme.example"}]}
    org.change(guardrails=(watch,), payloads={"other": PayloadRule(mode="none", days=1)})
    org.post(json=ask)
    org.change_now(payloads={"demo": PayloadRule(mode="none", days=1)})
    org.post(json=ask)

    events = org.plane.wait_for_events(org.id, 2)

    found = [[step for step in event["steps"] if step[0].startswith("guardrail:")] for event in events]
    assert [[step[1] for step in steps] for steps in found] == [["flagged"], ["flagged"]]
    assert [steps[0][3] for steps in found] == ["input email=1", ""]
