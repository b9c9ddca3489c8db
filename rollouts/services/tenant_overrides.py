"""One organisation on or off, by an operator's word: for a time, with a reason, on the flag's own road of changes.

Taking a flag from somebody is done by one operator at once and reviewed by another; giving it, and giving it back, takes two. What is given
stays within the organisation's consent, which the gateway asks first.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django_tenants.utils import schema_context

from gateway.contract.flags import Exposure
from governance import config
from governance.errors import DomainError
from governance.models import Severity, Tenant, User
from governance.roles import Permission
from governance.services import alerts, audit
from rollouts import exposure as exposures
from rollouts.errors import ChangeDecidedError, ChangeStaleError, EvidenceMissingError, ExposureInvalidError
from rollouts.models import Flag, FlagChange, TenantOverride
from rollouts.services import escalations, flag_changes

logger = logging.getLogger(__name__)

LONGEST = timedelta(days=90)


@transaction.atomic
def set_override(
    *, flag: Flag, tenant: Tenant, variant: str, reason: str, until: datetime, actor: User, at: datetime | None = None
) -> TenantOverride:
    """Give one organisation a variant until a time. The control is in force at once, with a review by another operator within a day; a
    treatment once another operator agrees to the change. It stands apart from cohorts: nobody's membership changes.

    The control for an organisation that has it by such a word already holds until the later time, with nobody to review it.
    Raises EvidenceMissingError, ExposureInvalidError (no such variant, too long, off for everybody, or one stands already),
    ActivationsPausedError, and what changing a flag raises.
    """
    at, flag = at or timezone.now(), _locked(flag)
    if not reason.strip():
        raise EvidenceMissingError("Say why: the organisation and the other operator read it.", field="reason")
    if not at < until <= at + LONGEST:
        raise ExposureInvalidError(f"It ends within {LONGEST.days} days from now.", field="until")
    if variant not in flag.variants:
        raise ExposureInvalidError(f"{flag.key} has no variant {variant}.", field="variant")
    if not flag.exposure.on:
        raise ExposureInvalidError(f"{flag.key} is off for everybody: nothing for one organisation would hold.", field="variant")
    settle(flag=flag, actor=actor, at=at)
    standing = _with_changes().filter(flag=flag, tenant=tenant, ended_at=None).first()
    if standing is not None:
        return _prolong(standing, variant, reason=reason.strip(), until=until, actor=actor, at=at)
    change = _change(flag, tenant, variant, reason=reason, actor=actor, at=at)
    try:
        with transaction.atomic():
            override = TenantOverride.objects.create(
                flag=flag,
                tenant=tenant,
                variant=variant,
                reason=reason.strip(),
                until=until,
                requested_by=actor,
                requested_at=at,
                change=change,
            )
    except IntegrityError as error:
        raise ExposureInvalidError(f"Something stands for {tenant} already. End it first.", field="tenant") from error
    _record("flag.tenant_override_asked", override, actor, reason=override.reason, until=until.isoformat(), change=change.number)
    settle(flag=flag, actor=actor, at=at)
    override.refresh_from_db()
    return override


def _prolong(override: TenantOverride, variant: str, *, reason: str, until: datetime, actor: User, at: datetime) -> TenantOverride:
    """What protects may hold for longer: exposure does not rise."""
    waits = override.ending is not None and override.ending.is_open
    if override.exposes or variant != override.flag.control or waits or until <= override.until:
        raise ExposureInvalidError(f"Something stands for {override.tenant} already. End it first.", field="tenant")
    override.until, override.reason, override.ending = until, reason, None
    override.save(update_fields=["until", "reason", "ending"])
    _note("flag.tenant_override_prolonged", override, actor, at)
    return override


def _change(flag: Flag, tenant: Tenant, variant: str, *, reason: str, actor: User, at: datetime) -> FlagChange:
    present, why = flag.exposure, f"{tenant.slug}: {reason.strip()}"[:500]
    if variant == flag.control:
        overrides = exposures.with_value(present.overrides, "tenant", tenant.slug, variant)
        lower = exposures.changed(present, overrides=overrides, grants=exposures.without(present.grants, "tenant", tenant.slug))
        return flag_changes.lower_in_emergency(flag=flag, exposure=lower, reason=why, actor=actor, at=at)
    escalations.check_not_paused()
    given = exposures.changed(
        present,
        overrides=exposures.without(present.overrides, "tenant", tenant.slug),
        grants=exposures.with_value(present.grants, "tenant", tenant.slug, variant),
    )
    return flag_changes.propose_change(flag=flag, exposure=given, reason=why, actor=actor, at=at)


@transaction.atomic
def end_override(*, override: TenantOverride, reason: str, actor: User, at: datetime | None = None) -> TenantOverride:
    """Before its time. What was given goes at once; what was taken comes back once another operator agrees; what waits is taken back.

    Raises ChangeDecidedError (ended, or its end waits already), EvidenceMissingError, and what changing a flag raises.
    """
    at, override = at or timezone.now(), _lock(override)
    if override.ended_at is not None or (override.ending is not None and override.ending.is_open):
        raise ChangeDecidedError("It has ended, or its end waits for another operator already.")
    if not reason.strip():
        raise EvidenceMissingError("Say why it ends.", field="reason")
    _end(override, reason=reason.strip(), actor=actor, at=at)
    settle(flag=override.flag, actor=actor, at=at)
    override.refresh_from_db()
    return override


def _end(override: TenantOverride, *, reason: str, actor: User | None, at: datetime) -> None:
    """`actor` None: its time is over."""
    flag, why = _fresh(override.flag), f"{override.tenant.slug}: {reason}"[:500]
    if override.change.is_open:
        flag_changes.withdraw_change(change=override.change, actor=actor, comment=reason, at=at)
        return
    rest = _without(flag.exposure, override)
    if rest == flag.exposure or flag.is_archived:
        return
    if override.exposes or not flag.exposure.on:
        flag_changes.lower_as_announced(flag=flag, exposure=rest, reason=why, actor=actor, at=at)
    else:
        override.ending = flag_changes.propose_change(flag=flag, exposure=rest, reason=why, actor=actor or override.requested_by, at=at)
        override.save(update_fields=["ending"])


def release(*, flag: Flag, tenant: Tenant, reason: str, actor: User | None, at: datetime) -> None:
    """End what is given to an organisation that goes by its own word or by notice, within the caller's transaction."""
    for override in _with_changes().filter(flag=flag, tenant=tenant, ended_at=None):
        if override.exposes:
            _end(override, reason=reason, actor=actor, at=at)
    settle(flag=flag, actor=actor, at=at)


def forget(tenant: Tenant, *, at: datetime) -> None:
    """Take back what is given to an organisation that is deleted, and what waits for somebody's word about it. Within the caller's
    transaction, in the public schema. A line that protects stays in the flag: nobody else ever gets the address.
    """
    for override in _with_changes().filter(tenant=tenant, ended_at=None, flag__archived_at=None).order_by("flag"):
        flag, gone = _locked(override.flag), "The organisation is deleted."
        for change in FlagChange.objects.filter(pk__in=[override.change_id, override.ending_id], status=FlagChange.Status.PROPOSED):
            flag_changes.withdraw_change(change=change, actor=None, comment=gone, at=at)
        rest = _without(flag.exposure, override)
        if override.exposes and rest != flag.exposure:
            flag_changes.lower_as_announced(flag=flag, exposure=rest, reason=f"{tenant.slug}: {gone}", actor=None, at=at)
    TenantOverride.objects.filter(tenant=tenant).delete()


def end_due(*, at: datetime | None = None) -> int:
    """End what is over. What protects stays until another operator agrees to its end, which is proposed in the name of whoever asked for it;
    one that was declined is not proposed again. What can't be ended is logged, and keeps nothing else from its end.
    """
    at, ended = at or timezone.now(), 0
    due = _with_changes().filter(ended_at=None, until__lte=at).order_by("pk")
    for found in due:
        try:
            with transaction.atomic():
                override = _lock(found)
                if override.ended_at is None and (override.ending is None or override.ending.status == FlagChange.Status.OVERTAKEN):
                    _end(override, reason="Its time is over.", actor=None, at=at)
                    settle(flag=override.flag, actor=None, at=at)
                    ended += 1
        except DomainError as error:  # such as another change that waits; the next round tries again
            logger.warning("flag.tenant_override_not_ended", extra={"override": found.pk, "code": error.code})
        except Exception:
            logger.exception("flag.tenant_override_not_ended", extra={"override": found.pk, "code": "internal"})
    return ended


def check_current(*, change: FlagChange, at: datetime) -> None:
    """Nobody agrees to what would be over already. Raises ChangeStaleError."""
    if TenantOverride.objects.filter(change=change, until__lte=at).exists():
        raise ChangeStaleError("What it asks for one organisation would be over by now. Take the change back and propose it anew.")


def settle(*, flag: Flag, actor: User | None, at: datetime) -> None:
    """Note what of it came into force and what ended, as the flag has it by now, and tell the organisations. Within the caller's transaction."""
    flag = _fresh(flag)
    for override in _with_changes().filter(flag=flag, ended_at=None):
        override.flag = flag
        if override.change.is_open:
            continue
        holds = override.change.status == FlagChange.Status.APPLIED and _without(flag.exposure, override) != flag.exposure
        if holds and override.applied_at is None:
            override.applied_at = at
            _note("flag.tenant_override_applied", override, actor, at)
        elif not holds:
            override.ended_at = at
            _note("flag.tenant_override_ended", override, actor, at)


def _note(event: str, override: TenantOverride, actor: User | None, at: datetime) -> None:
    override.save(update_fields=["applied_at", "ended_at"])
    _record(event, override, actor, reason=override.reason, until=override.until.isoformat())
    if override.applied_at is None:  # it was never in force, so that there is nothing to tell
        return
    key, is_over = override.flag.key, override.ended_at is not None
    title = f"{key}: {override.variant} for your organisation {'has ended' if is_over else f'until {override.until:%Y-%m-%d %H:%M} UTC'}"
    with schema_context(override.tenant.schema_name):
        alerts.notify(
            topic=event, severity=Severity.INFO if override.exposes else Severity.WARNING, title=title, text=override.reason,
            path="release/cohorts/", permission=Permission.VIEW, key=f"{event}:{override.pk}:{override.until.isoformat()}", data={"flag": key, "variant": override.variant},
            at=at,
        )  # fmt: skip
        config.changed()


def _without(exposure: Exposure, override: TenantOverride) -> Exposure:
    """The same exposure where it does not hold."""
    place, slug = exposure.grants if override.exposes else exposure.overrides, override.tenant.slug
    rest = exposures.without(place, "tenant", slug, override.variant)
    if rest == place:
        return exposure
    return exposures.changed(exposure, grants=rest) if override.exposes else exposures.changed(exposure, overrides=rest)


def _record(event: str, override: TenantOverride, actor: User | None, **details: Any) -> None:
    audit.record_in_both(event, tenant=override.tenant, actor=actor, flag=override.flag.key, variant=override.variant, **details)


def _fresh(flag: Flag) -> Flag:
    return Flag.objects.select_related("current").get(pk=flag.pk)


def _locked(flag: Flag) -> Flag:
    """As it is once everybody before has finished."""
    return Flag.objects.select_for_update(of=("self",)).select_related("current").get(pk=flag.pk)


def _lock(override: TenantOverride) -> TenantOverride:
    """The flag's row first, as everybody does who changes it."""
    _locked(override.flag)
    return _with_changes().get(pk=override.pk)


def _with_changes() -> QuerySet[TenantOverride]:
    """Not those of deleted organisations: nobody is left to tell."""
    found = TenantOverride.objects.filter(tenant__deleted_at=None)
    return found.select_related("flag", "tenant", "change", "ending", "requested_by")
