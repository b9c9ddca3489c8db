"""Forecast, simulation and periods of budgets: pure arithmetic."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costs import budgeting, forecast, simulation
from gateway.plane.windows import span_of

TODAY = date(2026, 11, 18)  # a Wednesday
BEGIN = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia"])
@pytest.mark.parametrize("period", ["day", "month"])
def test_period_is_the_window_that_the_gateway_counts_in(zone: str, period: str) -> None:
    for hour in range(0, 24 * 400, 7):
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        span = budgeting.span_of(period, at, ZoneInfo(zone))
        window = span_of(period, at.timestamp(), ZoneInfo(zone))  # type: ignore[arg-type]  # a text that is one of the literals
        assert (span.start.timestamp(), span.end.timestamp()) == (window.start, window.end)


@pytest.mark.parametrize(("share", "passes"), [("0", "1"), ("0.8", "1"), ("0.9", "0.5"), ("0.95", "0.25"), ("1", "0"), ("1.3", "0")])
def test_slowing_falls_on_a_straight_line(share: str, passes: str) -> None:
    assert budgeting.admitted(Decimal(share), Decimal("0.8")) == Decimal(passes)


def history(days: int, cost: object = 100, today: date = TODAY) -> dict[date, Decimal]:
    return {
        today - timedelta(days=n): Decimal(str(cost(today - timedelta(days=n)) if callable(cost) else cost)) for n in range(1, days + 1)
    }


@pytest.mark.parametrize("days", [0, 1, 13])
def test_too_little_history_is_no_figure(days: int) -> None:
    found = forecast.forecast(spent=Decimal(5), days=history(days), today=TODAY, last_day=date(2026, 11, 30), rest_of_today=0.5)

    assert found == forecast.TooLittle(days)


def test_steady_spend_is_carried_on() -> None:
    found = forecast.forecast(
        spent=Decimal(1750), days=history(40), today=TODAY, last_day=date(2026, 11, 30), rest_of_today=0.5, amount=Decimal(2500)
    )

    assert isinstance(found, forecast.Forecast)
    assert (found.expected, found.low, found.high) == (Decimal("3000.00"),) * 3
    assert found.runs_out_on == date(2026, 11, 25)


def test_weekends_cost_what_weekends_cost() -> None:
    days = history(56, lambda day: 10 if day.weekday() >= 5 else 100)

    found = forecast.forecast(spent=Decimal(0), days=days, today=date(2026, 11, 18), last_day=date(2026, 11, 22), rest_of_today=0)

    assert isinstance(found, forecast.Forecast)
    assert found.expected == pytest.approx(Decimal(220), rel=Decimal("0.06"))  # Thursday, Friday, and two cheap days


def test_days_before_the_first_spend_are_not_history() -> None:
    found = forecast.forecast(
        spent=Decimal(0), days={TODAY - timedelta(days=3): Decimal(9), TODAY - timedelta(days=50): Decimal(0)},
        today=TODAY, last_day=TODAY, rest_of_today=1,
    )  # fmt: skip

    assert found == forecast.TooLittle(3)


def test_interval_holds_four_of_five_ends() -> None:
    """300 made-up organisations with weekdays, noise that lingers, and odd days."""
    chance = random.Random(7)
    inside = 0
    for _ in range(300):
        weekend, noise, lingering = chance.uniform(0.1, 1), chance.uniform(0.05, 0.5), chance.uniform(0, 0.5)
        state, real = 0.0, {}
        for n in range(-56, 13):
            day = TODAY + timedelta(days=n)
            state = lingering * state + chance.gauss(0, noise * (1 - lingering**2) ** 0.5)
            real[day] = Decimal(max(0.0, 100 * (weekend if day.weekday() >= 5 else 1) * (1 + state)))
        end = date(2026, 11, 30)
        coming = sum((cost for day, cost in real.items() if TODAY <= day <= end), Decimal())
        found = forecast.forecast(
            spent=Decimal(0), days={day: cost for day, cost in real.items() if day < TODAY}, today=TODAY, last_day=end, rest_of_today=1
        )
        assert isinstance(found, forecast.Forecast)
        inside += found.low <= coming <= found.high
    assert 0.72 <= inside / 300 <= 0.92


def test_rest_of_today_follows_the_usual_hours() -> None:
    office = [Decimal(10 if 8 <= hour < 18 else 0) for hour in range(24)]

    assert forecast.rest_of_day(office, 12, 0.5) == pytest.approx(0.55)
    assert forecast.rest_of_day(office, 20, 0.0) == 0
    assert forecast.rest_of_day([Decimal()] * 24, 6, 0.0) == 0.75


def hours(*costs: int | str, calls: int = 10) -> list[simulation.Hour]:
    return [simulation.Hour(BEGIN + timedelta(hours=n), Decimal(cost), calls) for n, cost in enumerate(costs)]


def run(found: list[simulation.Hour], action: str, amount: str = "100") -> simulation.Outcome:
    return simulation.simulate(
        found,
        first=BEGIN,
        last=BEGIN + timedelta(days=31),
        amount=Decimal(amount),
        action=action,
        thresholds=[50, 80, 100],
        throttle_from=80,
    )


def test_alert_only_would_have_told_and_refused_nothing() -> None:
    outcome = run(hours(40, 40, 40), "alert")

    assert outcome.crossed == [
        (50, BEGIN + timedelta(hours=1.25)),
        (80, BEGIN + timedelta(hours=2)),
        (100, BEGIN + timedelta(hours=2.5)),
    ]
    assert (outcome.refused_calls, outcome.cost, outcome.calls) == (0, Decimal(120), 30)


def test_block_would_have_refused_what_came_after_the_amount() -> None:
    outcome = run(hours(40, 40, 40, 40), "block")

    assert outcome.blocked_from == BEGIN + timedelta(hours=2.5)
    assert (outcome.blocked_calls, outcome.blocked_cost) == (15, Decimal(60))


def test_throttle_would_have_slowed_from_its_share_and_never_reached_the_amount() -> None:
    outcome = run(hours(40, 40, 20, 20, 20, 20), "throttle")

    assert outcome.throttled_from == BEGIN + timedelta(hours=2)
    assert outcome.throttled_cost == pytest.approx(Decimal("60.366"), abs=Decimal("0.001"))  # 80 - 20 (1 - exp(-4))
    assert outcome.throttled_calls == 30
    assert outcome.blocked_from is None
    assert [threshold for threshold, _ in outcome.crossed] == [50, 80]


def test_nothing_happened_is_an_empty_outcome() -> None:
    assert run([], "block").is_empty


@settings(max_examples=100)
@given(st.lists(st.integers(0, 200), max_size=30), st.sampled_from(["alert", "throttle", "block"]), st.integers(1, 400))
def test_simulated_spend_is_split_without_a_rest(costs: list[int], action: str, amount: int) -> None:
    outcome = run(hours(*costs), action, str(amount))

    passed = outcome.cost - outcome.throttled_cost - outcome.blocked_cost
    assert outcome.cost == sum(costs)
    assert passed <= outcome.cost
    if action != "alert":
        assert passed <= amount + Decimal("1e-9")
    assert 0 <= outcome.refused_calls <= outcome.calls
