"""The rule that every route declares.

Deny by default: a route without a rule is refused at run time, and the matrix test names it. Invisible means 404,
visible but not allowed means 403; whoever does not belong to a tenant gets 404 for everything in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect

from governance.roles import GRANTS, Permission, Role, permissions_of

__all__ = ["GRANTS", "Permission", "Role", "Rule", "operator_only", "or_404", "permissions_of", "public", "requires", "signed_in"]

Found = TypeVar("Found")


@dataclass(frozen=True)
class Rule:
    """Who may use a route. Exactly one of the fields is set; `public` needs no sign-in."""

    permission: Permission | None = None
    signed_in: bool = False
    operator: bool = False
    public: bool = False


View = TypeVar("View", bound=Callable[..., HttpResponseBase])


def _declare(rule: Rule, methods: tuple[str, ...]) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            refusal = _refusal(request, rule)
            if refusal is not None:
                return refusal
            if request.method not in allowed:
                return HttpResponseNotAllowed(allowed)
            return view(request, *args, **kwargs)

        allowed = (*methods, "HEAD") if "GET" in methods else methods
        checked.access_rule = rule  # type: ignore[attr-defined]
        checked.access_methods = methods  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


def _refusal(request: HttpRequest, rule: Rule) -> HttpResponse | None:
    if rule.public:
        return None
    if not request.user.is_authenticated:
        login = redirect_to_login(_way_back(request), "/login/")
        # A fragment must not swap a login form into a table: the browser is sent to the page instead.
        return HttpResponseClientRedirect(login["Location"]) if getattr(request, "htmx", False) else login
    if rule.operator:
        if not request.user.is_operator:
            raise Http404
        return None
    membership = getattr(request, "membership", None)
    if rule.permission is not None:
        if membership is None:
            raise Http404
        if not membership.can(rule.permission):
            raise PermissionDenied(f"This needs the right to: {rule.permission.label.lower()}.")
    elif getattr(request, "tenant_slug", None) and membership is None:
        raise Http404
    return None


def _way_back(request: HttpRequest) -> str:
    """Where sign-in leads: to what was asked for, or, where that was no GET, to the page it was asked from, if that is one of ours."""
    if request.method in ("GET", "HEAD"):
        return request.get_full_path()
    page = request.headers.get("HX-Current-URL") or request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(page, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return "/"
    parts = urlsplit(page)
    return f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}"


def requires(permission: Permission, *methods: str) -> Callable[[View], View]:
    """The view needs a membership with this permission. Methods default to GET."""
    return _declare(Rule(permission=permission), methods or ("GET",))


def signed_in(*methods: str) -> Callable[[View], View]:
    """Any signed-in person (inside a tenant: any member)."""
    return _declare(Rule(signed_in=True), methods or ("GET",))


def operator_only(*methods: str) -> Callable[[View], View]:
    """Only who runs the platform; for everybody else the page does not exist."""
    return _declare(Rule(operator=True), methods or ("GET",))


def public(*methods: str) -> Callable[[View], View]:
    """Nobody needs to sign in."""
    return _declare(Rule(public=True), methods or ("GET",))


def or_404(found: Found | None) -> Found:
    """What an address names, as a selector found it for who asks. Raises Http404 for none, which pages and API answer each in their way."""
    if found is None:
        raise Http404
    return found
