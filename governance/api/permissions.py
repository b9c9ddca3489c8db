"""The rule of an endpoint: `access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_CATALOG}`.

A method without an entry is refused. `OPERATOR` in place of a permission needs a platform token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from governance import selectors
from governance.access import Permission
from governance.models import ApiToken

if TYPE_CHECKING:
    from rest_framework.views import APIView  # rest_framework.views itself loads this module

OPERATOR: Literal["operator"] = "operator"
ANY_TOKEN: Literal["any"] = "any"  # noqa: S105 - not a secret
PUBLIC: Literal["public"] = "public"
Access = dict[str, Permission | Literal["operator", "any", "public"]]


class DeclaredAccess(BasePermission):
    """Deny by default; the rights of a token are those of its person, narrowed by the token's roles."""

    message = "This token may not do that."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method == "OPTIONS":
            return request.auth is not None
        needed = getattr(view, "access", {}).get("GET" if request.method == "HEAD" else request.method)
        if needed == PUBLIC:
            return True
        token = request.auth
        if needed is None or not isinstance(token, ApiToken):
            return False
        if needed == OPERATOR:
            return token.tenant_id is None and token.user.is_operator
        if needed == ANY_TOKEN:
            return True
        if token.tenant is None:
            return False
        membership = selectors.membership_in(token.user, token.tenant)
        if membership is None:
            return False
        if token.roles:
            membership.roles = [role for role in membership.roles if role in token.roles]
        request.membership = membership  # type: ignore[attr-defined]
        return membership.can(needed)
