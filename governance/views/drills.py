"""Rehearsals of switching off and taking back: what is due, and what came of each."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from governance import drill_selectors as selectors
from governance.access import Permission, requires
from governance.drills import DRILL_EVERY
from governance.models import Drill
from governance.pages import keyset_page, render_page, try_act
from governance.requests import MemberRequest
from governance.services import drills

SHOWN = 50


@requires(Permission.VIEW_OPERATE)
def drill_list(request: MemberRequest) -> HttpResponse:
    kind, query = request.GET.get("kind", ""), request.GET.get("q", "").strip()
    every = selectors.subject_rows(request.tenant, at=timezone.now())
    rows = [row for row in every if kind in ("", row.subject.kind) and query.lower() in row.subject.title.lower()]
    page = keyset_page(selectors.drills_of(request.tenant), order=["-started_at", "-pk"], cursor=request.GET.get("cursor", ""), size=25)
    context = {
        "rows": rows[:SHOWN],
        "found": len(rows),
        "overdue": sum(row.is_overdue for row in every),
        "kinds": Drill.Kind.choices,
        "kind": kind,
        "query": query,
        "page": page,
        "is_waiting": any(drill.ended_at is None for drill in page.rows),
        "every_days": DRILL_EVERY.days,
        "may_run": request.membership.can(Permission.MANAGE_CONSENT),
    }
    partial = "subjects" if request.headers.get("HX-Target") == "subjects" else "history"
    return render_page(request, "governance/drills.html", partial=partial, context=context)


@requires(Permission.MANAGE_CONSENT, "POST")
def drill_start(request: MemberRequest) -> HttpResponse:
    kind, reference = request.POST.get("kind", ""), request.POST.get("reference", "")
    try_act(
        request,
        lambda: drills.start(tenant=request.tenant, kind=kind, reference=reference, actor=request.user),
        "The drill runs. No call is refused.",
    )
    return redirect("drills")
