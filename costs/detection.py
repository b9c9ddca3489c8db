"""Which days and hours of which series are not what they should be. Pure numpy: arrays in, arrays out; no ORM, clock or network.

A series is what one agent, model, project or key spends, by UTC day or hour. The test of a day uses the days before it only, so a
walk over the past flags exactly what a nightly run would have flagged.

Days. Spend is compared as log(spend + offset), where the offset is a fifth of the money floor: noise far below what matters is flat.
Expected: weekday offsets (medians over 8 weeks), plus the level (median of the last 14 days without the offsets), plus half of the
trend of the last two weeks. Scale: median absolute residual of the last 56 days, drawn a quarter towards the median of all series,
with a floor. z is the residual in scales. A day with |z| > 4 is not learnt: its place is taken by what was expected. After 5 such
days in a row the new level is accepted and what happened is learnt after all. Beside spend, the same test runs on the cost of a call
(a change of price, prompt or model mix shows there first), and a one-sided CUSUM of z catches slow ramps, against a level that lags
two weeks behind so that it cannot learn the ramp.

Three days that go the same way are also tested together, in score and in money: half a floor three times is more than one.

Sparse series (calls on fewer than half of the days) have no weekday and no level to speak of: their active days are compared with
their active days. What is too sparse even for that is seen in the pooled series that it belongs to: its project, model and organisation.

Hours. An hour is compared with the same hour of the last weeks, shifted by how the last day ran. A runaway loop is two of the last
three hours above the threshold, six hours' excess above the floor, and more in six hours than in any six of those weeks.

Whatever the score, nothing is told below the money floor. Source: robust statistics after Huber (MAD as scale), CUSUM after Page 1954;
figures by the labelled generator in benchmarks/anomalies.py, printed by `make bench NAME=anomalies`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

WEEK = 7
HISTORY_DAYS = 56
"""What the weekday offsets and the scale look at."""
LEVEL_DAYS = 14
NEEDED_DAYS = 21
"""Days of history before a series is tested at all: each weekday three times."""
LAG_DAYS = 14
"""How far the CUSUM's level stays behind."""
LAG_NEEDED_DAYS = 4
UNLEARNT_Z = 4.0
ACCEPTED_AFTER_DAYS = 5
COHORT_SHARE = 0.25
SCALE_FLOOR = 0.10
"""In logs: a tenth, below which no daily spend is steady."""
UNIT_SCALE_FLOOR = 0.05
UNIT_CALLS = 20
"""Calls on a day, below which its cost of a call is not tested."""
SPARSE_SHARE = 0.5
SPARSE_NEEDED = 8
"""Active days of history before a sparse series is tested by itself."""
SPARSE_SCALE_FLOOR = 0.15
MAD_TO_SIGMA = 1.4826
RUN_DAYS = 3
RUN_SPREAD = 2.2
"""Scales that the sum of three days' z varies by: the root of three, widened for days that resemble the day before."""
CUSUM_SLACK = 1.0
CUSUM_CAP = 3.0
"""A single day adds at most this many scales, so that CUSUM stays a test of slow changes."""
THRESHOLDS = {"low": 4.5, "medium": 3.5, "high": 3.0}
"""z by sensitivity; what each finds and costs stands in docs/budgets.md."""
CUSUM_OVER_Z = 2.0
"""The CUSUM's threshold in units of the z threshold."""

HOURS_OF_WEEK = 168
HOUR_WEEKS = 6
HOUR_WEEKS_NEEDED = 2
RUNAWAY_HOURS = 3
RUNAWAY_HITS = 2
EXCESS_HOURS = 6
HOUR_SCALE_FLOOR = 0.25


@dataclass(frozen=True)
class Walk:
    """Scores of each series and day, [series, days]; NaN where the day was not tested."""

    z: Floats
    """Of spend on the day."""
    run_z: Floats
    """Of the last three tested days together, where the day itself goes the same way."""
    expected: Floats
    """USD; the middle of the band."""
    low: Floats
    high: Floats
    """USD; where |z| reaches the threshold."""
    unit_z: Floats
    """Of the cost of a call."""
    unit_expected: Floats
    """USD that the day's calls would have cost at the usual cost of a call."""
    cusum: Floats
    slow_expected: Floats
    """USD by the level that lags behind: what the CUSUM compares with."""


@dataclass(frozen=True)
class Flagged:
    """What is told: [series, days]."""

    any: Flags
    spend: Flags
    unit: Flags
    ramp: Flags
    expected: Floats
    """USD by the test that speaks."""
    score: Floats


def median(values: Floats, axis: int) -> Floats:
    """Median along an axis without NaNs; NaN where there is nothing else. One sort: numpy's own nanmedian is ten times slower here."""
    ordered = np.sort(values, axis=axis).swapaxes(axis, -1)  # NaNs go to the end
    length = ordered.shape[-1]
    if not np.isnan(ordered[..., -1]).any():
        found: Floats = (ordered[..., (length - 1) // 2] + ordered[..., length // 2]) / 2
        return found
    flat = ordered.reshape(-1, length)
    count = length - np.isnan(flat).sum(axis=1)
    rows = np.arange(len(flat))
    both = flat[rows, np.maximum(count - 1, 0) // 2] + flat[rows, np.minimum(count // 2, length - 1)]
    return np.where(count > 0, both / 2, np.nan).reshape(ordered.shape[:-1])


def shrunk(scale: Floats, floor: float) -> Floats:
    """Drawn a quarter towards the cohort's median, and never below the floor."""
    known = scale[~np.isnan(scale)]
    cohort = float(np.median(known)) if known.size else floor
    mixed = (1 - COHORT_SHARE) * np.where(np.isnan(scale), cohort, scale) + COHORT_SHARE * cohort
    return np.maximum(mixed, floor)


@dataclass(frozen=True)
class _Track:
    """A walk over one measure in logs: what was expected, how far off it was, and the slow test beside it."""

    z: Floats
    expected: Floats
    scale: Floats
    cusum: Floats
    slow_expected: Floats
    accepted: Flags
    """Days on which a new level was accepted."""


def _offsets(clean: Floats, day: int) -> Floats:
    """[series, 7] offsets of the weekdays from `day` on, by at most 8 whole weeks."""
    weeks = min(HISTORY_DAYS, day) // WEEK
    past = clean[:, day - weeks * WEEK : day].reshape(len(clean), weeks, WEEK)
    apart = past - median(past, axis=2)[:, :, None]
    found = median(apart, axis=1)
    return np.where(np.isnan(found), 0.0, found)


class _Cusum:
    """The slow test beside a walk: one-sided, against a level that lags two weeks behind, so that it cannot learn a ramp."""

    def __init__(self, measured: Floats, scale_floor: float, alarm: float, floors: Floats) -> None:
        self.measured, self.scale_floor, self.alarm, self.floors = measured, scale_floor, alarm, floors
        self.total = np.zeros(len(measured))
        self.first_day = np.zeros(len(measured), int)
        """That the level may look at."""
        self.residual, self.score, self.expected = (np.full(measured.shape, np.nan) for _ in range(3))

    def restart(self, which: Flags, day: int) -> None:
        self.first_day[which], self.total[which] = day, 0

    def step(self, day: int, clean: Floats, offsets: Floats) -> None:
        """`clean` is what the walk has learnt, `offsets` [series, 7] those of the weekdays from `day` on."""
        if day < 2 * LAG_DAYS:
            return
        seen = np.arange(max(0, day - LAG_DAYS - 4 * WEEK), day - LAG_DAYS)
        lagging = clean[:, seen] - offsets[:, (seen - day) % WEEK]
        lagging = np.where(seen >= self.first_day[:, None], lagging, np.nan)
        is_enough = np.sum(~np.isnan(lagging), axis=1) >= LAG_NEEDED_DAYS
        guess = np.where(is_enough, median(lagging, axis=1), np.nan) + offsets[:, 0]
        apart = self.measured[:, day] - guess
        spread = shrunk(MAD_TO_SIGMA * median(np.abs(self.residual[:, max(0, day - HISTORY_DAYS) : day]), axis=1), self.scale_floor)
        step = np.clip(apart / spread, -CUSUM_CAP, CUSUM_CAP)
        is_known = ~np.isnan(step)
        self.total = np.where(is_known, np.maximum(0.0, self.total + step - CUSUM_SLACK), 0.0)
        self.residual[:, day], self.expected[:, day] = apart, guess
        self.score[:, day] = np.where(is_known, self.total, np.nan)
        self.restart((self.total >= self.alarm) & (np.exp(self.measured[:, day]) - np.exp(guess) >= self.floors), day)


def _track(measured: Floats, scale_floor: float, alarm: float, floors: Floats, changed: Flags | None = None) -> _Track:
    """Walk day by day. `measured` [series, days] is in logs, NaN where nothing is known.

    Where the CUSUM reaches `alarm` and the day is `floors` (one per series, in the measure itself) above the slow level, it starts
    anew with the days from then on, as it does where another measure's level `changed`.
    """
    series, days = measured.shape
    clean, residual = measured.copy(), np.full((series, days), np.nan)
    z, expected, scales = (np.full((series, days), np.nan) for _ in range(3))
    accepted, run = np.zeros((series, days), bool), np.zeros(series, int)
    cusum = _Cusum(measured, scale_floor, alarm, floors)
    for day in range(WEEK, days):
        offsets = _offsets(clean, day)
        guess = _level(clean, day, offsets) + offsets[:, 0]
        apart = measured[:, day] - guess
        known = np.sum(~np.isnan(clean[:, max(0, day - HISTORY_DAYS) : day]), axis=1)
        spread = shrunk(MAD_TO_SIGMA * median(np.abs(residual[:, max(0, day - HISTORY_DAYS) : day]), axis=1), scale_floor)
        is_tested = known >= NEEDED_DAYS
        z[:, day] = np.where(is_tested, apart / spread, np.nan)
        expected[:, day], scales[:, day] = np.where(is_tested, guess, np.nan), spread

        is_odd = np.abs(z[:, day]) > UNLEARNT_Z  # NaN is not odd
        run = np.where(is_odd, run + 1, np.where(np.isnan(measured[:, day]), run, 0))
        is_accepted = accepted[:, day] = run > ACCEPTED_AFTER_DAYS
        clean[:, day] = np.where(is_odd & ~is_accepted, guess, measured[:, day])
        residual[:, day] = np.where(is_odd, np.nan, apart)
        back = slice(day - ACCEPTED_AFTER_DAYS, day + 1)
        clean[is_accepted, back] = measured[is_accepted, back]
        run[is_accepted] = 0
        cusum.restart(is_accepted if changed is None else is_accepted | changed[:, day], day - ACCEPTED_AFTER_DAYS)
        cusum.step(day, clean, offsets)
    return _Track(z, expected, scales, cusum.score, cusum.expected, accepted)


def _level(clean: Floats, day: int, offsets: Floats) -> Floats:
    """Median of the last 14 days (7, while there are no more) without their offsets, and half of the trend since their middle."""
    history = min(LEVEL_DAYS, day // WEEK * WEEK)
    past = clean[:, day - history : day] - np.tile(offsets, history // WEEK)
    level = median(past, axis=1)
    if history < LEVEL_DAYS:
        return level
    slope = (median(past[:, WEEK:], axis=1) - median(past[:, :WEEK], axis=1)) / WEEK
    return level + np.where(np.isnan(slope), 0.0, 0.5 * slope * (LEVEL_DAYS + 1) / 2)


def _sparse_track(measured: Floats, scale_floor: float) -> tuple[Floats, Floats, Floats]:
    """z, expected and scale of active days against active days; `measured` is NaN on the others."""
    z, expected, scales = (np.full(measured.shape, np.nan) for _ in range(3))
    clean = measured.copy()
    for day in range(LEVEL_DAYS, measured.shape[1]):
        past = clean[:, max(0, day - HISTORY_DAYS) : day]
        level = median(past, axis=1)
        spread = np.maximum(shrunk(MAD_TO_SIGMA * median(np.abs(past - level[:, None]), axis=1), scale_floor), scale_floor)
        enough = np.sum(~np.isnan(past), axis=1) >= SPARSE_NEEDED
        score = np.where(enough, (measured[:, day] - level) / spread, np.nan)
        z[:, day], expected[:, day], scales[:, day] = score, np.where(enough, level, np.nan), spread
        clean[:, day] = np.where(np.abs(score) > UNLEARNT_Z, np.nan, measured[:, day])
    return z, expected, scales


def is_sparse(spend: Floats) -> Flags:
    """[series, days]: calls on fewer than half of the last four weeks' known days."""
    active = np.where(np.isnan(spend), np.nan, (spend > 0).astype(float))
    found = np.zeros(spend.shape, bool)
    for day in range(1, spend.shape[1]):
        window = active[:, max(0, day - 4 * WEEK) : day]
        known = np.sum(~np.isnan(window), axis=1)
        found[:, day] = np.nansum(window, axis=1) < SPARSE_SHARE * np.maximum(known, 1)
    return found


def _run_z(z: Floats) -> Floats:
    """Of three tested days (the last ones; days without a test in between are passed over, within two weeks)."""
    found = np.full(z.shape, np.nan)
    kept = np.full((len(z), RUN_DAYS), np.nan)
    age = np.zeros(len(z), int)
    for day in range(z.shape[1]):
        is_tested = ~np.isnan(z[:, day])
        age = np.where(is_tested, 0, age + 1)
        kept[age > LEVEL_DAYS] = np.nan
        kept[is_tested] = np.concatenate([kept[is_tested, 1:], np.clip(z[is_tested, day, None], -3 * UNLEARNT_Z, 3 * UNLEARNT_Z)], axis=1)
        total = np.sum(kept, axis=1) / RUN_SPREAD
        is_same_way = np.sign(total) == np.sign(z[:, day])
        found[:, day] = np.where(is_tested & is_same_way & (np.abs(z[:, day]) >= UNLEARNT_Z / 2), total, np.nan)
    return found


def walk(spend: Floats, calls: Floats, floor: Floats | float, threshold: float) -> Walk:
    """Score every day by the days before it.

    `spend` [series, days] in USD, NaN before a series began; `calls` that have a price; `floor` USD, one per series or for all.
    """
    floors = np.broadcast_to(np.asarray(floor, float), (len(spend),))[:, None]
    offset = floors / 5
    log = np.log(spend + offset)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.where(calls >= UNIT_CALLS, np.log(spend / calls), np.nan)
    unit = np.where(np.isfinite(unit), unit, np.nan)
    alarm = CUSUM_OVER_Z * threshold
    unit_track = _track(unit, UNIT_SCALE_FLOOR, alarm, np.zeros(len(spend)))
    unit_z, unit_expected = unit_track.z.copy(), unit_track.expected.copy()
    track = _track(log, SCALE_FLOOR, alarm, floors[:, 0], unit_track.accepted)
    sparse = is_sparse(spend)
    z, expected, scale, cusum = track.z.copy(), track.expected.copy(), track.scale.copy(), track.cusum.copy()
    rows = sparse.any(axis=1)
    if rows.any():
        sparse_z, sparse_expected, sparse_scale = _sparse_track(np.where(spend[rows] > 0, log[rows], np.nan), SPARSE_SCALE_FLOOR)
        mask = sparse[rows]
        z[rows] = np.where(mask, sparse_z, z[rows])
        expected[rows] = np.where(mask, sparse_expected, expected[rows])
        scale[rows] = np.where(mask, sparse_scale, scale[rows])
        cusum[rows] = np.where(mask, np.nan, cusum[rows])
        sparse_z, sparse_expected, _ = _sparse_track(unit[rows], UNIT_SCALE_FLOOR)
        unit_z[rows] = np.where(mask, sparse_z, unit_z[rows])
        unit_expected[rows] = np.where(mask, sparse_expected, unit_expected[rows])

    run = _run_z(z)

    def money(logs: Floats) -> Floats:
        return np.maximum(np.exp(logs) - offset, 0.0)

    return Walk(
        z=z,
        run_z=run,
        expected=money(expected),
        low=money(expected - threshold * scale),
        high=money(expected + threshold * scale),
        unit_z=unit_z,
        unit_expected=np.exp(unit_expected) * calls,
        cusum=cusum,
        slow_expected=money(track.slow_expected),
    )


def flag(spend: Floats, found: Walk, floor: Floats | float, threshold: float) -> Flagged:
    """What is told at a threshold: beyond it, and at least the floor apart in money."""
    floors = np.broadcast_to(np.asarray(floor, float), (len(spend),))[:, None]

    def apart(expected: Floats) -> Flags:
        return np.abs(spend - expected) >= floors  # NaN is not

    # A day that goes on with what the days before began is weighed with them: three times half a floor is more than one.
    excess = np.where(np.abs(found.z) >= UNLEARNT_Z / 2, spend - found.expected, 0.0)
    same_way = np.sign(excess)
    together = excess.copy()
    for back in range(1, RUN_DAYS):
        together[:, back:] += np.where(same_way[:, :-back] == same_way[:, back:], excess[:, :-back], 0.0)
    by_spend = ((np.abs(found.z) >= threshold) | (np.abs(found.run_z) >= threshold)) & (np.abs(together) >= floors)
    by_unit = (np.abs(found.unit_z) >= threshold) & apart(found.unit_expected)
    by_ramp = (found.cusum >= CUSUM_OVER_Z * threshold) & (spend - found.slow_expected >= floors)
    expected = np.where(
        by_spend, found.expected, np.where(by_ramp, found.slow_expected, np.where(by_unit, found.unit_expected, found.expected))
    )
    loudest = np.where(np.abs(found.run_z) > np.abs(found.z), found.run_z, found.z)
    score = np.where(by_spend, loudest, np.where(by_ramp, found.cusum / CUSUM_OVER_Z, np.where(by_unit, found.unit_z, found.z)))
    return Flagged(by_spend | by_unit | by_ramp, by_spend, by_unit & ~by_spend, by_ramp & ~by_spend & ~by_unit, expected, score)


@dataclass(frozen=True)
class Runaway:
    """The last hours of each series, [series]."""

    is_runaway: Flags
    is_tested: Flags
    score: Floats
    """The second highest z of the last three hours: what two of them reached."""
    expected: Floats
    actual: Floats
    """USD of the last six hours."""


def hours_needed() -> int:
    """Whole hours of history before hours are tested."""
    return HOUR_WEEKS_NEEDED * HOURS_OF_WEEK + EXCESS_HOURS


def runaway(spend: Floats, floor: Floats | float, threshold: float) -> Runaway:
    """Test the last hours. `spend` [series, hours] in USD, NaN before a series began; the last column is the last whole hour.

    Raises ValueError with fewer than `hours_needed()` hours; a series that began later than that is not tested.
    """
    hours = spend.shape[1]
    if hours < hours_needed():
        raise ValueError(f"{hours} hours are fewer than {hours_needed()}")
    floors = np.broadcast_to(np.asarray(floor, float), (len(spend),))
    offset = floors[:, None] / (5 * EXCESS_HOURS)
    day = 24 + EXCESS_HOURS
    weeks = min(HOUR_WEEKS, (hours - EXCESS_HOURS) // HOURS_OF_WEEK)
    starts = [hours - day - HOURS_OF_WEEK * back for back in range(1, weeks + 1) if hours - day - HOURS_OF_WEEK * back >= 0]
    past = np.log(np.stack([spend[:, start : start + day] for start in starts], axis=2) + offset[:, :, None])
    usual = median(past, axis=2)
    recent = np.log(spend[:, -day:] + offset) - usual
    shift = 0.5 * median(recent[:, :24], axis=1)
    inside = np.abs(past - usual[:, :, None]).reshape(len(spend), day * len(starts))
    widening = (len(starts) / max(len(starts) - 1, 1)) ** 0.5  # the median of few weeks lies too close to each of them
    spread = shrunk(MAD_TO_SIGMA * widening * median(inside, axis=1), HOUR_SCALE_FLOOR)
    scores = (recent[:, -RUNAWAY_HOURS:] - shift[:, None]) / spread[:, None]
    second = np.sort(scores, axis=1)[:, -RUNAWAY_HITS]
    expected = np.maximum(np.exp(usual[:, -EXCESS_HOURS:] + shift[:, None]) - offset, 0.0).sum(axis=1)
    running = np.cumsum(np.concatenate([np.zeros((len(spend), 1)), np.nan_to_num(spend)], axis=1), axis=1)
    six = running[:, EXCESS_HOURS:] - running[:, :-EXCESS_HOURS]
    actual, record = six[:, -1], six[:, :-EXCESS_HOURS].max(axis=1)
    is_known = np.sum(~np.isnan(spend), axis=1) >= hours_needed()
    told = is_known & (second >= threshold) & (actual - expected >= floors) & (actual > record)
    return Runaway(told, is_known, second, expected, actual)
