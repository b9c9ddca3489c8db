"""Virtual keys: made once, shown once, revoked at once; and the short-lived sessions of the portal's own pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from catalog import selectors
from catalog.errors import InvalidValueError, KeyEndedError, ProjectOffError
from catalog.models import Model, Project, ToolServer, VirtualKey
from gateway.contract import keys
from governance import config
from governance.errors import NotAllowedError
from governance.models import User
from governance.roles import Permission
from governance.selectors import membership_in
from governance.services import audit

MAX_LIFETIME_DAYS = 90
SESSION_LIFETIME = timedelta(hours=1)
DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=7)


@dataclass(frozen=True)
class PlaygroundSession:
    """A token with which a page of the portal calls the gateway as the person's playground key."""

    key: VirtualKey
    token: str
    expires_at: datetime


@transaction.atomic
def create_key(
    *,
    name: str,
    project: Project,
    owner: User,
    actor: User,
    models: Sequence[str] | None = None,
    tools: Sequence[str] | None = None,
    requests_per_minute: int | None = None,
    monthly_budget_usd: Decimal | None = None,
    lifetime_days: int = MAX_LIFETIME_DAYS,
    at: datetime | None = None,
) -> tuple[VirtualKey, str]:
    """Make a key; its text is returned here and nowhere else.

    `models` (slugs) and `tools` (namespaces) narrow it, None is all. It lives 1 to 90 days. For somebody else it takes the
    right to manage keys. Raises ProjectOffError, InvalidValueError (unknown scope, lifetime) or NotAllowedError.
    """
    tenant = selectors.current_tenant()
    project = Project.objects.select_for_update().get(pk=project.pk)  # it may be switched off at this moment
    if not project.is_enabled:
        raise ProjectOffError(
            f"The project {project.slug} is switched off. Choose another, or ask {project.owner} to switch it on.", field="project"
        )
    if not 1 <= lifetime_days <= MAX_LIFETIME_DAYS:
        raise InvalidValueError(f"A key lives 1 to {MAX_LIFETIME_DAYS} days.", field="lifetime_days")
    actor_membership, owner_membership = membership_in(actor, tenant), membership_in(owner, tenant)
    if owner != actor and (actor_membership is None or not selectors.can(actor_membership, Permission.MANAGE_KEYS)):
        raise NotAllowedError("To make a key for somebody else takes the right to manage keys.", field="owner")
    if owner_membership is None or not selectors.can(owner_membership, Permission.USE_GATEWAY):
        raise InvalidValueError(f"{owner} may not use the gateway, so a key would be of no use.", field="owner")
    _check_known(
        "models",
        models,
        set(Model.objects.filter(slug__in=models or []).exclude(status=Model.Status.RETIRED).values_list("slug", flat=True)),
    )
    _check_known("tools", tools, set(ToolServer.objects.filter(namespace__in=tools or []).values_list("namespace", flat=True)))
    key = VirtualKey(
        name=name,
        project=project,
        owner=owner,
        models=_scope(models),
        tools=_scope(tools),
        requests_per_minute=requests_per_minute,
        monthly_budget_usd=monthly_budget_usd,
        expires_at=(at or timezone.now()) + timedelta(days=lifetime_days),
    )
    text = keys.generate("ghk", tenant.public_id, key.public_id)
    key.digest = keys.digest(text, settings.KEY_PEPPER)
    key.save(force_insert=True)
    audit.record(
        "virtual_key.created",
        actor=actor,
        target=key,
        key_id=key.public_id,
        project=project.slug,
        owner=str(owner),
        models=key.models,
        tools=key.tools,
        expires_at=key.expires_at,
    )
    config.changed()
    return key, text


@transaction.atomic
def rotate_key(*, key: VirtualKey, actor: User, overlap: timedelta = DEFAULT_OVERLAP, at: datetime | None = None) -> tuple[VirtualKey, str]:
    """Give the key a new secret, returned here and nowhere else. The present one works for `overlap` more (none to 7 days).

    Id, limits, scope and history stay, so nothing is counted twice, and the lifetime begins anew. A secret that is still in its
    overlap from before ends at once. Raises KeyEndedError, InvalidValueError (overlap) or NotAllowedError (a playground key).
    """
    at = at or timezone.now()
    key = VirtualKey.objects.select_for_update(of=("self",)).select_related("project").get(pk=key.pk)
    if key.purpose != VirtualKey.Purpose.STANDARD:
        raise NotAllowedError("A playground key has no secret that anybody could use.")
    if not key.is_live(at):
        raise KeyEndedError(f"{key.name} is {key.state}. Make a new key.")
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise InvalidValueError(f"The old secret may work for {MAX_OVERLAP.days} more days at most.", field="overlap_hours")
    lifetime = min(key.expires_at - (key.rotated_at or key.created_at), timedelta(days=MAX_LIFETIME_DAYS))
    text = keys.generate("ghk", selectors.current_tenant().public_id, key.public_id)
    key.previous_digest, key.previous_until = key.digest, at + overlap
    key.digest, key.rotated_at, key.expires_at = keys.digest(text, settings.KEY_PEPPER), at, at + lifetime
    key.save(update_fields=["previous_digest", "previous_until", "digest", "rotated_at", "expires_at"])
    audit.record(
        "virtual_key.rotated",
        actor=actor,
        target=key,
        key_id=key.public_id,
        project=key.project.slug,
        previous_until=key.previous_until,
        expires_at=key.expires_at,
    )
    config.changed()
    return key, text


@transaction.atomic
def revoke_key(*, key: VirtualKey, actor: User, at: datetime | None = None) -> VirtualKey:
    """End the key: the gateway refuses it within seconds, with all session tokens made from it. Idempotent."""
    key = VirtualKey.objects.select_for_update().get(pk=key.pk)
    if key.revoked_at is None:
        key.revoked_at = at or timezone.now()
        key.save(update_fields=["revoked_at"])
        audit.record("virtual_key.revoked", actor=actor, target=key, key_id=key.public_id, project=key.project.slug)
        config.changed()
    return key


def open_playground_session(*, project: Project, person: User, at: datetime | None = None) -> PlaygroundSession:
    """A token, valid for an hour, that acts as the person's playground key for the project; the key is made on first use.

    The key's own secret is thrown away: only such tokens can use it. Raises ProjectOffError.
    """
    at = at or timezone.now()
    key = _playground_key(project, person, at)
    expires_at = min(at + SESSION_LIFETIME, key.expires_at)
    token = keys.session_token(selectors.current_tenant().public_id, key.public_id, int(expires_at.timestamp()), settings.KEY_PEPPER)
    return PlaygroundSession(key, token, expires_at)


def _playground_key(project: Project, person: User, at: datetime) -> VirtualKey:
    found = _usable_playground_key(project, person, at)
    if found is not None and found.project.is_enabled:
        return found
    return _make_playground_key(project, person, at)


def _usable_playground_key(project: Project, person: User, at: datetime) -> VirtualKey | None:
    keys_of_person = VirtualKey.objects.filter(owner=person, project=project, purpose=VirtualKey.Purpose.PLAYGROUND, revoked_at=None)
    return keys_of_person.filter(expires_at__gt=at + SESSION_LIFETIME).select_related("project").first()


@transaction.atomic
def _make_playground_key(project: Project, person: User, at: datetime) -> VirtualKey:
    project = Project.objects.select_for_update().get(pk=project.pk)
    if not project.is_enabled:
        raise ProjectOffError(f"The project {project.slug} is switched off.", field="project")
    made_meanwhile = _usable_playground_key(project, person, at)  # two columns or tabs ask at once; the lock let us wait
    if made_meanwhile is not None:
        return made_meanwhile
    for old in VirtualKey.objects.select_for_update().filter(
        owner=person, project=project, purpose=VirtualKey.Purpose.PLAYGROUND, revoked_at=None
    ):
        revoke_key(key=old, actor=person, at=at)  # it is about to expire
    key = VirtualKey(
        name=f"Playground of {person}"[:60],
        purpose=VirtualKey.Purpose.PLAYGROUND,
        project=project,
        owner=person,
        expires_at=at + timedelta(days=MAX_LIFETIME_DAYS),
    )
    key.digest = keys.digest(keys.generate("ghk", selectors.current_tenant().public_id, key.public_id), settings.KEY_PEPPER)
    key.save(force_insert=True)
    audit.record(
        "virtual_key.created",
        actor=person,
        target=key,
        key_id=key.public_id,
        project=project.slug,
        owner=str(person),
        purpose=key.purpose,
        expires_at=key.expires_at,
    )
    config.changed()
    return key


def _scope(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else sorted(set(names))


def _check_known(field: str, names: Sequence[str] | None, known: set[str]) -> None:
    if names is None:
        return
    if not names:
        raise InvalidValueError(f"An empty list would allow no {field}. Leave it out to allow all.", field=field)
    unknown = sorted(set(names) - known)
    if unknown:
        raise InvalidValueError(f"Not in the catalog: {', '.join(unknown)}.", field=field)
