"""Several deployments of one model, on a real plane: who is asked next, and who is asked no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import psycopg
import pytest

from gateway.contract import snapshot as contract
from gateway.contract.names import CIRCUIT_TABLE
from gateway.contract.sealing import Sealer
from gateway.plane.health import MIN_CALLS, MIN_RETRIES
from tests import bootstrap
from tests.gateway.conftest import SAY_HELLO, Org, Plane, SandboxUpstream, chat_model, deployment, make_org, make_sandbox, wait_until

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def wire() -> Iterator[httpx2.Client]:
    """One bare client for many calls: making one costs more than a call."""
    with httpx2.Client(trust_env=False, timeout=30) as client:
        yield client


def _say(wire: httpx2.Client, org: Org, messages: object = SAY_HELLO) -> int:
    headers = {"authorization": f"Bearer {org.key}"}
    return wire.post(f"{org.plane.base_url}/chat/completions", json={"model": "chat", "messages": messages}, headers=headers).status_code


def _served_by(org: Org, count: int) -> list[Any]:
    return [event["deployment"] for event in org.plane.wait_for_events(org.id, count)]


def _org(plane: Plane, upstream: SandboxUpstream, *deployments: contract.Deployment) -> Org:
    return make_org(plane, upstream, models={"chat": chat_model(*deployments)})


def _changes(org: Org, count: int) -> list[dict[str, Any]]:
    def read() -> list[dict[str, Any]]:
        with psycopg.connect(org.plane.database_url, row_factory=psycopg.rows.dict_row) as connection:
            rows = connection.execute(f"select * from {CIRCUIT_TABLE} where tenant = %s order by at", [org.id]).fetchall()
        return rows if len(rows) >= count else []

    return wait_until(read, what=f"{count} changes of circuits")


def test_circuit_of_a_failing_deployment_opens_and_calls_go_elsewhere(
    plane: Plane, sandbox_upstream: SandboxUpstream, wire: httpx2.Client
) -> None:
    ill = deployment(sandbox_upstream.base_url("faults", "500"), id="ill")
    well = deployment(sandbox_upstream.base_url(), id="well", priority=1)
    org = _org(plane, sandbox_upstream, ill, well)
    calls = MIN_CALLS + 5

    statuses = [_say(wire, org) for _ in range(calls)]

    events = plane.wait_for_events(org.id, calls)
    steps = [step for event in events for step in event["steps"]]
    failovers = [step[3] for step in steps if step[0] == "failover"]
    # Ten tries elsewhere were free and the calls have earned a few more: then the budget is used up and the failure is passed on.
    assert len(failovers) == statuses.count(200) - (calls - MIN_CALLS)
    assert MIN_RETRIES <= len(failovers) <= MIN_RETRIES + 0.2 * MIN_CALLS
    assert set(failovers) == {"ill:500 → well"}
    assert statuses[MIN_CALLS:] == [200] * (calls - MIN_CALLS)
    assert [event["deployment"] for event in events[MIN_CALLS:]] == ["well"] * (calls - MIN_CALLS)
    [change] = _changes(org, 1)
    assert (change["circuit"], change["deployment"], change["model"], change["provider"]) == ("open", "ill", "chat", "sandbox")
    assert (change["calls"], change["errors"], change["reason"]) == (MIN_CALLS, MIN_CALLS, "HTTP 500")
    assert [step[3] for step in steps if step[0] == "circuit"] == [f"ill open, {MIN_CALLS} of {MIN_CALLS} failed"]
    assert "gatehouse_open_circuits" in wire.get(f"{plane.url}/metrics").text


def _quota(resource: contract.Resource, amount: int) -> tuple[contract.Limit, ...]:
    """Per day, since a minute may end within a test."""
    limit_id = f"deployment:{resource}:{amount}"
    return (
        contract.Limit(id=limit_id, scope="deployment", scope_name="one", resource=resource, window="day", amount=amount, fail_open=True),
    )


def test_deployment_at_its_quota_is_passed_over(plane: Plane, sandbox_upstream: SandboxUpstream, wire: httpx2.Client) -> None:
    small = deployment(sandbox_upstream.base_url(), id="small", limits=_quota("requests", 2))
    large = deployment(sandbox_upstream.base_url(), id="large", priority=1)
    org = _org(plane, sandbox_upstream, small, large)

    statuses = [_say(wire, org) for _ in range(4)]

    events = plane.wait_for_events(org.id, 4)
    assert statuses == [200] * 4
    assert [event["deployment"] for event in events] == ["small", "small", "large", "large"]
    assert [step[3] for event in events for step in event["steps"] if step[0] == "failover"] == ["small:quota → large"] * 2


@pytest.mark.parametrize(
    ("resource", "amount", "served"),
    [
        ("output_tokens", 1, 1),
        ("input_tokens", 1, 1),
        ("money", 1, 1),
        ("money", 10_000_000, 3),
        ("concurrent", 0, 0),
        ("concurrent", 1, 3),
    ],
)
def test_deployment_is_passed_over_for_whatever_it_is_limited_in(
    plane: Plane, sandbox_upstream: SandboxUpstream, wire: httpx2.Client, resource: contract.Resource, amount: int, served: int
) -> None:
    """One call may go beyond what is left, as what it uses is known afterwards; a call that has ended gives its slot back.
    Money is counted at the deployment's own prices, by which three calls are well below 10,000,000; at the model's, one is above.
    """
    small = deployment(sandbox_upstream.base_url(), id="small", input_price=1, output_price=4, limits=_quota(resource, amount))
    org = _org(plane, sandbox_upstream, small, deployment(sandbox_upstream.base_url(), id="large", priority=1))

    assert [_say(wire, org) for _ in range(3)] == [200] * 3

    events = plane.wait_for_events(org.id, 3)
    assert [event["deployment"] for event in events] == ["small"] * served + ["large"] * (3 - served)


def test_last_deployment_at_its_quota_says_when_it_is_free_again(
    plane: Plane, sandbox_upstream: SandboxUpstream, wire: httpx2.Client
) -> None:
    org = _org(plane, sandbox_upstream, deployment(sandbox_upstream.base_url(), limits=_quota("requests", 1)))
    _say(wire, org)

    refused = org.post(json={"model": "chat", "messages": SAY_HELLO})

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.json()["error"]["scope"] == "deployment:one"
    assert refused.json()["error"]["resets_at"]
    assert int(refused.headers["retry-after"]) > 0
    events = plane.wait_for_events(org.id, 2)
    assert (events[1]["status"], events[1]["error_code"]) == ("refused", "rate_limit_exceeded")


def test_tokens_that_were_not_used_are_given_back(plane: Plane, sandbox_upstream: SandboxUpstream, wire: httpx2.Client) -> None:
    # Room for less than one worst case of 4096 tokens after the first call, but for what three really use, which is far less.
    tight = deployment(sandbox_upstream.base_url(), id="tight", limits=_quota("tokens", 4100))
    beyond = deployment(sandbox_upstream.base_url(), id="beyond", limits=_quota("tokens", 100))
    ill = deployment(sandbox_upstream.base_url("faults", "500"), id="ill", limits=_quota("tokens", 4501))
    org, small = _org(plane, sandbox_upstream, tight), _org(plane, sandbox_upstream, beyond)
    failing = _org(plane, sandbox_upstream, ill)

    assert [_say(wire, org) for _ in range(3)] == [200] * 3
    assert [_say(wire, failing) for _ in range(3)] == [500] * 3
    assert _say(wire, small) == 200  # its worst case is larger than the whole quota


def test_quota_keeps_what_a_deployment_that_took_too_long_may_have_used(
    plane: Plane, sandbox_upstream: SandboxUpstream, wire: httpx2.Client
) -> None:
    slow = deployment(sandbox_upstream.base_url("faults", "hang"), id="slow", timeout_s=0.2, limits=_quota("tokens", 4500))
    org = _org(plane, sandbox_upstream, slow, deployment(sandbox_upstream.base_url(), id="other", priority=1))

    assert [_say(wire, org) for _ in range(2)] == [200] * 2

    steps = [step for event in plane.wait_for_events(org.id, 2) for step in event["steps"]]
    assert [step[3] for step in steps if step[0] == "failover"] == ["slow:upstream_timeout → other", "slow:quota → other"]


def test_counts_of_tokens_say_nothing_about_a_deployment(plane: Plane, sandbox_upstream: SandboxUpstream, wire: httpx2.Client) -> None:
    org = _org(plane, sandbox_upstream, deployment("http://127.0.0.1:1/v1", dialect="anthropic"))
    ask = {"model": "chat", "messages": SAY_HELLO}

    messages = {org.post("/v1/messages/count_tokens", json=ask).json()["error"]["message"] for _ in range(MIN_CALLS + 1)}

    assert messages == {"The provider sandbox could not be reached."}


def test_dead_deployment_that_is_the_only_one_is_not_asked_for_a_while(
    plane: Plane, sandbox_upstream: SandboxUpstream, wire: httpx2.Client
) -> None:
    org = _org(plane, sandbox_upstream, deployment("http://127.0.0.1:1/v1"))
    for _ in range(MIN_CALLS):
        _say(wire, org)

    with pytest.raises(openai.InternalServerError) as refused:
        org.client().chat.completions.create(model="chat", messages=SAY_HELLO)

    assert (refused.value.status_code, refused.value.code) == (503, "upstream_error")
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 5
    assert plane.wait_for_events(org.id, MIN_CALLS + 1)[-1]["deployment"] is None


@pytest.mark.parametrize("fault", ["401", "429", "hang", "closed"])
def test_next_deployment_is_asked_when_the_fault_is_not_the_callers(
    plane: Plane, sandbox_upstream: SandboxUpstream, locked: SandboxUpstream, wire: httpx2.Client, fault: str
) -> None:
    first = {
        "401": deployment(locked.base_url(), id="first", sealed_secret=Sealer([bootstrap.SECRETS["SEALING_KEYS"]]).seal("wrong")),
        "429": deployment(sandbox_upstream.base_url("faults", "429"), id="first"),
        "hang": deployment(sandbox_upstream.base_url("faults", "hang"), id="first", timeout_s=0.3),
        "closed": deployment("http://127.0.0.1:1/v1", id="first"),
    }[fault]
    org = _org(plane, sandbox_upstream, first, deployment(sandbox_upstream.base_url(), id="second", priority=1))

    assert _say(wire, org) == 200

    assert _served_by(org, 1) == ["second"]


def test_fault_of_the_caller_goes_nowhere_else(plane: Plane, sandbox_upstream: SandboxUpstream, wire: httpx2.Client) -> None:
    here = [deployment(sandbox_upstream.base_url(), id=name, priority=number) for number, name in enumerate(("first", "second"))]
    org = _org(plane, sandbox_upstream, *here)

    answers = [_say(wire, org, messages=3) for _ in range(MIN_CALLS)]

    assert answers == [400] * MIN_CALLS
    assert _say(wire, org) == 200
    assert _served_by(org, MIN_CALLS + 1) == ["first"] * (MIN_CALLS + 1)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with make_sandbox(tmp_path_factory.mktemp("locked"), key="right") as server:
        yield server
