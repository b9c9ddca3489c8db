"""Keeping what a cost page shows under a name, for oneself or for everybody."""

from __future__ import annotations

from urllib.parse import parse_qsl

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from costs import saved_views
from costs.forms import SavedViewForm
from costs.models import SavedView
from costs.services import saved_views as services
from governance.access import Permission, requires
from governance.errors import DomainError
from governance.requests import MemberRequest

_URLS = {SavedView.Page.SPEND: "costs-spend", SavedView.Page.USAGE: "usage"}


@requires(Permission.VIEW_COSTS, "POST")
def spend_view_new(request: MemberRequest) -> HttpResponse:
    return _new(request, SavedView.Page.SPEND)


@requires(Permission.VIEW_COSTS, "POST")
def spend_view_edit(request: MemberRequest, pk: int) -> HttpResponse:
    return _edit(request, SavedView.Page.SPEND, pk)


@requires(Permission.VIEW_COSTS, "POST")
def spend_view_delete(request: MemberRequest, pk: int) -> HttpResponse:
    return _delete(request, SavedView.Page.SPEND, pk)


@requires(Permission.USE_GATEWAY, "POST")
def usage_view_new(request: MemberRequest) -> HttpResponse:
    return _new(request, SavedView.Page.USAGE)


@requires(Permission.USE_GATEWAY, "POST")
def usage_view_edit(request: MemberRequest, pk: int) -> HttpResponse:
    return _edit(request, SavedView.Page.USAGE, pk)


@requires(Permission.USE_GATEWAY, "POST")
def usage_view_delete(request: MemberRequest, pk: int) -> HttpResponse:
    return _delete(request, SavedView.Page.USAGE, pk)


def _new(request: MemberRequest, page: SavedView.Page) -> HttpResponse:
    form = SavedViewForm(request.POST)
    parameters = dict(parse_qsl(request.POST.get("parameters", "")))
    if not form.is_valid():
        return _refused(request, page, form, parameters)
    try:
        view = services.save_view(page=page, owner=request.user, parameters=parameters, **form.cleaned_data)
    except DomainError as error:
        messages.error(request, error.message)
        return redirect(_address(page, parameters))
    messages.success(request, f"{view.name} is kept{', for everybody who may see this page' if view.is_shared else ''}.")
    return redirect(f"{reverse(_URLS[page])}?{saved_views.query(view)}")


def _edit(request: MemberRequest, page: SavedView.Page, pk: int) -> HttpResponse:
    view, form = _own(request, page, pk), SavedViewForm(request.POST)
    if not form.is_valid():
        return _refused(request, page, form, view.parameters)
    try:
        view = services.change_view(view=view, **form.cleaned_data)
    except DomainError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{view.name} is changed.")
    return redirect(f"{reverse(_URLS[page])}?{saved_views.query(view)}")


def _delete(request: MemberRequest, page: SavedView.Page, pk: int) -> HttpResponse:
    view = _own(request, page, pk)
    services.delete_view(view=view)
    messages.success(request, f"{view.name} is deleted.")
    return redirect(f"{reverse(_URLS[page])}?period=this-month")


def _own(request: MemberRequest, page: SavedView.Page, pk: int) -> SavedView:
    view = saved_views.own(request.user, page, pk)
    if view is None:
        raise Http404
    return view


def _refused(request: MemberRequest, page: SavedView.Page, form: SavedViewForm, parameters: dict[str, str]) -> HttpResponse:
    messages.error(request, " ".join(str(text) for texts in form.errors.values() for text in texts))
    return redirect(_address(page, parameters))


def _address(page: SavedView.Page, parameters: dict[str, str]) -> str:
    return f"{reverse(_URLS[page])}?{saved_views.query(SavedView(parameters=saved_views.cleaned(parameters)))}"
