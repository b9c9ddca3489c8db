"""Suggestions for forms of rules that apply to a project, a model, a key or a deployment."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render

from governance.access import Permission, requires
from governance.catalog_names import found_names
from governance.requests import MemberRequest


@requires(Permission.VIEW_OPERATE)
def scope_names(request: MemberRequest) -> HttpResponse:
    """Options of a datalist: the first few that have what is typed in their names."""
    names = found_names(request.membership, request.GET.get("scope", ""), request.GET.get("ref", "").strip())
    return render(request, "partials/scope_names.html#options", {"names": names})
