"""Which tenant a request is for, and who the person is in it.

People address a tenant by path, `/o/<tenant>/…`: the script prefix is set to it, so `reverse()` needs no argument. Programs
address it by their token under `/api/`, never by path. The script prefix and the schema are set on every request.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import set_script_prefix, set_urlconf

from governance import selectors
from governance.models import Tenant
from governance.requests import AppRequest
from governance.schema import enter_public, enter_tenant
from governance.services import audit, tokens

__all__ = ["AppRequest", "ContentSecurityPolicyMiddleware", "MembershipMiddleware", "TenantMiddleware"]

GetResponse = Callable[[HttpRequest], HttpResponse]


class TenantMiddleware:
    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: AppRequest) -> HttpResponse:
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            # PostgreSQL knows no NUL in a text: nothing of ours has it in its address, and every look-up would fail.
            return JsonResponse({"detail": "The address holds a NUL character.", "code": "invalid"}, status=400)
        enter_public()
        request.tenant = request.tenant_slug = request.membership = request.api_token = None
        urlconf, prefix = settings.PUBLIC_SCHEMA_URLCONF, "/"
        via = "web"
        if request.path_info.startswith("/o/"):
            slug, _, rest = request.path_info[3:].partition("/")
            request.tenant_slug = slug
            request.tenant = Tenant.objects.filter(slug=slug).first()
            request.path_info = f"/{rest}"
            urlconf, prefix = settings.ROOT_URLCONF, f"/o/{slug}/"
        elif request.path_info.startswith("/api/"):
            urlconf, via = settings.API_URLCONF, "api"
            scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() == "bearer":
                request.api_token = tokens.authenticate(credentials.strip())
                request.tenant = request.api_token.tenant if request.api_token else None
        set_script_prefix(prefix)
        set_urlconf(urlconf)
        request.urlconf = urlconf
        if request.tenant is not None:
            enter_tenant(request.tenant)
        token = audit.via.set(via)
        try:
            return self.get_response(request)
        finally:
            audit.via.reset(token)
            enter_public()


class MembershipMiddleware:
    """Finds the person's membership in the tenant. Whoever has none gets 404 for everything there (governance.access)."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: AppRequest) -> HttpResponse:
        if request.tenant is not None and request.tenant_slug and request.user.is_authenticated:
            request.membership = selectors.membership_in(request.user, request.tenant)
        return self.get_response(request)


class ContentSecurityPolicyMiddleware:
    """Scripts only from our own files; inline styles are allowed because Plotly sets them."""

    POLICY = (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self.POLICY)
        return response
