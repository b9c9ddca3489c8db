"""What a plane does when things around it stop. The oracle is the sandbox's own journal: what it served must be recorded once."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx2
import msgspec
import psycopg
import pytest
from django.apps import apps
from django.db import connection

from gateway.contract import keys
from gateway.contract import snapshot as contract
from gateway.contract.names import COUNTER_TABLE, INBOX_TABLE, PLANE_TABLE, PLATFORM, SNAPSHOT_TABLE, TAKEN_TABLE
from gateway.plane.windows import span_of
from governance.embedded import EmbeddedPostgres
from tests.clock import allowed
from tests.gateway.conftest import (
    SAY_HELLO,
    Org,
    Plane,
    SandboxUpstream,
    chat_model,
    cloned_database,
    deployment,
    make_org,
    make_plane,
    wait_until,
)

pytestmark = pytest.mark.process


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A database server that the test may stop, with the tables that a plane knows."""
    server = EmbeddedPostgres(tmp_path / "postgres", settings={"fsync": "off"})
    url = server.start()
    with connection.schema_editor(collect_sql=True) as editor:
        for app, name in (
            ("gateway", "Snapshot"), ("gateway", "Counter"), ("gateway", "Slot"), ("gateway", "Plane"), ("gateway", "Taken"), ("costs", "Inbox"),
        ):  # fmt: skip
            editor.create_model(apps.get_model(app, name))
    with psycopg.connect(url) as target:
        for statement in editor.collected_sql:
            target.execute(statement)
    server.port = int(url.rpartition(":")[2].partition("/")[0])  # the same address after a restart
    yield server
    server.stop()


@pytest.fixture
def own_plane(tmp_path: Path, own_server: EmbeddedPostgres) -> Iterator[Plane]:
    home = tmp_path / "plane"
    home.mkdir()
    plane = make_plane(home, own_server.url)
    plane.start()
    yield plane
    plane.kill()


def _call(org: Org, request_id: str) -> None:
    org.client(default_headers={"x-request-id": request_id}).chat.completions.create(model="chat", messages=SAY_HELLO)


def _served(upstream: SandboxUpstream, prefix: str) -> list[str]:
    return sorted(line["request_id"] for line in upstream.journal() if line["request_id"].startswith(prefix))


def _limits(key: str) -> tuple[contract.Limit, ...]:
    return (
        contract.Limit(
            id=f"key:{key}:requests:minute",
            scope="key",
            scope_name=key,
            resource="requests",
            window="minute",
            amount=10_000,
            fail_open=True,
        ),
        contract.Limit(
            id=f"key:{key}:money:month", scope="key", scope_name=key, resource="money", window="month", amount=contract.PICO_USD
        ),
    )


@pytest.mark.django_db
def test_calls_go_on_while_the_database_is_stopped_and_their_events_arrive_later(
    own_server: EmbeddedPostgres, own_plane: Plane, sandbox_upstream: SandboxUpstream
) -> None:
    org = make_org(own_plane, sandbox_upstream)
    org.change_key(limits=_limits(org.key_id)[:1])
    prefix = f"outage-{org.id}"
    for number in range(10):
        _call(org, f"{prefix}-before-{number}")

    own_server.stop()
    for number in range(20):
        _call(org, f"{prefix}-during-{number}")

    def noticed() -> httpx2.Response | None:
        ready = httpx2.get(f"{own_plane.url}/readyz", trust_env=False)
        return ready if ready.json()["database"] == "away" else None

    ready = wait_until(noticed, what="the plane to notice that the database is away")
    own_plane.stop()
    own_plane.start()  # a plane can also start without a database, from the snapshot on disk
    _call(org, f"{prefix}-cold-0")
    own_server.start()
    _call(org, f"{prefix}-after-0")

    served = _served(sandbox_upstream, prefix)
    events = own_plane.wait_for_events(org.id, len(served), 15)
    assert len(served) == 32
    assert sorted(event["request_id"] for event in events) == served
    assert len({event["event_id"] for event in events}) == len(events)
    assert ready is not None
    assert ready.status_code == 200


@pytest.mark.soak
@pytest.mark.django_db
def test_what_cannot_be_checked_without_the_database_is_refused_with_503(
    own_server: EmbeddedPostgres, own_plane: Plane, sandbox_upstream: SandboxUpstream
) -> None:
    org = make_org(own_plane, sandbox_upstream)
    org.change_key(limits=_limits(org.key_id))
    assert org.post(json={"model": "chat", "messages": SAY_HELLO}).status_code == 200
    stranger = keys.generate("ghk", "stranger", "k2345678")

    own_server.stop()
    on_lease = org.post(json={"model": "chat", "messages": SAY_HELLO})
    own_plane.kill()  # with its lease
    own_plane.start()
    budget = org.post(json={"model": "chat", "messages": SAY_HELLO})
    unmet = httpx2.get(f"{own_plane.base_url}/models", headers={"authorization": f"Bearer {stranger}"}, trust_env=False)

    assert on_lease.status_code == 200
    for answer in (budget, unmet):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
        assert "retry-after" in answer.headers
    assert budget.json()["error"]["scope"] == f"key:{org.key_id}"


def test_killed_plane_loses_no_call_and_keeps_no_hold(tmp_path: Path, sandbox_upstream: SandboxUpstream) -> None:
    with cloned_database() as url, make_plane(tmp_path, url) as plane, ThreadPoolExecutor(1) as pool:
        hanging = chat_model(deployment(sandbox_upstream.base_url("faults/hang"), id="hanging"), slug="hanging")
        org = make_org(plane, sandbox_upstream, models={"chat": chat_model(deployment(sandbox_upstream.base_url())), "hanging": hanging})
        amounts: dict[contract.Resource, int] = {"requests": 1000, "input_tokens": 10**6, "money": contract.PICO_USD}
        org.change_key(
            limits=tuple(
                contract.Limit(id=f"key:x:{resource}:month", scope="key", scope_name="x", resource=resource, window="month", amount=amount)
                for resource, amount in amounts.items()
            )
        )
        prefix = f"killed-{org.id}"
        under_way = pool.submit(
            lambda: org.post(json={"model": "hanging", "messages": SAY_HELLO}, headers={"x-request-id": f"{prefix}-open"})
        )
        spool = tmp_path / "plane" / "spool" / "0"
        wait_until(lambda: any(f"{prefix}-open".encode() in path.read_bytes() for path in spool.glob("calls-*")), 15)
        for number in range(30):
            _call(org, f"{prefix}-{number}")
        # An answer is with its caller a moment before its call is noted as answered; killed between the two, it is a lost one.
        ended = re.compile(rf'"request_id":"{prefix}-29"[^}}]*"status":"ok"'.encode())
        wait_until(lambda: any(ended.search(path.read_bytes()) for path in spool.iterdir() if path.is_file()), 15)

        plane.kill()  # at once: the last events are in no segment yet, and most of each limit's slice is unspent
        plane.start()

        # What was sent but not yet noted as sent is sent again: the inbox may hold an event twice, attribution takes it once.
        wait_until(lambda: len({event["event_id"] for event in plane.events(org.id)}) >= 31, 15)
        events = {event["event_id"]: event for event in plane.events(org.id)}.values()
        answered = [event for event in events if event["status"] == "ok"]
        spent = {"key:x:requests:month": 30, "key:x:input_tokens:month": sum(event["input_tokens"] for event in answered)}

        def granted() -> dict[str, int]:
            with psycopg.connect(url) as database:
                rows = database.execute(f"select limit_id, granted::bigint from {COUNTER_TABLE} where tenant = %s", [org.id]).fetchall()
            return dict(rows)

        wait_until(lambda: granted().items() >= spent.items(), 10)
        money = granted()["key:x:money:month"]
    assert isinstance(under_way.exception(), httpx2.HTTPError)
    assert sorted(event["request_id"] for event in answered) == _served(sandbox_upstream, prefix)
    (lost,) = [event for event in events if event["status"] != "ok"]
    assert (lost["request_id"], lost["error_code"], lost["usage_source"]) == (f"{prefix}-open", "process_lost", "estimated")
    assert lost["input_tokens"] > 0
    assert money == sum(1_000_000 * event["input_tokens"] + 4_000_000 * event["output_tokens"] for event in answered)


@pytest.mark.soak
def test_spool_of_a_dead_process_is_adopted(tmp_path: Path, sandbox_upstream: SandboxUpstream) -> None:
    with cloned_database() as url, make_plane(tmp_path, url) as plane:
        org = make_org(plane, sandbox_upstream)
        _call(org, f"orphan-{org.id}")
        plane.wait_for_events(org.id, 1)
        plane.kill()
        segments = list((tmp_path / "plane" / "spool" / "0").glob("*.jsonl"))
        left_behind = tmp_path / "plane" / "spool" / "7"
        left_behind.mkdir()
        (left_behind / "lock").touch()
        (tmp_path / "plane" / "spool" / "0" / "position").unlink()  # that process had shipped nothing yet
        for segment in segments:
            shutil.move(segment, left_behind / segment.name)
        with psycopg.connect(url) as database:
            database.execute(f"delete from {INBOX_TABLE}")
        plane.start()

        events = plane.wait_for_events(org.id, 1)

    assert [event["request_id"] for event in events] == [f"orphan-{org.id}"]


def test_damaged_snapshot_is_not_served(plane: Plane, org: Org, sandbox_upstream: SandboxUpstream) -> None:
    before, after = f"spoilt-{org.id}-0", f"spoilt-{org.id}-1"
    _call(org, before)
    with psycopg.connect(plane.database_url) as database:
        database.execute(
            f"update {SNAPSHOT_TABLE} set version = version + 1, body = overlay(body placing 'spoilt' from 50) where tenant = %s", [org.id]
        )
    wait_until(lambda: "snapshot.damaged" in plane.log.read_text(), 10)

    _call(org, after)  # still by the snapshot that was whole

    assert _served(sandbox_upstream, f"spoilt-{org.id}") == [before, after]


def test_keys_that_cannot_be_read_are_a_fault_of_the_gateway(plane: Plane, org: Org) -> None:
    head = contract.encode(msgspec.structs.replace(org.snapshot, version=2, keys={}))[36:]
    length = int.from_bytes(head[:4])
    assert head[4 + length - 1] == 0x90  # the head ends with the list of shards' lengths, which is empty
    head = head[4 : 4 + length - 1] + b"\x91\x01"
    payload = len(head).to_bytes(4) + head + b"\xc1"  # no value of msgpack begins so
    with psycopg.connect(plane.database_url) as database:
        body = contract.MAGIC + hashlib.sha256(payload).digest() + payload
        database.execute(f"update {SNAPSHOT_TABLE} set version = 2, body = %s where tenant = %s", [body, org.id])

    refused = org.post(json={"model": "chat", "messages": SAY_HELLO})

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")


def test_change_without_a_notification_is_found_by_the_poll(org: Org) -> None:
    assert org.post(json={"model": "chat", "messages": SAY_HELLO}).status_code == 200
    changed = contract.encode(
        contract.TenantSnapshot(tenant=org.id, slug=org.id, schema=org.id, version=9, enabled=False, keys=org.snapshot.keys)
    )
    with psycopg.connect(org.plane.database_url) as database:
        database.execute(f"update {SNAPSHOT_TABLE} set version = 9, body = %s where tenant = %s", [changed, org.id])

    wait_until(lambda: org.post(json={"model": "chat", "messages": SAY_HELLO}).status_code == 403, 5)


def test_plane_tells_that_it_lives_and_what_it_serves(org: Org) -> None:
    assert org.post(json={"model": "chat", "messages": SAY_HELLO}).status_code == 200
    org.change(time_zone="Europe/Vienna")

    def told() -> tuple[int, bool] | None:
        with psycopg.connect(org.plane.database_url) as database:
            rows = database.execute(
                f"select version, is_listening from {TAKEN_TABLE} join {PLANE_TABLE} using (plane)"
                " where tenant = %s and seen_at > now() - interval '15 s' and taken_at > now() - interval '15 s'",
                [org.id],
            ).fetchall()
        return rows[0] if len(rows) == 1 and rows[0][0] == org.snapshot.version else None

    assert wait_until(told, what="the plane to tell its version") == (org.snapshot.version, True)


def test_revocation_is_effective_within_seconds(org: Org) -> None:
    assert org.post(json={"model": "chat", "messages": SAY_HELLO}).status_code == 200

    org.change_key(disabled=True)
    began = time.monotonic()
    wait_until(lambda: org.post(json={"model": "chat", "messages": SAY_HELLO}).status_code == 401, 5)

    assert time.monotonic() - began < allowed(1)  # by NOTIFY; the promise is 5 s


def test_limits_hold_over_parallel_calls_and_say_when_to_come_back(org: Org) -> None:
    org.change_key(limits=(contract.Limit(id="k:hour", scope="key", scope_name=org.key_id, resource="requests", window="hour", amount=25),))
    wait_until(lambda: org.post(content=b"{").status_code == 400)

    def status(_: int) -> tuple[int, httpx2.Headers, bytes]:
        answer = org.post(json={"model": "chat", "messages": SAY_HELLO})
        return answer.status_code, answer.headers, answer.content

    wait_until(lambda: "x-ratelimit-limit-requests" in status(0)[1])
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(status, range(40)))

    passed = [answer for answer in answers if answer[0] == 200]
    refused = next(answer for answer in answers if answer[0] == 429)
    assert len(passed) == 24
    assert 0 < int(refused[1]["retry-after"]) <= 3600
    assert b"rate_limit_exceeded" in refused[2]
    assert b"resets_at" in refused[2]
    assert passed[0][1]["x-ratelimit-limit-requests"] == "25"
    assert [refused[1][f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset")] == [
        "25",
        "0",
        f"{refused[1]['retry-after']}s",
    ]


def test_budget_is_held_and_an_unpriced_model_is_refused(org: Org) -> None:
    budget = contract.Limit(
        id="p:month", scope="project", scope_name="demo", resource="money", window="month", amount=contract.PICO_USD // 1000
    )
    free = org.snapshot.models["chat"]
    org.change(
        projects={"demo": contract.Project(slug="demo", name="Demo", limits=(budget,))},
        models={"chat": free, "unpriced": msgspec.structs.replace(free, slug="unpriced", input_price=None)},
    )

    def call(model: str, most: int) -> httpx2.Response:
        return org.post(json={"model": model, "messages": SAY_HELLO, "max_tokens": most})

    wait_until(lambda: call("unpriced", 5).status_code == 402)
    unpriced = call("unpriced", 5)
    too_dear = call("chat", 400)
    spent = [call("chat", 100).status_code for _ in range(12)]

    assert unpriced.json()["error"]["code"] == "model_unpriced"
    assert too_dear.json()["error"]["code"] == "budget_exceeded"
    assert too_dear.json()["error"]["scope"] == "project:demo"
    assert "resets_at" in too_dear.json()["error"]
    assert spent[0] == 200
    assert spent[-1] == 402
    events = [event for event in org.plane.wait_for_events(org.id, 14) if event["model"] == "chat" and event["status"] == "ok"]
    cost = sum(event["input_tokens"] * 1_000_000 + event["output_tokens"] * 4_000_000 for event in events)
    assert cost <= budget.amount


def test_refusal_names_its_budget_and_only_calls_of_its_scope_are_refused(org: Org) -> None:
    """Parallel callers of one agent, whose budget covers some of their calls; another agent under none; a model slowed to a halt."""
    held = contract.Limit(
        id="budget:1",
        scope="agent",
        scope_name="planner",
        resource="money",
        window="month",
        amount=contract.PICO_USD // 500,
        budget="Plans",
    )
    slowed = msgspec.structs.replace(
        held, id="budget:2", scope="model", scope_name="slow", budget="Slow lane", amount=contract.PICO_USD, throttle_from=0.01
    )
    chat = org.snapshot.models["chat"]
    with psycopg.connect(org.plane.database_url) as portal:  # nearly all of the second is spent already
        span = span_of("month", time.time(), ZoneInfo("UTC"))
        portal.execute(
            "insert into gateway_counter values (%s, 'budget:2', to_timestamp(%s), to_timestamp(%s), %s, 0)",
            [org.id, span.start, span.end, contract.PICO_USD * 999 // 1000],
        )
    org.change(models={"chat": chat, "slow": msgspec.structs.replace(chat, slug="slow")}, budgets=(held, slowed))

    def call(agent: str, model: str = "chat", most: int = 50) -> httpx2.Response:
        headers = {"x-gatehouse-agent": agent, "x-request-id": f"{org.id}-{agent}"}
        return org.post(json={"model": model, "messages": SAY_HELLO, "max_tokens": most}, headers=headers)

    wait_until(lambda: call("planner", most=5000).status_code == 402)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call("planner"), range(40)))
    slow = [call("other", "slow") for _ in range(5)]

    refused = next(answer for answer in answers if answer.status_code == 402).json()["error"]
    assert (refused["code"], refused["budget"], refused["scope"]) == ("budget_exceeded", "Plans", "budget:Plans")
    assert "budget Plans for agent planner" in refused["message"]
    assert any(answer.status_code == 200 for answer in answers)
    assert call("other", most=5000).status_code == 200
    assert {answer.status_code for answer in slow} <= {200, 429}
    late = next(answer for answer in slow if answer.status_code == 429)
    assert (late.json()["error"]["code"], late.json()["error"]["budget"]) == ("budget_throttled", "Slow lane")
    assert 1 < int(late.headers["retry-after"]) <= 60
    events = [event for event in org.plane.wait_for_events(org.id, 46) if event["agent"] == "planner"]
    cost = sum(event["input_tokens"] * 1_000_000 + event["output_tokens"] * 4_000_000 for event in events if event["status"] == "ok")
    assert 0 < cost <= held.amount
    assert ["reserve", "budget_exceeded", "budget:Plans"] in [[*step[:2], step[3]] for event in events for step in event["steps"]]


def test_budgets_of_a_tag_and_of_an_environment_hold_their_calls_only(org: Org) -> None:
    """A tag counts wherever it comes from: the caller, the key, the project."""
    spent = contract.Limit(
        id="budget:1", scope="tag", scope_name="team=search", resource="money", window="month", amount=1, budget="Search"
    )
    staging = msgspec.structs.replace(spent, id="budget:2", scope="environment", scope_name="staging", budget="Staging")
    project = msgspec.structs.replace(org.snapshot.projects["demo"], environment="production")
    org.change(projects={"demo": project}, budgets=(spent, staging))

    def refused_by(sent: str) -> str:
        answer = org.post(json={"model": "chat", "messages": SAY_HELLO}, headers={"x-gatehouse-tags": sent} if sent else {})
        return str(answer.json()["error"]["budget"]) if answer.status_code == 402 else str(answer.status_code)

    sent = [refused_by(tags) for tags in ("", "team=care", "team=search", "colour=search")]
    org.change_now(projects={"demo": msgspec.structs.replace(project, tags={"team": "search"})})
    completed = [refused_by(tags) for tags in ("", "team=care")]
    org.change_now(projects={"demo": msgspec.structs.replace(project, environment="staging")})

    assert sent == ["200", "200", "Search", "200"]
    assert completed == ["Search", "200"]
    assert refused_by("team=care") == "Staging"


def test_pillar_switched_off_is_refused_for_one_or_for_all(plane: Plane, sandbox_upstream: SandboxUpstream, org: Org) -> None:
    other = make_org(plane, sandbox_upstream)

    def ask(whom: Org) -> str:
        answer = whom.post(json={"model": "chat", "messages": SAY_HELLO})
        return "ok" if answer.status_code == 200 else f"{answer.json()['error']['code']} {answer.json()['error']['scope']}"

    org.change(switched_off={"models": "Acme has switched off all models: a leak."})
    assert wait_until(lambda: ask(org) != "ok", 5, "the switch")
    assert (ask(org), ask(other)) == ("switched_off tenant:models", "ok")

    platform = contract.TenantSnapshot(tenant=PLATFORM, slug=PLATFORM, schema="public", version=1, switched_off={"models": "Off."})
    began = time.monotonic()
    plane.publish(platform)
    wait_until(lambda: ask(other) != "ok", 5, "the switch for everybody")
    took_s = time.monotonic() - began
    assert (ask(other), took_s < allowed(1)) == ("switched_off platform:models", True)  # the promise is 5 s

    plane.publish(msgspec.structs.replace(platform, switched_off={}))
    assert wait_until(lambda: ask(other) == "ok", 5, "the way back")
