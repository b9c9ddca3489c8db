"""Every URL x everybody: generated from the URL configuration, so a new route without a rule fails here.

The expected answer is derived from the rule that the route declares; that the declared rule is the intended one is a matter
of `PERMISSION_HOLDERS` below, which repeats the grants by hand on purpose.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from governance.access import Permission, Rule, permissions_of
from governance.api.permissions import ANY_TOKEN, OPERATOR, PUBLIC
from governance.models import Membership, Tenant, User
from tests.cast import MEMBERS, email
from tests.conftest import ClientFor, TenantClient

DUMMIES: dict[str, Any] = {
    "int": 999_999,
    "slug": "nothing-here",
    "str": "nothing-here",
    "uuid": uuid.UUID(int=7),
    "path": "nothing/here",
    "month": "2026-10",
}
PUBLIC_API = (SpectacularAPIView, SpectacularSwaggerView)
PERMISSION_HOLDERS = {
    Permission.VIEW: {"alice", "adam", "bob", "rita", "fay", "sam", "audra"},
    Permission.VIEW_OPERATE: {"alice", "adam", "fay", "sam", "audra"},
    Permission.MANAGE_CATALOG: {"alice", "adam"},
    Permission.USE_GATEWAY: {"alice", "adam", "bob"},
    Permission.MANAGE_KEYS: {"alice", "adam", "sam"},
    Permission.MANAGE_CONSENT: {"alice", "adam", "sam"},
    Permission.MANAGE_POLICIES: {"alice", "adam", "sam"},
    Permission.MANAGE_PAYLOADS: {"alice", "adam", "sam"},
    Permission.VIEW_PAYLOADS: {"alice", "sam"},
    Permission.VIEW_COSTS: {"alice", "adam", "fay", "audra"},
    Permission.MANAGE_COSTS: {"alice", "adam", "fay"},
    Permission.SIGN_BILLS: {"alice", "adam", "fay"},
    Permission.MANAGE_ROLLOUTS: {"alice", "adam", "rita"},
    Permission.SIGN_GATES: {"alice", "adam", "rita", "sam", "audra"},
    Permission.MANAGE_PEOPLE: {"alice", "adam"},
    Permission.MANAGE_ALERTS: {"alice", "adam", "sam"},
    Permission.VIEW_AUDIT: {"alice", "adam", "sam", "audra"},
}


def routes(urlconf: str) -> Iterator[tuple[str, Any]]:
    """(path with dummy arguments, view) for every pattern."""

    def walk(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, Any]]:
        for pattern in patterns:
            route = str(pattern.pattern)
            for name, converter in pattern.pattern.converters.items():
                kind = type(converter).__name__.removesuffix("Converter").lower().replace("string", "str")
                route = route.replace(f"<{kind}:{name}>", str(DUMMIES[kind])).replace(f"<{name}>", str(DUMMIES[kind]))
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, prefix + route)
            else:
                yield prefix + route, pattern.callback

    return walk(get_resolver(urlconf).url_patterns, "")


TENANT_ROUTES = list(routes("governance.urls"))
PUBLIC_ROUTES = list(routes("governance.urls_public"))
API_ROUTES = [(path, view) for path, view in routes("governance.urls_api") if getattr(view, "cls", None) not in PUBLIC_API]
TOKEN_ROUTES = [(path, view) for path, view in API_ROUTES if PUBLIC not in view.cls.access.values()]


def _ids(found: list[tuple[str, Any]]) -> list[str]:
    return [path or "(start)" for path, _ in found]


def _call(client: TenantClient, method: str, path: str) -> Any:
    content_type = "application/json" if path.startswith("/api/") else "application/x-www-form-urlencoded"
    return client.generic(method, path, "{}" if content_type.endswith("json") else "", content_type=content_type)


@pytest.mark.parametrize(("path", "view"), TENANT_ROUTES + PUBLIC_ROUTES, ids=_ids(TENANT_ROUTES + PUBLIC_ROUTES))
def test_every_page_declares_its_rule(path: str, view: Any) -> None:
    assert isinstance(getattr(view, "access_rule", None), Rule), f"{path}: decorate the view with governance.access.requires or a sibling"


@pytest.mark.parametrize(("path", "view"), API_ROUTES, ids=_ids(API_ROUTES))
def test_every_endpoint_declares_its_rule(path: str, view: Any) -> None:
    access = getattr(view.cls, "access", None)

    assert access, f"{path}: give the view an `access` of permission by method"
    assert set(access) >= {method.upper() for method in view.cls.http_method_names if hasattr(view.cls, method)} - {"OPTIONS", "HEAD"}


def test_roles_hold_what_was_meant(acme: Tenant) -> None:
    held = {name: permissions_of(Membership.objects.get(tenant=acme, user__email=email(name)).roles) for name in MEMBERS}

    assert {permission: {name for name in MEMBERS if permission in held[name]} for permission in Permission} == PERMISSION_HOLDERS


@pytest.mark.parametrize(("path", "view"), TENANT_ROUTES, ids=_ids(TENANT_ROUTES))
def test_page_answers_each_member_by_role(path: str, view: Any, client_for: ClientFor, acme: Tenant) -> None:
    """Everybody who may not, and of those who may the first and the last: what they hold is compared in `test_roles_hold_what_was_meant`."""
    may = [name for name in MEMBERS if view.access_rule.permission is None or name in PERMISSION_HOLDERS[view.access_rule.permission]]
    for name in MEMBERS:
        if name in may[1:-1]:
            continue
        client, holds = client_for(User.objects.get(email=email(name))), name in may
        for method in view.access_methods:
            status = _call(client, method, f"/o/acme/{path}").status_code
            assert status < 500, f"{name} {method} {path}: {status}"
            if not holds:
                assert status == 403, f"{name} {method} {path}: {status}"
            elif method == "GET":
                assert status != 403, f"{name} {method} {path}: {status}"


@pytest.mark.parametrize(("path", "view"), TENANT_ROUTES, ids=_ids(TENANT_ROUTES))
def test_page_of_another_tenant_answers_like_a_missing_one(
    path: str, view: Any, client_for: ClientFor, acme: Tenant, charlie: User, olga: User
) -> None:
    for stranger in (charlie, olga):
        client = client_for(stranger)
        for method in view.access_methods:
            other, missing = (_call(client, method, f"/o/{tenant}/{path}") for tenant in ("acme", "no-such-tenant"))
            assert other.status_code == missing.status_code == 404
            assert other.content == missing.content


@pytest.mark.parametrize(("path", "view"), TENANT_ROUTES, ids=_ids(TENANT_ROUTES))
def test_page_sends_nobody_to_sign_in(path: str, view: Any, client_for: ClientFor, acme: Tenant) -> None:
    client = client_for(None)
    for method in view.access_methods:
        for tenant in ("acme", "no-such-tenant"):
            response = _call(client, method, f"/o/{tenant}/{path}")
            assert response.status_code == 302
            assert response["Location"].startswith("/login/?next=/o/")


@pytest.mark.parametrize(("path", "view"), PUBLIC_ROUTES, ids=_ids(PUBLIC_ROUTES))
def test_platform_exists_only_for_operators(path: str, view: Any, client_for: ClientFor, alice: User, olga: User) -> None:
    rule: Rule = view.access_rule
    for method in view.access_methods:
        status = _call(client_for(alice), method, f"/{path}").status_code
        assert status == 404 if rule.operator else status < 404 or status == 422
        assert _call(client_for(olga), method, f"/{path}").status_code < 500


@pytest.mark.parametrize(("path", "view"), TOKEN_ROUTES, ids=_ids(TOKEN_ROUTES))
def test_endpoint_answers_each_token_by_role(path: str, view: Any, api_for: ClientFor, platform_api: TenantClient) -> None:
    clients = {name: api_for(User.objects.get(email=email(name))) for name in MEMBERS}
    for method, needed in view.cls.access.items():
        may = [name for name in MEMBERS if needed == ANY_TOKEN or (needed != OPERATOR and name in PERMISSION_HOLDERS[needed])]
        for name, client in clients.items():
            if name in may[1:-1]:
                continue
            response = _call(client, method, f"/{path}")
            holds = name in may
            assert response.status_code < 500, f"{name} {method} {path}: {response.content!r}"
            assert (response.status_code == 403) is not holds or (holds and method != "GET"), (
                f"{name} {method} {path}: {response.status_code}"
            )
            if not holds:
                assert response.json()["code"] == "permission_denied"
        platform = _call(platform_api, method, f"/{path}").status_code
        assert platform < 500
        assert (platform == 403) is (needed not in (OPERATOR, ANY_TOKEN))


@pytest.mark.parametrize(("path", "view"), TOKEN_ROUTES, ids=_ids(TOKEN_ROUTES))
def test_endpoint_refuses_without_a_live_token(path: str, view: Any, db: None) -> None:
    for client in (TenantClient(), TenantClient(headers={"Authorization": "Bearer ght_aaaaaaaa_bbbbbbbb_nonsense"})):
        for method in view.cls.access:
            response = _call(client, method, f"/{path}")
            assert response.status_code == 401
            assert set(response.json()) == {"detail", "code"}
            assert response["WWW-Authenticate"] == "Bearer"
