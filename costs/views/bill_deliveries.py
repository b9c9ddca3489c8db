"""What a bill that is delivered again would replace, and deciding about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect

from costs import bill_selectors
from costs.forms import BillReasonForm
from costs.models import BillFile
from costs.services import bills
from governance import csvs
from governance.access import Permission, requires
from governance.pages import try_act, try_form
from governance.requests import MemberRequest

_COLUMNS = ("provider", "account", "period", "charge_start", "charge_end", "charge_category", "charge_class", "model", "token_class")
_FIGURES = ("tokens", "billed_cost", "effective_cost", "currency")


@requires(Permission.MANAGE_COSTS, "POST")
def bill_preview(request: MemberRequest, pk: int) -> HttpResponse:
    """Say anew what a file would change, in the style that is asked for."""
    style = request.POST.get("style", "")
    return _acted(request, pk, lambda bill: bills.preview_bill(bill=bill, actor=request.user, style=style), "This is what it would change.")


@requires(Permission.MANAGE_COSTS, "POST")
def bill_apply(request: MemberRequest, pk: int) -> HttpResponse:
    bill, digest = _bill(pk), request.POST.get("digest", "")
    try_form(
        request,
        BillReasonForm(request.POST),
        lambda given: bills.apply_bill(bill=bill, actor=request.user, digest=digest, **given),
        "The file is applied. The comparison follows in a moment.",
    )
    return redirect("bill-detail", pk)


@requires(Permission.MANAGE_COSTS, "POST")
def bill_dismiss(request: MemberRequest, pk: int) -> HttpResponse:
    return _acted(
        request, pk, lambda bill: bills.dismiss_bill(bill=bill, actor=request.user), "The file is dismissed; nothing of it counts."
    )


@requires(Permission.MANAGE_COSTS, "POST")
def bill_undo(request: MemberRequest, pk: int) -> HttpResponse:
    bill = _bill(pk)
    try_form(
        request,
        BillReasonForm(request.POST),
        lambda given: bills.undo_bill(bill=bill, actor=request.user, **given),
        "The file is undone: what it replaced counts again. The comparison follows in a moment.",
    )
    return redirect("bill-detail", pk)


def _acted(request: MemberRequest, pk: int, act: Callable[[BillFile], Any], said: str) -> HttpResponse:
    bill = _bill(pk)
    try_act(request, lambda: act(bill), said)
    return redirect("bill-detail", pk)


@requires(Permission.VIEW_COSTS)
def bill_changes(request: MemberRequest, pk: int) -> HttpResponseBase:
    """The rows that a file replaced and those that it brought, as CSV."""
    bill = _bill(pk)
    rows = (
        (
            "new" if row.is_in_force else "gone",
            row.file.name,
            row.part,
            row.line,
            *(getattr(row, name) for name in _COLUMNS),
            row.description or row.meter or row.sku_id,
            *(getattr(row, name) for name in _FIGURES),
        )
        for row in bill_selectors.replaced_and_new(bill).iterator(chunk_size=2000)
    )
    header = ("state", "file", "part", "line", *_COLUMNS, "description", *_FIGURES)
    return csvs.response(request, f"changes-{bill.sha256[:8]}.csv", header, rows)


def _bill(pk: int) -> BillFile:
    return get_object_or_404(bill_selectors.bills(), pk=pk)
