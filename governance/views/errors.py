"""Pages for what went wrong. An unknown page and another organisation's page look the same."""

from __future__ import annotations

import threading

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django_tenants.utils import get_public_schema_name, schema_context

from governance.models import Tenant


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    text = "The page doesn't exist, or it belongs to an organisation that you are not a member of."
    return _page(request, {"heading": "There is nothing here", "text": text}, status=404)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    text = str(exception) or "Your roles don't allow this."
    text = f"{text} An owner or admin of the organisation can give you a role that does."
    return _page(request, {"heading": "You may not do this", "text": text}, status=403)


def server_error(request: HttpRequest) -> HttpResponse:
    """Without the frame of other pages: whatever it reads may be what fails."""
    return HttpResponse(render_to_string("governance/error_plain.html"), status=500)


def _page(request: HttpRequest, context: dict[str, str], status: int) -> HttpResponse:
    """Under ASGI Django makes error pages in a thread that never entered the organisation, and whose connection nobody gives back."""
    if getattr(request, "thread", None) in (None, threading.get_ident()):
        return render(request, "governance/error.html", context, status=status)
    tenant: Tenant | None = getattr(request, "tenant", None)
    try:
        with schema_context(tenant.schema_name if tenant is not None else get_public_schema_name()):
            return render(request, "governance/error.html", context, status=status)
    finally:
        connection.close()


def api_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"detail": "There is no such endpoint.", "code": "unknown_route"}, status=404)


def api_server_error(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"detail": "The server failed to answer. The failure is logged.", "code": "server_error"}, status=500)
