"""Shadows: what would another model have answered, at which price, and is it better?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from costs.selectors import sees_all_calls
from governance.access import Permission, or_404, requires
from governance.pages import keyset_page, render_page, tab_and_query, try_act, try_form, try_service
from governance.requests import MemberRequest
from rollouts import shadow_selectors
from rollouts.forms import WhyForm
from rollouts.models import Shadow, ShadowPair
from rollouts.services import shadows as services
from rollouts.shadow_forms import ShadowForm
from rollouts.views.rollouts import may_manage

TABS = {"open": "Open", "closed": "Done"}
GLYPHS = {"pass": "pass", "fail": "fail", "unknown": "inconclusive"}
ADVICE = {"promote": ("pass", "Promote"), "wait": ("inconclusive", "Not known yet"), "keep": ("fail", "Keep the present model")}
VERDICTS = {"": "All", "waiting": "Not judged", **{value: label for value, label in ShadowPair.Verdict.choices if value}}


def the_shadow(slug: str) -> Shadow:
    return or_404(shadow_selectors.find_shadow(slug))


@requires(Permission.VIEW)
def shadow_list(request: MemberRequest) -> HttpResponse:
    tab, query = tab_and_query(request, TABS)
    page = keyset_page(shadow_selectors.shadows(tab=tab, query=query), order=["-created_at", "-pk"], cursor=request.GET.get("cursor", ""))
    counts = shadow_selectors.shadow_counts()
    context = {
        "page": page,
        "tab": tab,
        "tabs": [(key, label, counts[key]) for key, label in TABS.items()],
        "query": query,
        "counts": counts,
        "may_manage": may_manage(request),
    }
    return render_page(request, "rollouts/shadow_list.html", partial="shadow-table", context=context)


@requires(Permission.MANAGE_ROLLOUTS, "GET", "POST")
def shadow_new(request: MemberRequest) -> HttpResponse:
    form = ShadowForm(request.POST or None, initial={"source": request.GET.get("source", "")})
    if request.method == "POST" and form.is_valid():
        shadow = try_service(form, lambda: services.propose_shadow(actor=request.user, **form.cleaned_data))
        if shadow is not None:
            messages.success(request, f"{shadow.name} is proposed. Somebody else starts it.")
            return redirect("shadow-detail", slug=shadow.slug)
    status = 422 if request.method == "POST" else 200
    return render_page(request, "rollouts/shadow_new.html", context={"form": form}, status=status)


@requires(Permission.VIEW)
def shadow_detail(request: MemberRequest, slug: str) -> HttpResponse:
    """Pairs by `verdict`, without what was said: that is opened at the call, by whoever may."""
    shadow = the_shadow(slug)
    chosen = request.GET.get("verdict", "")
    chosen = chosen if chosen in VERDICTS else ""
    figures = shadow_selectors.figures_of(shadow)
    verdict = shadow_selectors.verdict_of(shadow, figures)
    page = keyset_page(shadow_selectors.pairs_of(shadow, verdict=chosen), order=["-at", "-pk"], cursor=request.GET.get("cursor", ""))
    context: dict[str, Any] = {
        "shadow": shadow,
        "figures": figures,
        "verdict": verdict,
        "advice": ADVICE[verdict.advice],
        "checks": [(check, GLYPHS[check.state]) for check in verdict.checks],
        "page": page,
        "verdicts": VERDICTS,
        "chosen": chosen,
        "sees_costs": sees_all_calls(request.membership),
        "may_manage": may_manage(request),
        "is_own": shadow.proposer_id == request.user.pk,
    }
    return render_page(request, "rollouts/shadow_detail.html", partial="pair-table", context=context)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def shadow_start(request: MemberRequest, slug: str) -> HttpResponse:
    return _act(
        request, slug, lambda shadow: services.start_shadow(shadow=shadow, actor=request.user), "Calls are repeated within seconds."
    )


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def shadow_pause(request: MemberRequest, slug: str) -> HttpResponse:
    shadow, form = the_shadow(slug), WhyForm(request.POST, most=400)
    try_form(request, form, lambda data: services.pause_shadow(shadow=shadow, actor=request.user, **data), "Paused.")
    return redirect("shadow-detail", slug=slug)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def shadow_resume(request: MemberRequest, slug: str) -> HttpResponse:
    return _act(request, slug, lambda shadow: services.resume_shadow(shadow=shadow, actor=request.user), "Resumed.")


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def shadow_end(request: MemberRequest, slug: str) -> HttpResponse:
    shadow, form = the_shadow(slug), WhyForm(request.POST, most=400)
    try_form(request, form, lambda data: services.end_shadow(shadow=shadow, actor=request.user, **data), "Ended. The pairs stay.")
    return redirect("shadow-detail", slug=slug)


def _act(request: MemberRequest, slug: str, act: Callable[[Shadow], object], done: str) -> HttpResponse:
    shadow = the_shadow(slug)
    try_act(request, lambda: act(shadow), done)
    return redirect("shadow-detail", slug=slug)
