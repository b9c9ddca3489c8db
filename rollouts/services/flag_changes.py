"""Changing who is exposed by a flag: every path is a change with a version, an approval where exposure may rise, and an audit entry."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name

from catalog import prompt_selectors
from catalog import selectors as catalog_selectors
from catalog.services import models, prompts
from gateway.contract.flags import Exposure
from governance import config
from governance.models import Membership, Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit
from rollouts import exposure as rules
from rollouts import rollback_selectors
from rollouts.errors import (
    ChangeDecidedError,
    ChangePendingError,
    ChangeStaleError,
    EvidenceMissingError,
    ExposureInvalidError,
    IncidentOpenError,
    NothingChangesError,
    PhaseNotReachedError,
    RaisesExposureError,
    SelfApprovalError,
    WatcherAwayError,
)
from rollouts.exposure import ExposureError
from rollouts.models import Experiment, Flag, FlagChange, FlagVersion, Incident, Phase
from rollouts.services.locking import check_may_advance, lock_flag, lock_rollout

REVIEW_WITHIN = timedelta(hours=24)
"""After an emergency, somebody else looks at what was done."""


@transaction.atomic
def propose_change(
    *,
    flag: Flag,
    exposure: Exposure,
    reason: str,
    actor: User,
    phase: Phase | None = None,
    seen_version: int | None = None,
    prompt: str = "",
    label: str = "",
    at: datetime | None = None,
) -> FlagChange:
    """Propose another exposure. What surely lowers it is applied at once, unless the flag's policy wants two people for every change.

    `seen_version`: the version that the exposure was worked out from, so that nobody's change is undone unseen. `prompt` and `label`: the version
    of a prompt, as `greeting@3`, to which that label of the prompt moves with the change, which then needs a second person in any case.
    Raises FlagArchivedError, ChangeStaleError, ExposureInvalidError, NothingChangesError, ChangePendingError, EvidenceMissingError.
    """
    flag, at = lock_flag(flag), at or timezone.now()
    if seen_version is not None and flag.current is not None and flag.current.number != seen_version:
        raise ChangeStaleError(f"The flag is at version {flag.current.number} by now. Look at it again, then propose the change anew.")
    if flag.changes.filter(status=FlagChange.Status.PROPOSED).exists():
        raise ChangePendingError("Another change waits for approval. It is decided or taken back first.")
    if phase is not None and phase.rollout_id != flag.rollout_id:
        raise ExposureInvalidError(f"{phase.title} is no phase of this flag's rollout.", field="phase")
    change = _new_change(flag, exposure, reason=reason, actor=actor, phase=phase, at=at)
    change.prompt, change.label = prompt, label
    change.needs_approval = bool(change.raises or label) or flag.policy == Flag.Policy.EVERY
    change.save()
    audit.record(
        "flag.change_proposed", actor=actor, target=flag, at=at, change=change.number, raises=change.raises, reason=change.reason,
        changes=_told(flag.exposure, change.exposed), phase=phase.title if phase else None, prompt=prompt, label=label,
    )  # fmt: skip
    if not change.needs_approval:
        return _apply(flag, change, actor=None, at=at)
    _notify(
        topic="flag.change_proposed", severity=Severity.INFO, title=f"{actor} proposes a change of {flag.key}", text=change.reason,
        path=f"release/flags/{flag.key}/", permission=Permission.SIGN_GATES, key=f"flag:{flag.key}:change:{change.number}:proposed",
        data={"flag": flag.key, "change": change.number}, at=at,
    )  # fmt: skip
    return change


def may_propose(person: User) -> bool:
    """Does the person still have the right in the current organisation? For what goes on in somebody's name."""
    membership = Membership.objects.filter(user=person, tenant__schema_name=current_schema(), user__is_active=True).first()
    return membership is not None and membership.can(Permission.MANAGE_ROLLOUTS)


@transaction.atomic
def approve_change(*, change: FlagChange, actor: User, comment: str = "", at: datetime | None = None) -> FlagChange:
    """Agree to a change; it is in force with the commit.

    Raises ChangeDecidedError, SelfApprovalError, ChangeStaleError, PhaseNotReachedError, NotUnderWayError, RollbackUnderWayError,
    IncidentOpenError, WatcherAwayError, and what moving a prompt's label raises where the change does that.
    """
    flag, change, at = _lock_change(change, at)
    if change.proposed_by_id == actor.pk:
        raise SelfApprovalError("Nobody approves their own change: ask somebody else.")
    if change.base_id != flag.current_id:
        raise ChangeStaleError("The flag is no longer what the proposer saw. Take the change back and propose it anew.")
    change.comment = comment.strip()
    return _apply(flag, change, actor=actor, at=at)


@transaction.atomic
def reject_change(*, change: FlagChange, actor: User, comment: str, at: datetime | None = None) -> FlagChange:
    """Decline a change, or take back one's own. Raises ChangeDecidedError, EvidenceMissingError (declining needs a reason)."""
    flag, change, at = _lock_change(change, at)
    own = change.proposed_by_id == actor.pk
    if not own and not comment.strip():
        raise EvidenceMissingError("Say why, so that the proposer knows what to do.", field="comment")
    change.status, change.decided_by, change.decided_at, change.comment = FlagChange.Status.REJECTED, actor, at, comment.strip()
    change.save(update_fields=["status", "decided_by", "decided_at", "comment"])
    audit.record("flag.change_rejected", actor=actor, target=flag, at=at, change=change.number, comment=change.comment, own=own)
    return change


def withdraw_change(*, change: FlagChange, actor: User | None, comment: str, at: datetime) -> FlagChange:
    """Take a change off the table that has lost its object, within the caller's transaction. `actor` None: by the schedule.

    Raises ChangeDecidedError, FlagArchivedError.
    """
    flag, change, at = _lock_change(change, at)
    change.status, change.decided_by, change.decided_at, change.comment = FlagChange.Status.OVERTAKEN, actor, at, comment[:500]
    change.save(update_fields=["status", "decided_by", "decided_at", "comment"])
    audit.record("flag.change_rejected", actor=actor, target=flag, at=at, change=change.number, comment=change.comment, own=False)
    return change


@transaction.atomic
def lower_in_emergency(*, flag: Flag, exposure: Exposure, reason: str, actor: User, at: datetime | None = None) -> FlagChange:
    """Lower the exposure at once and alone; a second person reviews it within a day. A change that waits is overtaken by it.

    Raises RaisesExposureError, NothingChangesError, FlagArchivedError, ExposureInvalidError, EvidenceMissingError.
    """
    at = at or timezone.now()
    flag, change = _lower(flag, exposure, reason=reason, actor=actor, at=at)
    _notify(
        topic="flag.lowered", severity=Severity.CRITICAL, title=f"{actor} lowered {flag.key} in an emergency",
        text=f"{change.reason} Somebody else reviews it by {change.review_due_at:%Y-%m-%d %H:%M} UTC.",
        path=f"release/flags/{flag.key}/", permission=Permission.VIEW, key=f"flag:{flag.key}:change:{change.number}:lowered",
        data={"flag": flag.key, "change": change.number}, at=at,
    )  # fmt: skip
    return change


def switch_off_by_rule(*, flag: Flag, reason: str, at: datetime) -> FlagChange:
    """Switch off what a rollback rule found bad, within its transaction; who is told stands there. A person reviews it within a day.

    Raises NothingChangesError, FlagArchivedError.
    """
    _, change = _lower(flag, rules.changed(flag.exposure, on=False), reason=reason, actor=None, at=at)
    return change


def lower_as_announced(*, flag: Flag, exposure: Exposure, reason: str, actor: User | None, at: datetime) -> FlagChange:
    """Lower for somebody who was told before or asked for it, within the caller's transaction: nobody needs to approve or review it.
    A change that waits is overtaken.

    Raises RaisesExposureError, NothingChangesError, FlagArchivedError.
    """
    _, change = _lower(flag, exposure, reason=reason, actor=actor, at=at, is_emergency=False)
    return change


def _lower(
    flag: Flag, exposure: Exposure, *, reason: str, actor: User | None, at: datetime, is_emergency: bool = True
) -> tuple[Flag, FlagChange]:
    flag = lock_flag(flag)
    change = _new_change(flag, exposure, reason=reason, actor=actor, phase=None, at=at)
    if change.raises:
        raise RaisesExposureError(f"One person alone only lowers exposure. This may raise it: {'; '.join(change.raises).lower()}.")
    for waiting in flag.changes.filter(status=FlagChange.Status.PROPOSED):
        waiting.status, waiting.decided_at, waiting.comment = FlagChange.Status.OVERTAKEN, at, f"Overtaken by change {change.number}"
        waiting.save(update_fields=["status", "decided_at", "comment"])
    change.is_emergency, change.needs_approval, change.review_due_at = is_emergency, False, at + REVIEW_WITHIN if is_emergency else None
    change.save()
    audit.record(
        "flag.lowered", actor=actor, target=flag, at=at, change=change.number, reason=change.reason,
        changes=_told(flag.exposure, change.exposed), review_due_at=change.review_due_at.isoformat() if change.review_due_at else None,
    )  # fmt: skip
    return flag, _apply(flag, change, actor=None, at=at)


def lower_with_phase(*, phase: Phase, reason: str, actor: User, at: datetime) -> list[FlagChange]:
    """Take back what was exposed for a phase that is rolled back, within its transaction, as emergencies that are reviewed later.

    A flag returns to what it was before the phase's first change; where that is not surely lower than now, it is switched off.
    """
    lowered = []
    for found in Flag.objects.filter(rollout=phase.rollout_id, archived_at=None).order_by("pk"):
        flag = lock_flag(found)
        first = flag.changes.select_related("base").filter(phase=phase, status=FlagChange.Status.APPLIED).order_by("number").first()
        if first is None or not flag.exposure.on:
            continue
        before = first.base.exposed
        target = rules.changed(flag.exposure, on=False) if rules.raises(flag.exposure, before, flag.control) else before
        if target != flag.exposure:
            lowered.append(lower_in_emergency(flag=flag, exposure=target, reason=reason, actor=actor, at=at))
    return lowered


@transaction.atomic
def tell_overdue_reviews(*, at: datetime | None = None) -> int:
    """Tell people, once for each, about emergencies that nobody has reviewed in time. How many there are."""
    at = at or timezone.now()
    overdue = FlagChange.objects.select_related("flag", "proposed_by").filter(review_due_at__lt=at, reviewed_at=None)
    for change in overdue:
        alerts.notify(
            topic="flag.review_overdue", severity=Severity.WARNING,
            title=f"Nobody has reviewed the emergency of {change.proposer} on {change.flag.key}", text=change.reason,
            path=f"release/flags/{change.flag.key}/", permission=Permission.SIGN_GATES,
            key=f"flag:{change.flag.key}:change:{change.number}:overdue", data={"flag": change.flag.key, "change": change.number}, at=at,
        )  # fmt: skip
    return len(overdue)


@transaction.atomic
def review_lowering(*, change: FlagChange, actor: User, comment: str, at: datetime | None = None) -> FlagChange:
    """Put on record that a second person looked at an emergency, and what came of it.

    Raises ChangeDecidedError (nothing to review, or reviewed before), SelfApprovalError, EvidenceMissingError.
    """
    flag = Flag.objects.select_for_update().get(pk=change.flag_id)  # archived or not: the review is owed
    change = FlagChange.objects.get(pk=change.pk)
    if not change.awaits_review:
        raise ChangeDecidedError("There is nothing to review here, or it was reviewed before.")
    if change.proposed_by_id == actor.pk:
        raise SelfApprovalError("Whoever acted does not review it: ask somebody else.")
    if not comment.strip():
        raise EvidenceMissingError("Say what you found, and what follows from it.", field="comment")
    change.reviewed_by, change.reviewed_at, change.review_comment = actor, at or timezone.now(), comment.strip()
    change.save(update_fields=["reviewed_by", "reviewed_at", "review_comment"])
    audit.record("flag.reviewed", actor=actor, target=flag, at=change.reviewed_at, change=change.number, comment=change.review_comment)
    return change


def _lock_change(change: FlagChange, at: datetime | None) -> tuple[Flag, FlagChange, datetime]:
    """Rollout first, then flag, as a rollback does: a change is never approved for a phase that is being left backwards."""
    if change.phase is not None:
        lock_rollout(change.phase.rollout_id)
    flag = lock_flag(change.flag)
    change = FlagChange.objects.select_related("phase__rollout").get(pk=change.pk)
    if not change.is_open:
        raise ChangeDecidedError(f"This change was decided before: {change.get_status_display().lower()}.")
    return flag, change, at or timezone.now()


def _new_change(flag: Flag, exposure: Exposure, *, reason: str, actor: User | None, phase: Phase | None, at: datetime) -> FlagChange:
    """Checked, not saved."""
    assert flag.current is not None
    try:
        rules.check(exposure, flag.variants, flag.control)
    except ExposureError as error:
        raise ExposureInvalidError(str(error), field=error.field) from error
    if exposure == flag.exposure:
        raise NothingChangesError("This is what holds already.")
    if not reason.strip():
        raise EvidenceMissingError("Say why: whoever approves reads it.", field="reason")
    last = flag.changes.order_by("-number").first()
    return FlagChange(
        flag=flag,
        number=(last.number if last else 0) + 1,
        base=flag.current,
        exposure=msgspec.to_builtins(exposure),
        raises=rules.raises(flag.exposure, exposure, flag.control),
        phase=phase,
        reason=reason.strip(),
        status=FlagChange.Status.PROPOSED,
        proposed_by=actor,
        proposed_at=at,
    )


def _apply(flag: Flag, change: FlagChange, *, actor: User | None, at: datetime) -> FlagChange:
    """Put the change in force under the next version. `actor` is whoever approved, None when nobody had to."""
    assert flag.current is not None
    if change.raises:
        _check_guards(flag, at)
    if change.phase is not None and change.raises:
        rollout = change.phase.rollout
        if change.phase.status not in (Phase.Status.CURRENT, Phase.Status.DONE):
            raise PhaseNotReachedError(f"This change belongs to {change.phase.title}, which {rollout.name} has not entered.")
        check_may_advance(rollout)
    before = flag.exposure
    version = FlagVersion.objects.create(flag=flag, number=flag.current.number + 1, exposure=change.exposure, at=at)
    flag.current = version
    flag.save(update_fields=["current"])
    if change.label and actor is not None:
        _move_label(change, actor, at)
    _propose_parameters(flag, change, at)
    change.status, change.version, change.decided_by, change.decided_at = FlagChange.Status.APPLIED, version, actor, at
    change.save()
    audit.record(
        "flag.change_applied", actor=actor or change.proposed_by, target=flag, at=at, change=change.number, version=version.number,
        changes=_told(before, change.exposed), comment=change.comment,
    )  # fmt: skip
    config.changed()
    return change


def _move_label(change: FlagChange, actor: User, at: datetime) -> None:
    """In the change's transaction, by whoever approved it. Raises what the catalog raises, such as of a prompt in the archive."""
    version = prompt_selectors.version_named(change.prompt)
    prompts.set_label(prompt=version.prompt, name=change.label, version=version, actor=actor, at=at)


def _propose_parameters(flag: Flag, change: FlagChange, at: datetime) -> None:
    """Ask that what a promoted variant says of parameters becomes its model's default, in the name of whoever proposed the promotion.

    Those that come with a version of a prompt are for calls of that prompt, so they stay with the flag. Of a model that was retired meanwhile
    nothing is asked.
    """
    if current_schema() == get_public_schema_name() or change.proposed_by is None:
        return
    promoted = Experiment.objects.filter(change=change, decision=Experiment.Decision.PROMOTE).first()
    treatment = flag.comparison.treatments[promoted.winner] if promoted else None
    if promoted is None or treatment is None or not treatment.parameters or treatment.prompt:
        return
    model = catalog_selectors.all_models().filter(slug=treatment.model or flag.model).first()
    if model is not None:
        models.propose_parameters(model=model, parameters=treatment.parameters, actor=change.proposed_by, reason=change.reason, at=at)


def _check_guards(flag: Flag, at: datetime) -> None:
    """Exposure never rises over an open incident, nor while the rules that guard it are not looked at.

    Both are an organisation's own, of its own flags; the operator's flags have neither.
    """
    if current_schema() == get_public_schema_name():
        return
    incident = Incident.objects.filter(flag=flag).exclude(status=Incident.Status.RESOLVED).first()
    if incident is not None:
        raise IncidentOpenError(f"{incident} of {flag.key} is open. Resolve it before exposure rises again.")
    guarded = rollback_selectors.live_rules().filter(flag=flag, is_dry_run=False).exists()
    since = rollback_selectors.watcher_away_since(at=at) if guarded else None
    if since is not None:
        raise WatcherAwayError(f"Rollback rules guard {flag.key}, and nobody has looked since {since:%H:%M:%S} UTC. Mend the worker first.")


def _notify(**notice: Any) -> None:
    """The platform has no alert channels: operators see what waits on their own page."""
    if current_schema() != get_public_schema_name():
        alerts.notify(**notice)


def _told(before: Exposure, after: Exposure) -> dict[str, list[str]]:
    """For the audit log: what, from, to."""
    return {name: [old, new] for name, old, new in rules.differences(before, after)}
