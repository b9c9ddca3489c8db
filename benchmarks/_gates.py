"""The measured half of `benchmarks.gates`, in a process of its own with the settings of the throw-away server."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from rollouts.models import Gate

GATES = 10_000
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
    """A later evaluation of each, as the schedule does it every five minutes: in tasks of `GATES_AT_ONCE`, one after the other."""
    from rollouts.models import Evaluation, Gate
    from rollouts.services import gates as services

    now = datetime.now(UTC)
    found = _make(now)
    _evaluated_once(found, now)
    figures = {}
    later = now
    for name, number in (("gates_1k_s", 1_000), ("gates_10k_s", GATES)):
        later += services.EVALUATE_EVERY
        before = Evaluation.objects.count()
        began = time.perf_counter()
        _run({gate.pk for gate in found[:number]}, later)
        figures[name] = round(time.perf_counter() - began, 1)
        if Evaluation.objects.count() != before + number or Gate.objects.filter(latest__at=later).count() != number:
            raise RuntimeError("not every gate was evaluated")
    return figures


def _run(wanted: set[int], at: datetime) -> None:
    """What one worker does: finds what is due, loads and evaluates it."""
    from rollouts.models import Gate
    from rollouts.services import gates as services
    from rollouts.tasks import GATES_AT_ONCE

    due = [pk for pk in services.due_gates(at=at).values_list("pk", flat=True) if pk in wanted]
    for first in range(0, len(due), GATES_AT_ONCE):
        services.evaluate_gates(Gate.objects.in_bulk(due[first : first + GATES_AT_ONCE]).values(), at=at)


def _evaluated_once(found: list[Gate], now: datetime) -> None:
    """The first evaluation of a gate is always news. One gate has it from the product; the others get copies, to be quick."""
    from rollouts.models import Evaluation, Gate
    from rollouts.services import gates as services

    first = services.evaluate_gate(gate=found[0], trigger=Evaluation.Trigger.SCHEDULE, at=now)
    if first is None:
        raise RuntimeError("the first gate was not evaluated")
    facts = {field.name: getattr(first, field.name) for field in Evaluation._meta.concrete_fields if not field.primary_key}
    copies = Evaluation.objects.bulk_create(
        (Evaluation(**{**facts, "gate": gate, "evidence_hash": f"copy {gate.pk}"}) for gate in found[1:]), batch_size=1000
    )
    for copy in copies:
        copy.gate.latest = copy
    Gate.objects.bulk_update([copy.gate for copy in copies], ["latest"], batch_size=1000)


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
