"""Figures of attribution: how much of what was served is known, and how soon."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Sum

from costs import archive_selectors, set_aside_selectors, sketch, tag_selectors
from costs.metrics.windows import hours_of, percentile, share
from costs.models import LatencyHour, UsageHour
from costs.periods import Period
from governance.metrics import NO_DATA, Metric, Reading, Window, register
from governance.models import Tenant
from governance.schema import current_schema


def coverage(window: Window) -> Reading:
    figures = (
        UsageHour.objects.filter(hours_of(window))
        .exclude(outcome="refused")
        .aggregate(n=Sum("calls", default=0), untagged=Sum("untagged_calls", default=0))
    )
    return share(figures["n"] - figures["untagged"], figures["n"], ("attributed", "all"))


def attribution_latency(window: Window) -> Reading:
    return percentile(window, LatencyHour.Measure.ATTRIBUTION, 0.95, 1e6)


LATE_S = 300
"""Attribution later than this is a gap in the data."""


def _attribution_hours(window: Window) -> tuple[int, int]:
    """Hours of the window with attributed calls, and those of them in which a call waited longer than `LATE_S`."""
    told = LatencyHour.objects.filter(hours_of(window), measure=LatencyHour.Measure.ATTRIBUTION, count__gt=0)
    hours = told.values("hour").distinct().count()
    late = told.filter(bucket__gt=sketch.bucket(LATE_S * 1_000_000)).values("hour").distinct().count()
    return hours, late


def late_hours(window: Window) -> Reading:
    hours, late = _attribution_hours(window)
    return Reading(float(late), hours, statistics={"late": late, "hours": hours}) if hours else NO_DATA


def attribution_uptime(window: Window) -> Reading:
    """A census of the hours with calls, so it has no interval."""
    hours, late = _attribution_hours(window)
    return Reading(100 * (hours - late) / hours, hours, statistics={"late": late, "hours": hours}) if hours else NO_DATA


def required_tag_coverage(window: Window) -> Reading:
    """Every call that must carry tags counts, so it is exact. Over the whole UTC days that the window touches."""
    found = tag_selectors.coverage(Period(window.start.date(), (window.end - timedelta(microseconds=1)).date()))
    if found.calls_percent is None:
        return NO_DATA
    return Reading(found.calls_percent, found.calls, statistics={"tagged": found.tagged, "all": found.calls})


def calls_set_aside(window: Window) -> Reading:
    """Of those that came within the window; one that came twice counts twice."""
    came = set_aside_selectors.set_aside(Tenant.objects.get(schema_name=current_schema()))
    count = came.filter(received_at__gte=window.start, received_at__lt=window.end).count()
    calls = UsageHour.objects.filter(hours_of(window)).aggregate(n=Sum("calls", default=0))["n"]
    return Reading(float(count), calls + count, statistics={"set_aside": count, "counted": calls}) if calls + count else NO_DATA


def archive_overdue(window: Window) -> Reading:
    """Months that should have left the database a day before the window ends. No data while all calls are kept."""
    if archive_selectors.retention().keep_months is None:
        return NO_DATA
    overdue = archive_selectors.due(window.end - timedelta(days=1))
    return Reading(float(len(overdue)), len(archive_selectors.partitions()), statistics={"months": len(overdue)})


for _metric in (
    Metric("attribution.coverage", "Attribution coverage", "%", "higher", 100, coverage, "Served calls whose project, key, model and agent are known."),
    Metric("attribution.latency_p95", "Attribution latency, P95", "s", "lower", 100, attribution_latency, "From the end of a call until it is in the figures."),
    Metric("attribution.late_hours", "Gaps in the data", "count", "lower", 24, late_hours, "Hours in which a call waited more than five minutes for its attribution."),
    Metric("attribution.set_aside", "Calls set aside", "count", "lower", 100, calls_set_aside, "Calls that came and could not be counted: an impossible time or count, or a month that left the database."),
    Metric("attribution.uptime", "Attribution uptime", "%", "higher", 24, attribution_uptime, "Of the hours with calls, those in which none waited more than five minutes for its attribution."),
    Metric("costs.required_tag_coverage", "Required tags", "%", "higher", 100, required_tag_coverage, "Of the served calls that must carry tags, those that carry all of them."),
    Metric("archive.overdue_months", "Months overdue for the archive", "count", "lower", 0, archive_overdue, "Older than the organisation keeps single calls, and still in the database."),
):  # fmt: skip
    register(_metric)
