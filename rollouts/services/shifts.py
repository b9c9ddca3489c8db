"""Traffic shifts: each step is a change of the flag that a second person agrees to, and is earned by the window before it."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from gateway.contract.flags import BUCKETS, Exposure
from governance.errors import DomainError
from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit
from rollouts import experiment_selectors, rules, shift_rules, shift_selectors
from rollouts import exposure as exposure_rules
from rollouts.errors import EvidenceMissingError, NothingChangesError, ShiftInvalidError, ShiftRunningError, ShiftStateError, SlugTakenError
from rollouts.models import Flag, FlagChange, Shift, ShiftWindow
from rollouts.services import flag_changes
from rollouts.shift_rules import DEFAULT_STEPS, Judgement, Margins

logger = logging.getLogger(__name__)

FEWEST_CALLS, MOST_CALLS = 100, 1_000_000
MAX_STEPS = 20
SLUG = r"[a-z0-9]+(?:-[a-z0-9]+)*"


@transaction.atomic
def start_shift(
    *,
    slug: str,
    name: str,
    flag: Flag,
    challenger: str,
    actor: User,
    steps: Sequence[int] = DEFAULT_STEPS,
    window_calls: int = 10_000,
    margins: Margins = Margins(),  # noqa: B008 - frozen
    at: datetime | None = None,
) -> Shift:
    """Begin by asking for the first step above the flag's present percentage.

    Raises ShiftInvalidError, SlugTakenError, ShiftRunningError, and what proposing a change of the flag raises.
    """
    at = at or timezone.now()
    flag = Flag.objects.select_for_update(of=("self",)).select_related("current").get(pk=flag.pk)
    _check(slug, flag, challenger, steps, window_calls, margins)
    present = flag.exposure.percentage if flag.exposure.on else 0
    step = next((place for place, percent in enumerate(steps) if 1000 * percent > present), None)
    if step is None:
        raise ShiftInvalidError(f"{flag.key} exposes {present / 1000:g}% already: no step is above it.", field="steps")
    if Shift.objects.filter(flag=flag, status__in=[Shift.Status.RUNNING, Shift.Status.PAUSED]).exists():
        raise ShiftRunningError(f"Another shift of {flag.key} is under way. It is ended first.", field="flag")
    try:
        with transaction.atomic():
            shift = Shift.objects.create(
                slug=slug, name=name.strip(), flag=flag, challenger=challenger, steps=list(steps), window_calls=window_calls,
                latency_margin=margins.latency, error_margin=margins.errors, savings_floor=margins.savings, step=step, proposer=actor,
                created_at=at,
            )  # fmt: skip
    except IntegrityError as error:
        if Shift.objects.filter(slug=slug).exists():
            raise SlugTakenError(f"There is a shift at {slug} already.", field="slug") from error
        raise
    audit.record(
        "shift.started", actor=actor, target=shift, at=at, flag=flag.key, challenger=challenger, steps=list(steps), window_calls=window_calls,
        latency_margin=margins.latency, error_margin=margins.errors, savings_floor=margins.savings,
    )  # fmt: skip
    _ask(shift, at)
    return shift


def _check(slug: str, flag: Flag, challenger: str, steps: Sequence[int], window_calls: int, margins: Margins) -> None:
    if not re.fullmatch(SLUG, slug) or slug == "new":
        raise ShiftInvalidError("Use lower-case letters, digits and single hyphens; new is taken.", field="slug")
    if not flag.model or flag.is_archived:
        raise ShiftInvalidError(f"{flag.key} binds no model or is archived: no governed call would tell its variant.", field="flag")
    if challenger not in flag.variants or challenger == flag.control:
        raise ShiftInvalidError(f"{challenger} is no treatment of {flag.key}.", field="challenger")
    rising = all(before < after for before, after in itertools.pairwise(steps))
    if not steps or len(steps) > MAX_STEPS or not rising or steps[0] < 1 or steps[-1] != 100:
        raise ShiftInvalidError("Steps are whole percents that rise, the last one 100.", field="steps")
    if not FEWEST_CALLS <= window_calls <= MOST_CALLS:
        raise ShiftInvalidError(f"A window has {FEWEST_CALLS:,} to {MOST_CALLS:,} calls.", field="window_calls")
    for field, value, least in (
        ("latency_margin", margins.latency, 0.0), ("error_margin", margins.errors, 0.0), ("savings_floor", margins.savings, -1000.0)
    ):  # fmt: skip
        if not least <= value < 100 or (field != "savings_floor" and value == 0):
            raise ShiftInvalidError("Margins are above 0 and below 100; savings are below 100.", field=field)


def _target(shift: Shift, flag: Flag) -> Exposure:
    return exposure_rules.changed(
        flag.exposure, on=True, percentage=shift.percentage * BUCKETS // 100, weights={shift.challenger: BUCKETS}
    )  # fmt: skip


def _ask(shift: Shift, at: datetime) -> None:
    """Propose the present step; it is in force once somebody else agrees, or at once where the flag has it already."""
    flag = Flag.objects.select_related("current").get(pk=shift.flag_id)
    shift.change, shift.version, shift.entered_at, shift.seen_calls, shift.looked_at = None, None, None, 0, None
    try:
        shift.change = flag_changes.propose_change(
            flag=flag, exposure=_target(shift, flag), reason=f"Shift {shift.slug}: step to {shift.percentage}%", actor=shift.proposer, at=at
        )
        shift.reason = f"Change {shift.change.number} of the flag to {shift.percentage}% waits for a second person."
    except NothingChangesError:
        shift.version, shift.entered_at = flag.current, at
        shift.reason = f"0 of {shift.window_calls:,} calls by {shift.challenger}."
    shift.save()


def look_when_due(*, shift: Shift, at: datetime | None = None) -> None:
    """On schedule. Nothing happens to one that is not under way any more: the task may come twice.

    A look counts the whole window, so an old window is looked at less often: after another hundredth of its age.
    """
    at = at or timezone.now()
    with transaction.atomic():
        due = Shift.objects.select_for_update(of=("self",), skip_locked=True).filter(pk=shift.pk, status=Shift.Status.RUNNING).first()
        if due is None:  # or somebody is at it: the next task comes soon
            return
        if due.looked_at is not None and due.entered_at is not None and at - due.looked_at < (at - due.entered_at) / 100:
            return
        look(shift=due, at=at)


@transaction.atomic
def look(*, shift: Shift, actor: User | None = None, at: datetime | None = None) -> Shift:
    """Notice a step that came into force or was declined, count its window, and go on, wait or pause. Raises ShiftStateError."""
    shift, at = _lock(shift, Shift.Status.RUNNING), at or timezone.now()
    if not shift.is_in_force and not _enter(shift, at):
        return shift
    assert shift.version is not None
    if shift.flag.is_archived or not experiment_selectors.same_split(shift.flag.exposure, shift.version.exposed):
        return _pause(shift, "The flag was changed outside of the shift.", at=at, severity=Severity.WARNING)
    if shift.percentage == 100:
        return _finish(shift, at)
    return _judge(shift, actor, at)


def _enter(shift: Shift, at: datetime) -> bool:
    """Is the step in force by now?"""
    change = shift.change
    if change is None or change.is_open:
        return False
    if change.status != FlagChange.Status.APPLIED or change.version is None:
        said = f": {change.comment}" if change.comment else "."
        _pause(shift, f"Step {shift.percentage}% was {change.get_status_display().lower()}{said}", at=at, severity=Severity.WARNING)
        return False
    shift.version, shift.entered_at = change.version, change.version.at
    shift.reason = f"0 of {shift.window_calls:,} calls by {shift.challenger}."
    shift.save()
    audit.record("shift.step_entered", actor=change.decided_by, target=shift, at=at, percentage=shift.percentage, change=change.number)
    return True


def _judge(shift: Shift, actor: User | None, at: datetime) -> Shift:
    record = shift_selectors.window_of(shift, at)
    judgement = shift_rules.replay(record)
    shift.seen_calls, shift.looked_at, shift.reason = judgement.calls, at, judgement.sentence
    shift.save()
    if judgement.verdict == "wait":
        if actor is not None:
            _keep(shift, record, judgement, actor, at)
        return shift
    if judgement.verdict == "pause":
        _keep(shift, record, judgement, actor, at)
        return _pause(shift, judgement.sentence, at=at, severity=Severity.CRITICAL if judgement.breached else Severity.WARNING)
    if not flag_changes.may_propose(shift.proposer):
        _keep(shift, record, judgement, actor, at)
        return _pause(shift, f"{shift.proposer} may no longer propose changes of flags.", at=at, severity=Severity.WARNING)
    try:
        with transaction.atomic():
            _keep(shift, record, judgement, actor, at)
            shift.step += 1
            _ask(shift, at)
    except DomainError as error:  # such as another change of the flag that waits; the next look tries again
        logger.warning("shift.step_not_proposed", extra={"shift": shift.pk, "code": error.code})
        shift = _lock(shift, Shift.Status.RUNNING)
        shift.reason = f"{judgement.sentence} The next step can't be proposed yet: {error.message}"[:500]
        shift.save(update_fields=["reason"])
    return shift


def _keep(shift: Shift, record: dict[str, object], judgement: Judgement, actor: User | None, at: datetime) -> ShiftWindow:
    last = shift.windows.order_by("-sequence").first()
    previous = last.evidence_hash if last else rules.sha256(f"{rules.GENESIS}:shift:{shift.pk}:{current_schema()}")
    window = ShiftWindow(
        shift=shift, sequence=(last.sequence if last else 0) + 1, percentage=shift.percentage, at=at, requested_by=actor,
        verdict=judgement.verdict, evidence=rules.canonical(record), previous_hash=previous,
    )  # fmt: skip
    window.evidence_hash = shift_selectors.digest_of(window)
    window.save()
    audit.record(
        "shift.window_judged", actor=actor, target=shift, at=at, percentage=shift.percentage, verdict=judgement.verdict,
        sentence=judgement.sentence, hash=window.evidence_hash,
    )  # fmt: skip
    return window


def _pause(shift: Shift, reason: str, *, at: datetime, severity: str) -> Shift:
    shift.status, shift.reason = Shift.Status.PAUSED, reason[:500]
    shift.save()
    audit.record("shift.paused", actor=None, target=shift, at=at, reason=shift.reason, percentage=shift.percentage)
    alerts.notify(
        topic="shift.paused", severity=severity, title=f"{shift.name} is paused at {shift.percentage}%",
        text=f"{shift.reason} The flag stays as it is: lower it, or resume the shift.", path=f"release/shifts/{shift.slug}/",
        permission=Permission.MANAGE_ROLLOUTS, key=f"shift:{shift.pk}:paused:{at.isoformat()}", data={"shift": shift.slug}, at=at,
    )  # fmt: skip
    return shift


def _finish(shift: Shift, at: datetime) -> Shift:
    shift.status, shift.ended_at, shift.reason = Shift.Status.FINISHED, at, f"{shift.challenger} serves everybody."
    shift.save()
    audit.record("shift.finished", actor=None, target=shift, at=at)
    alerts.notify(
        topic="shift.finished", severity=Severity.INFO, title=f"{shift.name} is finished", text=shift.reason,
        path=f"release/shifts/{shift.slug}/", permission=Permission.VIEW, key=f"shift:{shift.pk}:finished", data={"shift": shift.slug}, at=at,
    )  # fmt: skip
    return shift


@transaction.atomic
def resume_shift(*, shift: Shift, reason: str, actor: User, at: datetime | None = None) -> Shift:
    """Go on at the present step with a new window; from now on steps are proposed in the name of `actor`.

    Raises ShiftStateError, EvidenceMissingError, and what proposing a change of the flag raises.
    """
    shift, at = _lock(shift, Shift.Status.PAUSED), at or timezone.now()
    if not reason.strip():
        raise EvidenceMissingError("Say what has changed since the pause.", field="reason")
    shift.status, shift.proposer = Shift.Status.RUNNING, actor
    audit.record("shift.resumed", actor=actor, target=shift, at=at, reason=reason.strip(), percentage=shift.percentage)
    _ask(shift, at)
    return shift


@transaction.atomic
def end_shift(*, shift: Shift, reason: str, actor: User, at: datetime | None = None) -> Shift:
    """Take no further step. The flag stays as it is; a step that waits is taken back. Raises ShiftStateError, EvidenceMissingError."""
    shift, at = _lock(shift, Shift.Status.RUNNING, Shift.Status.PAUSED), at or timezone.now()
    if not reason.strip():
        raise EvidenceMissingError("Say why.", field="reason")
    if shift.change is not None and shift.change.is_open:
        flag_changes.reject_change(change=shift.change, actor=actor, comment=f"The shift is ended: {reason.strip()}"[:500], at=at)
    shift.status, shift.ended_at, shift.reason = Shift.Status.ENDED, at, reason.strip()
    shift.save()
    audit.record("shift.ended", actor=actor, target=shift, at=at, reason=shift.reason, percentage=shift.percentage)
    return shift


def _lock(shift: Shift, *wanted: Shift.Status) -> Shift:
    """The shift as it is once everybody before has finished. Raises ShiftStateError unless it is in one of the states."""
    fresh = (
        Shift.objects.select_for_update(of=("self",))
        .select_related("flag__current", "version", "change__version", "change__decided_by", "proposer")
        .get(pk=shift.pk)
    )
    if fresh.status not in wanted:
        raise ShiftStateError(f"{fresh.name} is {fresh.get_status_display().lower()}: that can't be done now.")
    return fresh
