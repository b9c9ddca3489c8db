"""Pages for what went wrong. An unknown page and another organisation's page look the same."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(
        request,
        "governance/error.html",
        {
            "heading": "There is nothing here",
            "text": "The page doesn't exist, or it belongs to an organisation that you are not a member of.",
        },
        status=404,
    )


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    text = str(exception) or "Your roles don't allow this."
    return render(
        request,
        "governance/error.html",
        {"heading": "You may not do this", "text": f"{text} An owner or admin of the organisation can give you a role that does."},
        status=403,
    )


def server_error(request: HttpRequest) -> HttpResponse:
    return render(request, "governance/error_plain.html", status=500)


def api_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"detail": "There is no such endpoint.", "code": "unknown_route"}, status=404)


def api_server_error(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"detail": "The server failed to answer. The failure is logged.", "code": "server_error"}, status=500)
