"""Evaluations by harnesses: what did a model score, is the new one better, and what lets it be approved?"""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from governance.access import Permission, or_404, requires
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest
from rollouts import evaluation_selectors as selectors
from rollouts.evaluation_forms import RemovalForm, ThresholdForm, WaiverForm
from rollouts.models import EvaluationRun, EvaluationScore, EvaluationThreshold, EvaluationThresholdChange, EvaluationWaiver
from rollouts.services import evaluation_runs as services
from rollouts.views.rollouts import may_manage

GLYPHS = {"better": "pass", "worse": "fail", "unclear": "inconclusive"}


def the_run(pk: int) -> EvaluationRun:
    return or_404(selectors.find_run(pk))


def the_threshold(pk: int) -> EvaluationThreshold:
    return or_404(selectors.thresholds().filter(pk=pk).first())


@requires(Permission.VIEW)
def evaluation_run_list(request: MemberRequest) -> HttpResponse:
    return _list(request, ThresholdForm())


def _list(request: MemberRequest, form: ThresholdForm, *, status: int = 200) -> HttpResponse:
    query, now = request.GET.get("q", "").strip(), timezone.now()
    page = keyset_page(selectors.runs(query=query), order=["-at", "-pk"], cursor=request.GET.get("cursor", ""))
    waivers = selectors.open_waivers(at=now)
    return render_page(
        request,
        "rollouts/evaluation_run_list.html",
        partial="evaluation-run-table",
        context={
            "page": page,
            "query": query,
            "thresholds": selectors.thresholds(),
            "form": form,
            "changes": [(one, one.requested_by_id == request.user.pk) for one in selectors.waiting_changes()],
            "waivers": [(one, one.requested_by_id == request.user.pk) for one in waivers],
            "may_manage": may_manage(request),
            "may_sign": request.membership.can(Permission.SIGN_GATES),
        },
        status=status,
    )


@requires(Permission.VIEW)
def evaluation_run_detail(request: MemberRequest, pk: int) -> HttpResponse:
    run = the_run(pk)
    trend, metrics = selectors.trend(run), list(run.scores.all())
    others = [each for each in selectors.like(run)[: selectors.SHOWN + 1] if each.pk != run.pk]
    asked = request.GET.get("to", "")
    if asked and not (asked.isdecimal() and len(asked) < 19):
        raise Http404
    earlier = [each for each in trend if each.at < run.at]
    other = the_run(int(asked)) if asked else the_run(earlier[-1].pk) if earlier else None
    return render_page(
        request,
        "rollouts/evaluation_run_detail.html",
        partial="comparison",
        context={
            "run": run,
            "trend": [(each, _cells(each, metrics)) for each in reversed(trend)],
            "metrics": metrics,
            "others": others,
            "other": other,
            "compared": [(each, GLYPHS[each.difference.verdict]) for each in selectors.compare(other, run)] if other else [],
        },
    )


def _cells(run: EvaluationRun, metrics: list[EvaluationScore]) -> list[EvaluationScore | None]:
    """A run's scores in the columns of another."""
    found = {score.metric: score for score in run.scores.all()}
    return [found.get(column.metric) for column in metrics]


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def threshold_set(request: MemberRequest) -> HttpResponse:
    form = ThresholdForm(request.POST)
    if form.is_valid():
        threshold = try_service(form, lambda: services.set_threshold(actor=request.user, **form.cleaned_data))
        if threshold is not None:
            waits = threshold.changes.filter(decided_at=None).exists()
            said = (
                "It stays as it is until somebody else agrees."
                if waits
                else f"From its next approval on, a model for {threshold.get_feature_class_display()} needs it."
            )
            messages.success(request, said)
            return redirect("evaluation-run-list")
    return _list(request, form, status=422)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def threshold_remove(request: MemberRequest, pk: int) -> HttpResponse:
    threshold, form = the_threshold(pk), RemovalForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    done = "It stays until somebody else agrees." if threshold.is_safety else "No model needs it any more."
    try_act(request, lambda: services.remove_threshold(threshold=threshold, reason=reason, actor=request.user), done)
    return redirect("evaluation-run-list")


@requires(Permission.VIEW, "POST")
def threshold_change_decide(request: MemberRequest, pk: int) -> HttpResponse:
    change = or_404(EvaluationThresholdChange.objects.filter(pk=pk).first())
    approve = request.POST.get("decision") == "approve"
    try_act(
        request,
        lambda: services.decide_threshold_change(change=change, approve=approve, person=request.membership),
        "Agreed to, and in force." if approve else "Declined. The threshold stays as it is.",
    )
    return redirect("evaluation-run-list")


@requires(Permission.MANAGE_ROLLOUTS, "GET", "POST")
def threshold_waive(request: MemberRequest, pk: int) -> HttpResponse:
    threshold, form = the_threshold(pk), WaiverForm(request.POST or None, initial={"model": request.GET.get("model", "")})
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        until = timezone.now() + timedelta(days=data["days"])
        asked = try_service(
            form,
            lambda: services.request_waiver(
                threshold=threshold, model=data["model"], reason=data["reason"], until=until, actor=request.user
            ),
        )
        if asked is not None:
            messages.success(request, "Asked for. It counts once somebody else agrees.")
            return redirect("evaluation-run-list")
    status = 422 if request.method == "POST" else 200
    return render_page(request, "rollouts/evaluation_waive.html", context={"form": form, "threshold": threshold}, status=status)


@requires(Permission.VIEW, "POST")
def evaluation_waiver_decide(request: MemberRequest, pk: int) -> HttpResponse:
    waiver = or_404(EvaluationWaiver.objects.filter(pk=pk).first())
    approve = request.POST.get("decision") == "approve"
    try_act(
        request,
        lambda: services.decide_waiver(waiver=waiver, approve=approve, person=request.membership),
        "Agreed to." if approve else "Declined.",
    )
    return redirect("evaluation-run-list")
