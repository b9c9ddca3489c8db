"""War rooms and recalibrations, for the operator: what happened, what was found and done, and how it was closed."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from governance.access import operator_only, or_404
from governance.pages import keyset_page, render_page, tab_and_query, try_form
from governance.requests import AppRequest
from rollouts import cohort_forms
from rollouts import cohort_selectors as selectors
from rollouts.models import Escalation
from rollouts.services import escalations as services

TABS = {"open": "Open", "closed": "Closed"}


def the_escalation(pk: int) -> Escalation:
    return or_404(selectors.find_escalation(pk))


@operator_only()
def escalation_list(request: AppRequest) -> HttpResponse:
    tab, _ = tab_and_query(request, TABS)
    context = {
        "page": keyset_page(selectors.escalations(tab=tab), order=["-opened_at", "-pk"], cursor=request.GET.get("cursor", "")),
        "tab": tab, "tabs": TABS.items(),
    }  # fmt: skip
    return render_page(request, "rollouts/escalation_list.html", partial="escalation-table", context=context)


@operator_only()
def escalation_detail(request: AppRequest, pk: int) -> HttpResponse:
    escalation = the_escalation(pk)
    context = {"escalation": escalation, "notes": escalation.notes.all(), "is_overdue": escalation.is_overdue(timezone.now())}
    return render_page(request, "rollouts/escalation_detail.html", context=context)


@operator_only("POST")
def escalation_note(request: AppRequest, pk: int) -> HttpResponse:
    escalation, form = the_escalation(pk), cohort_forms.NoteForm(request.POST)
    try_form(request, form, lambda data: services.add_note(escalation=escalation, actor=request.user, **data), "Noted.")
    return redirect("escalation-detail", pk=pk)


@operator_only("POST")
def escalation_close(request: AppRequest, pk: int) -> HttpResponse:
    escalation, form = the_escalation(pk), cohort_forms.CloseForm(request.POST)
    try_form(request, form, lambda data: services.close(escalation=escalation, actor=request.user, **data), "Closed.")
    return redirect("escalation-detail", pk=pk)
