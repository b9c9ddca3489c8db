"""Quick switches, of an organisation and of the whole platform; how long they take to hold; drills."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from governance import control_selectors as selectors
from governance.access import Permission, operator_only, requires
from governance.errors import NotConfirmedError
from governance.models import Pillar, Tenant
from governance.pages import render_page
from governance.planes import planes
from governance.requests import AppRequest, MemberRequest
from governance.services import effects, switches

SHOWN = 25


@requires(Permission.VIEW_OPERATE)
def switch_list(request: MemberRequest) -> HttpResponse:
    context = {
        "action": "switch-set",
        "drill_url": reverse("switch-drill"),
        "may_change": request.membership.can(Permission.MANAGE_CONSENT),
        "everybody": False,
    }
    return _page(request, request.tenant, context)


@requires(Permission.MANAGE_CONSENT, "POST")
def set_switch(request: MemberRequest, pillar: str) -> HttpResponse:
    _set(request, pillar)
    return redirect(reverse("switches"))


@requires(Permission.MANAGE_CONSENT, "POST")
def run_drill(request: MemberRequest) -> HttpResponse:
    effects.run_drill(actor=request.user)
    messages.success(request, "The drill runs. No call is refused.")
    return redirect(reverse("switches"))


@operator_only()
def platform_switches(request: AppRequest) -> HttpResponse:
    context = {"action": "platform-switch-set", "drill_url": "/platform/switches/drill/", "may_change": True, "everybody": True}
    return _page(request, None, context)


@operator_only("POST")
def set_platform_switch(request: AppRequest, pillar: str) -> HttpResponse:
    _set(request, pillar)
    return redirect("/platform/switches/")


@operator_only("POST")
def run_platform_drill(request: AppRequest) -> HttpResponse:
    effects.run_drill(actor=request.user)
    messages.success(request, "The drill runs. No call is refused.")
    return redirect("/platform/switches/")


@operator_only()
def platform_planes(request: AppRequest) -> HttpResponse:
    states = planes().planes()
    context = {
        "planes": states,
        "alive": sum(state.is_alive for state in states),
        "behind": sum(state.behind for state in states if state.is_alive),
    }
    return render_page(request, "governance/planes.html", context=context)


def _page(request: AppRequest, tenant: Tenant | None, context: dict[str, Any]) -> HttpResponse:
    timed = list(selectors.effects(tenant)[:SHOWN])
    found = {"switches": selectors.switches(), "effects": timed, "is_waiting": any(each.is_waiting for each in timed)}
    return render_page(request, "governance/switches.html", partial="effects", context=context | found)


def _set(request: AppRequest, pillar: str) -> None:
    if pillar not in Pillar.values:
        raise Http404
    is_off = request.POST.get("position") == "off"
    try:
        switches.set_switch(pillar=pillar, is_off=is_off, actor=request.user, reason=request.POST.get("reason", "")[:200])
    except NotConfirmedError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{Pillar(pillar).label}: {'off' if is_off else 'on'}. Below it is timed until every process has it.")
