"""API tokens."""

from datetime import timedelta

import pytest
from django.utils import timezone

from gateway.contract import keys
from governance.errors import NotAllowedError
from governance.models import ApiToken, AuditEntry, Tenant, User
from governance.services import tokens
from tests.conftest import api_client


def test_token_is_kept_only_as_a_keyed_digest(acme: Tenant, bob: User) -> None:
    token, text = tokens.create_token(user=bob, tenant=acme, name="import", actor=bob)

    parsed = keys.parse(text)
    assert (parsed.prefix, parsed.tenant, parsed.id) == ("ght", acme.public_id, token.public_id)
    assert text not in str(ApiToken.objects.filter(pk=token.pk).values().get())
    assert text not in str(list(AuditEntry.objects.values()))
    assert tokens.authenticate(text) == token


def test_dead_tokens_are_refused(acme: Tenant, bob: User) -> None:
    revoked, revoked_text = tokens.create_token(user=bob, tenant=acme, name="revoked", actor=bob)
    expired, expired_text = tokens.create_token(user=bob, tenant=acme, name="expired", actor=bob)

    tokens.revoke_token(token=revoked, actor=bob)
    ApiToken.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))

    assert tokens.authenticate(revoked_text) is None
    assert tokens.authenticate(expired_text) is None
    assert tokens.authenticate(revoked_text[:-1] + "x") is None
    assert tokens.authenticate("Bearer nonsense") is None


def test_only_members_and_operators_have_tokens(acme: Tenant, charlie: User, bob: User) -> None:
    with pytest.raises(NotAllowedError):
        tokens.create_token(user=charlie, tenant=acme, name="x", actor=charlie)
    with pytest.raises(NotAllowedError):
        tokens.create_token(user=bob, tenant=None, name="x", actor=bob)


def test_token_with_fewer_roles_has_fewer_rights(acme: Tenant, alice: User) -> None:
    client = api_client(alice, acme, roles=["developer"])

    assert client.get("/api/v1/me/").json()["roles"] == []
    assert client.get("/api/v1/members/").status_code == 403
