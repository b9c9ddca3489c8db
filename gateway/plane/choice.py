"""Choosing among the deployments of a model that has objectives, and what came of it.

Candidates are the healthy deployments of the first priority that has any. What is known of them: prices and quality scores by the snapshot;
how fast and how wordy they answer by what this process has seen of them, see `health.Pace`. A share of the calls explores. After the call the
same figures, renewed by it, say by how much another candidate would have been better: its regret.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from gateway.contract.events import Step
from gateway.contract.routing import NAMES, NEUTRAL, Objectives, Parts, parts_of, utilities
from gateway.contract.snapshot import Deployment
from gateway.plane.health import Pace

if TYPE_CHECKING:
    from gateway.plane.call import Call

EXPECTED_OUTPUT = 256
"""Tokens, of a deployment that has not answered yet."""


class Choice:
    """What was chosen for one call, among what."""

    __slots__ = ("candidates", "is_explored", "latencies", "micros", "objectives", "paces", "parts", "utilities")

    def __init__(self, objectives: Objectives, candidates: list[Deployment], paces: list[Pace]) -> None:
        self.objectives = objectives
        self.candidates = candidates
        self.paces = paces
        self.latencies: list[float | None] = []
        self.parts: Parts = ([], [], [])
        self.utilities: list[float] = []
        self.is_explored = False
        self.micros = 0
        """How long the choice took."""

    def estimate(self, call: Call, input_tokens: int, output_tokens: int | None) -> None:
        """Judge the candidates by what is known now. `output_tokens` None: each is expected to use what it mostly does.

        Costs are pico-dollars, unknown without a price. Written for speed: it runs on the road of every such call.
        """
        now, stream, most = time.monotonic(), call.stream, call.output_estimate
        self.latencies = [pace.latency_us(stream, now) for pace in self.paces]
        costs: list[float | None] = []
        for deployment, pace in zip(self.candidates, self.paces, strict=True):
            expected: float
            if output_tokens is not None:
                expected = output_tokens
            else:
                mostly = pace.output_tokens or EXPECTED_OUTPUT
                expected = mostly if mostly < most else most
            priced, answer = deployment.input_price, deployment.output_price
            costs.append(None if priced is None or answer is None else input_tokens * priced + expected * answer)
        self.parts = parts_of(costs, self.latencies, [deployment.quality for deployment in self.candidates])
        self.utilities = utilities(self.objectives, self.parts)

    def order(self) -> list[Deployment]:
        """The best first, equal ones at random by weight; in a call that explores another one may come first."""
        judged = self.utilities
        order = sorted(range(len(judged)), key=judged.__getitem__, reverse=True)
        if judged[order[0]] == judged[order[1]]:
            # Exponential keys give a weighted order without replacement (Efraimidis and Spirakis, 2006).
            order.sort(key=lambda index: (-judged[index], random.expovariate(self.candidates[index].weight)))
        if random.random() < self.objectives.explore:  # noqa: S311  # no secret
            # One that was never measured, or not for long, can only be found to be good by asking it.
            unmeasured = [index for index in order if self.latencies[index] is None] if self.objectives.latency else []
            among = unmeasured or order
            first = random.choices(among, [self.candidates[index].weight for index in among])[0]  # noqa: S311  # no secret
            self.is_explored = first != order[0]
            order.remove(first)
            order.insert(0, first)
        return [self.candidates[index] for index in order]

    def learn(self, call: Call) -> None:
        """Note how the call went, and into its record the choice with its regret. Without an answer there is no regret to be known."""
        chosen, regret = call.deployment, None
        is_answered = call.ttft_us is not None and call.status in ("ok", "client_gone")
        index = next((index for index, each in enumerate(self.candidates) if chosen is not None and each.id == chosen.id), None)
        if is_answered and index is not None:
            assert call.ttft_us is not None
            usage = call.usage
            output_tokens = usage.completion_tokens if usage else None
            latency_us = call.ttft_us - (call.attempt_ns - call.started_ns) // 1000
            self.paces[index].answered(time.monotonic(), call.stream, latency_us, output_tokens)
            decided = self.parts, self.utilities
            self.estimate(call, (usage.prompt_tokens if usage else None) or call.input_estimate, output_tokens or 0)
            regret = max(self.utilities) - self.utilities[index]
            self.parts, self.utilities = decided  # the record says what was known when it was chosen
        assert call.model is not None
        call.steps.append(Step(f"route:{call.model.slug}", self._verdict(call, is_answered), self.micros, self._detail(chosen, regret)))

    def _verdict(self, call: Call, is_answered: bool) -> str:
        if not is_answered or call.deployment is None:
            return "no_answer"
        if call.deployment.id != call.deployments[0].id:
            return "failover"
        return "explored" if self.is_explored else "best"

    def _detail(self, chosen: Deployment | None, regret: float | None) -> str:
        """Words `<name>=<whole number>` are counted by the hour, see `costs.services.ingest`."""
        words = [f"regret_ppm={round(regret * 1_000_000)}"] if regret is not None else []
        words.append(f"chosen:{chosen.id if chosen else '-'}")
        for index, deployment in enumerate(self.candidates):
            said = ",".join(f"{name}:{self._part(name, index)}" for name in NAMES if getattr(self.objectives, name))
            words.append(f"{deployment.id}:{self.utilities[index]:.3f}({said})")
        return " ".join(words)

    def _part(self, name: str, index: int) -> str:
        part = self.parts[NAMES.index(name)][index]
        is_unknown = part == NEUTRAL and (
            (name == "latency" and self.latencies[index] is None)
            or (name == "quality" and self.candidates[index].quality is None)
            or (name == "cost" and self.candidates[index].input_price is None)
        )
        return "?" if is_unknown else f"{part:.2f}"


def choose(call: Call, deployments: tuple[Deployment, ...], objectives: Objectives) -> list[Deployment] | None:
    """The candidates in their order; the call keeps the choice. None where there is nothing to choose."""
    began = time.perf_counter_ns()
    assert call.served is not None
    health, tenant, now = call.plane.health, call.served.tenant, time.monotonic()
    ready = [each for each in deployments if each.weight > 0 and health.circuit(tenant, each.id).is_ready(now)]
    priorities = {each.priority for each in ready}
    if len(priorities) > 1:
        first = min(priorities)
        ready = [each for each in ready if each.priority == first]
    if len(ready) < 2 or call.surface == "count_tokens":
        return None
    choice = Choice(objectives, ready, [health.pace(tenant, each.id) for each in ready])
    choice.estimate(call, call.input_estimate, None)
    order = choice.order()
    choice.micros = (time.perf_counter_ns() - began) // 1000
    call.choice = choice
    return order
