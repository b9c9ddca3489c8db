"""Where an interval lies against its threshold, as numbers for a small drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollouts import wording

WIDTH = 132.0


@dataclass(frozen=True)
class Bar:
    """Positions from 0 to WIDTH. `good_from` and `good_to` bound the side on which the criterion passes."""

    threshold: float
    good_from: float
    good_to: float
    bad_from: float
    bad_to: float
    start: float
    width: float
    label: str

    @property
    def good_width(self) -> float:
        return round(self.good_to - self.good_from, 1)

    @property
    def bad_width(self) -> float:
        return round(self.bad_to - self.bad_from, 1)

    @property
    def mark(self) -> float:
        """Left edge of the two units wide threshold line."""
        return round(min(max(self.threshold - 1, 0), WIDTH - 2), 1)


def bar(record: Mapping[str, Any]) -> Bar | None:
    """The drawing of a measured criterion; None for an exact equality, for attestations and where nothing was measured."""
    if record["kind"] != "metric" or record["reading"]["value"] is None or record["rule"]["operator"] == "=":
        return None
    reading, rule = record["reading"], record["rule"]
    threshold = float(rule["threshold"])
    low = reading["value"] if reading["low"] is None else reading["low"]
    high = reading["value"] if reading["high"] is None else reading["high"]
    reach = axis_reach(low, high, threshold)
    first, last = threshold - reach, threshold + reach
    if first < 0 <= min(low, threshold):
        first = 0.0  # nothing measured here is below zero: the axis does not pretend so
    if rule["unit"] == "%" and max(high, threshold) <= 100 < last:
        last = 100.0
    shown = wording.interval(reading, rule["unit"]) or wording.shown_value(record)
    label = f"{shown}, rule {wording.rule(rule['operator'], threshold, rule['unit'])}"
    return _draw(low, high, threshold, first, last, lower_is_good=rule["operator"] in ("<", "<="), label=label)


COURSE_HEIGHT = 16.0


@dataclass(frozen=True)
class Course:
    """A value over time: stretches without a gap as points of an SVG line over WIDTH by COURSE_HEIGHT."""

    lines: list[str]
    threshold: float | None
    """Its height in the drawing; None when it lies too far from every value to be drawn with them."""
    label: str


def course(values: Sequence[float | None], *, threshold: float, unit: str, since: str) -> Course | None:
    """The drawing of one criterion's values, oldest first, None where nothing was measured. None with fewer than two values."""
    measured = [value for value in values if value is not None]
    if len(measured) < 2:
        return None
    low, high = min(measured), max(measured)
    is_near = low - 2 * (high - low) <= threshold <= high + 2 * (high - low)
    bottom, top = (min(low, threshold), max(high, threshold)) if is_near else (low, high)
    step = WIDTH / (len(values) - 1)

    def height(value: float) -> float:
        return round(COURSE_HEIGHT / 2 if top == bottom else 1 + (COURSE_HEIGHT - 2) * (top - value) / (top - bottom), 1)

    lines: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            lines[-1].append(f"{index * step:.1f},{height(value)}")
    label = (
        f"{len(measured)} of {len(values)} readings since {since}: lowest {wording.figure(low, unit)}, highest {wording.figure(high, unit)}"
    )
    return Course([" ".join(_seen(line)) for line in lines if line], height(threshold) if is_near else None, label)


def _seen(line: list[str]) -> list[str]:
    """A single reading between two gaps is drawn as a dash, or nobody would see it."""
    if len(line) > 1:
        return line
    x, y = line[0].split(",")
    return [f"{max(float(x) - 1, 0):.1f},{y}", f"{min(float(x) + 1, WIDTH):.1f},{y}"]


def change_bar(low: float, high: float, threshold: float, *, lower_is_good: bool, label: str, reach: float | None = None) -> Bar:
    """The drawing of a change, which may be below zero. `reach`: how far the axis goes to either side, where several are drawn on one."""
    reach = axis_reach(low, high, threshold) if reach is None else reach
    return _draw(low, high, threshold, threshold - reach, threshold + reach, lower_is_good=lower_is_good, label=label)


def axis_reach(low: float, high: float, threshold: float) -> float:
    return 1.5 * max(abs(low - threshold), abs(high - threshold), abs(threshold) * 0.1, 1e-9)


def _draw(low: float, high: float, threshold: float, first: float, last: float, *, lower_is_good: bool, label: str) -> Bar:
    """`first` and `last`: the ends of the axis."""
    if last <= first:
        last = first + 1

    def place(value: float) -> float:
        share: float = min(max((value - first) / (last - first), 0.0), 1.0)
        return round(share * WIDTH, 1)

    middle = place(threshold)
    good, bad = ((0.0, middle), (middle, WIDTH)) if lower_is_good else ((middle, WIDTH), (0.0, middle))
    start, end = place(low), place(high)
    width = max(end - start, 6.0)
    start = min(max(start - (width - (end - start)) / 2, 0.0), WIDTH - width)
    return Bar(middle, *good, *bad, round(start, 1), round(width, 1), label)
