"""Quick switches, of an organisation and of the whole platform; how long they take to hold; drills."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from governance import control_selectors as selectors
from governance.access import Permission, operator_only, requires
from governance.control_forms import SwitchForm
from governance.models import Pillar, Tenant
from governance.pages import render_page, try_service
from governance.planes import planes
from governance.requests import AppRequest, MemberRequest
from governance.services import effects, switches

SHOWN = 25


@requires(Permission.VIEW_OPERATE)
def switch_list(request: MemberRequest) -> HttpResponse:
    return _own(request)


def _own(request: MemberRequest, pillar: str = "", form: SwitchForm | None = None) -> HttpResponse:
    context = {
        "action": "switch-set",
        "drill_url": reverse("switch-drill"),
        "may_change": request.membership.can(Permission.MANAGE_CONSENT),
        "everybody": False,
    }
    return _page(request, request.tenant, context, pillar, form)


@requires(Permission.MANAGE_CONSENT, "POST")
def set_switch(request: MemberRequest, pillar: str) -> HttpResponse:
    form = _set(request, pillar)
    return redirect(reverse("switches")) if form.is_valid() else _own(request, pillar, form)


@requires(Permission.MANAGE_CONSENT, "POST")
def run_drill(request: MemberRequest) -> HttpResponse:
    effects.run_drill(actor=request.user)
    messages.success(request, "The drill runs. No call is refused.")
    return redirect(reverse("switches"))


@operator_only()
def platform_switches(request: AppRequest) -> HttpResponse:
    return _platform(request)


def _platform(request: AppRequest, pillar: str = "", form: SwitchForm | None = None) -> HttpResponse:
    context = {"action": "platform-switch-set", "drill_url": "/platform/switches/drill/", "may_change": True, "everybody": True}
    return _page(request, None, context, pillar, form)


@operator_only("POST")
def set_platform_switch(request: AppRequest, pillar: str) -> HttpResponse:
    form = _set(request, pillar)
    return redirect("/platform/switches/") if form.is_valid() else _platform(request, pillar, form)


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


def _page(request: AppRequest, tenant: Tenant | None, context: dict[str, Any], pillar: str, form: SwitchForm | None) -> HttpResponse:
    """With the pillar whose form was refused, and that form, where there is one."""
    timed = list(selectors.effects(tenant)[:SHOWN])
    found = {"switches": selectors.switches(), "effects": timed, "is_waiting": any(each.is_waiting for each in timed)}
    context |= {**found, "refused": pillar, "form": form}
    return render_page(request, "governance/switches.html", partial="effects", context=context, status=200 if form is None else 422)


def _set(request: AppRequest, pillar: str) -> SwitchForm:
    """Move the switch, unless the form that comes back has errors."""
    if pillar not in Pillar.values:
        raise Http404
    is_off = request.POST.get("position") == "off"
    form = SwitchForm(request.POST)
    if form.is_valid() and try_service(
        form, lambda: switches.set_switch(pillar=pillar, is_off=is_off, actor=request.user, **form.cleaned_data)
    ):
        messages.success(request, f"{Pillar(pillar).label}: {'off' if is_off else 'on'}. Below it is timed until every process has it.")
    return form
