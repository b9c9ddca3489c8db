"""Traffic shifts: how far is it, and may it go on?"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from governance.access import Permission, or_404, requires
from governance.pages import keyset_page, render_page, tab_and_query, try_act, try_form, try_service
from governance.requests import MemberRequest
from rollouts import advice, experiment_selectors, shift_selectors
from rollouts import experiment_wording as words
from rollouts.forms import WhyForm
from rollouts.models import Shift, ShiftWindow
from rollouts.services import shifts as services
from rollouts.shift_forms import ShiftForm
from rollouts.views.rollouts import may_manage

TABS = {"open": "Under way", "closed": "Closed"}
GLYPHS = {"go": "pass", "wait": "inconclusive", "pause": "fail"}
SHOWN_WINDOWS = 20


def the_shift(slug: str) -> Shift:
    return or_404(shift_selectors.find_shift(slug))


@requires(Permission.VIEW)
def shift_list(request: MemberRequest) -> HttpResponse:
    tab, query = tab_and_query(request, TABS)
    page = keyset_page(
        shift_selectors.shifts(tab=tab, query=query), order=["-created_at", "-pk"], cursor=request.GET.get("cursor", "")
    )  # fmt: skip
    counts = shift_selectors.shift_counts()
    return render_page(
        request,
        "rollouts/shift_list.html",
        partial="shift-table",
        context={
            "page": page,
            "tab": tab,
            "tabs": [(key, label, counts[key]) for key, label in TABS.items()],
            "query": query,
            "counts": counts,
            "may_manage": may_manage(request),
        },
    )


@requires(Permission.MANAGE_ROLLOUTS, "GET", "POST")
def shift_new(request: MemberRequest) -> HttpResponse:
    form = ShiftForm(request.POST or None, initial={"flag": request.GET.get("flag", "")})
    has_flags = experiment_selectors.flags_to_experiment_on().exists()
    if request.method == "POST":
        if form.is_valid():
            shift = try_service(form, lambda: services.start_shift(actor=request.user, **form.terms()))
            if shift is not None:
                messages.success(request, f"{shift.name} has begun. {shift.reason}")
                return redirect("shift-detail", slug=shift.slug)
        return render_page(request, "rollouts/shift_new.html", context={"form": form, "has_flags": has_flags}, status=422)
    return render_page(request, "rollouts/shift_new.html", context={"form": form, "has_flags": has_flags})


@requires(Permission.VIEW)
def shift_detail(request: MemberRequest, slug: str) -> HttpResponse:
    shift = the_shift(slug)
    window = shift_selectors.windows_of(shift).first()
    if (number := request.GET.get("window", "")) and number.isdecimal() and len(number) < 9:
        window = or_404(shift_selectors.windows_of(shift).filter(sequence=int(number)).first())
    return render_page(
        request,
        "rollouts/shift_detail.html",
        context={
            "shift": shift,
            "flag": shift.flag,
            "steps": [(percent, _state(shift, place)) for place, percent in enumerate(shift.steps)],
            "progress": min(100.0, 100 * shift.seen_calls / shift.window_calls),
            "margins": [
                ("Mean latency", words.change(shift.latency_margin, "latency")), ("Error rate", words.change(shift.error_margin, "error_rate")),
                ("Cost per call", words.change(0.0 - shift.savings_floor, "cost")),
            ],
            "windows": [(each, GLYPHS[each.verdict]) for each in shift_selectors.windows_of(shift)[:SHOWN_WINDOWS]],
            "may_manage": may_manage(request),
            **(_figures(shift, window) if window else {}),
        },
    )  # fmt: skip


def _state(shift: Shift, place: int) -> str:
    """`done`, `now`, `asked` or `later`."""
    if place < shift.step or shift.status == Shift.Status.FINISHED:
        return "done"
    if place > shift.step:
        return "later"
    return "now" if shift.is_in_force else "asked"


def _figures(shift: Shift, window: ShiftWindow) -> dict[str, Any]:
    terms, arms, judgement = advice.terms_of(window.record), advice.arms_of(window.record), window.judgement
    return {
        "window": window,
        "judgement": judgement,
        "glyph": GLYPHS[judgement.verdict],
        "is_same": shift_selectors.is_as_written(window),
        "arms": words.arm_lines(terms, arms),
        "guards": words.guard_lines(terms, arms, shift.challenger, judgement.guards),
        "unseen": words.unseen(judgement.guards),
        "excluded": window.record["excluded"],
    }


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def shift_look(request: MemberRequest, slug: str) -> HttpResponse:
    shift = the_shift(slug)
    try_act(request, lambda: services.look(shift=shift, actor=request.user), "Looked just now.")
    return redirect("shift-detail", slug=slug)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def shift_resume(request: MemberRequest, slug: str) -> HttpResponse:
    shift, form = the_shift(slug), WhyForm(request.POST, most=400)
    try_form(request, form, lambda data: services.resume_shift(shift=shift, actor=request.user, **data), "Resumed, with a new window.")
    return redirect("shift-detail", slug=slug)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def shift_end(request: MemberRequest, slug: str) -> HttpResponse:
    shift, form = the_shift(slug), WhyForm(request.POST, most=400)
    try_form(request, form, lambda data: services.end_shift(shift=shift, actor=request.user, **data), "Ended. The flag stays as it is.")
    return redirect("shift-detail", slug=slug)
