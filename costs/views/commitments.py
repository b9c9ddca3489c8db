"""Commitments: what was bought ahead, how much of it was used, and who agreed to it."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import commitment_selectors
from costs.forms import CommitmentForm
from costs.models import Commitment
from costs.periods import first_of_month
from costs.services import commitments
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest

_MONTHS = 13


@requires(Permission.VIEW_COSTS)
def commitment_list(request: MemberRequest) -> HttpResponse:
    return _page(request, CommitmentForm())


def _page(request: MemberRequest, form: CommitmentForm, status: int = 200) -> HttpResponse:
    today = timezone.now().astimezone(UTC).date()
    months = _months(today)
    chosen = request.GET.get("month", "")
    month = date.fromisoformat(f"{chosen}-01") if chosen in months else today.replace(day=1)
    page = keyset_page(commitment_selectors.commitment_list(), order=["-proposed_at", "-pk"], cursor=request.GET.get("cursor", ""))
    found = commitment_selectors.commitment_utilisation(month)
    outlooks = commitment_selectors.outlooks(one.commitment for one in found)
    context: dict[str, Any] = {
        "month": month,
        "today": today,
        "months": months,
        "chosen": f"{month:%Y-%m}",
        "found": [(one, outlooks.get(one.commitment.pk)) for one in found],
        "billed": commitment_selectors.billed(month),
        "page": page,
        "rows": [
            (row, row.proposed_by_id == request.user.pk, (row.last_on - today).days if row.covers(today) else None) for row in page.rows
        ],
        "form": form,
        "warn_days": max(commitments.WARN_DAYS),
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
    }
    return render_page(request, "costs/commitments.html", partial="commitments", status=status, context=context)


def _months(today: date) -> dict[str, str]:
    """The present one and those before, newest first."""
    found = (first_of_month(today, -back) for back in range(_MONTHS))
    return {f"{month:%Y-%m}": f"{month:%B %Y}" for month in found}


@requires(Permission.MANAGE_COSTS, "POST")
def commitment_new(request: MemberRequest) -> HttpResponse:
    """Propose a commitment."""
    form = CommitmentForm(request.POST)
    if form.is_valid():
        found = try_service(form, lambda: commitments.propose_commitment(actor=request.user, **form.cleaned_data))
        if found is not None:
            messages.success(request, f"{found.reference} waits for the approval of somebody else.")
            return redirect(reverse("commitment-list"))
    return _page(request, form, status=422)


@requires(Permission.MANAGE_COSTS, "POST")
def commitment_decide(request: MemberRequest, pk: int) -> HttpResponse:
    """Approve, reject (one's own: withdraw) or void one."""
    found = commitment_selectors.commitment(pk)
    act, reason = request.POST.get("act", ""), request.POST.get("reason", "")
    if found is None or act not in ("approve", "reject", "void"):
        raise Http404
    if act == "approve":
        try_act(request, lambda: commitments.approve_commitment(commitment=found, actor=request.user), f"{found} is approved and counts.")
    elif act == "void":
        try_act(
            request,
            lambda: commitments.void_commitment(commitment=found, actor=request.user, reason=reason),
            f"{found} is voided: it never counted.",
        )
    else:
        done = "withdrawn" if found.status == Commitment.Status.WAITING and found.proposed_by_id == request.user.pk else "rejected"
        try_act(request, lambda: commitments.reject_commitment(commitment=found, actor=request.user, reason=reason), f"{found} is {done}.")
    return redirect(reverse("commitment-list"))
