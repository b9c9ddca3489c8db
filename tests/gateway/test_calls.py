"""The OpenAI surface of a real plane, called by the unmodified `openai` SDK."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from typing import Any

import httpx2
import msgspec
import openai
import orjson
import pytest

from gateway.contract import keys
from gateway.contract import snapshot as contract
from gateway.contract.sealing import Sealer
from gateway.plane.call import uuid7
from tests import bootstrap
from tests.clock import allowed
from tests.gateway.conftest import (
    PEPPER,
    SAY_HELLO,
    Org,
    Plane,
    SandboxUpstream,
    chat_model,
    deployment,
    make_org,
    make_sandbox,
    openai_client,
    wait_until,
)

pytestmark = pytest.mark.process

FAULTY = {"drips": "drip", "hangs": "hang"}


def test_completion_is_answered_and_becomes_one_event(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    client = org.client(default_headers={"x-gatehouse-agent": "planner", "x-gatehouse-tags": "team=blue, run=7", "x-request-id": "mine-1"})

    raw = client.chat.completions.with_raw_response.create(model="chat", messages=SAY_HELLO)

    answer = raw.parse()
    assert answer.choices[0].message.content
    assert raw.headers["x-request-id"] == "mine-1"
    assert float(raw.headers["x-gatehouse-overhead-ms"]) > 0
    [event] = org.plane.wait_for_events(org.id, 1)
    assert (event["kind"], event["status"], event["http_status"], event["stream"]) == ("chat", "ok", 200, False)
    assert (event["model"], event["provider"], event["upstream_model"], event["project"]) == ("chat", "sandbox", "sandbox-large", "demo")
    assert (event["key_id"], event["agent"], event["tags"]) == (org.key_id, "planner", {"team": "blue", "run": "7"})
    assert answer.usage is not None
    assert (event["input_tokens"], event["output_tokens"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert event["usage_source"] == "provider"
    assert 0 < event["overhead_us"] < event["duration_us"]
    assert [step[:2] for step in event["steps"]] == [
        [name, "pass"]
        for name in (
            "identify",
            "consent",
            "tags",
            "flags",
            "authorize",
            "policy",
            "reserve",
            "guard_input",
            "cache",
            "route",
            "call_upstream",
            "guard_output",
            "settle",
        )
    ]  # the last step, which writes the event, is in none
    [served] = [line for line in sandbox_upstream.journal() if line["request_id"] == "mine-1"]
    assert (served["input_tokens"], served["output_tokens"]) == (event["input_tokens"], event["output_tokens"])


@pytest.mark.parametrize("asked", [True, False])
def test_stream_shows_usage_only_to_who_asked_and_records_it_always(org: Org, asked: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if asked else {}

    chunks = list(org.client().chat.completions.create(model="chat", messages=SAY_HELLO, stream=True, **options))  # type: ignore[call-overload]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = org.client().chat.completions.create(model="chat", messages=SAY_HELLO)
    assert text == whole.choices[0].message.content
    assert bool(chunks[-1].usage) is asked
    assert all(chunk.choices for chunk in chunks) is not asked
    streamed, unstreamed = org.plane.wait_for_events(org.id, 2)
    assert streamed["stream"]
    assert streamed["usage_source"] == "provider"
    assert (streamed["input_tokens"], streamed["output_tokens"]) == (unstreamed["input_tokens"], unstreamed["output_tokens"])
    assert streamed["ttft_us"] <= streamed["duration_us"]


def test_stream_is_forwarded_as_it_comes(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    slow = chat_model(deployment(sandbox_upstream.base_url("faults", "drip")))
    org = make_org(plane, sandbox_upstream, models={"chat": slow})

    stream = org.client().chat.completions.create(model="chat", messages=SAY_HELLO, stream=True)
    arrived = []
    for _ in stream:
        arrived.append(time.monotonic())
        if len(arrived) == 4:
            break
    stream.close()

    assert arrived[3] - arrived[0] > 0.4


def test_embeddings_and_models(org: Org) -> None:
    client = org.client()

    embedding = client.embeddings.create(model="embed", input=["one text", "another text"])
    listed = [model.id for model in client.models.list()]
    retrieved = client.models.retrieve("embed")

    assert [len(item.embedding) for item in embedding.data] == [256, 256]
    assert listed == ["chat", "embed"]
    assert retrieved.owned_by == "sandbox"
    [event] = org.plane.wait_for_events(org.id, 1)
    assert (event["kind"], event["input_tokens"], event["output_tokens"]) == ("embeddings", embedding.usage.prompt_tokens, None)


async def test_many_at_once_with_the_async_client(org: Org) -> None:
    client = openai.AsyncOpenAI(base_url=org.plane.base_url, api_key=org.key, max_retries=0)

    answers = await asyncio.gather(*(client.chat.completions.create(model="chat", messages=SAY_HELLO) for _ in range(40)))

    await client.close()
    assert len({answer.id for answer in answers}) == 40
    events = org.plane.wait_for_events(org.id, 40)
    assert len({event["event_id"] for event in events}) == len(events) == 40


def test_unknown_fields_reach_the_upstream_untouched(org: Org) -> None:
    answer = org.client().chat.completions.create(
        model="chat", messages=SAY_HELLO, max_tokens=5, extra_body={"anything": {"deep": [1, None]}}
    )

    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 5
    assert answer.choices[0].finish_reason == "length"


def test_session_token_acts_as_its_key(org: Org) -> None:
    token = keys.session_token(org.id, org.key_id, int(time.time()) + 60, PEPPER)
    expired = keys.session_token(org.id, org.key_id, int(time.time()) - 1, PEPPER)

    openai_client(org.plane, token).chat.completions.create(model="chat", messages=SAY_HELLO)
    with pytest.raises(openai.AuthenticationError) as refused:
        openai_client(org.plane, expired).models.list()

    assert refused.value.code == "key_expired"
    [event] = org.plane.wait_for_events(org.id, 1)
    assert event["key_id"] == org.key_id


def test_portal_says_the_most_tokens_in_the_words_of_the_host_and_a_caller_in_its_own(
    plane: Plane, sandbox_upstream: SandboxUpstream
) -> None:
    asked: list[dict[str, Any]] = []

    class Upstream(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
            answer = orjson.dumps({"error": {"message": "No such model.", "type": "invalid_request_error"}})
            self.send_response(400)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    org = make_org(plane, sandbox_upstream, models={"chat": chat_model(deployment(f"http://127.0.0.1:{server.server_port}/v1"))})
    session = keys.session_token(org.id, org.key_id, int(time.time()) + 60, PEPPER)

    for key in (org.key, session):
        with pytest.raises(openai.BadRequestError):
            openai_client(org.plane, key).chat.completions.create(model="chat", messages=SAY_HELLO, max_completion_tokens=5)
    server.shutdown()
    server.server_close()

    assert [{name for name in each if name.startswith("max")} for each in asked] == [{"max_completion_tokens"}, {"max_tokens"}]


@pytest.mark.parametrize("header", ["api-key", "x-api-key"])
def test_key_is_taken_from_other_headers_too(org: Org, header: str) -> None:
    answer = httpx2.get(f"{org.plane.base_url}/models", headers={header: org.key}, trust_env=False)

    assert answer.status_code == 200


def _refusal(org: Org, error: type[openai.APIStatusError], **request: object) -> openai.APIStatusError:
    with pytest.raises(error) as refused:
        org.client().chat.completions.create(**{"model": "chat", "messages": SAY_HELLO, **request})  # type: ignore[call-overload]
    body = refused.value.body
    assert isinstance(body, dict)
    assert {"message", "type", "code", "param", "request_id"} <= set(body)
    assert body["request_id"] == refused.value.response.headers["x-request-id"]
    assert org.key not in refused.value.response.text
    return refused.value


def test_wrong_keys_are_refused_without_an_event(org: Org) -> None:
    for text, code in (
        ("sk-something", "malformed_key"),
        (org.key[:-1] + "!", "malformed_key"),
        (keys.generate("ghk", org.id, org.key_id), "unknown_key"),
        (keys.generate("ghk", org.id, keys.new_id()), "unknown_key"),
        (keys.generate("ghk", keys.new_id(), keys.new_id()), "unknown_key"),
        (keys.generate("ght", org.id, org.key_id), "malformed_key"),
    ):
        client = openai_client(org.plane, text)
        with pytest.raises(openai.AuthenticationError) as refused:
            client.chat.completions.create(model="chat", messages=SAY_HELLO)
        assert refused.value.code == code
    org.client().chat.completions.create(model="chat", messages=SAY_HELLO)

    assert len(org.plane.wait_for_events(org.id, 1)) == 1


def test_model_unknown_forbidden_or_of_another_kind(org: Org) -> None:
    org.change_key(models=("chat",))
    wait_until(lambda: [model.id for model in org.client().models.list()] == ["chat"])

    unknown = _refusal(org, openai.NotFoundError, model="nope")
    forbidden = _refusal(org, openai.PermissionDeniedError, model="embed")
    with pytest.raises(openai.BadRequestError) as wrong_kind:
        org.client().embeddings.create(model="chat", input="x")

    assert (unknown.code, unknown.param) == ("model_not_found", "model")
    assert forbidden.code == "model_not_allowed"
    assert wrong_kind.value.code == "invalid_request"
    events = org.plane.wait_for_events(org.id, 3)
    assert [event["error_code"] for event in events] == ["model_not_found", "model_not_allowed", "invalid_request"]
    assert {event["status"] for event in events} == {"refused"}


def test_holder_that_may_not_call_is_refused_with_its_reason(org: Org) -> None:
    for fields, code in (
        (
            {"consents": {"assistants": contract.Consent(feature_class="assistants", granted=False, reason="Switched off by Ann: audit.")}},
            "consent_withdrawn",
        ),
        ({"consents": {}}, "consent_withdrawn"),
        ({"projects": {"demo": contract.Project(slug="demo", name="Demo", enabled=False)}}, "project_disabled"),
        ({"enabled": False}, "tenant_suspended"),
    ):
        before = org.snapshot
        org.change(**fields)
        refusal = wait_until(lambda: _status(org) == 403 and _refusal(org, openai.PermissionDeniedError), 5)
        assert isinstance(refusal, openai.APIStatusError)
        assert refusal.code == code
        if before.consents and fields.get("consents"):
            assert "Switched off by Ann: audit." in refusal.message
        org.change(consents=before.consents, projects=before.projects, enabled=True)
        wait_until(lambda: _status(org) == 200, 5)


def _status(org: Org) -> int:
    return org.post(json={"model": "chat", "messages": SAY_HELLO}).status_code


def _code(org: Org) -> str:
    """Why a call is refused; empty when it is not."""
    error = org.post(json={"model": "chat", "messages": SAY_HELLO}).json().get("error") or {}
    return str(error.get("code", ""))


def test_rotated_key_takes_both_secrets_until_the_overlap_ends(org: Org) -> None:
    old, tenant = org.key, org.snapshot.tenant
    new = keys.generate("ghk", tenant, org.key_id)
    present = org.snapshot.keys[org.key_id].digest

    org.change_key(digest=keys.digest(new, PEPPER), previous_digest=present, previous_until=time.time() + 60)
    org.key = new
    wait_until(lambda: _status(org) == 200, 5)
    org.key = old
    assert _status(org) == 200
    org.change_key(previous_until=time.time() - 1)
    wait_until(lambda: _status(org) == 401, 5)
    assert _refusal(org, openai.AuthenticationError).code == "key_rotated"
    org.key = new
    assert _status(org) == 200
    org.key = keys.generate("ghk", tenant, org.key_id)
    assert _refusal(org, openai.AuthenticationError).code == "unknown_key"


def test_expired_and_revoked_keys(org: Org) -> None:
    org.change_key(expires_at=time.time() - 1)
    wait_until(lambda: _status(org) == 401, 5)
    expired = _refusal(org, openai.AuthenticationError)
    org.change_key(expires_at=None, disabled=True)
    wait_until(lambda: _code(org) == "key_revoked", 5)
    org.change(keys={})
    wait_until(lambda: _code(org) == "unknown_key", 5)

    assert expired.code == "key_expired"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"", 400, "invalid_json"),
        (b'{"messages": []}', 400, "invalid_request"),
        (b'{"model": 7}', 400, "invalid_request"),
        (b'{"model": "chat\\u0000"}', 400, "invalid_request"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b'{"model": "chat", "stream": true, "stream_options": 3}', 400, "invalid_request"),
    ],
)
def test_bad_bodies(org: Org, content: bytes, status: int, code: str) -> None:
    answer = org.post(content=content)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    [event] = org.plane.wait_for_events(org.id, 1)
    assert (event["status"], event["error_code"]) == ("refused", code)


def test_long_prompt_is_read_in_pieces_and_arrives_whole(org: Org) -> None:
    org.change(guardrails=(contract.Guardrail(name="no-pii", kind="pii", enforce=True, action="redact"),))
    messages = [{"role": "user", "content": "Rinse the rice. " * 40_000 + "anna@example.com"}]

    broken = org.post(content=orjson.dumps({"model": "chat", "messages": messages})[:-1])
    whole = org.post(json={"model": "chat", "messages": messages})

    assert (broken.status_code, broken.json()["error"]["code"], whole.status_code) == (400, "invalid_json", 200)
    _, event = org.plane.wait_for_events(org.id, 2)
    assert ["guardrail:no-pii", "redacted", "input email=1"] in [[step[0], step[1], step[3]] for step in event["steps"]]
    assert event["input_tokens"] > 100_000


def test_body_beyond_the_cap_is_refused_declared_or_not(org: Org) -> None:
    piece = b"x" * 1024 * 1024

    declared = org.post(content=piece * 33)
    with httpx2.Client(trust_env=False) as client:
        undeclared = client.post(
            f"{org.plane.base_url}/chat/completions",
            content=(piece for _ in range(33)),
            headers={"authorization": f"Bearer {org.key}"},
            timeout=30,
        )

    assert [answer.status_code for answer in (declared, undeclared)] == [413, 413]
    assert undeclared.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "unknown_route"),
        ("POST", "/v1/chat/completions/", 404, "unknown_route"),
        ("POST", "/v1//chat/completions", 404, "unknown_route"),
        ("GET", "/mcp", 405, "method_not_allowed"),
    ],
)
def test_wrong_routes(plane: Plane, method: str, path: str, status: int, code: str) -> None:
    answer = httpx2.request(method, plane.url + path, trust_env=False)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ("allow" in answer.headers) is (status == 405)
    assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]


@pytest.mark.parametrize("header", [{"x-gatehouse-tags": "no equals"}, {"x-gatehouse-agent": "a" * 200}, {"x-gatehouse-tags": "=x"}])
def test_bad_headers_of_ours(org: Org, header: dict[str, str]) -> None:
    answer = org.post(json={"model": "chat", "messages": SAY_HELLO}, headers=header)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_insane_request_id_is_replaced(org: Org) -> None:
    answer = org.post(json={"model": "chat", "messages": SAY_HELLO}, headers={"x-request-id": "a b\tc"})

    assert len(answer.headers["x-request-id"]) == 36


def test_health_and_metrics(org: Org) -> None:
    org.client().chat.completions.create(model="chat", messages=SAY_HELLO)

    ready = httpx2.get(f"{org.plane.url}/readyz", trust_env=False).json()
    metrics = httpx2.get(f"{org.plane.url}/metrics", trust_env=False).text

    assert ready["ready"]
    assert ready["database"] == "ok"
    assert 'gatehouse_calls_total{kind="chat",status="ok",code=""}' in metrics
    assert 'gatehouse_overhead_seconds_bucket{le="+Inf"}' in metrics


# Upstreams that misbehave


def _with_faults(plane: Plane, upstream: SandboxUpstream, *faults: str, **fields: object) -> Org:
    deployments = [
        deployment(
            upstream.base_url("faults", fault) if fault else upstream.base_url(),
            id=f"{number}-{fault or 'well'}",
            priority=number,
            **fields,
        )
        for number, fault in enumerate(faults)
    ]
    return make_org(plane, upstream, models={"chat": chat_model(*deployments)})


@pytest.mark.parametrize(
    ("fault", "status", "code", "usage_source"),
    [
        ("500", 500, "sandbox_500", "none"),
        ("429", 429, "sandbox_429", "none"),
        ("cut", 502, "upstream_error", "estimated"),
        ("bad_json", 502, "upstream_error", "estimated"),
        ("huge", 502, "upstream_error", "estimated"),
    ],
)
def test_upstream_errors(plane: Plane, sandbox_upstream: SandboxUpstream, fault: str, status: int, code: str, usage_source: str) -> None:
    org = _with_faults(plane, sandbox_upstream, fault)

    with pytest.raises(openai.APIStatusError) as refused:
        org.client().chat.completions.create(model="chat", messages=SAY_HELLO)

    assert (refused.value.status_code, refused.value.code) == (status, code)
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["scope"] == f"deployment:0-{fault}"
    assert "x-request-id" in refused.value.response.headers
    if status == 429:
        assert refused.value.response.headers["retry-after"] == "1"
    [event] = plane.wait_for_events(org.id, 1)
    assert (event["status"], event["http_status"], event["error_code"]) == ("upstream_error", status, "upstream_error")
    # What had begun to answer may charge for the call.
    assert (event["usage_source"], event["input_tokens"] is None, event["output_tokens"]) == (usage_source, usage_source == "none", None)


def test_hanging_upstream_is_given_up_in_time(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    org = _with_faults(plane, sandbox_upstream, "hang", timeout_s=0.5)

    began = time.monotonic()
    with pytest.raises(openai.APIStatusError) as refused:
        org.client().chat.completions.create(model="chat", messages=SAY_HELLO)

    assert (refused.value.status_code, refused.value.code) == (504, "upstream_timeout")
    assert time.monotonic() - began < allowed(1.5)


@pytest.mark.parametrize("fault", ["500", "429"])
@pytest.mark.parametrize("stream", [False, True])
def test_next_deployment_is_tried_before_the_first_byte(plane: Plane, sandbox_upstream: SandboxUpstream, fault: str, stream: bool) -> None:
    org = _with_faults(plane, sandbox_upstream, fault, "")

    answer = org.client().chat.completions.create(model="chat", messages=SAY_HELLO, stream=stream)
    for _ in answer if stream else ():
        pass

    [event] = plane.wait_for_events(org.id, 1)
    assert (event["status"], event["deployment"]) == ("ok", "1-well")
    assert [step[3] for step in event["steps"] if step[0] == "call_upstream"] == [f"0-{fault}:{fault} 1-well:200"]


def test_unreachable_deployment_is_passed_over(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    nobody = deployment("http://127.0.0.1:1/v1", id="nobody")
    here = deployment(sandbox_upstream.base_url(), id="here", priority=1)
    org = make_org(plane, sandbox_upstream, models={"chat": chat_model(nobody, here), "alone": chat_model(nobody, slug="alone")})

    org.client().chat.completions.create(model="chat", messages=SAY_HELLO)
    refusal = _refusal(org, openai.InternalServerError, model="alone")

    assert (refusal.status_code, refusal.code) == (502, "upstream_error")


def test_cut_stream_ends_with_an_error_event_and_is_settled_by_an_estimate(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    org = _with_faults(plane, sandbox_upstream, "cut")

    with pytest.raises(openai.APIError) as broken:
        list(org.client().chat.completions.create(model="chat", messages=SAY_HELLO, stream=True))

    body: Any = broken.value.body
    assert (broken.value.code, body["scope"]) == ("upstream_error", "deployment:0-cut")
    [event] = plane.wait_for_events(org.id, 1)
    assert (event["status"], event["usage_source"]) == ("upstream_error", "estimated")
    assert event["output_tokens"] > 0


def test_caller_who_leaves_a_stream_is_still_charged_for_it(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    """After a tenth, half and nine tenths of it."""
    org.change(models={"chat": chat_model(deployment(sandbox_upstream.base_url("faults", "drip")))})

    def leave(after: int) -> None:
        client = org.client(default_headers={"x-request-id": f"leaver-{org.id}-{after}"})
        stream = client.chat.completions.create(model="chat", messages=SAY_HELLO, stream=True, max_tokens=10)
        assert len(list(islice(stream, after))) == after
        stream.close()
        client.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(leave, (1, 5, 9)))

    events = {event["request_id"]: event for event in org.plane.wait_for_events(org.id, 3)}
    served = {line["request_id"]: line for line in sandbox_upstream.journal()}
    assert len(events) == 3
    for request_id, event in events.items():
        assert (event["status"], event["usage_source"]) == ("client_gone", "provider")
        assert (event["input_tokens"], event["output_tokens"]) == (served[request_id]["input_tokens"], served[request_id]["output_tokens"])


def test_stream_whose_caller_leaves_before_it_begins_is_given_up(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    """One that is silent for more than half of its time is held to be failing, even if nobody waits to the end."""
    patient = _with_faults(plane, sandbox_upstream, "hang", timeout_s=60)
    silent = _with_faults(plane, sandbox_upstream, "hang", timeout_s=10)

    def leave(org: Org) -> None:
        with pytest.raises(httpx2.ReadTimeout):
            org.post(json={"model": "chat", "messages": SAY_HELLO, "stream": True}, timeout=0.5)

    with ThreadPoolExecutor(21) as pool:
        list(pool.map(leave, [patient, *[silent] * 20]))

    [event] = plane.wait_for_events(patient.id, 1, timeout_s=allowed(20))
    assert (event["status"], event["http_status"], event["error_code"]) == ("client_gone", 499, None)
    assert (event["usage_source"], event["output_tokens"]) == ("estimated", None)
    assert event["input_tokens"] > 0
    assert 5 < event["duration_us"] / 1e6 < allowed(20)
    said = [
        step[3] for event in plane.wait_for_events(silent.id, 20, timeout_s=allowed(20)) for step in event["steps"] if step[0] == "circuit"
    ]
    assert said == ["0-hang open, 20 of 20 failed"]


def test_open_stream_of_a_revoked_key_is_ended(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    org = _with_faults(plane, sandbox_upstream, "drip")

    stream = iter(org.client().chat.completions.create(model="chat", messages=SAY_HELLO, stream=True))
    first = next(stream)
    threading.Timer(0.3, lambda: org.change_key(disabled=True)).start()
    began = time.monotonic()
    with pytest.raises(openai.APIError) as ended:
        list(stream)

    assert ended.value.code == "key_revoked"
    assert time.monotonic() - began < allowed(5)
    [event] = plane.wait_for_events(org.id, 1)
    assert (event["status"], event["error_code"], event["answer_id"]) == ("refused", "key_revoked", first.id)


def test_withdrawn_consent_ends_streams_and_waiting_calls_and_answers_from_the_cache(
    plane: Plane, sandbox_upstream: SandboxUpstream
) -> None:
    org = make_org(plane, sandbox_upstream)
    kept = msgspec.structs.replace(org.snapshot.models["chat"], slug="kept", cache_ttl_s=60)
    slow = {slug: chat_model(deployment(sandbox_upstream.base_url("faults", fault), id=fault), slug=slug) for slug, fault in FAULTY.items()}
    org.change(models={**slow, "kept": kept})
    ask_kept = {"model": "kept", "messages": SAY_HELLO}
    withdrawn = contract.Consent(feature_class="assistants", granted=False, reason="A leak.")

    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(org.post, json={"model": "hangs", "messages": SAY_HELLO, "stream": stream}) for stream in (False, True)]
        org.post(json=ask_kept)
        assert org.post(json=ask_kept).headers["x-gatehouse-cache"] == "hit"
        stream = iter(org.client().chat.completions.create(model="drips", messages=SAY_HELLO, stream=True))
        next(stream)
        org.change(consents={"assistants": withdrawn})
        began = time.monotonic()
        with pytest.raises(openai.APIError) as ended:
            list(stream)
        refused = [each.result() for each in waiting]
        took = time.monotonic() - began
    cached = org.post(json=ask_kept)

    assert took < allowed(5)
    assert ended.value.code == "consent_withdrawn"
    assert [(each.status_code, each.json()["error"]["message"]) for each in [*refused, cached]] == [(403, "A leak.")] * 3
    cut = [event for event in plane.wait_for_events(org.id, 6) if event["error_code"] == "consent_withdrawn" and event["model"] != "kept"]
    assert [(event["status"], "call_upstream" in [step[0] for step in event["steps"]]) for event in cut] == [("refused", True)] * 3


def test_upstream_secret_is_sent_and_never_shown(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> None:
    locked = make_sandbox(tmp_path_factory.mktemp("locked"), key="s3cret-of-the-provider")
    locked.start()
    sealer = Sealer([bootstrap.SECRETS["SEALING_KEYS"]])
    right = deployment(locked.base_url(), sealed_secret=sealer.seal("s3cret-of-the-provider"))
    wrong = deployment(locked.base_url(), id="wrong", sealed_secret=sealer.seal("another"))
    broken = deployment(locked.base_url(), id="broken", sealed_secret="gAAAAA-not-sealed-by-us")
    org = make_org(
        plane,
        locked,
        models={
            "chat": chat_model(right),
            "wrong": chat_model(wrong, slug="wrong"),
            "broken": chat_model(broken, slug="broken"),
        },
    )

    org.client().chat.completions.create(model="chat", messages=SAY_HELLO)
    refused = _refusal(org, openai.InternalServerError, model="wrong")
    unsealed = _refusal(org, openai.InternalServerError, model="broken")
    locked.kill()

    assert refused.status_code == unsealed.status_code == 502
    assert "credential" in refused.message
    for text in (refused.response.text, unsealed.response.text, plane.log.read_text()):
        assert "s3cret" not in text
        assert "another" not in text


@pytest.mark.parametrize(
    "base_url",
    [
        "http://localhost:{port}/v1",
        "http://[::1]:{port}/v1",
        "http://10.0.0.8/v1",
        "https://169.254.169.254/latest",
        "http://user:pass@127.0.0.1:{port}/v1",
        "http://2130706433:{port}/v1",
        "ftp://127.0.0.1/v1",
        "https://localhost/v1",
    ],
)
def test_private_upstreams_are_not_called(plane: Plane, sandbox_upstream: SandboxUpstream, base_url: str) -> None:
    there = deployment(base_url.format(port=sandbox_upstream.port))
    org = make_org(plane, sandbox_upstream, models={"chat": chat_model(there)})
    served = len(sandbox_upstream.journal())

    refusal = _refusal(org, openai.InternalServerError)

    assert (refusal.status_code, refusal.code) == (502, "upstream_error")
    assert len(sandbox_upstream.journal()) == served


def test_redirect_is_not_followed(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    class Redirector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(307)
            self.send_header("location", f"{sandbox_upstream.base_url()}/chat/completions")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Redirector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    org = make_org(plane, sandbox_upstream, models={"chat": chat_model(deployment(f"http://127.0.0.1:{server.server_port}/v1"))})

    refusal = _refusal(org, openai.InternalServerError)
    server.shutdown()
    server.server_close()

    assert "redirect" in refusal.message


def test_caller_cannot_choose_the_upstream(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    answer = org.post(
        json={"model": "chat", "messages": SAY_HELLO, "api_base": "http://127.0.0.1:1"},
        headers={"x-forwarded-host": "evil", "x-sandbox-fault": "500", "x-upstream-authorization": "Bearer x"},
    )

    assert answer.status_code == 200
    assert orjson.loads(answer.content)["model"] == "sandbox-large"


def test_ids_of_calls_are_drawn_apart_in_every_thread() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            ids = [each for drawn in pool.map(lambda _: [uuid7() for _ in range(20_000)], range(8)) for each in drawn]
    finally:
        sys.setswitchinterval(before)

    assert len({each[19:] for each in ids}) == len(ids)  # by what is chance alone
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in ids} == {(7, uuid.RFC_4122)}
