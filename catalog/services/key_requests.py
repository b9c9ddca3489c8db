"""Virtual keys by request: asked for with a reason, agreed to by somebody else, taken by the person who asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from catalog import selectors
from catalog.errors import InvalidValueError, SelfApprovalError, WrongStatusError
from catalog.models import KeyRequest, Project, VirtualKey
from catalog.services import keys
from governance.errors import NotAllowedError
from governance.models import Severity, User
from governance.roles import Permission
from governance.selectors import membership_in
from governance.services import alerts, audit

Status = KeyRequest.Status
MOST_WAITING = 20
"""Of one person, so that nobody buries the others' requests."""


@transaction.atomic
def ask(
    *,
    project: Project,
    name: str,
    why: str,
    actor: User,
    models: Sequence[str] | None = None,
    tools: Sequence[str] | None = None,
    requests_per_minute: int | None = None,
    monthly_budget_usd: Decimal | None = None,
    lifetime_days: int = keys.MAX_LIFETIME_DAYS,
    at: datetime | None = None,
) -> KeyRequest:
    """Put a key to those who may agree; they are told. Checked like a key that is made at once.

    Raises InvalidValueError (no reason, too many requests, or what `keys.check` says), ProjectOffError.
    """
    at = at or timezone.now()
    if not why.strip():
        raise InvalidValueError("Say what the key is for: somebody else decides by it.", field="why")
    scope = keys.check(project=project, owner=actor, models=models, tools=tools, lifetime_days=lifetime_days)
    if KeyRequest.objects.filter(requester=actor, status=Status.WAITING).count() >= MOST_WAITING:
        raise InvalidValueError(f"{MOST_WAITING} of your requests wait already. Withdraw one first.", field="name")
    asked = KeyRequest.objects.create(
        project=scope.project, requester=actor, name=name, why=why.strip(), models=scope.models, tools=scope.tools,
        requests_per_minute=requests_per_minute, monthly_budget_usd=monthly_budget_usd, lifetime_days=lifetime_days, asked_at=at,
    )  # fmt: skip
    audit.record(
        "key_request.asked", actor=actor, target=asked, at=at, project=project.slug, why=asked.why, models=asked.models, tools=asked.tools
    )
    alerts.notify(
        topic="key.asked", severity=Severity.INFO, title=f"{actor} asks for a key of {project.slug}", text=asked.why, path="operate/keys/requests/",
        permission=Permission.MANAGE_KEYS, key=f"key-request:{asked.pk}", data={"project": project.slug, "name": name}, at=at,
    )  # fmt: skip
    return asked


@transaction.atomic
def decide(*, request: KeyRequest, agree: bool, actor: User, note: str = "", at: datetime | None = None) -> KeyRequest:
    """Agree to the key, or decline it with a reason. Takes the right to manage keys; never one's own request.

    Raises NotAllowedError, SelfApprovalError, InvalidValueError (no reason), WrongStatusError (decided before).
    """
    request = _locked(request, Status.WAITING)
    membership = membership_in(actor, selectors.current_tenant())
    if membership is None or not membership.can(Permission.MANAGE_KEYS):
        raise NotAllowedError("To decide on requests takes the right to manage keys.")
    if request.requester_id == actor.pk:
        raise SelfApprovalError("Somebody else decides on what you ask for.")
    if not agree and not note.strip():
        raise InvalidValueError("Say why, so that the person who asked can do better.", field="note")
    return _close(request, Status.AGREED if agree else Status.DECLINED, actor, note.strip(), at)


@transaction.atomic
def withdraw(*, request: KeyRequest, actor: User, at: datetime | None = None) -> KeyRequest:
    """One's own request, while it waits or the key is not taken. Raises NotAllowedError, WrongStatusError."""
    request = _locked(request, Status.WAITING, Status.AGREED)
    if request.requester_id != actor.pk:
        raise NotAllowedError("Only the person who asked withdraws a request.")
    return _close(request, Status.WITHDRAWN, actor, "", at)


@transaction.atomic
def take(*, request: KeyRequest, actor: User, at: datetime | None = None) -> tuple[VirtualKey, str]:
    """Make the key that was agreed to, once, for the person who asked; its text is returned here and nowhere else.

    Raises NotAllowedError, WrongStatusError (not agreed, or too long ago), and what making a key raises.
    """
    at = at or timezone.now()
    request = _locked(request, Status.AGREED)
    if request.requester_id != actor.pk:
        raise NotAllowedError("Only the person who asked takes the key: it is shown once.")
    if request.take_until is not None and at > request.take_until:
        raise WrongStatusError("That was agreed to more than 14 days ago. Ask anew.")
    key, text = keys.make(
        name=request.name, project=request.project, owner=actor, actor=actor, models=request.models, tools=request.tools,
        requests_per_minute=request.requests_per_minute, monthly_budget_usd=request.monthly_budget_usd, lifetime_days=request.lifetime_days,
        at=at,
    )  # fmt: skip
    request.status, request.key = Status.TAKEN, key
    request.save(update_fields=["status", "key"])
    audit.record("key_request.taken", actor=actor, target=request, at=at, key_id=key.public_id, agreed_by=str(request.decided_by))
    return key, text


def _locked(request: KeyRequest, *expected: Status) -> KeyRequest:
    request = KeyRequest.objects.select_for_update(of=("self",)).select_related("project", "requester", "decided_by").get(pk=request.pk)
    if request.status not in expected:
        raise WrongStatusError(f"The request is {request.get_status_display().lower()}.")
    return request


def _close(request: KeyRequest, status: Status, actor: User, note: str, at: datetime | None) -> KeyRequest:
    request.status, request.decided_by, request.decided_at, request.note = status, actor, at or timezone.now(), note
    request.save(update_fields=["status", "decided_by", "decided_at", "note"])
    audit.record(f"key_request.{status}", actor=actor, target=request, at=request.decided_at, project=request.project.slug, note=note)
    return request
