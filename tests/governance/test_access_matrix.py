"""Every URL x everybody: generated from the URL configuration, so a new route without a rule fails here.

The expected answer is derived from the rule that the route declares; that the declared rule is the intended one is a matter
of `PERMISSION_HOLDERS` below, which repeats the grants by hand on purpose.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from django.db import transaction
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
    Permission.APPROVE_MODELS: {"alice", "adam", "sam"},
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


def _call(client: TenantClient, method: str, path: str) -> Any:
    """The answer; what the request changed is taken back, so that each finds the same organisation."""
    content_type = "application/json" if path.startswith("/api/") else "application/x-www-form-urlencoded"
    with transaction.atomic():
        answer = client.generic(method, path, "{}" if content_type.endswith("json") else "", content_type=content_type)
        transaction.set_rollback(True)
    return answer


def _asked(name: str, may: list[str], *, reads_page: bool = False) -> bool:
    """The last of those who may and the first of those who may not: what each holds is compared in `test_roles_hold_what_was_meant`.

    A page is also read by the first who may, for whom it has the most to show: the last one often only reads.
    """
    alike = [member for member in MEMBERS if (member in may) is (name in may)]
    if name not in may:
        return name == alike[0]
    return name == alike[-1] or (reads_page and name == alike[0])


def test_every_page_declares_its_rule() -> None:
    """Else: decorate the view with governance.access.requires or a sibling."""
    assert [path for path, view in TENANT_ROUTES + PUBLIC_ROUTES if not isinstance(getattr(view, "access_rule", None), Rule)] == []


def test_every_endpoint_declares_its_rule() -> None:
    """Else: give the view an `access` of permission by method."""
    for path, view in API_ROUTES:
        methods = {method.upper() for method in view.cls.http_method_names if hasattr(view.cls, method)} - {"OPTIONS", "HEAD"}
        assert set(getattr(view.cls, "access", None) or {}) >= methods, path


def test_roles_hold_what_was_meant(acme: Tenant) -> None:
    held = {name: permissions_of(Membership.objects.get(tenant=acme, user__email=email(name)).roles) for name in MEMBERS}

    assert {permission: {name for name in MEMBERS if permission in held[name]} for permission in Permission} == PERMISSION_HOLDERS


@pytest.mark.parametrize("name", MEMBERS)
def test_page_answers_each_member_by_role(name: str, client_for: ClientFor, acme: Tenant) -> None:
    client = client_for(User.objects.get(email=email(name)))
    wrong = []
    for path, view in TENANT_ROUTES:
        may = [
            member for member in MEMBERS if view.access_rule.permission is None or member in PERMISSION_HOLDERS[view.access_rule.permission]
        ]
        for method in view.access_methods:
            if not _asked(name, may, reads_page=method == "GET"):
                continue
            status = _call(client, method, f"/o/acme/{path}").status_code
            is_right = status == 403 if name not in may else status < 500 and (method != "GET" or status != 403)
            wrong += [] if is_right else [f"{method} {path}: {status}"]

    assert wrong == []


def test_page_of_another_tenant_answers_like_a_missing_one(client_for: ClientFor, acme: Tenant, charlie: User, olga: User) -> None:
    strangers = client_for(charlie), client_for(olga)  # in turn: one rule answers both, and every page declares it
    answering = {method: [path for path, view in TENANT_ROUTES if method in view.access_methods] for method in ("GET", "POST")}
    somewhere = {method: paths[:: len(paths) // 5] for method, paths in answering.items()}
    missing = [
        {method: {_call(client, method, f"/o/no-such-tenant/{path}").content for path in paths} for method, paths in somewhere.items()}
        for client in strangers
    ]
    wrong = []
    for number, (path, view) in enumerate(TENANT_ROUTES):
        client, alike = strangers[number % 2], missing[number % 2]
        for method in view.access_methods:
            answer = _call(client, method, f"/o/acme/{path}")
            wrong += [] if answer.status_code == 404 and {answer.content} == alike[method] else [f"{method} {path}: {answer.status_code}"]

    assert wrong == []


def test_page_sends_nobody_to_sign_in(client_for: ClientFor, acme: Tenant) -> None:
    client = client_for(None)
    wrong = []
    for (path, view), tenant in zip(TENANT_ROUTES, cycle(("acme", "no-such-tenant")), strict=False):
        for method in (*view.access_methods, "PUT"):  # which no page takes: a stranger does not learn that
            answer = _call(client, method, f"/o/{tenant}/{path}")
            leads_back = f"/login/?next=/o/{tenant}/" if method == "GET" else "/login/?next=/"
            is_right = answer.status_code == 302 and answer["Location"].startswith(leads_back)
            wrong += [] if is_right else [f"{method} {tenant} {path}: {answer.status_code}"]

    assert wrong == []


def test_platform_exists_only_for_operators(client_for: ClientFor, alice: User, olga: User) -> None:
    for path, view in PUBLIC_ROUTES:
        member, operator = client_for(alice), client_for(olga)  # anew, for one of them signs out
        for method in view.access_methods:
            status = _call(member, method, f"/{path}").status_code
            assert status == 404 if view.access_rule.operator else status < 404 or status == 422, f"{method} {path}: {status}"
            assert _call(operator, method, f"/{path}").status_code < 500, f"{method} {path}"


@pytest.mark.parametrize("name", MEMBERS)
def test_endpoint_answers_each_token_by_role(name: str, api_for: ClientFor) -> None:
    client = api_for(User.objects.get(email=email(name)))
    wrong = []
    for path, view in TOKEN_ROUTES:
        for method, needed in view.cls.access.items():
            may = [member for member in MEMBERS if needed == ANY_TOKEN or (needed != OPERATOR and member in PERMISSION_HOLDERS[needed])]
            if not _asked(name, may):
                continue
            answer = _call(client, method, f"/{path}")
            status = answer.status_code
            if name not in may:
                is_right = status == 403 and answer.json()["code"] == "permission_denied"
            else:
                is_right = status < 500 and (method != "GET" or status != 403)
            wrong += [] if is_right else [f"{method} {path}: {status} {answer.content[:200]!r}"]

    assert wrong == []


def test_endpoint_answers_the_platforms_token(platform_api: TenantClient) -> None:
    for path, view in TOKEN_ROUTES:
        for method, needed in view.cls.access.items():
            status = _call(platform_api, method, f"/{path}").status_code
            assert status < 500, f"{method} {path}: {status}"
            assert (status == 403) is (needed not in (OPERATOR, ANY_TOKEN)), f"{method} {path}: {status}"


def test_endpoint_refuses_without_a_live_token(db: None) -> None:
    clients = (TenantClient(), TenantClient(headers={"Authorization": "Bearer ght_aaaaaaaa_bbbbbbbb_nonsense"}))
    for (path, view), client in zip(TOKEN_ROUTES, cycle(clients), strict=False):
        for method in view.cls.access:
            response = _call(client, method, f"/{path}")
            assert response.status_code == 401, f"{method} {path}"
            assert set(response.json()) == {"detail", "code"}
            assert response["WWW-Authenticate"] == "Bearer"
