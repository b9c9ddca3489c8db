"""What choosing among five deployments by three objectives costs, and putting them in order by weight beside it."""

from __future__ import annotations

import statistics
import time
from types import SimpleNamespace
from typing import Any, cast

from gateway.contract.routing import Objectives
from gateway.contract.snapshot import Deployment, Model
from gateway.plane.call import Call
from gateway.plane.choice import choose
from gateway.plane.health import Health
from gateway.plane.pipeline.route import ordered

AREA = "gateway"
CANDIDATES = 5
CHOICES = 20_000
ROUNDS = 5
OBJECTIVES = Objectives(cost=40, latency=40, quality=20, explore=0.05)


def measure() -> dict[str, float]:
    """Microseconds of processor time for one choice, everything known of every candidate: median of the rounds' means."""
    deployments = tuple(
        Deployment(
            id=str(number), provider=f"provider-{number}", dialect="openai", base_url="https://example.org/v1", sealed_secret="",
            upstream_model="bench", weight=1 + number, input_price=(number + 1) * 10**6, output_price=(number + 1) * 4 * 10**6,
            quality=90.0 - number,
        )
        for number in range(CANDIDATES)
    )  # fmt: skip
    call = _call(deployments)
    return {
        "route_decision_us": _mean_us(lambda: choose(call, deployments, OBJECTIVES)),
        "route_by_weight_us": _mean_us(lambda: ordered(deployments)),
    }


def _call(deployments: tuple[Deployment, ...]) -> Call:
    """What `choose` looks at; a plane would bring a database with it."""
    health = Health()
    for number, deployment in enumerate(deployments):
        health.pace("bench", deployment.id).answered(time.monotonic(), False, 100_000 * (number + 1), 200)
    model = Model(slug="bench", capabilities=("chat",), feature_class="assistants", deployments=deployments, objectives=OBJECTIVES)
    asks: Any = SimpleNamespace(receive=None, send=None)
    call = Call(cast(Any, SimpleNamespace(health=health)), "chat", cast(Any, {}), asks.receive, asks.send)
    call.served, call.model = cast(Any, SimpleNamespace(tenant="bench")), model
    call.input_estimate, call.output_estimate = 1000, 4096
    return call


def _mean_us(act: Any) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time_ns()
        for _ in range(CHOICES):
            act()
        rounds.append((time.process_time_ns() - began) / 1000 / CHOICES)
    return round(statistics.median(rounds), 2)
