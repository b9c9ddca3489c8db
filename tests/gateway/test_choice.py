"""Choosing among deployments by objectives: the arithmetic, the paces behind it, and a real plane that chooses and records why."""

from __future__ import annotations

import httpx2
import pytest

from gateway.contract.routing import NEUTRAL, Objectives, parts_of, utilities
from gateway.plane.health import PACE_FORGET_S, Pace
from tests.gateway.conftest import SAY_HELLO, Org, Plane, SandboxUpstream, chat_model, deployment, make_org, wait_until


def test_part_is_the_share_of_the_best_and_half_of_it_where_nothing_is_known() -> None:
    costs, latencies, qualities = parts_of([10, 20, None, 0], [300, None, 100, 200], [None, 80, 40, 0])

    assert costs == [0, 0, NEUTRAL, 1]  # beside what is free nothing else is cheap
    assert latencies == [pytest.approx(1 / 3), NEUTRAL, 1, 0.5]
    assert qualities == [NEUTRAL, 1, 0.5, 0]
    assert parts_of([None, None], [0, 0], [0, 0]) == ([NEUTRAL, NEUTRAL], [1, 1], [1, 1])


def test_utility_is_the_mean_by_weight() -> None:
    parts = parts_of([10, 20], [200, 100], [50, 100])

    assert utilities(Objectives(cost=100), parts) == [1, 0.5]
    assert utilities(Objectives(cost=50, latency=50), parts) == [0.75, 0.75]
    assert utilities(Objectives(cost=20, latency=20, quality=60), parts) == pytest.approx([0.6, 0.9])


def test_pace_moves_by_a_tenth_keeps_streams_apart_and_is_forgotten() -> None:
    pace = Pace()
    assert pace.latency_us(False, 0.0) is None

    pace.answered(100.0, False, 1000, None)
    pace.answered(101.0, False, 2000, 40)

    assert pace.latency_us(False, 102.0) == pytest.approx(1100)
    assert pace.latency_us(True, 102.0) is None
    assert pace.output_tokens == 40
    assert pace.latency_us(False, 101.0 + PACE_FORGET_S) is None
    pace.answered(101.0 + PACE_FORGET_S, False, 500, 20)
    assert (pace.latency_us(False, 101.0 + PACE_FORGET_S), pace.output_tokens) == (500, 38)


def _served(org: Org, wire: httpx2.Client, model: str, calls: int) -> list[tuple[str, list[str]]]:
    """Makes calls, every second one as a stream; of each the deployment and the step that says why: verdict and words."""
    for number in range(calls):
        body = {"model": model, "messages": SAY_HELLO, "stream": number % 2 == 1}
        headers = {"authorization": f"Bearer {org.key}"}
        assert wire.post(f"{org.plane.base_url}/chat/completions", json=body, headers=headers).status_code == 200
    events = wait_until(lambda: (found := [e for e in org.plane.events(org.id) if e["model"] == model]) and len(found) >= calls and found)
    assert isinstance(events, list)
    said = [
        [words for name, verdict, _, words in event["steps"] if name == f"route:{model}" for words in [[verdict, *words.split()]]]
        for event in events
    ]
    return [(event["deployment"], words[0] if words else []) for event, words in zip(events, said, strict=True)]


@pytest.mark.process
def test_plane_leads_calls_by_objectives_and_records_why(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    fast = deployment(sandbox_upstream.base_url(), id="fast", quality=60.0, input_price=8_000_000, output_price=8_000_000)
    good = deployment(sandbox_upstream.base_url("latency", "60"), id="good", quality=90.0, input_price=2_000_000, output_price=2_000_000)
    spare = deployment(sandbox_upstream.base_url(), id="spare", priority=1, quality=100.0)
    down = deployment(sandbox_upstream.base_url("faults", "500"), id="down", quality=100.0)
    models = {
        "plain": chat_model(fast, good, slug="plain"),
        "best": chat_model(fast, good, spare, slug="best", objectives=Objectives(quality=75, cost=25, explore=0.0)),
        "explored": chat_model(fast, good, slug="explored", objectives=Objectives(latency=100, explore=1.0)),
        "quick": chat_model(fast, good, spare, slug="quick", objectives=Objectives(latency=100, explore=0.0)),
        "failed": chat_model(fast, down, slug="failed", objectives=Objectives(quality=100, explore=0.0)),
    }
    org = make_org(plane, sandbox_upstream, models=models)

    with httpx2.Client(trust_env=False, timeout=30) as wire:
        explored = _served(org, wire, "explored", 4)  # each tries one whose pace is not known
        best, quick, failed, plain = (
            _served(org, wire, model, calls) for model, calls in (("best", 2), ("quick", 2), ("failed", 1), ("plain", 1))
        )

    assert {served for served, _ in explored} == {"fast", "good"}
    assert "latency:?" in " ".join(explored[0][1])
    scores = ["fast:0.562(cost:0.25,quality:0.67)", "good:1.000(cost:1.00,quality:1.00)"]
    assert best == [("good", ["best", "regret_ppm=0", "chosen:good", *scores])] * 2
    assert [served for served, _ in quick] == ["fast", "fast"]
    assert failed == [("fast", ["failover", "regret_ppm=400000", "chosen:fast", "fast:0.600(quality:0.60)", "down:1.000(quality:1.00)"])]
    assert plain[0][1] == []
