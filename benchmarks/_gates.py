"""The measured half of `benchmarks.gates`, in a process of its own with the settings of the throw-away server."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from rollouts.models import Gate

GATES = 1_000
CRITERIA = (
    ("attribution.coverage", ">", 95, "%", 24), ("attribution.latency_p95", "<", 60, "s", 24), ("gateway.error_rate", "<", 2, "%", 24),
    ("gateway.overhead_p99", "<", 50, "ms", 24), ("usage.calls", ">", 10, "count", 24), ("usage.active_projects", ">", 1, "count", 24),
    ("gateway.error_rate", "<", 2, "%", 168), ("attribution.coverage", ">", 95, "%", 168), ("gateway.overhead_p99", "<", 50, "ms", 168),
    ("usage.calls", ">", 100, "count", 168),
)  # fmt: skip
"""Metric, operator, threshold, unit, hours."""
HOURS, PROJECTS = 168, 5


def main() -> None:
    django.setup()
    print(json.dumps(measure()))


def measure() -> dict[str, float]:
    """The second evaluation of each, as the schedule does it every five minutes: in tasks of `GATES_AT_ONCE`, one after the other."""
    from rollouts.models import Evaluation
    from rollouts.services import gates as services
    from rollouts.tasks import GATES_AT_ONCE

    now = datetime.now(UTC)
    found = _make(now)
    services.evaluate_gates(found, at=now)
    later = now + services.EVALUATE_EVERY
    began = time.perf_counter()
    for first in range(0, GATES, GATES_AT_ONCE):
        services.evaluate_gates(found[first : first + GATES_AT_ONCE], at=later)
    took = time.perf_counter() - began
    if Evaluation.objects.count() != 2 * GATES:
        raise RuntimeError("not every gate was evaluated")
    return {"gates_1k_s": round(took, 1)}


def _make(now: datetime) -> list[Gate]:
    """Rollouts of one phase each, with its gate open."""
    from governance.models import User
    from governance.schema import enter_tenant
    from governance.services import tenants
    from rollouts.models import Criterion, Gate, Phase, Rollout

    owner = User.objects.create_user("bench@example.com", None, name="Bench")
    enter_tenant(tenants.create_tenant(slug="bench", name="Bench", owner_email=owner.email, actor=None))
    today = now.date()
    _usage(now)
    rollouts = Rollout.objects.bulk_create(
        Rollout(
            slug=f"bench-{number}", name=f"Bench {number}", plan_key="bench", plan_version=1, plan={}, owner=owner, created_by=owner,
            status="running", starts_on=today, created_at=now,
        )
        for number in range(GATES)
    )  # fmt: skip
    phases = Phase.objects.bulk_create(
        Phase(
            rollout=rollout, position=0, key="pilot", title="Pilot", lane="pilot", status="current", planned_start=today, planned_end=today,
            entered_at=now,
        )
        for rollout in rollouts
    )  # fmt: skip
    gates = Gate.objects.bulk_create(
        Gate(rollout=phase.rollout, phase=phase, number=1, title="Go", roles=["product"], status="open", planned_on=today, opened_at=now)
        for phase in phases
    )
    Criterion.objects.bulk_create(
        Criterion(
            gate=gate, position=place, key=f"c-{place}", title=metric, quote=metric, origin="gate", role="engineering", kind="metric",
            metric=metric, operator=sign, threshold=threshold, unit=unit, window_hours=hours, minimum_sample=1,
        )
        for gate in gates
        for place, (metric, sign, threshold, unit, hours) in enumerate(CRITERIA)
    )  # fmt: skip
    return gates


def _usage(now: datetime) -> None:
    """A week of rollups, so that the metrics have something to read."""
    from costs.models import UsageHour

    last = now.replace(minute=0, second=0, microsecond=0)
    UsageHour.objects.bulk_create(
        UsageHour(
            hour=last - timedelta(hours=hour), project=f"p-{project}", cost_centre="", agent="a", model="m", provider="p", key_id="k", kind="chat",
            outcome="ok", calls=50, uncached_input_tokens=100, cached_input_tokens=0, cache_write_tokens=0, output_tokens=100, cost=1,
            unpriced_calls=0, untagged_calls=0, estimated_calls=0, duration_us=1, last_event_at=now,
        )
        for hour in range(HOURS)
        for project in range(PROJECTS)
    )  # fmt: skip


if __name__ == "__main__":
    main()
