"""What every figure here is worked out with: the hours of a window, shares and percentiles of them."""

from __future__ import annotations

from collections.abc import Mapping

from django.db.models import Q, QuerySet, Sum

from catalog.models import VirtualKey
from costs import sketch
from costs.models import LatencyHour, UsageHour
from costs.periods import hour_of
from governance.metrics import NO_DATA, Reading, Window, wilson


def hours_of(window: Window) -> Q:
    """Hours that begin within the window; the hour in which the window starts counts as a whole."""
    return Q(hour__gte=hour_of(window.start), hour__lt=window.end)


def served_hours(window: Window) -> QuerySet[UsageHour]:
    """What callers were answered, well or not. The repeats and judges of shadows are nobody's calls: a candidate that fails harms no one."""
    shadows = VirtualKey.objects.filter(purpose=VirtualKey.Purpose.SHADOW).values("public_id")
    return UsageHour.objects.filter(hours_of(window)).exclude(outcome="refused").exclude(key_id__in=shadows)


def share(part: int, whole: int, names: tuple[str, str]) -> Reading:
    if whole == 0:
        return NO_DATA
    low, high = wilson(part, whole)
    return Reading(100 * part / whole, whole, low, high, {names[0]: part, names[1]: whole})


def percentile(window: Window, measure: str, q: float, unit_us: float) -> Reading:
    rows = LatencyHour.objects.filter(hours_of(window), measure=measure).values_list("bucket").annotate(n=Sum("count"))
    counts: Mapping[int, int] = dict(rows)
    total = sum(counts.values())
    value = sketch.quantile(counts, q)
    if value is None:
        return NO_DATA
    # Order statistics: the ranks between which the quantile lies with 95% confidence (normal approximation of the binomial).
    spread = 1.959964 * (total * q * (1 - q)) ** 0.5
    low = sketch.quantile(counts, max(0.0, (total * q - spread) / total))
    high = sketch.quantile(counts, min(1.0, (total * q + spread) / total))
    assert low is not None
    assert high is not None
    statistics: dict[str, float | int | str] = {f"bucket_{bucket}": count for bucket, count in sorted(counts.items())}
    return Reading(value / unit_us, total, low / unit_us, high / unit_us, statistics)
