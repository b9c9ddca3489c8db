"""What is flagged, on series small enough to see; the quality on made-up organisations, on a few of them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import anomalies as bench
from costs import detection
from costs.detection import Floats

MEDIUM = detection.THRESHOLDS["medium"]
DAYS = 100


def office(days: int = DAYS, level: float = 50.0, seed: int = 1) -> Floats:
    """[1, days] of weekday spend with a tenth of noise and quiet weekends."""
    random = np.random.default_rng(seed)
    days_of_week = np.where(np.arange(days) % 7 < 5, 1.0, 0.2)
    found: Floats = (level * days_of_week * np.exp(random.normal(0, 0.1, days)))[None, :]
    return found


def told(spend: Floats, calls: Floats | None = None, floor: float = 5.0) -> list[int]:
    calls = np.round(spend * 50) if calls is None else calls
    found = detection.walk(spend, calls, floor, MEDIUM)
    return [int(day) for day in np.flatnonzero(detection.flag(spend, found, floor, MEDIUM).any[0])]


def test_quiet_weekends_are_no_anomaly() -> None:
    assert told(office()) == []


def test_spike_is_told_on_its_day_with_what_was_expected() -> None:
    spend = office()
    spend[0, 80] *= 3

    found = detection.walk(spend, spend * 50, 5.0, MEDIUM)

    assert told(spend) == [80]
    assert found.expected[0, 80] == pytest.approx(50, rel=0.15)
    assert found.low[0, 80] < found.expected[0, 80] < found.high[0, 80] < spend[0, 80]


def test_what_lies_below_the_money_floor_is_not_told() -> None:
    spend = office(level=1.0)
    spend[0, 80] *= 4

    assert told(spend) == []
    assert told(spend, floor=1.0) == [80]


def test_new_level_is_accepted_after_some_days() -> None:
    spend = office()
    spend[0, 71:] *= 2.5

    days = told(spend)

    assert days[0] == 71
    assert max(days) <= 71 + 2 * detection.ACCEPTED_AFTER_DAYS + 1


def test_slow_ramp_is_told() -> None:
    spend = office()
    spend[0, 70:] *= np.minimum(np.linspace(1, 4, 30), 3)

    assert 70 < told(spend)[0] <= 84


def test_dearer_calls_are_told_though_money_hides_in_noise() -> None:
    random = np.random.default_rng(3)
    calls = np.round(2000 * np.exp(random.normal(0, 0.35, (1, DAYS))))
    spend = calls * 0.02
    spend[0, 80:] *= 1.8

    found = detection.walk(spend, calls, 5.0, MEDIUM)
    flags = detection.flag(spend, found, 5.0, MEDIUM)

    assert flags.unit[0, 80:83].any()
    assert found.unit_expected[0, 80] == pytest.approx(spend[0, 80] / 1.8, rel=0.02)


def test_drop_to_nothing_is_told() -> None:
    spend = office()
    spend[0, 85:88] = 0

    assert told(spend)[0] == 85


def test_sparse_series_is_compared_with_its_active_days() -> None:
    random = np.random.default_rng(5)
    spend = np.where(np.arange(DAYS) % 4 == 0, 30 * np.exp(random.normal(0, 0.15, DAYS)), 0.0)[None, :]
    quiet = told(spend)
    spend[0, 88] *= 4

    assert quiet == []
    assert told(spend) == [88]


def test_nothing_is_told_without_two_weeks_of_history() -> None:
    spend = np.full((1, DAYS), np.nan)
    spend[0, 90:] = office(10)[0]
    spend[0, 99] *= 10

    assert told(spend) == []


def test_runaway_loop_needs_two_hours_and_money() -> None:
    hours = 43 * 24
    spend = np.exp(np.random.default_rng(2).normal(0, 0.2, (3, hours))) * 0.5
    spend[0, -2:] *= 15
    spend[1, -1] *= 15
    spend[2, -2:] *= 3

    found = detection.runaway(spend, 5.0, MEDIUM)

    assert found.is_runaway.tolist() == [True, False, False]
    assert found.actual[0] > found.expected[0] + 5


def test_runaway_needs_two_weeks() -> None:
    with pytest.raises(ValueError, match="fewer"):
        detection.runaway(np.ones((1, 200)), 5.0, MEDIUM)


def test_nothing_to_test_is_nothing_told() -> None:
    empty = np.empty((0, DAYS))

    assert detection.flag(empty, detection.walk(empty, empty, 5.0, MEDIUM), 5.0, MEDIUM).any.shape == (0, DAYS)


def test_quality_holds_on_a_few_made_up_organisations() -> None:
    world = bench.make_world(seed=5, organisations=4)

    quality = bench.assess(world, bench.told_at(world, {"medium": MEDIUM})["medium"])

    assert quality.events > 80
    assert quality.recall >= 0.88
    assert quality.false_per_week <= 3


@pytest.mark.parametrize(("shape", "axis"), [((5, 8, 7), 1), ((5, 8, 7), 2), ((6, 9), 1), ((1, 1), 1)])
@pytest.mark.filterwarnings("ignore:All-NaN")
def test_median_passes_over_what_is_not_known(shape: tuple[int, ...], axis: int) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=shape)
    holes = np.where(random.random(shape) < 0.4, np.nan, values)

    np.testing.assert_allclose(detection.median(values, axis), np.median(values, axis=axis))
    np.testing.assert_allclose(detection.median(holes, axis), np.nanmedian(holes, axis=axis))
