"""The three home pages, filled by panels of the apps."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from governance import home, navigation
from governance.access import Permission, requires, signed_in
from governance.pages import render_page
from governance.requests import MemberRequest

QUESTIONS = {  # while no panel has a figure
    "operate": "What needs attention today.",
    "build": "Your calls through the gateway, and how to make the next one.",
    "release": "What is being rolled out, and which gate comes next.",
}


@signed_in()
def start(request: MemberRequest) -> HttpResponse:
    """To the home of the person's own area."""
    return redirect(reverse(f"{navigation.default_area(request.membership)}-home"))


@requires(Permission.VIEW_OPERATE)
def operate_home(request: MemberRequest) -> HttpResponse:
    return _home(request, "operate")


@requires(Permission.USE_GATEWAY)
def build_home(request: MemberRequest) -> HttpResponse:
    return _home(request, "build")


@requires(Permission.VIEW)
def release_home(request: MemberRequest) -> HttpResponse:
    return _home(request, "release")


def _home(request: MemberRequest, area: str) -> HttpResponse:
    panels = home.panels_for(request.membership, area)
    context = {"panels": panels, "home_title": navigation.AREAS[area], "line": home.line_of(panels) or QUESTIONS[area]}
    return render_page(request, "governance/home.html", context=context)
