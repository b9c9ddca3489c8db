"""Bearer tokens. The tenant middleware has read the token already, because it names the tenant."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from governance.models import ApiToken, User


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer ght_…`"""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        token: ApiToken | None = request._request.api_token  # type: ignore[attr-defined]
        if token is None:
            if request.headers.get("Authorization"):
                raise AuthenticationFailed("The token is unknown, expired or revoked.", code="invalid_token")
            return None
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "ght_<tenant>_<id>_<secret>"}
