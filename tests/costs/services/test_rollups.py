"""Hours of days long past become one row each, and no figure changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from costs import model_usage, periods, tasks
from costs.models import CallHour
from costs.services import rollups
from governance.models import Tenant
from governance.schema import enter_tenant
from tests.factories import costs as make

NOW = datetime(2026, 11, 21, 9, 40, tzinfo=UTC)
OLD = datetime(2026, 11, 10, 0, 30, tzinfo=UTC)


def calls(tenant: Tenant, start: datetime, number: int = 12) -> list[dict[str, Any]]:
    """Over six hours: of two agents, with the cache, one refused."""
    made = [
        make.call(
            tenant,
            started_at=start + timedelta(minutes=30 * n),
            agent=f"a{n % 2}",
            duration_us=100_000 * (1 + n % 3),
            steps=[["cache:small-chat", "miss", 0, ""]] if n % 4 == 0 else [],
        )
        for n in range(number)
    ]
    return [*made, make.call(tenant, started_at=start, **{**make.REFUSED, "model": "small-chat"})]


def figures() -> Any:
    period = periods.Span("custom", OLD - timedelta(days=1), NOW)
    found = model_usage.model_usage("small-chat", period, "agent", {})
    return found.lines, found.errors


def test_days_long_past_become_one_row_and_no_figure_changes(acme: Tenant) -> None:
    make.record(acme, *calls(acme, OLD), *calls(acme, OLD + timedelta(days=1)), *calls(acme, NOW - timedelta(hours=30)))
    before, rows = figures(), CallHour.objects.filter(hour__lt=NOW - timedelta(days=3)).count()

    done = rollups.compact_call_hours(at=NOW)

    assert (done, rollups.compact_call_hours(at=NOW)) == (2, 0)
    assert figures() == before
    old = CallHour.objects.filter(hour__lt=NOW - timedelta(days=3))
    assert (rows, old.count(), {row.hour.hour for row in old}) == (26, 6, {0})
    assert CallHour.objects.filter(hour__gte=NOW - timedelta(hours=30)).values("hour").distinct().count() > 1


def test_late_calls_are_added_the_next_time(acme: Tenant) -> None:
    make.record(acme, *calls(acme, OLD))
    rollups.compact_call_hours(at=NOW)
    make.record(acme, *calls(acme, OLD, number=3), *calls(acme, OLD + timedelta(hours=9), number=2))
    before = figures()

    done = rollups.compact_call_hours(at=NOW)

    assert done == 1
    assert figures() == before
    assert CallHour.objects.count() == 3


@pytest.mark.parametrize(("at", "days"), [(datetime(2026, 11, 12, 23, 59, tzinfo=UTC), 0), (datetime(2026, 11, 13, tzinfo=UTC), 1)])
def test_hours_are_kept_for_two_whole_days(acme: Tenant, at: datetime, days: int) -> None:
    make.record(acme, *calls(acme, OLD))

    assert rollups.compact_call_hours(at=at) == days


def test_task_runs_in_its_tenant_and_may_run_twice(acme: Tenant) -> None:
    make.record(acme, *calls(acme, OLD))

    for _ in range(2):
        tasks.compact_rollups(schema_name=acme.schema_name)
        enter_tenant(acme)

    assert CallHour.objects.count() == 3
