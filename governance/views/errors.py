"""Pages for what went wrong. An unknown page and another organisation's page look the same."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from governance.models import Membership


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    text = "The page doesn't exist, or it belongs to an organisation that you are not a member of."
    return _page(request, {"heading": "There is nothing here", "text": text}, status=404)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    text = str(exception) or "Your roles don't allow this."
    text = f"{text} An owner or admin of the organisation can give you a role that does."
    return _page(request, {"heading": "You may not do this", "text": text}, status=403)


def server_error(request: HttpRequest) -> HttpResponse:
    return HttpResponse(render_to_string("governance/error_plain.html"), status=500)


def _page(request: HttpRequest, context: dict[str, str], status: int) -> HttpResponse:
    """Asks the database nothing: under ASGI error pages are made in a thread that never entered the organisation, and whose connection nobody
    would give back."""
    membership: Membership | None = getattr(request, "membership", None)
    person = {"user": membership.user} if membership is not None else {}
    return HttpResponse(render_to_string("governance/error.html", context | person), status=status)


def api_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"detail": "There is no such endpoint.", "code": "unknown_route"}, status=404)


def api_server_error(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"detail": "The server failed to answer. The failure is logged.", "code": "server_error"}, status=500)
