"""Virtual keys: made once, shown once, revoked at once, one or many; and the short-lived sessions of the portal's own pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from catalog import selectors
from catalog.errors import InvalidValueError, KeyByRequestError, KeyEndedError, ProjectOffError
from catalog.hooks import cost_figures
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
MOST_ROTATED = 1000
"""At once: each secret is shown, this once."""


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

    `models` (slugs) and `tools` (namespaces) narrow it, None is all. It lives 1 to 90 days. For somebody else, and in projects whose keys are
    made by request, it takes the right to manage keys. Raises ProjectOffError, KeyByRequestError, InvalidValueError (unknown scope,
    lifetime) or NotAllowedError.
    """
    if not _manages_keys(actor):
        if owner != actor:
            raise NotAllowedError("To make a key for somebody else takes the right to manage keys.", field="owner")
        if Project.objects.select_for_update().get(pk=project.pk).keys_by_request:  # it may be set at this moment
            raise KeyByRequestError(f"Keys of {project.slug} are made by request. Ask for one, and say what it is for.", field="project")
    return make(
        name=name, project=project, owner=owner, actor=actor, models=models, tools=tools, requests_per_minute=requests_per_minute,
        monthly_budget_usd=monthly_budget_usd, lifetime_days=lifetime_days, at=at,
    )  # fmt: skip


def _manages_keys(person: User) -> bool:
    membership = membership_in(person, selectors.current_tenant())
    return membership is not None and membership.can(Permission.MANAGE_KEYS)


@dataclass(frozen=True)
class Checked:
    """What a key may be, with its project locked."""

    project: Project
    models: list[str] | None
    tools: list[str] | None


def check(*, project: Project, owner: User, models: Sequence[str] | None, tools: Sequence[str] | None, lifetime_days: int) -> Checked:
    """Inside a transaction. Raises ProjectOffError or InvalidValueError (unknown scope, lifetime, an owner who may not call)."""
    project = Project.objects.select_for_update().get(pk=project.pk)  # it may be switched off at this moment
    if not project.is_enabled:
        raise ProjectOffError(
            f"The project {project.slug} is switched off. Choose another, or ask {project.owner} to switch it on.", field="project"
        )
    if not 1 <= lifetime_days <= MAX_LIFETIME_DAYS:
        raise InvalidValueError(f"A key lives 1 to {MAX_LIFETIME_DAYS} days.", field="lifetime_days")
    membership = membership_in(owner, selectors.current_tenant())
    if membership is None or not membership.can(Permission.USE_GATEWAY):
        raise InvalidValueError(f"{owner} may not use the gateway, so a key would be of no use.", field="owner")
    _check_known(
        "models",
        models,
        set(Model.objects.filter(slug__in=models or []).exclude(status=Model.Status.RETIRED).values_list("slug", flat=True)),
    )
    _check_known("tools", tools, set(ToolServer.objects.filter(namespace__in=tools or []).values_list("namespace", flat=True)))
    return Checked(project, _scope(models), _scope(tools))


@transaction.atomic
def make(
    *,
    name: str,
    project: Project,
    owner: User,
    actor: User,
    models: Sequence[str] | None,
    tools: Sequence[str] | None,
    requests_per_minute: int | None,
    monthly_budget_usd: Decimal | None,
    lifetime_days: int,
    at: datetime | None,
) -> tuple[VirtualKey, str]:
    """`create_key` for callers who have made sure that it is allowed."""
    checked = check(project=project, owner=owner, models=models, tools=tools, lifetime_days=lifetime_days)
    key = VirtualKey(
        name=name,
        project=checked.project,
        owner=owner,
        models=checked.models,
        tools=checked.tools,
        requests_per_minute=requests_per_minute,
        monthly_budget_usd=monthly_budget_usd,
        expires_at=(at or timezone.now()) + timedelta(days=lifetime_days),
    )
    return key, _add(key, actor=actor, models=key.models, tools=key.tools)


def _add(key: VirtualKey, *, actor: User, **details: Any) -> str:
    """Save a new key with a secret of its own, which is returned. One audit entry, with `details`."""
    text = keys.generate("ghk", selectors.current_tenant().public_id, key.public_id)
    key.digest = keys.digest(text, settings.KEY_PEPPER)
    key.save(force_insert=True)
    audit.record(
        "virtual_key.created",
        actor=actor,
        target=key,
        key_id=key.public_id,
        project=key.project.slug,
        owner=str(key.owner),
        expires_at=key.expires_at,
        **details,
    )
    config.changed()
    return text


@transaction.atomic
def rotate_key(
    *, key: VirtualKey, actor: User, overlap: timedelta = DEFAULT_OVERLAP, seen: str | None = None, at: datetime | None = None
) -> tuple[VirtualKey, str]:
    """Give the key a new secret, returned here and nowhere else. The present one works for `overlap` more (none to 7 days).

    Id, limits, scope and history stay, so nothing is counted twice, and the lifetime begins anew. A secret that is still in its
    overlap from before ends at once. `seen` is the `rotation_mark` of the page that asks, if one does: a page that is sent twice rotates once.
    Raises KeyEndedError, InvalidValueError (overlap, seen) or NotAllowedError (a playground key).
    """
    at = at or timezone.now()
    key = VirtualKey.objects.select_for_update(of=("self",)).select_related("project").get(pk=key.pk)
    if key.purpose != VirtualKey.Purpose.STANDARD:
        raise NotAllowedError("A playground key has no secret that anybody could use.")
    if not key.is_live(at):
        raise KeyEndedError(f"{key.name} is {key.state}. Make a new key.")
    _check_overlap(overlap)
    _check_seen([key], seen)
    text = _give_secret(key, selectors.current_tenant().public_id, overlap, at)
    key.save(update_fields=_OF_ROTATION)
    audit.record("virtual_key.rotated", actor=actor, target=key, **_rotation(key))
    config.changed()
    return key, text


def rotation_mark(rotated_at: Iterable[datetime | None]) -> str:
    """Of some keys' `rotated_at`: what a page says back, so that it rotates them once however often it is sent. It changes with each rotation."""
    return max((moment.isoformat() for moment in rotated_at if moment is not None), default="")


def _check_seen(found: Iterable[VirtualKey], seen: str | None) -> None:
    if seen is not None and seen != rotation_mark(key.rotated_at for key in found):
        raise InvalidValueError("Rotated since you looked, so nothing was done now. Rotate again only if nobody has the new secrets.")


_OF_ROTATION = ["previous_digest", "previous_until", "digest", "rotated_at", "expires_at"]


def _check_overlap(overlap: timedelta) -> None:
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise InvalidValueError(f"The old secret may work for {MAX_OVERLAP.days} more days at most.", field="overlap_hours")


def _give_secret(key: VirtualKey, tenant_id: str, overlap: timedelta, at: datetime) -> str:
    lifetime = min(key.expires_at - (key.rotated_at or key.created_at), timedelta(days=MAX_LIFETIME_DAYS))
    text = keys.generate("ghk", tenant_id, key.public_id)
    key.previous_digest, key.previous_until = key.digest, at + overlap
    key.digest, key.rotated_at, key.expires_at = keys.digest(text, settings.KEY_PEPPER), at, at + lifetime
    return text


def _rotation(key: VirtualKey) -> dict[str, Any]:
    return {"key_id": key.public_id, "project": key.project.slug, "previous_until": key.previous_until, "expires_at": key.expires_at}


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


@transaction.atomic
def rotate_keys(
    *,
    chosen: QuerySet[VirtualKey],
    actor: User,
    expected: int,
    overlap: timedelta = DEFAULT_OVERLAP,
    seen: str | None = None,
    at: datetime | None = None,
) -> list[tuple[VirtualKey, str]]:
    """Give each live program key of `chosen` a new secret, as `rotate_key` does; the others are left as they are.

    `expected` is how many the person was told; at most MOST_ROTATED. All or none: one audit entry each, one change for the gateway.
    Raises InvalidValueError when there are more or others by now.
    """
    at = at or timezone.now()
    _check_overlap(overlap)
    if expected > MOST_ROTATED:
        raise InvalidValueError(
            f"At most {MOST_ROTATED:,} keys are rotated at once: somebody has to hand the secrets out. Narrow the filter."
        )
    found = _locked(selectors.keys_to_rotate(chosen, at), expected)
    _check_seen(found, seen)
    tenant_id = selectors.current_tenant().public_id
    made = [(key, _give_secret(key, tenant_id, overlap, at)) for key in found]
    VirtualKey.objects.bulk_update(found, _OF_ROTATION, batch_size=500)
    audit.record_each("virtual_key.rotated", actor=actor, targets=[(key, _rotation(key)) for key in found])
    config.changed()
    return made


@transaction.atomic
def revoke_keys(*, chosen: QuerySet[VirtualKey], actor: User, expected: int, at: datetime | None = None) -> int:
    """End each live key of `chosen`, as `revoke_key` does. Returns how many. All or none, as in `rotate_keys`."""
    at = at or timezone.now()
    found = _locked(selectors.live_keys(chosen, at), expected)
    VirtualKey.objects.filter(pk__in=[key.pk for key in found]).update(revoked_at=at)
    audit.record_each(
        "virtual_key.revoked", actor=actor, targets=[(key, {"key_id": key.public_id, "project": key.project.slug}) for key in found]
    )
    config.changed()
    return len(found)


def _locked(chosen: QuerySet[VirtualKey], expected: int) -> list[VirtualKey]:
    # Ordered, so that two people who act on the same keys wait for each other instead of locking crosswise.
    found = list(chosen.select_for_update(of=("self",)).select_related("project").order_by("pk"))
    if len(found) != expected:
        raise InvalidValueError(f"It would be {len(found):,} keys by now, not {expected:,}. Look again.", field="expected")
    if not found:
        raise InvalidValueError("None of these keys is live.", field="expected")
    return found


def note_figures() -> int:
    """Note the spend of 30 days and the last use of every key beside it, for lists that are sorted by them. Returns how many changed."""
    everything = list(VirtualKey.objects.only("pk", "public_id", "spend_30d_usd", "last_used_at"))
    figures = cost_figures().usage_by_key(key.public_id for key in everything) if everything else {}
    stale = []
    for key in everything:
        usage = figures.get(key.public_id, selectors.NO_USAGE)
        # A key that was not used for 30 days keeps its last use.
        noted = (usage.cost_usd or Decimal(), usage.last_used_at or key.last_used_at)
        if noted != (key.spend_30d_usd, key.last_used_at):
            stale.append((key.pk, *noted))
    if stale:
        with connection.cursor() as cursor:  # a hundred times faster than `bulk_update` for ten thousand rows
            cursor.execute(_NOTE, [list(column) for column in zip(*stale, strict=True)])
    return len(stale)


_NOTE = f"""
    UPDATE {VirtualKey._meta.db_table} k SET spend_30d_usd = n.spend, last_used_at = n.used
    FROM unnest(%s::bigint[], %s::numeric[], %s::timestamptz[]) n (id, spend, used) WHERE k.id = n.id
"""  # noqa: S608  # a name of this module only


def open_playground_session(*, project: Project, person: User, at: datetime | None = None) -> PlaygroundSession:
    """A token, valid for an hour, that acts as the person's playground key for the project; the key is made on first use.

    The key's own secret is thrown away: only such tokens can use it. Raises ProjectOffError, KeyByRequestError.
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
    own = selectors.live_keys(selectors.own_keys(person), at).filter(project=project)
    if project.keys_by_request and not own.exists() and not _manages_keys(person):
        raise KeyByRequestError(
            f"Keys of {project.slug} are made by request, and the playground opens with one. Ask for a key, or choose another project.",
            field="project",
        )
    made_meanwhile = _usable_playground_key(project, person, at)  # two columns or tabs ask at once; the lock let us wait
    if made_meanwhile is not None:
        return made_meanwhile
    for old in VirtualKey.objects.select_for_update().filter(
        owner=person, project=project, purpose=VirtualKey.Purpose.PLAYGROUND, revoked_at=None
    ):
        revoke_key(key=old, actor=person, at=at)  # it is about to expire
    return _make_without_secret(f"Playground of {person}", VirtualKey.Purpose.PLAYGROUND, project, person, at)


@transaction.atomic
def make_shadow_key(*, name: str, project: Project, actor: User, at: datetime) -> VirtualKey:
    """A key that pays for a shadow: no program can show it. Raises ProjectOffError."""
    project = Project.objects.select_for_update().get(pk=project.pk)
    if not project.is_enabled:
        raise ProjectOffError(f"The project {project.slug} is switched off.", field="project")
    return _make_without_secret(name, VirtualKey.Purpose.SHADOW, project, actor, at)


def shadow_token(key_id: str, at: datetime) -> str:
    """For calls by the portal itself, good for an hour."""
    expires_at = int((at + SESSION_LIFETIME).timestamp())
    return keys.session_token(selectors.current_tenant().public_id, key_id, expires_at, settings.KEY_PEPPER)


def _make_without_secret(name: str, purpose: VirtualKey.Purpose, project: Project, person: User, at: datetime) -> VirtualKey:
    key = VirtualKey(
        name=name[:60],
        purpose=purpose,
        project=project,
        owner=person,
        expires_at=at + timedelta(days=MAX_LIFETIME_DAYS),
    )
    _add(key, actor=person, purpose=key.purpose)
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
