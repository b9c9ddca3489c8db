"""Quick switches: of an organisation, and of the whole platform."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from governance import control_selectors as selectors
from governance.access import Permission, operator_only, permissions_of, requires
from governance.errors import NotConfirmedError
from governance.models import Pillar
from governance.pages import render_page
from governance.requests import AppRequest, MemberRequest
from governance.services import switches


@requires(Permission.VIEW_OPERATE)
def switch_list(request: MemberRequest) -> HttpResponse:
    context = {
        "switches": selectors.switches(),
        "action": "switch-set",
        "may_change": Permission.MANAGE_CONSENT in permissions_of(request.membership.roles),
        "everybody": False,
    }
    return render_page(request, "governance/switches.html", context=context)


@requires(Permission.MANAGE_CONSENT, "POST")
def set_switch(request: MemberRequest, pillar: str) -> HttpResponse:
    _set(request, pillar)
    return redirect(reverse("switches"))


@operator_only()
def platform_switches(request: AppRequest) -> HttpResponse:
    context = {"switches": selectors.switches(), "action": "platform-switch-set", "may_change": True, "everybody": True}
    return render_page(request, "governance/switches.html", context=context)


@operator_only("POST")
def set_platform_switch(request: AppRequest, pillar: str) -> HttpResponse:
    _set(request, pillar)
    return redirect("/platform/switches/")


def _set(request: AppRequest, pillar: str) -> None:
    if pillar not in Pillar.values:
        raise Http404
    is_off = request.POST.get("position") == "off"
    try:
        switches.set_switch(pillar=pillar, is_off=is_off, actor=request.user, reason=request.POST.get("reason", "")[:200])
    except NotConfirmedError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{Pillar(pillar).label}: {'off' if is_off else 'on'}. The gateway follows within about 2 s.")
