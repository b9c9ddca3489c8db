"""Requests with what our middleware and authentication add, typed."""

from __future__ import annotations

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails
from rest_framework.request import Request

from governance.models import ApiToken, Membership, Tenant, User


class AppRequest(HttpRequest):
    """Any request of the portal."""

    user: User
    """Anonymous visitors reach only views declared public, which do not look."""
    tenant: Tenant | None
    tenant_slug: str | None
    """What the path names, whether or not such a tenant exists."""
    membership: Membership | None
    api_token: ApiToken | None
    htmx: HtmxDetails
    """True in a condition where htmx asks."""


class MemberRequest(AppRequest):
    """A request inside a tenant, by one of its members: what views behind `requires` and `signed_in` get there."""

    tenant: Tenant
    membership: Membership


class ApiRequest(Request):
    """A request with a token of a tenant."""

    user: User
    auth: ApiToken
    membership: Membership
    """Of the person, with no more roles than the token has."""

    @property
    def tenant(self) -> Tenant:
        """The tenant that the token names."""
        tenant = self.auth.tenant
        assert tenant is not None
        return tenant
