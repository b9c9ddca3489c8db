"""API tokens: made once, shown once, revoked at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_tenants.utils import schema_context

from gateway.contract import keys
from governance.errors import NotAllowedError
from governance.models import ApiToken, Membership, Tenant, User
from governance.selectors import memberships_of
from governance.services import audit

LIFETIME_DAYS = 90
PLATFORM = "platform"
"""Stands in a platform token where a tenant's public id would be."""


@transaction.atomic
def create_token(
    *, user: User, tenant: Tenant | None, name: str, actor: User | None, roles: Sequence[str] = (), lifetime_days: int = LIFETIME_DAYS
) -> tuple[ApiToken, str]:
    """Make a token for the REST API; the text is returned here and nowhere else.

    `tenant` None makes a platform token, for operators only. Raises NotAllowedError.
    """
    if tenant is None and not user.is_operator:
        raise NotAllowedError("Only an operator can have a platform token.")
    if tenant is not None and not Membership.objects.filter(user=user, tenant=tenant).exists():
        raise NotAllowedError("Only a member can have a token of the organisation.")
    token = ApiToken(
        tenant=tenant,
        user=user,
        name=name,
        roles=list(roles),
        expires_at=timezone.now() + timedelta(days=min(lifetime_days, LIFETIME_DAYS)),
    )
    text = keys.generate("ght", tenant.public_id if tenant else PLATFORM, token.public_id)
    token.digest = keys.digest(text, settings.KEY_PEPPER)
    token.save()
    audit.record("api_token.created", actor=actor, target=token, expires_at=token.expires_at)
    return token, text


def create_token_for(*, user: User, tenant_slug: str, name: str, lifetime_days: int = LIFETIME_DAYS) -> tuple[ApiToken, str]:
    """A token of one's own for the organisation with this address, or for the platform when it is empty.

    Raises NotAllowedError, the same for an organisation that does not exist and one that the person does not belong to.
    """
    tenant = None
    if tenant_slug:
        membership = memberships_of(user).filter(tenant__slug=tenant_slug).first()
        if membership is None:
            raise NotAllowedError("You are not a member of an organisation with this address.")
        tenant = membership.tenant
    with schema_context(tenant.schema_name if tenant else "public"):
        return create_token(user=user, tenant=tenant, name=name, actor=user, lifetime_days=lifetime_days)


@transaction.atomic
def revoke_token(*, token: ApiToken, actor: User) -> ApiToken:
    """End the token at once. Idempotent."""
    token = ApiToken.objects.select_for_update().get(pk=token.pk)
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        audit.record("api_token.revoked", actor=actor, target=token)
    return token


def authenticate(text: str) -> ApiToken | None:
    """The live token with this text, its user and tenant; None when there is none.

    Reads the public schema. Compares digests in constant time; notes the use at most once a minute.
    """
    try:
        parsed = keys.parse(text)
    except keys.MalformedKeyError:
        return None
    if parsed.prefix != "ght":
        return None
    token = ApiToken.objects.select_related("user", "tenant").filter(public_id=parsed.id).first()
    if token is None or not keys.matches(text, token.digest, settings.KEY_PEPPER):
        return None
    now = timezone.now()
    if token.revoked_at or token.expires_at <= now or not token.user.is_active:
        return None
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token
