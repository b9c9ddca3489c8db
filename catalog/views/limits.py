"""Limits on requests, tokens and calls at once, with what is used of them."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from catalog import selectors
from catalog.forms.limits import LimitChangeForm, LimitForm
from catalog.models import UsageLimit
from catalog.services import limits
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page, try_service
from governance.requests import MemberRequest


@requires(Permission.VIEW_OPERATE)
def limit_list(request: MemberRequest) -> HttpResponse:
    query = request.GET.get("q", "").strip()
    page = keyset_page(selectors.usage_limits(query), order=["scope", "ref", "pk"], cursor=request.GET.get("cursor", ""))
    context = {
        "page": page,
        "rows": selectors.limit_rows(page.rows),
        "q": query,
        "may_change": request.membership.can(Permission.MANAGE_CATALOG),
    }
    return render_page(request, "catalog/limits.html", partial="limit-table", context=context)


@requires(Permission.MANAGE_CATALOG, "GET", "POST")
def limit_new(request: MemberRequest) -> HttpResponse:
    initial = {name: request.GET[name] for name in ("scope", "ref") if name in request.GET}
    form, status = LimitForm(request.POST or None, initial=initial), 200
    if request.method == "POST":
        status = 422
        made = try_service(form, lambda: limits.create_limit(actor=request.user, **form.cleaned_data)) if form.is_valid() else None
        if made is not None:
            messages.success(request, f"In force within seconds: {made}.")
            return redirect(reverse("limits"))
    return render_page(request, "catalog/limit_form.html", partial="limit-form", context={"form": form, "limit": None}, status=status)


@requires(Permission.MANAGE_CATALOG, "GET", "POST")
def limit_edit(request: MemberRequest, pk: int) -> HttpResponse:
    limit = _limit(pk)
    initial = {"amount": limit.amount, "fail_open": limit.fail_open, "is_enabled": limit.is_enabled, "note": limit.note}
    form, status = LimitChangeForm(request.POST or None, initial=initial), 200
    if request.method == "POST":
        status = 422
        if form.is_valid() and try_service(form, lambda: limits.change_limit(limit=limit, actor=request.user, **form.cleaned_data)):
            messages.success(request, "The limit is changed. The gateway has it within seconds.")
            return redirect(reverse("limits"))
    return render_page(request, "catalog/limit_form.html", partial="limit-form", context={"form": form, "limit": limit}, status=status)


@requires(Permission.MANAGE_CATALOG, "POST")
def limit_delete(request: MemberRequest, pk: int) -> HttpResponse:
    limit = _limit(pk)
    limits.delete_limit(limit=limit, actor=request.user)
    messages.success(request, "The limit is taken away.")
    return redirect(reverse("limits"))


def _limit(pk: int) -> UsageLimit:
    return get_object_or_404(selectors.usage_limits(), pk=pk)
