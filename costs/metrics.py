"""Figures of this floor for gates, SLOs and rollback rules. Each reads rollups over whole hours of the window."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, F, Q, QuerySet, Sum

from catalog.models import Model, Project, ToolServer, VirtualKey
from costs import (
    archive_selectors,
    budget_selectors,
    commitment_selectors,
    model_routing,
    savings,
    savings_selectors,
    sketch,
    tag_selectors,
)
from costs.models import (
    Anomaly,
    AnomalyPeriod,
    AnomalyRun,
    Budget,
    BudgetIncident,
    LatencyHour,
    Reconciliation,
    Revision,
    UsageHour,
    VerdictHour,
)
from costs.periods import Period
from gateway.contract.guardrails import PII
from governance.metrics import NO_DATA, Metric, Reading, Window, register, wilson
from governance.models import Consent, Policy


def _hours(window: Window) -> Q:
    """Hours that begin within the window; the hour in which the window starts counts as a whole."""
    start: datetime = window.start.replace(minute=0, second=0, microsecond=0)
    return Q(hour__gte=start, hour__lt=window.end)


def _share(part: int, whole: int, names: tuple[str, str]) -> Reading:
    if whole == 0:
        return NO_DATA
    low, high = wilson(part, whole)
    return Reading(100 * part / whole, whole, low, high, {names[0]: part, names[1]: whole})


def coverage(window: Window) -> Reading:
    figures = (
        UsageHour.objects.filter(_hours(window))
        .exclude(outcome="refused")
        .aggregate(n=Sum("calls", default=0), untagged=Sum("untagged_calls", default=0))
    )
    return _share(figures["n"] - figures["untagged"], figures["n"], ("attributed", "all"))


def _served(window: Window) -> QuerySet[UsageHour]:
    """What callers were answered, well or not. The repeats and judges of shadows are nobody's calls: a candidate that fails harms no one."""
    shadows = VirtualKey.objects.filter(purpose=VirtualKey.Purpose.SHADOW).values("public_id")
    return UsageHour.objects.filter(_hours(window)).exclude(outcome="refused").exclude(key_id__in=shadows)


def error_rate(window: Window) -> Reading:
    figures = _served(window).aggregate(n=Sum("calls", default=0), failed=Sum("calls", filter=Q(outcome="error"), default=0))
    return _share(figures["failed"], figures["n"], ("failed", "all"))


def _percentile(window: Window, measure: str, q: float, unit_us: float) -> Reading:
    rows = LatencyHour.objects.filter(_hours(window), measure=measure).values_list("bucket").annotate(n=Sum("count"))
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


def attribution_latency(window: Window) -> Reading:
    return _percentile(window, LatencyHour.Measure.ATTRIBUTION, 0.95, 1e6)


def overhead(window: Window) -> Reading:
    return _percentile(window, LatencyHour.Measure.OVERHEAD, 0.99, 1e3)


def variance(window: Window) -> Reading:
    """Over the months that lie in the window or end in it: the sum of all bills against the sum of telemetry."""
    first = (window.start - timedelta(seconds=1)).date().replace(day=1)
    series = Reconciliation.objects.in_force().filter(month__gte=first, month__lt=window.end.date() + timedelta(days=1))
    revisions = list(Revision.objects.filter(pk__in=series.values("latest")))
    bill = sum((revision.bill for revision in revisions), Decimal())
    apart = sum((abs(revision.variance) for revision in revisions), Decimal())
    if not revisions or not bill:
        return NO_DATA
    rows = sum(revision.bill_rows for revision in revisions)
    return Reading(
        float(apart / bill * 100), rows, statistics={"apart_usd": str(apart), "bill_usd": str(bill), "revisions": len(revisions)}
    )


def commitment_utilisation(window: Window) -> Reading:
    """Over the whole UTC days of the window that are counted: unit hours of throughput used, of those paid."""
    first, last = (window.start + timedelta(days=1) - timedelta(microseconds=1)).date(), window.end.date() - timedelta(days=1)
    found = [] if last < first else [one for one in commitment_selectors.utilisation_over(Period(first, last)) if one.figures.is_throughput]
    used = sum((one.figures.used for one in found), Decimal())
    paid = used + sum((one.figures.unused for one in found), Decimal())
    if not paid or any(one.counted_through is None or one.counted_through <= min(last, one.commitment.last_on) for one in found):
        return NO_DATA
    unused = sum((one.figures.unused_cost for one in found), Decimal())
    return Reading(
        float(used / paid * 100),
        int(paid),
        statistics={"used_unit_hours": f"{used:f}", "paid_unit_hours": f"{paid:f}", "unused_usd": f"{unused:f}"},
    )


def active_projects(window: Window) -> Reading:
    served = UsageHour.objects.filter(_hours(window)).exclude(outcome="refused")
    calls = served.aggregate(n=Sum("calls", default=0))["n"]
    if calls == 0:
        return NO_DATA
    count = served.exclude(project="").values("project").distinct().count()
    return Reading(float(count), calls, statistics={"projects": count, "calls": calls})


def calls(window: Window) -> Reading:
    figures = UsageHour.objects.filter(_hours(window)).aggregate(
        n=Sum("calls", default=0), refused=Sum("calls", filter=Q(outcome="refused"), default=0)
    )
    if figures["n"] == 0:
        return NO_DATA
    return Reading(
        float(figures["n"] - figures["refused"]), figures["n"], statistics={"calls": figures["n"], "refused": figures["refused"]}
    )


def budget_overrun(window: Window) -> Reading:
    """Of the budgets that are in force now, by what their periods had cost at the end of the window."""
    found = budget_selectors.charged(window.end - timedelta(microseconds=1), acting=False)
    return _share(sum(one.spent > one.amount for one in found), len(found), ("overrun", "all"))


def false_throttles(window: Window) -> Reading:
    """Zero only where a budget could have refused something: one acts on calls now, or was reported in the window."""
    reported = BudgetIncident.objects.filter(opened_at__gte=window.start, opened_at__lt=window.end).count()
    acting = Budget.objects.filter(state=Budget.State.ENFORCED).exclude(action=Budget.Action.ALERT).count()
    if reported + acting == 0:
        return NO_DATA
    return Reading(float(reported), reported + acting, statistics={"reported": reported, "acting": acting})


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
    return _share(detected, detected + counts["missed"], ("detected", "real")) if days else NO_DATA


def anomaly_precision(window: Window) -> Reading:
    counts, _ = _anomalies(window)
    right = counts["true"] + counts["planned"]
    return _share(right, right + counts["false"], ("right", "judged"))


def anomaly_false_per_week(window: Window) -> Reading:
    """Per seven tested days. An alert that nobody has judged counts as false: silence must not pass a gate."""
    counts, days = _anomalies(window)
    if days < 7:
        return NO_DATA
    false = counts["false"] + counts["unjudged"]
    return Reading(7 * false / days, days, statistics={"false": counts["false"], "unjudged": counts["unjudged"], "days": days})


def anomaly_uptime(window: Window) -> Reading:
    """Whole hours of the window that were tested within two hours of their end."""
    first = window.start.replace(minute=0, second=0, microsecond=0)
    first += timedelta(hours=1) if first < window.start else timedelta()
    hours = int((window.end - first) / timedelta(hours=1))
    runs = AnomalyRun.objects.filter(period=AnomalyPeriod.HOUR, start__gte=first, start__lt=first + timedelta(hours=max(hours, 0)))
    if hours < 1 or not AnomalyRun.objects.filter(period=AnomalyPeriod.HOUR).exists():
        return NO_DATA
    return _share(runs.filter(finished_at__lte=F("start") + timedelta(hours=3)).count(), hours, ("tested", "all"))


def open_anomalies(window: Window) -> Reading:
    """At the time of the reading, whenever they began."""
    counts = dict(Anomaly.objects.order_by().values_list("status").annotate(n=Count("pk")))
    tested = AnomalyRun.objects.filter(start__gte=window.start, start__lt=window.end, series__gt=0).count()
    return Reading(float(counts.get("open", 0)), tested, statistics=counts) if tested else NO_DATA


register(
    Metric(
        "anomalies.detection_rate",
        "Anomalies detected",
        "%",
        "higher",
        10,
        anomaly_detection_rate,
        "Alerts that people called real or planned, of those and the ones they reported as missed.",
    )
)
register(
    Metric(
        "anomalies.precision",
        "Right alerts",
        "%",
        "higher",
        10,
        anomaly_precision,
        "Of the judged alerts, those that were real or planned.",
    )
)
register(
    Metric(
        "anomalies.false_per_week",
        "False alerts a week",
        "count",
        "lower",
        7,
        anomaly_false_per_week,
        "Alerts called false, and those that nobody judged, per seven tested days.",
    )
)
register(
    Metric(
        "anomalies.uptime", "Anomaly detection uptime", "%", "higher", 24, anomaly_uptime, "Whole hours that were tested in time, of all."
    )
)
register(Metric("anomalies.open", "Open anomalies", "count", "lower", 1, open_anomalies, "That nobody has acknowledged or closed."))
register(
    Metric(
        "attribution.coverage",
        "Attribution coverage",
        "%",
        "higher",
        100,
        coverage,
        "Served calls whose project, key, model and agent are known.",
    )
)
register(
    Metric(
        "commitments.utilisation",
        "Commitment utilisation",
        "%",
        "higher",
        24,
        commitment_utilisation,
        "Unit hours of provisioned throughput that were used, of those paid; the sample is the hours paid.",
    )
)
register(
    Metric(
        "attribution.latency_p95",
        "Attribution latency, P95",
        "s",
        "lower",
        100,
        attribution_latency,
        "From the end of a call until it is in the figures.",
    )
)
register(
    Metric(
        "gateway.overhead_p99", "Gateway overhead, P99", "ms", "lower", 500, overhead, "Time that a call spends inside the gateway itself."
    )
)
register(Metric("gateway.error_rate", "Failed calls", "%", "lower", 100, error_rate, "Calls that were not refused and did not succeed."))
register(
    Metric(
        "reconciliation.variance",
        "Variance against the bill",
        "%",
        "lower",
        1,
        variance,
        "Absolute difference between providers' bills and telemetry, of the bills, over the months in the window.",
    )
)
register(
    Metric("usage.active_projects", "Active projects", "count", "higher", 1, active_projects, "Projects with at least one served call.")
)
register(Metric("usage.calls", "Served calls", "count", "higher", 1, calls, "Calls that were not refused."))
register(
    Metric(
        "costs.budget_overrun_share", "Budgets overrun", "%", "lower", 1, budget_overrun, "Of the budgets in force, those that spent more."
    )
)
register(Metric("costs.false_throttles", "False throttles", "count", "lower", 1, false_throttles, "Budgets reported for holding up calls."))


def policy_coverage(window: Window) -> Reading:
    """Every call counts, so it is exact and has no interval."""
    said = VerdictHour.objects.filter(_hours(window), step="policy").aggregate(
        n=Sum("calls", default=0), covered=Sum("calls", filter=Q(found="covered"), default=0)
    )
    if not said["n"]:
        return NO_DATA
    return Reading(100 * said["covered"] / said["n"], said["n"], statistics={"covered": said["covered"], "all": said["n"]})


def policies_enforced(window: Window) -> Reading:
    """Of the policies that are not off, now."""
    modes = list(Policy.objects.exclude(mode=Policy.Mode.OFF).values_list("mode", flat=True))
    if not modes:
        return NO_DATA
    enforced = modes.count(Policy.Mode.ENFORCE)
    return Reading(100 * enforced / len(modes), len(modes), statistics={"enforced": enforced, "all": len(modes)})


def policies_defined(window: Window) -> Reading:
    """Now; one that is off is a draft."""
    modes = list(Policy.objects.values_list("mode", flat=True))
    defined = sum(1 for mode in modes if mode != Policy.Mode.OFF)
    return Reading(float(defined), defined, statistics={"defined": defined, "all": len(modes)})


def unredacted_pii(window: Window) -> Reading:
    """Findings of guardrails that only monitor: they went on as they were. No scan is no data, not zero."""
    scans = VerdictHour.objects.filter(_hours(window), step__startswith="guardrail:").aggregate(
        n=Sum("calls", filter=Q(found=""), default=0), passed=Sum("hits", filter=Q(found__in=list(PII), verdict="flagged"), default=0)
    )
    if not scans["n"]:
        return NO_DATA
    return Reading(scans["passed"], scans["n"], statistics={"passed": scans["passed"], "scans": scans["n"]})


def cache_quality(window: Window) -> Reading:
    """Of the semantic hits that were looked at; what was not looked at says nothing."""
    looked = VerdictHour.objects.filter(_hours(window), step__startswith="cache:", found="").aggregate(
        agreed=Sum("calls", filter=Q(verdict="agree"), default=0), n=Sum("calls", filter=Q(verdict__in=("agree", "disagree")), default=0)
    )
    return _share(looked["agreed"], looked["n"], ("agreed", "checked"))


register(
    Metric(
        "cache.hit_quality",
        "Quality of semantic hits",
        "%",
        "higher",
        100,
        cache_quality,
        "Of the hits of semantic caches after which the model was asked too, those where it said the same.",
    )
)
register(
    Metric(
        "policy.coverage",
        "Policy coverage",
        "%",
        "higher",
        100,
        policy_coverage,
        "Of the calls that came to the policies, those that a policy covers.",
    )
)
register(
    Metric(
        "policy.enforced_share",
        "Policies enforced",
        "%",
        "higher",
        1,
        policies_enforced,
        "Of the policies that are not off, those in force.",
    )
)


def required_tag_coverage(window: Window) -> Reading:
    """Every call that must carry tags counts, so it is exact. Over the whole UTC days that the window touches."""
    found = tag_selectors.coverage(Period(window.start.date(), (window.end - timedelta(microseconds=1)).date()))
    if found.calls_percent is None:
        return NO_DATA
    return Reading(found.calls_percent, found.calls, statistics={"tagged": found.tagged, "all": found.calls})


register(
    Metric(
        "costs.required_tag_coverage",
        "Required tags",
        "%",
        "higher",
        100,
        required_tag_coverage,
        "Of the served calls that must carry tags, those that carry all of them.",
    )
)


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


register(
    Metric(
        "routing.regret",
        "Routing regret",
        "%",
        "lower",
        100,
        routing_regret,
        "By how much of the whole utility another deployment would have been better, on average.",
    )
)
register(
    Metric(
        "guardrails.unredacted_pii", "Personal data let through", "count", "lower", 100, unredacted_pii,
        "Findings of personal data that a guardrail counted and did not replace or refuse.",
    )
)  # fmt: skip


def _saved(window: Window) -> savings.Savings | None:
    """Against the baseline in force, over the whole UTC days that the window touches."""
    baseline = savings_selectors.in_force()
    days = Period(window.start.date(), (window.end - timedelta(microseconds=1)).date())
    return savings_selectors.savings_against(baseline, days) if baseline else None


def saved_percent(window: Window) -> Reading:
    found = _saved(window)
    if found is None:
        return NO_DATA
    statistics: dict[str, float | int | str] = {
        "expected_usd": str(found.expected),
        "cost_usd": str(found.now.cost),
        "calls": found.now.calls,
    }
    return Reading(float(found.raw_percent), found.now.calls, statistics=statistics)


def saved_adjusted_percent(window: Window) -> Reading:
    found = _saved(window)
    if found is None or found.adjusted_percent is None:
        return NO_DATA
    known = sum(one.now.calls for one in found.models if one.saved is not None)
    return Reading(float(found.adjusted_percent), known, statistics={"adjusted_usd": str(found.adjusted), "calls": known})


register(
    Metric(
        "costs.saved_percent", "Saved per call", "%", "higher", 100, saved_percent,
        "By how much calls cost less than at the signed baseline, whatever the reason.",
    )
)  # fmt: skip
register(
    Metric(
        "costs.saved_adjusted_percent", "Saved per call at today's mix", "%", "higher", 100, saved_adjusted_percent,
        "By how much calls to the same models cost less than at the signed baseline.",
    )
)  # fmt: skip


LATE_S = 300
"""Attribution later than this is a gap in the data."""


def _attribution_hours(window: Window) -> tuple[int, int]:
    """Hours of the window with attributed calls, and those of them in which a call waited longer than `LATE_S`."""
    told = LatencyHour.objects.filter(_hours(window), measure=LatencyHour.Measure.ATTRIBUTION, count__gt=0)
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


def availability(window: Window) -> Reading:
    """The complement of the failed calls: what a promise of uptime is measured by, per call."""
    figures = _served(window).aggregate(n=Sum("calls", default=0), failed=Sum("calls", filter=Q(outcome="error"), default=0))
    return _share(figures["n"] - figures["failed"], figures["n"], ("answered", "all"))


def latency_p95(window: Window) -> Reading:
    return _percentile(window, LatencyHour.Measure.DURATION, 0.95, 1e3)


PAST_THE_GATEWAY = ("missing_calls", "bill_only")
"""Causes of `costs.bridge` that are billed usage which the gateway did not see."""


def routed_share(window: Window) -> Reading:
    """Of the money on the bills, over the same months as the variance: what is not usage that went past the gateway."""
    first = (window.start - timedelta(seconds=1)).date().replace(day=1)
    series = Reconciliation.objects.in_force().filter(month__gte=first, month__lt=window.end.date() + timedelta(days=1))
    revisions = list(Revision.objects.filter(pk__in=series.values("latest")))
    bill = sum((revision.bill for revision in revisions), Decimal())
    past = sum(
        (Decimal(cause["amount"]) for revision in revisions for cause in revision.causes if cause["cause"] in PAST_THE_GATEWAY), Decimal()
    )
    if bill <= 0:
        return NO_DATA
    rows = sum(revision.bill_rows for revision in revisions)
    return Reading(float(100 * (bill - past) / bill), rows, statistics={"past_usd": str(past), "bill_usd": str(bill)})


def active_people(window: Window) -> Reading:
    return _people(_served(window))


def tool_people(window: Window) -> Reading:
    return _people(_served(window).filter(kind="tool"))


def _people(served: QuerySet[UsageHour]) -> Reading:
    """Owners of the keys with which calls were made."""
    keys = list(served.values_list("key_id", flat=True).distinct())
    if not keys:
        return NO_DATA
    people = VirtualKey.objects.filter(public_id__in=keys).values("owner").distinct().count()
    return Reading(float(people), len(keys), statistics={"people": people, "keys": len(keys)})


def active_agents(window: Window) -> Reading:
    served = _served(window)
    calls = served.aggregate(n=Sum("calls", default=0))["n"]
    count = served.exclude(agent="").values("agent").distinct().count()
    return Reading(float(count), calls, statistics={"agents": count, "calls": calls}) if calls else NO_DATA


def project_share(window: Window) -> Reading:
    """Every project counts, so it is exact."""
    projects = set(Project.objects.filter(is_enabled=True).values_list("slug", flat=True))
    if not projects:
        return NO_DATA
    active = projects & set(_served(window).values_list("project", flat=True).distinct())
    return Reading(100 * len(active) / len(projects), len(projects), statistics={"active": len(active), "projects": len(projects)})


def fewest_models(window: Window) -> Reading:
    found = _served(window).exclude(project="").exclude(kind="tool").values("project").annotate(n=Count("model", distinct=True))
    counts = list(found.order_by().values_list("n", flat=True))
    return Reading(float(min(counts)), len(counts), statistics={"projects": len(counts), "fewest": min(counts)}) if counts else NO_DATA


def budget_adoption(window: Window) -> Reading:
    """Of the projects with calls in the window, those with a budget of their own in force now."""
    active = set(_served(window).exclude(project="").values_list("project", flat=True).distinct())
    if not active:
        return NO_DATA
    budgets = Budget.objects.filter(scope=Budget.Scope.PROJECT, state=Budget.State.ENFORCED, ref__in=active)
    covered = budgets.values("ref").distinct().count()
    return Reading(100 * covered / len(active), len(active), statistics={"covered": covered, "projects": len(active)})


def calls_after_withdrawal(window: Window) -> Reading:
    """Served calls to models of a class that is switched off, in whole hours since it was. No data while nothing is switched off: that proves nothing."""
    off = dict(Consent.objects.filter(state=Consent.State.WITHDRAWN, set_at__lt=window.end).values_list("feature_class", "set_at"))
    if not off:
        return NO_DATA
    served = refused = 0
    for feature_class, since in off.items():
        first = max(window.start, since).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        models = Model.objects.filter(feature_class=feature_class).values("slug")
        found = UsageHour.objects.filter(hour__gte=first, hour__lt=window.end, model__in=models).aggregate(
            served=Sum("calls", filter=~Q(outcome="refused"), default=0), refused=Sum("calls", filter=Q(outcome="refused"), default=0)
        )
        served, refused = served + found["served"], refused + found["refused"]
    return Reading(float(served), served + refused, statistics={"served": served, "refused": refused, "classes": len(off)})


def consent_decided(window: Window) -> Reading:
    """Of the classes whose models or tools are offered, those about which somebody has decided; the others go by the default."""
    classes = set(Model.objects.filter(status__in=Model.SERVED).values_list("feature_class", flat=True))
    classes |= set(ToolServer.objects.filter(is_enabled=True).values_list("feature_class", flat=True))
    if not classes:
        return NO_DATA
    decided = Consent.objects.filter(feature_class__in=classes).count()
    return Reading(100 * decided / len(classes), len(classes), statistics={"decided": decided, "classes": len(classes)})


def archive_overdue(window: Window) -> Reading:
    """Months that should have left the database a day before the window ends. No data while all calls are kept."""
    if archive_selectors.retention().keep_months is None:
        return NO_DATA
    overdue = archive_selectors.due(window.end - timedelta(days=1))
    return Reading(float(len(overdue)), len(archive_selectors.partitions()), statistics={"months": len(overdue)})


for _metric in (
    Metric("archive.overdue_months", "Months overdue for the archive", "count", "lower", 0, archive_overdue, "Older than the organisation keeps single calls, and still in the database."),
    Metric("attribution.late_hours", "Gaps in the data", "count", "lower", 24, late_hours, "Hours in which a call waited more than five minutes for its attribution."),
    Metric("attribution.uptime", "Attribution uptime", "%", "higher", 24, attribution_uptime, "Of the hours with calls, those in which none waited more than five minutes for its attribution."),
    Metric("budgets.project_share", "Projects with a budget", "%", "higher", 1, budget_adoption, "Of the projects with calls, those with a budget of their own in force."),
    Metric("consent.calls_after_withdrawal", "Calls in spite of an opt-out", "count", "lower", 1, calls_after_withdrawal, "Served calls to models of a feature class that is switched off."),
    Metric("consent.decided_share", "Consent decided", "%", "higher", 1, consent_decided, "Of the feature classes that are offered, those somebody decided about."),
    Metric("gateway.availability", "Availability", "%", "higher", 1000, availability, "Of the calls that were not refused, those that were answered."),
    Metric("gateway.latency_p95", "Latency, P95", "ms", "lower", 200, latency_p95, "Of the whole calls, as callers see it."),
    Metric("policy.defined", "Policies defined", "count", "higher", 0, policies_defined, "Policies in dry run or in force, now."),
    Metric("reconciliation.routed_share", "Spend through the gateway", "%", "higher", 1, routed_share, "Of the money on the bills, all but usage that went past the gateway."),
    Metric("tools.active_people", "People who use tools", "count", "higher", 1, tool_people, "Owners of keys with which tools were called."),
    Metric("usage.active_agents", "Active agents", "count", "higher", 1, active_agents, "Agents that named themselves in a served call."),
    Metric("usage.active_people", "Active developers", "count", "higher", 1, active_people, "Owners of keys with served calls."),
    Metric("usage.models_per_project", "Models of each project", "count", "higher", 1, fewest_models, "The fewest models that an active project called."),
    Metric("usage.project_share", "Active projects of all", "%", "higher", 1, project_share, "Of the projects that are switched on, those with served calls."),
):  # fmt: skip
    register(_metric)
