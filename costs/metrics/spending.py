"""Figures of money: bills against telemetry, commitments, budgets and savings."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from costs import budget_selectors, commitment_selectors, savings, savings_selectors
from costs.metrics.windows import served_hours, share
from costs.models import Budget, BudgetIncident, Reconciliation, Revision
from costs.periods import Period
from governance.metrics import NO_DATA, Metric, Reading, Window, register


def _compared(window: Window) -> list[Revision]:
    """Of the months that lie in the window or end in it. None while rows of one wait for exchange rates: without them the sums are no bill's."""
    first = (window.start - timedelta(seconds=1)).date().replace(day=1)
    series = Reconciliation.objects.filter(month__gte=first, month__lt=window.end.date() + timedelta(days=1))
    if series.exclude(missing_rates=[]).exists():
        return []
    return list(Revision.objects.filter(pk__in=series.in_force().values("latest")))


def variance(window: Window) -> Reading:
    """Over the months that lie in the window or end in it: the sum of all bills against the sum of telemetry."""
    revisions = _compared(window)
    bill = sum((revision.bill_usd for revision in revisions), Decimal())
    apart = sum((abs(revision.variance_usd) for revision in revisions), Decimal())
    if not revisions or not bill:
        return NO_DATA
    rows = sum(revision.bill_rows for revision in revisions)
    return Reading(
        float(apart / bill * 100), rows, statistics={"apart_usd": str(apart), "bill_usd": str(bill), "revisions": len(revisions)}
    )


PAST_THE_GATEWAY = ("missing_calls", "bill_only")
"""Causes of `costs.bridge` that are billed usage which the gateway did not see."""


def routed_share(window: Window) -> Reading:
    """Of the money on the bills, over the same months as the variance: what is not usage that went past the gateway."""
    revisions = _compared(window)
    bill = sum((revision.bill_usd for revision in revisions), Decimal())
    past = sum((revision.cause_usd(name) for revision in revisions for name in PAST_THE_GATEWAY), Decimal())
    if bill <= 0:
        return NO_DATA
    rows = sum(revision.bill_rows for revision in revisions)
    return Reading(float(100 * (bill - past) / bill), rows, statistics={"past_usd": str(past), "bill_usd": str(bill)})


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


def budget_overrun(window: Window) -> Reading:
    """Of the budgets that are in force now, by what their periods had cost at the end of the window."""
    found = budget_selectors.charged(window.end - timedelta(microseconds=1), acting=False)
    return share(sum(one.spent > one.amount for one in found), len(found), ("overrun", "all"))


def false_throttles(window: Window) -> Reading:
    """Zero only where a budget could have refused something: one acts on calls now, or was reported in the window."""
    reported = BudgetIncident.objects.filter(opened_at__gte=window.start, opened_at__lt=window.end).count()
    acting = Budget.objects.filter(state=Budget.State.ENFORCED).exclude(action=Budget.Action.ALERT).count()
    if reported + acting == 0:
        return NO_DATA
    return Reading(float(reported), reported + acting, statistics={"reported": reported, "acting": acting})


def budget_adoption(window: Window) -> Reading:
    """Of the projects with calls in the window, those with a budget of their own in force now."""
    active = set(served_hours(window).exclude(project="").values_list("project", flat=True).distinct())
    if not active:
        return NO_DATA
    budgets = Budget.objects.filter(scope=Budget.Scope.PROJECT, state=Budget.State.ENFORCED, ref__in=active)
    covered = budgets.values("ref").distinct().count()
    return Reading(100 * covered / len(active), len(active), statistics={"covered": covered, "projects": len(active)})


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


for _metric in (
    Metric("reconciliation.variance", "Variance against the bill", "%", "lower", 1, variance, "Absolute difference between providers' bills and telemetry, of the bills, over the months in the window."),
    Metric("reconciliation.routed_share", "Spend through the gateway", "%", "higher", 1, routed_share, "Of the money on the bills, all but usage that went past the gateway."),
    Metric("commitments.utilisation", "Commitment utilisation", "%", "higher", 24, commitment_utilisation, "Unit hours of provisioned throughput that were used, of those paid; the sample is the hours paid."),
    Metric("costs.budget_overrun_share", "Budgets overrun", "%", "lower", 1, budget_overrun, "Of the budgets in force, those that spent more."),
    Metric("costs.false_throttles", "False throttles", "count", "lower", 1, false_throttles, "Budgets reported for holding up calls."),
    Metric("budgets.project_share", "Projects with a budget", "%", "higher", 1, budget_adoption, "Of the projects with calls, those with a budget of their own in force."),
    Metric("costs.saved_percent", "Saved per call", "%", "higher", 100, saved_percent, "By how much calls cost less than at the signed baseline, whatever the reason."),
    Metric("costs.saved_adjusted_percent", "Saved per call at today's mix", "%", "higher", 100, saved_adjusted_percent, "By how much calls to the same models cost less than at the signed baseline."),
):  # fmt: skip
    register(_metric)
