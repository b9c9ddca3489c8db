"""Statistics of experiments: is the assignment sound, how large is the effect, and how much is needed to see it. Pure.

A *unit* is what was assigned (a bucket of the flag's hash), not a call: the calls of one unit resemble each other, so a test that counts calls
alarms far too often. A metric is therefore a ratio of sums over units, and its variance is that of a ratio (delta method).

Whoever looks every hour looks often: `sequential` intervals hold at all looks together, `fixed` ones only at a single look that was planned.

Sources: asymptotic confidence sequences, Waudby-Smith and others, arXiv 2103.06476, eq. 9; sequential test of the assignment, Lindon and
Malek, NeurIPS 2022; SPRT, Wald 1945; variance of a ratio, Deng and others, arXiv 1803.06336; pseudo observations, Agresti and Caffo 2000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import scipy  # whose parts are imported when they are asked for: most processes never do

Scale = Literal["absolute", "relative"]


@dataclass(frozen=True)
class Moments:
    """Sums over the units of one arm. They suffice: no unit is kept."""

    units: int
    calls: float
    """Sum of calls with a value."""
    total: float
    """Sum of the values."""
    calls_squared: float = 0.0
    """Sum over units of (calls of the unit)**2, and so on."""
    totals_squared: float = 0.0
    product: float = 0.0

    @property
    def mean(self) -> float | None:
        """Per call; None when no call had a value."""
        return self.total / self.calls if self.calls > 0 else None

    @property
    def variance_of_mean(self) -> float | None:
        """Squared standard error of `mean`; None for fewer than two units."""
        mean = self.mean
        if mean is None or self.units < 2:
            return None
        residuals = self.totals_squared - 2 * mean * self.product + mean**2 * self.calls_squared
        return max(residuals, 0.0) / (self.units - 1) * self.units / self.calls**2

    @property
    def spread(self) -> float | None:
        """Standard deviation of one unit, in the metric's unit: what a planner divides by the root of the number of units."""
        variance = self.variance_of_mean
        return None if variance is None else math.sqrt(variance * self.units)

    def padded(self) -> Moments:
        """With one failure and one success of a call each, so that the interval of a rate of 0 has a width."""
        return Moments(
            self.units + 2, self.calls + 2, self.total + 1, self.calls_squared + 2, self.totals_squared + 1, self.product + 1
        )  # fmt: skip

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(mine + yours for mine, yours in zip(self.parts, other.parts, strict=True)))  # type: ignore[arg-type]

    @property
    def parts(self) -> tuple[float, ...]:
        return (self.units, self.calls, self.total, self.calls_squared, self.totals_squared, self.product)


@dataclass(frozen=True)
class Difference:
    """Treatment against champion: a difference, or a relative change (0.05 is 5% more)."""

    value: float
    error: float
    """Standard error, above 0."""
    units: int
    """Of both arms."""


def difference(champion: Moments, treatment: Moments, scale: Scale) -> Difference | None:
    """None when it can't be told: no data, one unit, a champion of 0 to be relative to, or no spread at all."""
    base, mean = champion.mean, treatment.mean
    base_variance, variance = champion.variance_of_mean, treatment.variance_of_mean
    if base is None or mean is None or base_variance is None or variance is None:
        return None
    value, squared = mean - base, base_variance + variance
    if scale == "relative":
        if base <= 0:
            return None
        value, squared = mean / base - 1, variance / base**2 + base_variance * mean**2 / base**4
    if not squared > 0 or not math.isfinite(value + squared):
        return None
    return Difference(value, math.sqrt(squared), champion.units + treatment.units)


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    p_value: float
    """Of no difference, two-sided; for a sequential interval valid at every look."""


def _mixture(alpha: float, planned_units: int) -> float:
    """rho squared, with which the interval is narrowest at `planned_units`. Fixed before the first look."""
    doubled = -2 * math.log(alpha)
    return (doubled + math.log(doubled + 1)) / planned_units


def sequential(seen: Difference, *, alpha: float, planned_units: int) -> Interval:
    """Holds at all looks together with probability 1 - alpha, for large samples. `planned_units`: of both arms."""
    weight = seen.units * _mixture(alpha, planned_units)
    reach = seen.error * math.sqrt(2 * (weight + 1) / weight * (0.5 * math.log(weight + 1) - math.log(alpha)))
    z = seen.value / seen.error
    p_value = math.exp(min(0.0, 0.5 * math.log(weight + 1) - z**2 * weight / (2 * (weight + 1))))
    return Interval(seen.value - reach, seen.value + reach, p_value)


def fixed(seen: Difference, *, alpha: float) -> Interval:
    """Holds at one look that was planned before."""
    reach = seen.error * -float(scipy.special.ndtri(alpha / 2))
    return Interval(seen.value - reach, seen.value + reach, float(2 * scipy.special.ndtr(-abs(seen.value / seen.error))))


# Wald's test


def sprt_bounds(alpha: float, beta: float) -> tuple[float, float]:
    """Log-likelihood ratio from which the effect is accepted, and up to which it is given up."""
    return math.log((1 - beta) / alpha), math.log(beta / (1 - alpha))


def sprt_evidence(seen: Difference, effect: float) -> float:
    """Log-likelihood ratio of an effect of this size (same sign) against none, for an estimate that is nearly normal."""
    return effect * (seen.value - effect / 2) / seen.error**2


def sprt_mean_sample(alpha: float, beta: float, drift_if_true: float, drift_if_not: float) -> tuple[float, float]:
    """Mean number of observations until the end, with and without the effect (Wald). Drifts: mean evidence of one observation."""
    upper, lower = sprt_bounds(alpha, beta)
    return ((1 - beta) * upper + beta * lower) / drift_if_true, (alpha * upper + (1 - alpha) * lower) / drift_if_not


# The assignment

_PRIOR_UNITS = 100
"""How firmly the prior of the assignment's test sits at the intended shares: the larger, the sooner small faults are seen and the later gross ones."""


def expected_shares(shares: Sequence[float], rooms: Sequence[int], total: int) -> list[float]:
    """Of `total` distinct buckets, those that each arm should have, when subjects fall into buckets by these shares.

    `rooms`: buckets that an arm may have. Several treatments share the same ones, so they fill up later than the control does; while few
    buckets are taken, or arms fill up alike, this is the shares themselves. (Counts then vary less than the tests assume: they alarm less.)
    """
    density = [share / room for share, room in zip(shares, rooms, strict=True)]
    if max(density) <= min(density) * (1 + 1e-9) or total <= 0:
        return list(shares)

    def taken(subjects: float) -> list[float]:
        return [room * -math.expm1(-subjects * each) for room, each in zip(rooms, density, strict=True)]

    most = float(total)
    while sum(taken(most)) < total < sum(rooms):
        most *= 2
    counts = taken(scipy.optimize.brentq(lambda subjects: sum(taken(subjects)) - total, 0, most)) if total < sum(rooms) else list(rooms)
    return [count / sum(counts) for count in counts]


def assignment_chi_square(counts: Sequence[int], shares: Sequence[float]) -> float:
    """p-value at one look that units were assigned by these shares."""
    total = sum(counts)
    if not total:
        return 1.0
    distance = sum((count - share * total) ** 2 / (share * total) for count, share in zip(counts, shares, strict=True))
    return float(scipy.special.chdtrc(len(counts) - 1, distance))


def assignment_evidence(counts: Sequence[int], shares: Sequence[float]) -> float:
    """1 / Bayes factor against these shares, at most 1. Its minimum over all looks is a p-value that is valid at every look."""
    total, priors = sum(counts), [_PRIOR_UNITS * share for share in shares]
    known = sum(scipy.special.gammaln(prior + count) - scipy.special.gammaln(prior) for count, prior in zip(counts, priors, strict=True))
    expected = sum(count * math.log(share) for count, share in zip(counts, shares, strict=True))
    log_factor = float(scipy.special.gammaln(_PRIOR_UNITS) - scipy.special.gammaln(_PRIOR_UNITS + total) + known - expected)
    return math.exp(min(0.0, -log_factor))


# Planning


@dataclass(frozen=True)
class Plan:
    """Units per arm."""

    fixed: int
    sequential: int
    """To have the same power although anybody may look at any time."""
    sprt: int
    """On average, if the effect is as large as asked for."""


def plan_means(*, spread: float, effect: float, alpha: float = 0.05, power: float = 0.8, treatments: int = 1) -> Plan:
    """Units per arm to find a difference of `effect`; both in the metric's unit, or both relative to its mean. `spread`: of one unit.

    Several treatments share alpha (Bonferroni). Raises ValueError for what is not above 0.
    """
    if not (spread > 0 and effect != 0 and 0 < alpha < 1 and 0 < power < 1 and treatments >= 1):
        raise ValueError("Spread and effect are above 0; alpha and power lie between 0 and 1.")
    return _plan(2 * spread**2, abs(effect), math.sqrt(2) * spread, alpha / treatments, power)


def plan_rates(*, rate: float, effect: float, alpha: float = 0.05, power: float = 0.8, treatments: int = 1) -> Plan:
    """The same for a share of one call per unit: `rate` 0 to 1, `effect` a difference of shares. Raises ValueError."""
    other = rate + effect
    if not (0 <= rate <= 1 and 0 <= other <= 1 and effect != 0 and 0 < alpha < 1 and 0 < power < 1 and treatments >= 1):
        raise ValueError("The rate and the rate with the effect are shares between 0 and 1, and differ.")
    middle = (rate + other) / 2
    with_effect = rate * (1 - rate) + other * (1 - other)
    return _plan(with_effect, abs(effect), math.sqrt(2 * middle * (1 - middle)), alpha / treatments, power)


def _plan(variance: float, effect: float, deviation_if_not: float, alpha: float, power: float) -> Plan:
    """`variance`: of the difference of one unit per arm."""
    z_power, deviation = float(scipy.special.ndtri(power)), math.sqrt(variance)
    once = ((-float(scipy.special.ndtri(alpha / 2)) * deviation_if_not + z_power * deviation) / effect) ** 2
    weight = _mixture(alpha, 1)
    always = math.sqrt(2 * (weight + 1) / weight * (0.5 * math.log(weight + 1) - math.log(alpha)))
    looking = ((always * deviation_if_not + z_power * deviation) / effect) ** 2
    drift = effect**2 / (2 * variance) if variance else math.inf
    walking, _ = sprt_mean_sample(alpha, 1 - power, drift, -drift)
    return Plan(math.ceil(once - 1e-9), math.ceil(looking - 1e-9), max(1, math.ceil(walking)))
