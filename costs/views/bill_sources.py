"""Bills that are fetched from providers' cost APIs."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from costs import bill_selectors
from costs.forms import BillSourceForm
from costs.models import BillSource
from costs.services import bill_sources
from governance.access import Permission, requires
from governance.errors import DomainError
from governance.pages import render_page, try_service
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def source_list(request: MemberRequest) -> HttpResponse:
    return _page(request, BillSourceForm(initial={"provider": request.GET.get("provider", "")}))


def _page(request: MemberRequest, form: BillSourceForm, status: int = 200) -> HttpResponse:
    may_manage = request.membership.can(Permission.MANAGE_COSTS)
    context = {"sources": bill_selectors.bill_sources(), "form": form, "may_manage": may_manage}
    return render_page(request, "costs/bill_sources.html", status=status, context=context)


@requires(Permission.MANAGE_COSTS, "POST")
def set_source(request: MemberRequest) -> HttpResponse:
    """Begin to fetch, or change how."""
    form = BillSourceForm(request.POST)
    if form.is_valid() and (source := try_service(form, lambda: bill_sources.set_source(actor=request.user, **form.cleaned_data))):
        messages.success(request, f"Bills of {source.provider} are fetched from {source.begins_on:%b %-d, %Y} on, within half an hour.")
        return redirect(reverse("bill-sources"))
    return _page(request, form, status=422)


@requires(Permission.MANAGE_COSTS, "POST")
def fetch(request: MemberRequest, pk: int) -> HttpResponse:
    """Fetch now."""
    try:
        done = bill_sources.fetch(source=_source(pk))
    except DomainError as error:
        messages.error(request, error.message)
    else:
        new = f"{done.rows:,} new rows" if done.rows else "nothing new"
        messages.success(request, f"{new} up to {done.last:%b %-d, %Y}.")
    return redirect(reverse("bill-sources"))


@requires(Permission.MANAGE_COSTS, "POST")
def remove(request: MemberRequest, pk: int) -> HttpResponse:
    source = _source(pk)
    bill_sources.remove_source(source=source, actor=request.user)
    messages.success(request, f"Bills of {source.provider} are fetched no more. What was fetched stays.")
    return redirect(reverse("bill-sources"))


def _source(pk: int) -> BillSource:
    return get_object_or_404(bill_selectors.bill_sources(), pk=pk)
