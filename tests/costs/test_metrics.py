"""What this floor offers to gates."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from catalog.models import VirtualKey
from costs import sketch
from costs.models import Budget, Reconciliation, Revision, UsageHour
from governance import metrics
from governance.metrics import NO_DATA, Window
from governance.models import Policy, Tenant, User
from governance.services import consent
from tests.factories import catalog
from tests.factories import costs as make

START = datetime(2026, 5, 4, 10, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=2))
KEYS = [
    "attribution.coverage",
    "attribution.latency_p95",
    "cache.hit_quality",
    "gateway.error_rate",
    "gateway.overhead_p99",
    "guardrails.unredacted_pii",
    "policy.coverage",
    "policy.enforced_share",
    "reconciliation.variance",
    "archive.overdue_months",
    "usage.active_projects",
    "usage.calls",
    "attribution.late_hours",
    "attribution.set_aside",
    "attribution.uptime",
    "budgets.project_share",
    "consent.calls_after_withdrawal",
    "consent.decided_share",
    "costs.saved_percent",
    "gateway.availability",
    "gateway.latency_p95",
    "reconciliation.routed_share",
    "tools.active_people",
    "usage.active_agents",
    "usage.active_people",
    "usage.first_call_p75",
    "usage.models_per_project",
    "usage.project_share",
]


def test_no_data_is_no_value(acme: Tenant) -> None:
    assert {key: metrics.get(key).read(WINDOW) for key in KEYS} == dict.fromkeys(KEYS, NO_DATA)


def test_coverage_counts_served_calls_of_the_window(acme: Tenant) -> None:
    make.record(
        acme,
        *[make.call(acme, started_at=START + timedelta(minutes=n)) for n in range(9)],
        make.call(acme, started_at=START, agent=None),
        make.call(acme, started_at=START, **make.REFUSED),
        make.call(acme, started_at=START + timedelta(hours=2), agent=None),
        make.call(acme, started_at=START - timedelta(seconds=1), agent=None),
    )

    reading = metrics.get("attribution.coverage").read(WINDOW)

    assert (reading.value, reading.sample, dict(reading.statistics)) == (90.0, 10, {"attributed": 9, "all": 10})
    assert (reading.low, reading.high) == metrics.wilson(9, 10)


def test_error_rate_projects_and_calls(acme: Tenant) -> None:
    make.record(
        acme,
        make.call(acme, started_at=START),
        make.call(acme, started_at=START, project="b"),
        make.call(acme, started_at=START, project=None),
        make.call(acme, started_at=START, status="upstream_error", http_status=502),
        make.call(acme, started_at=START, project="c", **make.REFUSED),
    )

    assert metrics.get("gateway.error_rate").read(WINDOW).value == 25.0
    assert metrics.get("usage.active_projects").read(WINDOW).value == 2.0
    assert (metrics.get("usage.calls").read(WINDOW).value, metrics.get("usage.calls").read(WINDOW).sample) == (4.0, 5)


def test_overhead_is_the_percentile_within_the_sketch_error(acme: Tenant) -> None:
    make.record(acme, *[make.call(acme, started_at=START, overhead_us=1000 + 10 * n) for n in range(200)])

    reading = metrics.get("gateway.overhead_p99").read(WINDOW)

    assert reading.value == pytest.approx(2.97, rel=0.02)
    assert reading.low is not None
    assert reading.high is not None
    assert reading.low <= reading.value <= reading.high  # type: ignore[operator]  # it has a value
    assert reading.sample == 200


def test_reported_call_is_late_only_from_its_arrival(acme: Tenant) -> None:
    days_ago = datetime.now(UTC) - timedelta(days=3)
    make.record(acme, make.call(acme, started_at=days_ago, overhead_us=None, steps=[["otlp", "pass", 0, ""]]))

    hour = days_ago.replace(minute=0, second=0, microsecond=0)
    reading = metrics.get("attribution.latency_p95").read(Window(hour, hour + timedelta(hours=1)))

    assert reading.value is not None
    assert reading.value < 5
    assert UsageHour.objects.get().hour == hour


def test_attribution_latency_is_kept_in_seconds(acme: Tenant) -> None:
    now = datetime.now(UTC)
    make.record(acme, make.call(acme, started_at=now - timedelta(seconds=31), duration_us=1_000_000))

    reading = metrics.get("attribution.latency_p95").read(Window(now - timedelta(hours=1), now))

    assert reading.value == pytest.approx(30, abs=5)


def test_variance_is_over_the_latest_revisions(acme: Tenant) -> None:
    for month, number, bill, telemetry in ((4, 1, "50", "10"), (4, 2, "100", "98"), (5, 1, "100", "104")):
        series, _ = Reconciliation.objects.get_or_create(provider="openai", account="a", month=date(2026, month, 1))
        series.latest = Revision.objects.create(
            reconciliation=series,
            number=number,
            run_key=f"{month}{number}",
            created_at=START,
            bill=Decimal(bill),
            telemetry=Decimal(telemetry),
            bill_rows=10,
            calls=1,
            causes=[],
            excluded=[],
        )
        series.save()

    reading = metrics.get("reconciliation.variance").read(Window(datetime(2026, 4, 15, tzinfo=UTC), datetime(2026, 5, 15, tzinfo=UTC)))

    assert (reading.value, reading.sample) == (3.0, 20)


@pytest.mark.parametrize("us", [1, 7, 999, 1_000_000, 3_600_000_000])
def test_sketch_bucket_stands_for_its_values(us: int) -> None:
    index = sketch.bucket(us)

    assert abs(sketch.middle(index) - us) / us <= 0.021
    assert math.ceil(math.log(max(us, 1)) / math.log(sketch.GAMMA)) == index


def test_merging_sketches_is_adding_counts() -> None:
    values = [3 * n + 1 for n in range(1000)]
    counts: dict[int, int] = {}
    for value in values:
        counts[sketch.bucket(value)] = counts.get(sketch.bucket(value), 0) + 1

    assert sketch.quantile(counts, 0.5) == pytest.approx(1500, rel=0.03)
    assert sketch.quantile({}, 0.5) is None


def test_policies_and_guardrails_are_measured(acme: Tenant, alice: User) -> None:
    at = WINDOW.start + timedelta(hours=1)
    make.record(
        acme,
        make.call(acme, started_at=at, steps=[["policy", "pass", 1, "covered"], ["guardrail:no-pii", "flagged", 0, "input email=2 jwt=1"]]),
        make.call(acme, started_at=at, steps=[["policy", "pass", 1, ""], ["guardrail:no-pii", "redacted", 0, "input card=1"]]),
    )
    Policy.objects.create(namespace="a", name="one", mode="enforce", created_by=alice)
    Policy.objects.create(namespace="a", name="two", mode="dry_run", created_by=alice)
    Policy.objects.create(namespace="a", name="three", created_by=alice)

    readings = {key: metrics.get(key).read(WINDOW) for key in ("policy.coverage", "policy.enforced_share", "guardrails.unredacted_pii")}

    assert {key: (reading.value, reading.sample) for key, reading in readings.items()} == {
        "policy.coverage": (50.0, 2),
        "policy.enforced_share": (50.0, 2),
        "guardrails.unredacted_pii": (2, 2),
    }


def test_use_of_the_gateway_is_counted_by_people_agents_projects_and_models(acme: Tenant, alice: User, bob: User) -> None:
    first, second, shadows = make.key(alice, project="checkout"), make.key(bob, project="search"), make.key(alice, project="shadows")
    VirtualKey.objects.filter(pk=shadows.pk).update(purpose=VirtualKey.Purpose.SHADOW)  # its repeats are nobody's calls
    catalog.make_project(owner=alice, slug="idle")
    catalog.make_project(owner=alice, slug="off", is_enabled=False)
    Budget.objects.create(name="B", scope="project", ref="search", amount=5, state="enforced", action="block", created_by=alice)
    at = {"started_at": START}
    make.record(
        acme,
        make.call(acme, **at, key_id=first.public_id, project="checkout", agent="a"),
        make.call(acme, **at, key_id=first.public_id, project="checkout", agent="b", model="other"),
        make.call(acme, **at, key_id=second.public_id, project="search", agent=None, status="upstream_error"),
        make.call(acme, **at, key_id=second.public_id, project="search", agent=None, kind="tool", model="crm__find"),
        make.call(acme, **at, key_id=second.public_id, project="idle", agent="c", **make.REFUSED),
        make.call(acme, **at, key_id=shadows.public_id, project="checkout", agent="shadow", model="third", status="upstream_error"),
    )

    said = {key: metrics.get(key).read(WINDOW).value for key in KEYS}

    assert {key: said[key] for key in (
        "usage.active_people", "usage.active_agents", "tools.active_people", "usage.models_per_project", "budgets.project_share", "gateway.availability",
        "attribution.uptime", "attribution.late_hours",
    )} == {
        "usage.active_people": 2, "usage.active_agents": 2, "tools.active_people": 1, "usage.models_per_project": 1, "budgets.project_share": 50,
        "gateway.availability": 75, "attribution.uptime": 0, "attribution.late_hours": 1,
    }  # fmt: skip
    assert said["usage.project_share"] == 50
    assert (said["gateway.latency_p95"] or 0) > 0


def test_first_call_is_timed_from_the_first_key_and_who_never_calls_waits(
    acme: Tenant, alice: User, bob: User, fay: User, rita: User
) -> None:
    keys = {user: make.key(user) for user in (alice, bob, fay, rita)}
    VirtualKey.objects.update(created_at=START)
    VirtualKey.objects.filter(pk=keys[rita].pk).update(created_at=START + timedelta(days=3, minutes=1))
    second = make.key(bob)  # not his first one
    at = {alice: (START + timedelta(minutes=4), "ok"), bob: (START + timedelta(minutes=9), "upstream_error")}
    make.record(acme, *(make.call(acme, key_id=keys[user].public_id, started_at=when, status=how) for user, (when, how) in at.items()))
    make.record(acme, make.call(acme, key_id=second.public_id, started_at=second.created_at + timedelta(minutes=1)))
    read = metrics.get("usage.first_call_p75").read

    three, now = read(Window(START, START + timedelta(days=4))), read(Window(START, second.created_at + timedelta(minutes=2)))

    assert (three.value, three.sample, three.statistics["called"]) == (4 * 24 * 3600, 3, 1)  # Rita has had a key for less than a day
    assert (now.sample, now.statistics["called"]) == (4, 2)
    assert read(Window(START, START + timedelta(hours=1))).statistics == {"people": 1, "called": 1}


def test_calls_in_spite_of_an_opt_out_are_found_and_nothing_is_proved_without_one(acme: Tenant, alice: User) -> None:
    catalog.make_model(owner=alice, slug="chat")
    metric = metrics.get("consent.calls_after_withdrawal")
    make.record(acme, *(make.call(acme, started_at=START + timedelta(minutes=70), model="chat") for _ in range(3)))
    consent.set_consent(feature_class="assistants", state="granted", actor=alice, at=START)
    granted, decided = metric.read(WINDOW), metrics.get("consent.decided_share").read(WINDOW)
    consent.set_consent(feature_class="assistants", state="withdrawn", actor=alice, at=START + timedelta(minutes=5))

    assert (granted, decided.value) == (NO_DATA, 100)
    assert metric.read(WINDOW).value == 3
    assert metric.read(Window(START, START + timedelta(minutes=30))).sample == 0


def test_billed_usage_that_went_past_the_gateway_counts_against_the_routed_share(acme: Tenant) -> None:
    series = Reconciliation.objects.create(provider="openai", account="a", month=date(2026, 5, 1))
    causes = [{"cause": "missing_calls", "amount": "15"}, {"cause": "bill_only", "amount": "10"}, {"cause": "price", "amount": "5"}]
    series.latest = Revision.objects.create(
        reconciliation=series, number=1, run_key="r", created_at=START, bill=Decimal(100), telemetry=Decimal(70), bill_rows=10, calls=1,
        causes=causes, excluded=[],
    )  # fmt: skip
    series.save()

    assert metrics.get("reconciliation.routed_share").read(WINDOW).value == 75
