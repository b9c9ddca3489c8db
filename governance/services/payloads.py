"""Payload rules, by four eyes where they widen; keeping, opening and erasing what calls said."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from gateway.contract import payloads as contract
from gateway.contract.keys import digest
from gateway.contract.names import PAYLOAD_TABLE
from gateway.contract.sealing import Sealer, UnsealError
from gateway.contract.snapshot import PayloadRule
from governance import cached_answers, config, tasks
from governance import payload_selectors as selectors
from governance.catalog_names import project_names
from governance.errors import NotConfirmedError, PayloadRuleError, PayloadUnreadableError
from governance.models import CallPayload, PayloadMode, PayloadRequest, PayloadSetting, Severity, Tenant, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit

LONGEST_DAYS = 90
PURGED_AT_ONCE = 1000
Status = PayloadRequest.Status


@transaction.atomic
def ask_for_rule(*, ref: str, mode: str, days: int, actor: User, reason: str, at: datetime | None = None) -> PayloadRequest:
    """Set the rule of the organisation (`ref` empty) or of a project; `mode` empty takes a project's own rule away.

    What is not wider than before holds at once, and what was kept beyond it can't be read from then on; a wider rule waits for a second
    person. Writes one audit entry. Raises PayloadRuleError (no such project, wider than the organisation's, one waits already).
    """
    at, reason = at or timezone.now(), reason.strip()
    _lock()
    _check(ref, mode, days, reason)
    before, after = selectors.effective_rule(ref), _rule_after(ref, mode, days)
    request = PayloadRequest(ref=ref, mode=mode, days=days, reason=reason, asked_by=actor, asked_at=at)
    if not is_wider(after, before):
        return _apply(request, actor=actor, at=at)
    if PayloadRequest.objects.filter(ref=ref, status=Status.WAITING).exists():
        raise PayloadRuleError("A wider rule waits for a decision already. Decide or withdraw it first.")
    request.save()
    audit.record("payload.rule_asked", actor=actor, target=request, at=at, ref=ref, mode=mode, days=days, reason=reason)
    alerts.notify(
        topic="payload.rule_asked", severity=Severity.WARNING, title=f"{actor} asks to keep more of what calls say", text=f"{request}: {reason}",
        path="operate/payloads/", permission=Permission.MANAGE_PAYLOADS, key=f"payload-request:{request.pk}",
        data={"ref": ref, "mode": mode, "days": days}, at=at,
    )  # fmt: skip
    return request


@transaction.atomic
def approve(*, request: PayloadRequest, actor: User, at: datetime | None = None) -> PayloadRequest:
    """Put a wider rule in force. Raises PayloadRuleError (one's own, decided before, or not possible any more)."""
    request = _waiting(request)
    if request.asked_by_id == actor.pk:
        raise PayloadRuleError("Nobody widens what is kept alone: ask somebody else.")
    _check(request.ref, request.mode, request.days, request.reason)
    at = at or timezone.now()
    alerts.notify(
        topic="payload.rule_widened", severity=Severity.WARNING, title="More of what calls say is kept from now on",
        text=f"{request}, for {request.days} days. Asked by {request.asked_by}, agreed to by {actor}: {request.reason}",
        path="operate/payloads/", permission=Permission.VIEW, key=f"payload-applied:{request.pk}",
        data={"ref": request.ref, "mode": request.mode, "days": request.days}, at=at,
    )  # fmt: skip
    return _apply(request, actor=actor, at=at)


@transaction.atomic
def reject(*, request: PayloadRequest, actor: User, note: str = "", at: datetime | None = None) -> PayloadRequest:
    """Decline it, with a reason; whoever asked withdraws it so, without one. Raises PayloadRuleError."""
    request = _waiting(request)
    own = request.asked_by_id == actor.pk
    if not own and not note.strip():
        raise PayloadRuleError("Say why, so that it is not asked again.", field="note")
    request.status = Status.WITHDRAWN if own else Status.REJECTED
    request.decided_by, request.decided_at, request.note = actor, at or timezone.now(), note.strip()
    request.save(update_fields=["status", "decided_by", "decided_at", "note"])
    audit.record(f"payload.rule_{request.status}", actor=actor, target=request, at=request.decided_at, ref=request.ref, note=request.note)
    return request


def is_wider(after: PayloadRule, before: PayloadRule) -> bool:
    """Whether more is kept than before, or the same for longer."""
    rank = contract.MODES.index
    return rank(after.mode) > rank(before.mode) or (after.mode in contract.KEEPING and after.days > before.days)


def read_payload(*, event_id: UUID, at: datetime | None = None) -> contract.Payload | None:
    """What a call said, for machines that compare (a shadow with what it shadows); None when nothing is kept, or not any more.

    Writes no audit entry: nothing of it may be shown to a person, `open_payload` is for that. Raises PayloadUnreadableError.
    """
    row = selectors.kept_of(event_id, at=at)
    if row is None:
        return None
    try:
        return contract.unseal(_sealer(), row.sealed, event_id=str(row.event_id), tenant=_tenant())
    except UnsealError as error:
        raise PayloadUnreadableError("What was kept can't be opened with the present keys.") from error


@transaction.atomic
def open_payload(*, event_id: UUID, actor: User, reason: str, at: datetime | None = None) -> contract.Payload | None:
    """The same for a person, who says why. Writes one audit entry. Raises NotConfirmedError (no reason), PayloadUnreadableError."""
    if not reason.strip():
        raise NotConfirmedError("Say why you open it: it stands in the audit log.", field="reason")
    payload = read_payload(event_id=event_id, at=at)
    if payload is not None:
        row = CallPayload.objects.defer("sealed").get(pk=event_id)
        audit.record("payload.opened", actor=actor, target=row, at=at, project=row.project, mode=row.mode, reason=reason.strip())
    return payload


@transaction.atomic
def erase(
    *,
    actor: User,
    reason: str,
    event_id: UUID | None = None,
    project: str = "",
    user: str = "",
    until: datetime | None = None,
    everything: bool = False,
) -> int:
    """Delete what is kept of one call, of a project, of an end user, of calls that began before `until`: of those that fit all that is given.
    Answers in semantic caches too, unless a call or an end user is given: they say of neither.

    Returns how many, with such answers. Writes one audit entry without the end user's name. What a gateway process has not delivered yet is not found: calls of
    the last seconds may need a second erasure. Raises NotConfirmedError (no reason, or nothing given and not `everything`).
    """
    if not reason.strip():
        raise NotConfirmedError("Say why it is erased: it stands in the audit log.", field="reason")
    if not (event_id or project or user or until or everything):
        raise NotConfirmedError("Say what is erased, or that it is everything.", field="everything")
    tenant = _tenant()
    wanted: dict[str, Any] = {}
    if event_id is not None:
        wanted["event_id"] = event_id
    if project:
        wanted["project"] = project
    if user:
        wanted["subject"] = _subject(tenant, user)
    where = [("tenant", "=", tenant), *((name, "=", value) for name, value in wanted.items())]
    if until:
        where.append(("at", "<", until))
    # First what has arrived: what is being given to the organisation just now is found there afterwards.
    with connection.cursor() as cursor:
        condition = " AND ".join(f"{name} {operator} %s" for name, operator, _ in where)
        cursor.execute(f"DELETE FROM {PAYLOAD_TABLE} WHERE {condition}", [value for _, _, value in where])  # noqa: S608  # our own names
        erased: int = cursor.rowcount
    erased += CallPayload.objects.filter(**wanted, **({"at__lt": until} if until else {})).delete()[0]
    answers = 0 if event_id or user else cached_answers.erase_answers(project, until)
    audit.record(
        "payload.erased",
        actor=actor,
        target_name=str(event_id or project or ("one end user" if user else "everything")),
        payloads=erased,
        answers=answers,
        project=project,
        by_user=bool(user),
        until=until,
        reason=reason.strip(),
    )
    return erased + answers


def purge(*, at: datetime | None = None) -> int:
    """Delete what has expired and what the rules allow no more, a batch at a time. Returns how many."""
    at, gone = at or timezone.now(), 0
    while True:
        found = list(selectors.not_allowed(at).values_list("pk", flat=True)[:PURGED_AT_ONCE])
        if not found:
            return gone
        CallPayload.objects.filter(pk__in=found).delete()
        gone += len(found)


def _rule_after(ref: str, mode: str, days: int) -> PayloadRule:
    """The effective rule if it were set."""
    own = [PayloadRule(mode=mode, days=days)] if mode else []  # type: ignore[arg-type]  # checked before
    return contract.strictest(*([selectors.effective_rule("")] if ref else []), *own)


def _check(ref: str, mode: str, days: int, reason: str) -> None:
    if mode not in PayloadMode.values and not (ref and mode == ""):
        raise PayloadRuleError(f"Choose one of {', '.join(PayloadMode.values)}.", field="mode")
    if not 1 <= days <= LONGEST_DAYS:
        raise PayloadRuleError(f"Between 1 and {LONGEST_DAYS} days.", field="days")
    if not reason:
        raise PayloadRuleError("Say why: it stands in the audit log.", field="reason")
    if not ref:
        return
    if ref not in project_names():
        raise PayloadRuleError(f"There is no project {ref}.", field="ref")
    whole = selectors.effective_rule("")
    if mode and contract.MODES.index(mode) > contract.MODES.index(whole.mode):
        raise PayloadRuleError(
            f"A project can only be stricter than the organisation, which keeps: {PayloadMode(whole.mode).label.lower()}.", field="mode"
        )


def _apply(request: PayloadRequest, *, actor: User, at: datetime) -> PayloadRequest:
    before = PayloadSetting.objects.filter(ref=request.ref).first()
    if request.mode:
        PayloadSetting.objects.update_or_create(
            ref=request.ref, defaults={"mode": request.mode, "days": request.days, "set_by": actor, "set_at": at}
        )
    else:
        PayloadSetting.objects.filter(ref=request.ref).delete()
    request.status, request.decided_by, request.decided_at = Status.APPLIED, actor, at
    request.save()
    audit.record(
        "payload.rule_applied",
        actor=actor,
        target=request,
        at=at,
        ref=request.ref,
        mode=request.mode,
        days=request.days,
        before={"mode": before.mode, "days": before.days} if before else None,
        asked_by=str(request.asked_by),
        reason=request.reason,
    )
    config.changed()
    # Robust: what is not allowed any more can't be read from now on, and the hourly task deletes it too.
    transaction.on_commit(partial(tasks.purge_payloads.delay, schema_name=current_schema()), robust=True)
    return request


def _waiting(request: PayloadRequest) -> PayloadRequest:
    _lock()
    found = PayloadRequest.objects.select_related("asked_by").get(pk=request.pk)
    if found.status != Status.WAITING:
        raise PayloadRuleError(f"It is {found.get_status_display().lower()} already.")
    return found


def _lock() -> None:
    """One decision at a time: whether a rule is wider depends on the others."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('payload-rules:' || current_schema(), 0))")


def _subject(tenant: str, user: str) -> str:
    return digest(contract.subject_text(tenant, user), settings.KEY_PEPPER)


def _tenant() -> str:
    return str(Tenant.objects.values_list("public_id", flat=True).get(schema_name=current_schema()))


def _sealer() -> Sealer:
    return Sealer(settings.SEALING_KEYS)
