"""Rollouts: board, new, one rollout, its log, and what is done to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from governance.access import Permission, or_404, requires
from governance.pages import keyset_page, render_page, tab_and_query, try_act, try_form, try_service
from governance.requests import MemberRequest
from rollouts import board_selectors, gate_selectors, markdown, plans, selectors, waiting_selectors
from rollouts.forms import RolloutForm, WhyForm
from rollouts.models import Rollback, Rollout
from rollouts.services import rollouts as services

LANES = [
    ("Internal", "own staff"),
    ("Pilot", "chosen projects"),
    ("Limited", "a share"),
    ("Ramp", "step by step"),
    ("General", "everybody"),
]
TABS = {"running": "Under way", "mine": "Waiting for me", "planned": "Planned", "closed": "Finished"}


def may_manage(request: MemberRequest) -> bool:
    return request.membership.can(Permission.MANAGE_ROLLOUTS)


def the_rollout(slug: str) -> Rollout:
    return or_404(selectors.find_rollout(slug))


@requires(Permission.VIEW)
def rollout_list(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    tab, query = tab_and_query(request, TABS)
    waiting = waiting_selectors.waiting_for(request.membership)
    found = selectors.rollouts(tab="running" if tab == "mine" else tab, query=query)
    if tab == "mine":
        found = found.filter(pk__in=[each.gate.rollout_id for each in waiting])
    page = keyset_page(found, order=["-created_at", "-pk"], cursor=request.GET.get("cursor", ""))
    rows = board_selectors.board(page.rows, membership=request.membership, now=now)
    counts = {**selectors.rollout_counts(), "mine": len({each.gate.rollout_id for each in waiting})}
    evaluated = [row.gate.latest.at for row in rows if row.gate and row.gate.latest]
    return render_page(
        request,
        "rollouts/rollout_list.html",
        partial="board",
        context={
            "rows": rows,
            "page": page,
            "tab": tab,
            "tabs": [(key, label, counts[key]) for key, label in TABS.items()],
            "query": query,
            "lanes": LANES,
            "counts": counts,
            "waiting": waiting,
            "last_evaluated": max(evaluated, default=None),
            "may_manage": may_manage(request),
            "view": "list" if request.GET.get("view") == "list" else "board",
        },
    )


@requires(Permission.MANAGE_ROLLOUTS, "GET", "POST")
def rollout_new(request: MemberRequest) -> HttpResponse:
    chosen = request.POST.get("plan") or request.GET.get("plan") or plans.all_plans()[0].key
    preview = next((plan for plan in plans.all_plans() if plan.key == chosen), plans.all_plans()[0])
    form = RolloutForm(
        request.POST or None,
        tenant=request.tenant,
        actor=request.user,
        initial={"plan": preview.key, "owner": request.user.pk, "name": preview.title, "slug": preview.key},
    )
    status = 200
    if request.method == "POST":
        if form.is_valid():
            values = dict(form.cleaned_data)
            rollout = try_service(form, lambda: services.start_rollout(plan_key=values.pop("plan"), actor=request.user, **values))
            if rollout is not None:
                messages.success(request, f"{rollout.name} is {rollout.get_status_display().lower()}.")
                return redirect("rollout-detail", slug=rollout.slug)
        status = 422
    return render_page(
        request, "rollouts/rollout_new.html", context={"form": form, "preview": preview, "plans": plans.all_plans()}, status=status
    )


@requires(Permission.VIEW)
def rollout_detail(request: MemberRequest, slug: str) -> HttpResponse:
    rollout, now = the_rollout(slug), timezone.now()
    return render_page(request, "rollouts/rollout_detail.html", context=_detail(request, rollout, now=now))


def _detail(request: MemberRequest, rollout: Rollout, **extra: Any) -> dict[str, Any]:
    now = extra.pop("now", None) or timezone.now()
    phases = selectors.phases_of(rollout)
    current = next((phase for phase in phases if phase.status == "current"), None)
    gate = current.gate if current else None
    gate_view = None
    if gate is not None:
        gate.rollout = rollout
        gate_view = gate_selectors.gate_view(gate, now=now)
    rollback = selectors.open_rollback(rollout)
    plan = rollout.frozen_plan
    return {
        "rollout": rollout,
        "plan": plan,
        "phases": list(zip(phases, plan.phases, strict=True)),
        "current": current,
        "gate_view": gate_view,
        "day": current.day(now) if current else 0,
        "is_late": bool(current and current.is_late(now)),
        "rollback": rollback,
        "rollback_minutes": rollback.took_minutes(now) if rollback else None,
        "rollback_over": bool(rollback and rollback.is_over_rto(now)),
        "log": selectors.log_of(rollout)[:8],
        "may_manage": may_manage(request),
        "earlier": phases[current.position - 1] if current and current.position else None,
        **extra,
    }


@requires(Permission.VIEW)
def rollout_log(request: MemberRequest, slug: str) -> HttpResponse:
    rollout = the_rollout(slug)
    page = keyset_page(selectors.log_of(rollout), order=["-sequence"], cursor=request.GET.get("cursor", ""))
    return render_page(request, "rollouts/rollout_log.html", partial="log", context={"rollout": rollout, "page": page})


@requires(Permission.VIEW)
def rollout_log_markdown(request: MemberRequest, slug: str) -> HttpResponse:
    rollout = the_rollout(slug)
    response = HttpResponse(
        markdown.release_log(rollout, selectors.log_of(rollout).reverse(), selectors.phases_of(rollout)),
        content_type="text/markdown; charset=utf-8",
    )
    response["Content-Disposition"] = f'attachment; filename="{rollout.slug}-release-log.md"'
    return response


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rollout_begin(request: MemberRequest, slug: str) -> HttpResponse:
    return _act(request, slug, lambda rollout: services.begin_rollout(rollout=rollout, actor=request.user), "{rollout} is under way.")


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rollout_pause(request: MemberRequest, slug: str) -> HttpResponse:
    rollout, form = the_rollout(slug), WhyForm(request.POST, most=300)
    done = f"{rollout.name} is paused. Nobody can say go until it is resumed."
    try_form(request, form, lambda data: services.pause_rollout(rollout=rollout, actor=request.user, **data), done)
    return redirect("rollout-detail", slug=slug)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rollout_resume(request: MemberRequest, slug: str) -> HttpResponse:
    return _act(request, slug, lambda rollout: services.resume_rollout(rollout=rollout, actor=request.user), "{rollout} goes on.")


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rollout_roll_back(request: MemberRequest, slug: str) -> HttpResponse:
    rollout, form = the_rollout(slug), WhyForm(request.POST, most=500)
    done = "Rolled back. Carry out the rollback plan, then confirm that it is finished."
    try_form(request, form, lambda data: services.roll_back(rollout=rollout, actor=request.user, **data), done)
    return redirect("rollout-detail", slug=slug)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def rollback_finish(request: MemberRequest, slug: str, pk: int) -> HttpResponse:
    rollout = the_rollout(slug)
    rollback = or_404(Rollback.objects.filter(rollout=rollout, pk=pk).first())
    return _act(
        request,
        slug,
        lambda _: services.finish_rollback(rollback=rollback, actor=request.user),
        "The rollback is confirmed; the clock has stopped.",
    )


def _act(request: MemberRequest, slug: str, act: Callable[[Rollout], object], done: str) -> HttpResponse:
    rollout = the_rollout(slug)
    try_act(request, lambda: act(rollout), done.format(rollout=rollout.name))
    return redirect("rollout-detail", slug=slug)
