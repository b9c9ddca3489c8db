"""Starting, pausing and rolling back a rollout."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import msgspec
from django.db import IntegrityError, transaction
from django.utils import timezone

from governance.models import Tenant, User
from governance.schema import current_schema
from governance.services import audit
from rollouts import exposure, plans
from rollouts.errors import (
    CohortInvalidError,
    EvidenceMissingError,
    NotUnderWayError,
    PlanNotFoundError,
    RollbackUnderWayError,
    SlugTakenError,
)
from rollouts.models import Cohort, Criterion, Gate, Phase, ReleaseLogEntry, Rollback, Rollout
from rollouts.services import flag_changes, gates
from rollouts.services.locking import check_under_way, lock_rollout
from rollouts.services.release_log import note

RESERVED_SLUGS = frozenset({"new"})


def start_rollout(
    *,
    plan_key: str,
    slug: str,
    name: str,
    owner: User,
    actor: User,
    starts_on: date | None = None,
    cohort: str = "",
    at: datetime | None = None,
) -> Rollout:
    """Make a rollout from a plan, with a frozen copy of it. On or after its first day the first phase begins at once.

    With a `cohort` its gates judge the figures of all organisations that are active in it.

    Raises PlanNotFoundError, SlugTakenError, CohortInvalidError.
    """
    if cohort:
        _check_cohort(cohort, actor)
    try:
        plan = plans.get(plan_key)
    except KeyError:
        raise PlanNotFoundError(f"There is no plan {plan_key}.", field="plan") from None
    if slug in RESERVED_SLUGS:
        raise SlugTakenError(f"The address {slug} is reserved. Choose another.", field="slug")
    try:
        return _create(
            plan=plan, slug=slug, name=name, owner=owner, actor=actor, starts_on=starts_on, cohort=cohort, at=at or timezone.now()
        )
    except IntegrityError as error:
        if Rollout.objects.filter(slug=slug).exists():
            raise SlugTakenError(f"A rollout with the address {slug} exists.", field="slug") from error
        raise


def _check_cohort(slug: str, actor: User) -> None:
    """Whose gates read other organisations' figures is the operator's business, and only the operator's own organisation may see them."""
    is_internal = Tenant.objects.filter(schema_name=current_schema(), kind=Tenant.Kind.INTERNAL).exists()
    if not actor.is_operator or not is_internal:
        raise CohortInvalidError("Only operators roll out over a cohort, in an internal organisation.", field="cohort")
    if not Cohort.objects.filter(slug=slug, closed_at=None).exists():
        raise CohortInvalidError(f"There is no open cohort {slug}.", field="cohort")


@transaction.atomic
def _create(
    *, plan: plans.Plan, slug: str, name: str, owner: User, actor: User, starts_on: date | None, cohort: str, at: datetime
) -> Rollout:
    first_day = starts_on or at.date()
    rollout = Rollout.objects.create(
        slug=slug,
        name=name.strip(),
        plan_key=plan.key,
        plan_version=plan.version,
        plan=plans.frozen(plan),
        owner=owner,
        created_by=actor,
        starts_on=first_day,
        cohort=cohort,
        created_at=at,
    )
    begins = first_day
    for position, planned in enumerate(plan.phases):
        ends = begins + timedelta(days=planned.duration_days)
        phase = Phase.objects.create(
            rollout=rollout,
            position=position,
            key=planned.key,
            title=planned.title,
            lane=planned.lane.value,
            planned_start=begins,
            planned_end=ends,
        )
        gate = Gate.objects.create(
            rollout=rollout, phase=phase, number=position + 1, title=planned.gate.title, roles=list(planned.gate.roles), planned_on=ends
        )
        Criterion.objects.bulk_create(_criterion(gate, place, criterion) for place, criterion in enumerate(planned.gate.criteria))
        begins = ends
    note(
        rollout=rollout,
        kind=ReleaseLogEntry.Kind.STARTED,
        actor=actor,
        at=at,
        text=f"{rollout.name} started by {actor} from the plan {plan.title}, version {plan.version}; owner {owner}, first day {first_day.isoformat()}"
        + (f", over the cohort {cohort}" if cohort else ""),
    )
    audit.record(
        "rollout.started",
        actor=actor,
        target=rollout,
        at=at,
        plan=plan.key,
        version=plan.version,
        owner=str(owner),
        starts_on=first_day.isoformat(),
        **({"cohort": cohort} if cohort else {}),
    )
    if first_day <= at.date():
        _begin(rollout, actor=actor, at=at)
    return rollout


def _criterion(gate: Gate, position: int, planned: plans.Criterion) -> Criterion:
    criterion = Criterion(
        gate=gate,
        position=position,
        key=planned.key,
        title=planned.title,
        quote=planned.quote,
        origin=planned.origin,
        group=planned.group,
        owner=planned.owner,
        role=planned.role,
        severity=planned.severity,
        kind=Criterion.Kind.ATTESTATION,
        evidence=planned.evidence,
    )
    if planned.rule is not None:
        rule = planned.rule
        criterion.kind = Criterion.Kind.METRIC
        criterion.metric, criterion.operator, criterion.threshold, criterion.unit = rule.metric, rule.operator, rule.threshold, rule.unit
        criterion.window_hours, criterion.minimum_sample, criterion.sustain_hours = (
            rule.window_hours,
            rule.minimum_sample,
            rule.sustain_hours,
        )
        criterion.sustain_times, criterion.sustain_of = rule.sustain_times, rule.sustain_of
        criterion.over = None if rule.over is None else msgspec.to_builtins(rule.over)
    return criterion


@transaction.atomic
def begin_rollout(*, rollout: Rollout, actor: User | None, at: datetime | None = None) -> Rollout:
    """Enter the first phase of a planned rollout: on its first day by the schedule, earlier by a person. Raises NotUnderWayError."""
    rollout = lock_rollout(rollout.pk)
    if rollout.status != Rollout.Status.PLANNED:
        raise NotUnderWayError(f"{rollout.name} is {rollout.get_status_display().lower()}; only a planned rollout can begin.")
    _begin(rollout, actor=actor, at=at or timezone.now())
    return rollout


def _begin(rollout: Rollout, *, actor: User | None, at: datetime) -> None:
    rollout.status = Rollout.Status.RUNNING
    rollout.save(update_fields=["status"])
    audit.record("rollout.begun", actor=actor, target=rollout, at=at)
    gates.open_phase(rollout.phases.get(position=0), rollout=rollout, actor=actor, at=at)


@transaction.atomic
def pause_rollout(*, rollout: Rollout, reason: str, actor: User, at: datetime | None = None) -> Rollout:
    """Nobody can say go until it is resumed; gates are still evaluated. Raises NotUnderWayError, EvidenceMissingError."""
    rollout = lock_rollout(rollout.pk)
    at = at or timezone.now()
    check_under_way(rollout)
    if rollout.is_paused:
        raise NotUnderWayError(f"{rollout.name} is paused already.")
    if not reason.strip():
        raise EvidenceMissingError("Say why, so that others know when it may go on.", field="reason")
    rollout.paused_at, rollout.pause_reason = at, reason.strip()
    rollout.save(update_fields=["paused_at", "pause_reason"])
    note(rollout=rollout, kind=ReleaseLogEntry.Kind.PAUSED, actor=actor, at=at, text=f"Paused by {actor}: {rollout.pause_reason}")
    audit.record("rollout.paused", actor=actor, target=rollout, at=at, reason=rollout.pause_reason)
    return rollout


@transaction.atomic
def resume_rollout(*, rollout: Rollout, actor: User, at: datetime | None = None) -> Rollout:
    """Raises NotUnderWayError when it is not paused."""
    rollout = lock_rollout(rollout.pk)
    at = at or timezone.now()
    check_under_way(rollout)
    if not rollout.is_paused:
        raise NotUnderWayError(f"{rollout.name} is not paused.")
    rollout.paused_at, rollout.pause_reason = None, ""
    rollout.save(update_fields=["paused_at", "pause_reason"])
    note(rollout=rollout, kind=ReleaseLogEntry.Kind.RESUMED, actor=actor, at=at, text=f"Resumed by {actor}")
    audit.record("rollout.resumed", actor=actor, target=rollout, at=at)
    return rollout


@transaction.atomic
def roll_back(*, rollout: Rollout, reason: str, actor: User, at: datetime | None = None) -> Rollback:
    """Leave the current phase backwards: the phase before it is current again and its gate is to be signed anew. The first phase
    rolled back stops the rollout. One person is enough, because it only reduces exposure; the clock against the RTO starts now.
    Flags that were changed for the phase return to what they were before it.

    Evidence, configuration and the log stay. Raises NotUnderWayError, RollbackUnderWayError, EvidenceMissingError.
    """
    rollout = lock_rollout(rollout.pk)
    at = at or timezone.now()
    check_under_way(rollout)
    if not reason.strip():
        raise EvidenceMissingError("Say what went wrong: the log and everybody who is asked to sign will show it.", field="reason")
    if rollout.rollbacks.filter(finished_at=None).exists():
        raise RollbackUnderWayError("A rollback is under way. Confirm that it is finished first.")
    current = rollout.phases.get(status=Phase.Status.CURRENT)
    earlier = rollout.phases.filter(position=current.position - 1).first() if current.position else None
    current.status, current.left_at = Phase.Status.ROLLED_BACK, at
    current.save(update_fields=["status", "left_at"])
    gate = Gate.objects.get(phase=current)
    gates.void_signatures(gate, reason=f"{current.title} was rolled back", at=at)
    gate.status, gate.decided_at, gate.latest = Gate.Status.CLOSED, None, None
    gate.save(update_fields=["status", "decided_at", "latest"])
    rollback = Rollback.objects.create(
        rollout=rollout,
        from_phase=current,
        to_phase=earlier,
        reason=reason.strip(),
        by=actor,
        started_at=at,
        rto_minutes=rollout.frozen_plan.phases[current.position].rollback.rto_minutes,
    )
    note(
        rollout=rollout,
        kind=ReleaseLogEntry.Kind.ROLLBACK,
        actor=actor,
        at=at,
        glyph="fail",
        text=f"{current.title} rolled back by {actor}: {rollback.reason.rstrip('.')}. "
        + (f"{earlier.title} is current again" if earlier else "The rollout is stopped"),
    )
    audit.record(
        "rollout.rolled_back",
        actor=actor,
        target=rollout,
        at=at,
        phase=current.title,
        to=earlier.title if earlier else None,
        reason=rollback.reason,
    )
    for change in flag_changes.lower_with_phase(
        phase=current, reason=f"{current.title} rolled back: {rollback.reason}"[:500], actor=actor, at=at
    ):
        told = f"{change.flag.key} lowered with {current.title}. Exposed: {exposure.sentence(change.exposed).lower()}"
        note(rollout=rollout, kind=ReleaseLogEntry.Kind.ROLLBACK, actor=actor, at=at, text=told)
    if earlier is not None:
        gates.void_signatures(Gate.objects.get(phase=earlier), reason=f"{current.title} was rolled back", at=at)
        gates.open_phase(earlier, rollout=rollout, actor=actor, at=at)
    else:
        rollout.status, rollout.closed_at = Rollout.Status.STOPPED, at
        rollout.save(update_fields=["status", "closed_at"])
    return rollback


@transaction.atomic
def finish_rollback(*, rollback: Rollback, actor: User, at: datetime | None = None) -> Rollback:
    """Confirm that nobody is exposed any more: stops the clock. Raises RollbackUnderWayError when it was confirmed before."""
    rollout = lock_rollout(rollback.rollout_id)
    rollback = Rollback.objects.select_related("from_phase").get(pk=rollback.pk)
    at = at or timezone.now()
    if rollback.finished_at is not None:
        raise RollbackUnderWayError("This rollback was confirmed before.")
    rollback.finished_at, rollback.finished_by = at, actor
    rollback.save(update_fields=["finished_at", "finished_by"])
    took = rollback.took_minutes(at)
    promise = (
        f", {'over' if rollback.is_over_rto(at) else 'within'} the {rollback.rto_minutes} min promised" if rollback.rto_minutes else ""
    )
    note(
        rollout=rollout,
        kind=ReleaseLogEntry.Kind.ROLLBACK,
        actor=actor,
        at=at,
        text=f"Rollback of {rollback.from_phase.title} confirmed by {actor} after {took:.0f} min{promise}",
    )
    audit.record("rollback.finished", actor=actor, target=rollout, at=at, minutes=round(took, 1), rto_minutes=rollback.rto_minutes)
    return rollback
