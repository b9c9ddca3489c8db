"""What was spent and not expected: the list, one with its causes, feedback, and how much one wants to be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import anomaly_selectors, charts, drivers, selectors
from costs.forms import AnomalySettingsForm, FeedbackForm, MissedForm
from costs.models import Anomaly, AnomalyDimension
from costs.services import anomalies
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest

_FILTERS = ("status", "dimension", "kind", "feedback", "ref")


def _anomaly(pk: int) -> Anomaly:
    found = anomaly_selectors.anomaly(pk)
    if found is None:
        raise Http404
    return found


@requires(Permission.VIEW_COSTS)
def anomaly_list(request: MemberRequest) -> HttpResponse:
    chosen = {name: value for name in _FILTERS if (value := request.GET.get(name, "").strip().replace("\0", ""))}
    page = keyset_page(anomaly_selectors.anomalies(chosen), order=["-first_at", "-pk"], cursor=request.GET.get("cursor", ""))
    names = anomaly_selectors.labels((row.dimension, row.ref) for row in page.rows)
    readiness = anomaly_selectors.readiness()
    context: dict[str, Any] = {
        "page": page,
        "missing_text": f"{readiness.missing_days} of {readiness.needed_days} days of history are still missing. "
        "Until then nothing is tested, which is not the same as nothing being wrong.",
        "rows": [(row, names[row.dimension, row.ref], drivers.LABELS.get(row.top_driver, "")) for row in page.rows],
        "chosen": chosen,
        "statuses": {"": "any", **dict(Anomaly.Status.choices)},
        "dimensions": {"": "any", **dict(AnomalyDimension.choices)},
        "kinds": {"": "any", **dict(Anomaly.Kind.choices)},
        "feedbacks": {"": "any", "none": "None yet", **{name: label for name, label in Anomaly.Feedback.choices if name}},
        "readiness": readiness,
        "settings": anomaly_selectors.settings(),
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
    }
    return render_page(request, "costs/anomaly_list.html", partial="anomaly-table", context=context)


@requires(Permission.VIEW_COSTS)
def anomaly_detail(request: MemberRequest, pk: int) -> HttpResponse:
    return _detail(request, _anomaly(pk), FeedbackForm())


def _detail(request: MemberRequest, found: Anomaly, form: FeedbackForm, status: int = 200) -> HttpResponse:
    parts = found.contributors
    names = anomaly_selectors.labels(
        [
            (found.dimension, found.ref),
            *((part["dimension"], part["ref"]) for part in parts),
            *((scope[0], scope[1]) for scope in found.also),
        ]
    )
    last = found.last_at - timedelta(microseconds=1)
    span = f"from={found.first_at:%Y-%m-%d}&to={last:%Y-%m-%d}"
    narrower = anomaly_selectors.DIMENSIONS[anomaly_selectors.DIMENSIONS.index(found.dimension) + 1 :]
    most = max((abs(Decimal(amount)) for _, amount in found.drivers), default=Decimal(0))
    context: dict[str, Any] = {
        "anomaly": found,
        "name": names[found.dimension, found.ref],
        "figure": charts.band(found.band, {point["at"][:10] for point in found.points}) if found.band else None,
        "figure_label": f"Spend of {names[found.dimension, found.ref]} by day against what was expected, US dollars",
        "drivers": [
            (drivers.LABELS[name], Decimal(amount), abs(Decimal(amount)) / most * 100 if most else Decimal(0))
            for name, amount in found.drivers
        ],
        "contributors": [
            (
                label,
                [
                    (
                        names[part["dimension"], part["ref"]],
                        Decimal(part["expected"]),
                        Decimal(part["actual"]),
                        Decimal(part["excess"]),
                        part,
                    )
                    for part in parts
                    if part["dimension"] == dimension
                ],
            )
            for dimension, label in selectors.GROUPS.items()
            if any(part["dimension"] == dimension for part in parts)
        ],
        "also": [
            f"{AnomalyDimension(dimension).label} {names[dimension, ref]}"
            for dimension, ref in found.also
            if dimension != "tenant" and dimension not in narrower
        ],
        "parts": [
            f"{count} {AnomalyDimension(dimension).label.lower()}{'' if count == 1 else 's'}"
            for dimension, count in Counter(dimension for dimension, _ in found.also if dimension in narrower).items()
        ],
        "is_tenant_too": ["tenant", ""] in found.also,
        "prices": anomaly_selectors.price_changes(found),
        "similar": anomaly_selectors.similar(found),
        "scope_query": "" if found.dimension == "tenant" else f"{found.dimension}={found.ref or selectors.NONE}",
        "span_query": span,
        "form": form,
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
    }
    return render_page(request, "costs/anomaly_detail.html", status=status, context=context)


@requires(Permission.MANAGE_COSTS, "POST")
def feedback(request: MemberRequest, pk: int) -> HttpResponse:
    """Real, planned or a false alert."""
    found, form = _anomaly(pk), FeedbackForm(request.POST)
    if form.is_valid() and try_service(form, lambda: anomalies.give_feedback(anomaly=found, actor=request.user, **form.cleaned_data)):
        messages.success(request, "Noted. It counts in how good the alerts are.")
        return redirect(reverse("anomaly-detail", args=[pk]))
    return _detail(request, found, form, status=422)


def _act(request: MemberRequest, pk: int, act: Callable[[Anomaly], Any], done: str) -> HttpResponse:
    try_act(request, lambda: act(_anomaly(pk)), done)
    return redirect(reverse("anomaly-detail", args=[pk]))


@requires(Permission.MANAGE_COSTS, "POST")
def withdraw(request: MemberRequest, pk: int) -> HttpResponse:
    """Take feedback back."""
    return _act(request, pk, lambda found: anomalies.withdraw_feedback(anomaly=found, actor=request.user), "Taken back. It is open again.")


@requires(Permission.MANAGE_COSTS, "POST")
def acknowledge(request: MemberRequest, pk: int) -> HttpResponse:
    return _act(request, pk, lambda found: anomalies.acknowledge(anomaly=found, actor=request.user), "You look after it.")


@requires(Permission.MANAGE_COSTS, "POST")
def close(request: MemberRequest, pk: int) -> HttpResponse:
    return _act(request, pk, lambda found: anomalies.close(anomaly=found, actor=request.user), "Closed.")


@requires(Permission.MANAGE_COSTS, "GET", "POST")
def settings(request: MemberRequest) -> HttpResponse:
    form, status = AnomalySettingsForm(initial=AnomalySettingsForm.initial_of(anomaly_selectors.settings())), 200
    if request.method == "POST":
        form, status = AnomalySettingsForm(request.POST), 422
        if form.is_valid() and try_service(form, lambda: anomalies.change_settings(actor=request.user, **form.cleaned_data)):
            messages.success(request, "Saved. It holds from the next test on.")
            return redirect(reverse("anomaly-list"))
    floor = anomaly_selectors.floor_in_force(anomaly_selectors.settings(), timezone.now().date() - timedelta(days=1))
    return render_page(request, "costs/anomaly_settings.html", status=status, context={"form": form, "floor": floor})


@requires(Permission.MANAGE_COSTS, "GET", "POST")
def missed(request: MemberRequest) -> HttpResponse:
    """Report one that the tests did not find."""
    form, status = MissedForm(), 200
    if request.method == "POST":
        form, status = MissedForm(request.POST), 422
        if form.is_valid() and (made := try_service(form, lambda: anomalies.report_missed(actor=request.user, **form.cleaned_data))):
            messages.success(request, "Kept. It counts against the detection rate.")
            return redirect(reverse("anomaly-detail", args=[made.pk]))
    return render_page(request, "costs/anomaly_missed.html", status=status, context={"form": form})
