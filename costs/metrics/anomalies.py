"""Figures of anomaly detection: what it found, what people said of it, and whether it ran."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Count, F

from costs.metrics.windows import share
from costs.models import Anomaly, AnomalyPeriod, AnomalyRun
from costs.periods import hour_of
from governance.metrics import NO_DATA, Metric, Reading, Window, register
from governance.models import Tenant
from governance.schema import current_schema


def _anomalies(window: Window) -> tuple[dict[str, int], int]:
    """Anomalies that began in the window by feedback (the reported ones as `missed`), and how many days of it were tested."""
    began = Anomaly.objects.filter(first_at__gte=window.start, first_at__lt=window.end)
    found = dict(began.exclude(kind=Anomaly.Kind.REPORTED).order_by().values_list("feedback").annotate(n=Count("pk")))
    counts = {
        "true": found.get("true", 0),
        "planned": found.get("planned", 0),
        "false": found.get("false", 0),
        "unjudged": found.get("", 0),
    }
    counts["missed"] = began.filter(kind=Anomaly.Kind.REPORTED).exclude(feedback="false").count()
    days = AnomalyRun.objects.filter(period=AnomalyPeriod.DAY, series__gt=0, start__gte=window.start, start__lt=window.end).count()
    return counts, days


def anomaly_detection_rate(window: Window) -> Reading:
    """What people called real or planned, of that and what they reported as missed. Unjudged alerts are no detection yet."""
    counts, days = _anomalies(window)
    detected = counts["true"] + counts["planned"]
    return share(detected, detected + counts["missed"], ("detected", "real")) if days else NO_DATA


def anomaly_precision(window: Window) -> Reading:
    counts, _ = _anomalies(window)
    right = counts["true"] + counts["planned"]
    return share(right, right + counts["false"], ("right", "judged"))


def anomaly_false_per_week(window: Window) -> Reading:
    """Per seven tested days. An alert that nobody has judged counts as false: silence must not pass a gate."""
    counts, days = _anomalies(window)
    if days < 7:
        return NO_DATA
    false = counts["false"] + counts["unjudged"]
    return Reading(7 * false / days, days, statistics={"false": counts["false"], "unjudged": counts["unjudged"], "days": days})


def anomaly_uptime(window: Window) -> Reading:
    """Whole hours of the window that were tested within two hours of their end. What was before the organisation was no hour of it."""
    start = max(window.start, Tenant.objects.values_list("created_at", flat=True).get(schema_name=current_schema()))
    first = hour_of(start)
    first += timedelta(hours=1) if first < start else timedelta()
    hours = int((window.end - first) / timedelta(hours=1))
    runs = AnomalyRun.objects.filter(period=AnomalyPeriod.HOUR, start__gte=first, start__lt=first + timedelta(hours=max(hours, 0)))
    if hours < 1 or not AnomalyRun.objects.filter(period=AnomalyPeriod.HOUR).exists():
        return NO_DATA
    return share(runs.filter(finished_at__lte=F("start") + timedelta(hours=3)).count(), hours, ("tested", "all"))


def open_anomalies(window: Window) -> Reading:
    """At the time of the reading, whenever they began."""
    counts = dict(Anomaly.objects.order_by().values_list("status").annotate(n=Count("pk")))
    tested = AnomalyRun.objects.filter(start__gte=window.start, start__lt=window.end, series__gt=0).count()
    return Reading(float(counts.get("open", 0)), tested, statistics=counts) if tested else NO_DATA


for _metric in (
    Metric("anomalies.detection_rate", "Anomalies detected", "%", "higher", 10, anomaly_detection_rate, "Alerts that people called real or planned, of those and the ones they reported as missed."),
    Metric("anomalies.precision", "Right alerts", "%", "higher", 10, anomaly_precision, "Of the judged alerts, those that were real or planned."),
    Metric("anomalies.false_per_week", "False alerts a week", "count", "lower", 7, anomaly_false_per_week, "Alerts called false, and those that nobody judged, per seven tested days."),
    Metric("anomalies.uptime", "Anomaly detection uptime", "%", "higher", 24, anomaly_uptime, "Whole hours that were tested in time, of all."),
    Metric("anomalies.open", "Open anomalies", "count", "lower", 1, open_anomalies, "That nobody has acknowledged or closed."),
):  # fmt: skip
    register(_metric)
