"""Against values of independent origin; they are named beside each."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts import statistics
from rollouts.statistics import Difference, Moments

COUNTS = st.lists(st.integers(1, 20), min_size=3, max_size=30)


def of_values(units: int, total: float, squares: float) -> Moments:
    """Of one value per unit."""
    return Moments(units, units, total, units, squares, total)


def rate(failed: int, units: int) -> Moments:
    return of_values(units, failed, failed)


def test_sequential_interval_of_a_rate_is_that_of_gbstats() -> None:
    seen = statistics.difference(rate(1396, 3000), rate(2422, 3461), "relative")  # packages/stats/tests of growthbook

    assert seen is not None
    found = statistics.sequential(seen, alpha=0.05, planned_units=5000)
    assert seen.value == pytest.approx(0.50386, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((0.400978, 0.606748), abs=5e-5)


def test_sequential_interval_of_a_mean_is_that_of_gbstats() -> None:
    seen = statistics.difference(of_values(3000, 1396.87, 52377.9767), of_values(3461, 2422.7, 134698.29), "relative")

    assert seen is not None
    found = statistics.sequential(seen, alpha=0.05, planned_units=1000)
    assert (seen.value, found.low, found.high) == pytest.approx((0.50336, -0.55844, 1.56516), abs=1e-4)


def test_sequential_interval_is_half_as_wide_again_where_it_is_narrowest() -> None:
    seen = Difference(0.0, 1.0, 10_000)

    sequential = statistics.sequential(seen, alpha=0.05, planned_units=10_000)
    fixed = statistics.fixed(seen, alpha=0.05)

    assert fixed.high == pytest.approx(1.959964, abs=1e-6)
    assert sequential.high / fixed.high == pytest.approx(1.55, abs=0.005)  # Waudby-Smith and others, arXiv 2103.06476


@given(value=st.floats(-5, 5), units=st.integers(10, 100_000), planned=st.integers(100, 20_000))
@settings(max_examples=100, deadline=None)
def test_interval_excludes_no_difference_exactly_when_the_p_value_is_below_alpha(value: float, units: int, planned: int) -> None:
    found = statistics.sequential(Difference(value, 1.0, units), alpha=0.05, planned_units=planned)

    assert found.low <= value <= found.high
    if abs(found.p_value - 0.05) > 1e-9:  # on the edge, rounding decides
        assert (found.low > 0 or found.high < 0) == (found.p_value < 0.05)


def test_assignment_is_judged_as_by_lindon_and_malek() -> None:
    assert statistics.assignment_evidence([5200, 4800], [0.5, 0.5]) == pytest.approx(0.003648, abs=1e-6)  # savvi agrees
    assert statistics.assignment_evidence([5100, 4900], [0.5, 0.5]) == 1
    assert statistics.assignment_chi_square([5100, 4900], [0.5, 0.5]) == pytest.approx(0.0455, abs=5e-5)
    assert statistics.assignment_evidence([0, 0], [0.5, 0.5]) == statistics.assignment_chi_square([0, 0], [0.5, 0.5]) == 1


def test_treatments_that_share_their_buckets_fill_up_later_than_the_control() -> None:
    shares, rooms = [1 / 3, 1 / 3, 1 / 3], [33_333, 66_667, 66_667]
    subjects = 20_000  # of each arm, each in a bucket of its arm at random: so many are taken
    taken = [round(room * (1 - (1 - 1 / room) ** subjects)) for room in rooms]

    expected = statistics.expected_shares(shares, rooms, sum(taken))

    assert statistics.assignment_evidence(taken, shares) < 0.001
    assert statistics.assignment_chi_square(taken, expected) > 0.99
    assert statistics.assignment_evidence(taken, expected) == 1


def test_arms_that_fill_up_alike_are_expected_as_they_are_meant() -> None:
    assert statistics.expected_shares([0.8, 0.2], [80_000, 20_000], 30_000) == [0.8, 0.2]
    assert statistics.expected_shares([0.5, 0.5], [100_000, 100_000], 0) == [0.5, 0.5]
    assert statistics.expected_shares([0.5, 0.25, 0.25], [50_000, 50_000, 50_000], 150_000) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("alpha", "beta", "bounds"), [(0.05, 0.10, (2.8904, -2.2513)), (0.05, 0.20, (2.7726, -1.5581)), (0.01, 0.10, (4.4998, -2.2925))]
)
def test_bounds_of_the_sprt_are_walds(alpha: float, beta: float, bounds: tuple[float, float]) -> None:
    assert statistics.sprt_bounds(alpha, beta) == pytest.approx(bounds, abs=5e-5)


def test_mean_sample_of_the_sprt_is_walds() -> None:
    up, down = math.log(0.55 / 0.5), math.log(0.45 / 0.5)  # 0.50 against 0.55 by pair

    mean = statistics.sprt_mean_sample(0.05, 0.10, 0.55 * up + 0.45 * down, 0.5 * (up + down))

    assert (up, down) == pytest.approx((0.09531, -0.10536), abs=5e-6)
    assert mean == pytest.approx((474, 397), abs=1)


def test_evidence_of_the_sprt_grows_with_the_estimate_and_is_even_half_way() -> None:
    assert statistics.sprt_evidence(Difference(0.05, 0.01, 100), 0.1) == 0
    assert statistics.sprt_evidence(Difference(0.10, 0.01, 100), 0.1) == pytest.approx(50)
    assert statistics.sprt_evidence(Difference(-0.10, 0.01, 100), -0.1) == pytest.approx(50)


def test_planner_gives_the_sizes_of_the_textbook() -> None:
    rates = statistics.plan_rates(rate=0.10, effect=0.02)

    assert rates.fixed == 3841  # power.prop.test(p1 = .10, p2 = .12, power = .8) of R
    assert statistics.plan_means(spread=1, effect=0.5).fixed == 63  # 2 (1.95996 + 0.84162)² / 0.25
    assert rates.fixed < rates.sequential < 2 * rates.fixed
    assert rates.sprt < rates.fixed
    assert statistics.plan_rates(rate=0.10, effect=0.02, treatments=3).fixed > rates.fixed


@pytest.mark.parametrize("wrong", [(0.5, 0.6), (0.5, 0), (-1, 0.1)])
def test_planner_refuses_what_is_no_share(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="share"):
        statistics.plan_rates(rate=wrong[0], effect=wrong[1])


@given(calls=COUNTS)
@settings(max_examples=50, deadline=None)
def test_repeating_every_call_of_a_unit_teaches_nothing(calls: list[int]) -> None:
    """A unit that calls ten times as often is still one unit."""
    values = [number * (1 + place % 3) for place, number in enumerate(calls)]

    def moments(times: int) -> Moments:
        n, y = [times * each for each in calls], [times * each for each in values]
        squares = sum(a * a for a in n), sum(b * b for b in y), sum(a * b for a, b in zip(n, y, strict=True))
        return Moments(len(n), sum(n), sum(y), *squares)

    assert moments(10).variance_of_mean == pytest.approx(moments(1).variance_of_mean)


def test_variance_of_one_value_per_unit_is_the_usual_one() -> None:
    values = [1.0, 2.0, 4.0]

    found = of_values(3, sum(values), sum(value**2 for value in values))

    assert found.mean == pytest.approx(7 / 3)
    assert found.variance_of_mean == pytest.approx((7 / 3) / 3)
    assert found.spread == pytest.approx(math.sqrt(7 / 3))


def test_difference_is_not_told_without_data() -> None:
    nothing, alone, some = Moments(0, 0, 0), of_values(1, 1, 1), rate(5, 10)

    assert statistics.difference(nothing, some, "absolute") is None
    assert statistics.difference(alone, some, "absolute") is None
    assert statistics.difference(rate(0, 10), some, "relative") is None
    assert statistics.difference(rate(0, 10), rate(0, 10), "absolute") is None
    assert statistics.difference(rate(0, 10).padded(), rate(0, 10).padded(), "absolute") is not None
