"""Figures of rules: policies, guardrails and consent."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q, Sum

from catalog.models import Model, ToolServer
from costs.metrics.windows import hours_of
from costs.models import UsageHour, VerdictHour
from costs.periods import hour_of
from gateway.contract.detectors import PII
from gateway.contract.presidio import OWN
from governance.metrics import NO_DATA, Metric, Reading, Window, register
from governance.models import Consent, Policy


def policy_coverage(window: Window) -> Reading:
    """Every call counts, so it is exact and has no interval."""
    said = VerdictHour.objects.filter(hours_of(window), step="policy").aggregate(
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
    scans = VerdictHour.objects.filter(hours_of(window), step__startswith="guardrail:").aggregate(
        n=Sum("calls", filter=Q(found=""), default=0), passed=Sum("hits", filter=Q(found__in=[*PII, *OWN], verdict="flagged"), default=0)
    )
    if not scans["n"]:
        return NO_DATA
    return Reading(scans["passed"], scans["n"], statistics={"passed": scans["passed"], "scans": scans["n"]})


def calls_after_withdrawal(window: Window) -> Reading:
    """Served calls to models of a class that is switched off, in whole hours since it was. No data while nothing is switched off: that proves nothing."""
    off = dict(Consent.objects.filter(state=Consent.State.WITHDRAWN, set_at__lt=window.end).values_list("feature_class", "set_at"))
    if not off:
        return NO_DATA
    served = refused = 0
    for feature_class, since in off.items():
        first = hour_of(max(window.start, since)) + timedelta(hours=1)
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


for _metric in (
    Metric("policy.coverage", "Policy coverage", "%", "higher", 100, policy_coverage, "Of the calls that came to the policies, those that a policy covers."),
    Metric("policy.enforced_share", "Policies enforced", "%", "higher", 1, policies_enforced, "Of the policies that are not off, those in force."),
    Metric("policy.defined", "Policies defined", "count", "higher", 0, policies_defined, "Policies in dry run or in force, now."),
    Metric("guardrails.unredacted_pii", "Personal data let through", "count", "lower", 100, unredacted_pii, "Findings of personal data that a guardrail counted and did not replace or refuse."),
    Metric("consent.calls_after_withdrawal", "Calls in spite of an opt-out", "count", "lower", 1, calls_after_withdrawal, "Served calls to models of a feature class that is switched off."),
    Metric("consent.decided_share", "Consent decided", "%", "higher", 1, consent_decided, "Of the feature classes that are offered, those somebody decided about."),
):  # fmt: skip
    register(_metric)
