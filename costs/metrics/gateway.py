"""Figures of the gateway as callers meet it: failures, latency, what caches and routing chose."""

from __future__ import annotations

from django.db.models import Q, Sum

from costs import model_routing
from costs.metrics.windows import hours_of, percentile, served_hours, share
from costs.models import LatencyHour, VerdictHour
from governance.metrics import NO_DATA, Metric, Reading, Window, register


def error_rate(window: Window) -> Reading:
    figures = served_hours(window).aggregate(n=Sum("calls", default=0), failed=Sum("calls", filter=Q(outcome="error"), default=0))
    return share(figures["failed"], figures["n"], ("failed", "all"))


def availability(window: Window) -> Reading:
    """The complement of the failed calls: what a promise of uptime is measured by, per call."""
    figures = served_hours(window).aggregate(n=Sum("calls", default=0), failed=Sum("calls", filter=Q(outcome="error"), default=0))
    return share(figures["n"] - figures["failed"], figures["n"], ("answered", "all"))


def overhead(window: Window) -> Reading:
    return percentile(window, LatencyHour.Measure.OVERHEAD, 0.99, 1e3)


def latency_p95(window: Window) -> Reading:
    return percentile(window, LatencyHour.Measure.DURATION, 0.95, 1e3)


def cache_quality(window: Window) -> Reading:
    """Of the semantic hits that were looked at; what was not looked at says nothing."""
    looked = VerdictHour.objects.filter(hours_of(window), step__startswith="cache:", found="").aggregate(
        agreed=Sum("calls", filter=Q(verdict="agree"), default=0), n=Sum("calls", filter=Q(verdict__in=("agree", "disagree")), default=0)
    )
    return share(looked["agreed"], looked["n"], ("agreed", "checked"))


def routing_regret(window: Window) -> Reading:
    """Mean of all answered calls that had a choice: every one counts, so it is exact. Unit: percent of the whole utility."""
    said = (
        model_routing.routed(window.start, window.end)
        .filter(found=model_routing.REGRET)
        .aggregate(judged=Sum("calls", default=0), regret=Sum("hits", default=0))
    )
    if not said["judged"]:
        return NO_DATA
    value = said["regret"] / said["judged"] / model_routing.PPM_PER_PERCENT
    return Reading(value, said["judged"], statistics={"regret_ppm": said["regret"], "judged": said["judged"]})


for _metric in (
    Metric("gateway.error_rate", "Failed calls", "%", "lower", 100, error_rate, "Calls that were not refused and did not succeed."),
    Metric("gateway.availability", "Availability", "%", "higher", 1000, availability, "Of the calls that were not refused, those that were answered."),
    Metric("gateway.overhead_p99", "Gateway overhead, P99", "ms", "lower", 500, overhead, "Time that a call spends inside the gateway itself."),
    Metric("gateway.latency_p95", "Latency, P95", "ms", "lower", 200, latency_p95, "Of the whole calls, as callers see it."),
    Metric("cache.hit_quality", "Quality of semantic hits", "%", "higher", 100, cache_quality, "Of the hits of semantic caches after which the model was asked too, those where it said the same."),
    Metric("routing.regret", "Routing regret", "%", "lower", 100, routing_regret, "By how much of the whole utility another deployment would have been better, on average."),
):  # fmt: skip
    register(_metric)
