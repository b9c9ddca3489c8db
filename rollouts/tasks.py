"""Celery doors of the rollouts."""

from __future__ import annotations

import logging

from celery import shared_task
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from governance.celery import PlatformTask, TenantTask
from governance.models import Tenant
from governance.schema import current_schema
from rollouts import cohort_selectors, experiment_selectors, rollback_selectors, selectors, shadow_selectors, shift_selectors
from rollouts.errors import NotUnderWayError
from rollouts.models import Experiment, Gate, Rollout, Shadow, Shift
from rollouts.services import (
    cohort_endings,
    cohort_programme,
    cohorts,
    escalations,
    experiments,
    flag_changes,
    gates,
    rollback,
    rollouts,
    shadow_judging,
    shadows,
    shifts,
    tenant_overrides,
)

logger = logging.getLogger(__name__)

GATES_AT_ONCE = 10_000
"""In one task, which reads each metric once for all of them: under a minute of work. Another worker takes the next ones."""


@shared_task(base=PlatformTask)
def dispatch_evaluation() -> None:
    evaluate_tenant.queue_for_all()


@shared_task(base=TenantTask)
def evaluate_tenant() -> None:
    """Begin the rollouts whose first day has come, queue the open gates that are due, and tell what is overdue."""
    now = timezone.now()
    flag_changes.tell_overdue_reviews(at=now)
    for rollout_id in selectors.rollouts_to_begin(now.date()):
        begin.delay(rollout_id, schema_name=current_schema())
    due = list(gates.due_gates(at=now).values_list("pk", flat=True))
    for first in range(0, len(due), GATES_AT_ONCE):
        evaluate.delay(*due[first : first + GATES_AT_ONCE], schema_name=current_schema())


@shared_task(base=TenantTask)
def begin(rollout_id: int) -> None:
    rollout = Rollout.objects.filter(pk=rollout_id).first()
    if rollout is None:
        logger.info("rollout.missing", extra={"rollout": rollout_id})
        return
    try:
        rollouts.begin_rollout(rollout=rollout, actor=None)
    except NotUnderWayError:  # a person, or this task's other run, was quicker
        logger.info("rollout.begun_before", extra={"rollout": rollout_id})


@shared_task(base=TenantTask)
def evaluate(*gate_ids: int) -> None:
    """Harmless when it runs twice: under the lock, a gate that was just evaluated is not due. Gates of one task share what their metrics read."""
    found = Gate.objects.in_bulk(gate_ids)
    for missing in set(gate_ids) - found.keys():
        logger.info("gate.missing", extra={"gate": missing})
    gates.evaluate_gates(found.values())


@shared_task(base=PlatformTask)
def dispatch_experiments() -> None:
    read_experiments.queue_for_all()


@shared_task(base=TenantTask)
def read_experiments() -> None:
    """One task each: a long window of one experiment keeps no other waiting."""
    for experiment_id in experiment_selectors.experiments_due(timezone.now()):
        read_experiment.delay(experiment_id, schema_name=current_schema())


@shared_task(base=TenantTask)
def read_experiment(experiment_id: int) -> None:
    """Harmless when it runs twice: under the lock, an experiment that was just read is not due."""
    experiment = Experiment.objects.filter(pk=experiment_id).first()
    if experiment is None:
        logger.info("experiment.missing", extra={"experiment": experiment_id})
        return
    experiments.read_when_due(experiment=experiment)


@shared_task(base=PlatformTask)
def dispatch_shifts() -> None:
    look_at_shifts.queue_for_all()


@shared_task(base=TenantTask)
def look_at_shifts() -> None:
    for shift_id in shift_selectors.running():
        look_at_shift.delay(shift_id, schema_name=current_schema())


@shared_task(base=TenantTask)
def look_at_shift(shift_id: int) -> None:
    """Harmless when it runs twice: a look that finds nothing new writes nothing new."""
    shift = Shift.objects.filter(pk=shift_id).first()
    if shift is None:
        logger.info("shift.missing", extra={"shift": shift_id})
        return
    shifts.look_when_due(shift=shift)


@shared_task(base=PlatformTask)
def dispatch_shadows() -> None:
    look_at_shadows.queue_for_all(expires=60)


@shared_task(base=TenantTask)
def look_at_shadows() -> None:
    for shadow_id in shadow_selectors.to_collect(timezone.now()):
        look_at_shadow.apply_async(args=(shadow_id,), kwargs={"schema_name": current_schema()}, expires=60)


@shared_task(base=TenantTask)
def look_at_shadow(shadow_id: int) -> None:
    """Harmless when it runs twice: a pair is kept once, and claimed before the judge is asked about it."""
    shadow = Shadow.objects.filter(pk=shadow_id).first()
    if shadow is None:
        logger.info("shadow.missing", extra={"shadow": shadow_id})
        return
    shadows.collect_pairs(shadow=shadow)
    shadow_judging.judge_pairs(shadow=shadow)


@shared_task(base=PlatformTask)
def dispatch_rollbacks() -> None:
    """Queue one look for each organisation with armed rules. A look that waits longer than the next one is dropped."""
    for schema_name in Tenant.objects.filter(suspended_at=None).values_list("schema_name", flat=True):
        try:
            with schema_context(schema_name):
                is_armed = rollback_selectors.live_rules().exists()
            if is_armed:
                watch_rollbacks.apply_async(kwargs={"schema_name": schema_name}, expires=30)
        except Exception:  # the organisations after it must be watched in any case
            logger.exception("rollback.not_dispatched", extra={"schema": schema_name})


@shared_task(base=TenantTask)
def watch_rollbacks() -> None:
    """Judge rollback rules and act on them. Harmless when it runs twice."""
    rollback.tick()


@shared_task(base=PlatformTask)
def watch_the_watcher() -> None:
    """Beside the watcher's own tasks, so that it also notices when those are never run."""
    for schema_name in Tenant.objects.filter(suspended_at=None).values_list("schema_name", flat=True):
        try:
            with schema_context(schema_name):
                rollback.tell_watcher_away()
        except Exception:  # the organisations after it must be told in any case
            logger.exception("rollback.watcher_not_watched", extra={"schema": schema_name})


@shared_task(base=PlatformTask)
def dispatch_screening() -> None:
    """Queue one look at each organisation that is not suspended, and judge what the last looks counted together."""
    escalations.judge_false_alerts()
    screen_tenant.queue_for_all(expires=3000)


@shared_task(base=TenantTask)
def screen_tenant() -> None:
    """Judge one organisation by all open cohorts, keep how it uses those that it is in, and count its false alerts. Harmless when it runs twice."""
    now, tenant = timezone.now(), Tenant.objects.get(schema_name=current_schema())
    figures, consents = cohort_selectors.figures_now(tenant, at=now), cohort_selectors.consents_now()
    usage, false_alerts = cohort_selectors.usage_since_enrolment(tenant), cohort_selectors.false_alerts_of_week(at=now)
    with schema_context(get_public_schema_name()):
        escalations.keep_false_alerts(tenant=tenant, alerts_judged_false=false_alerts, at=now)
        cohorts.screen(tenant=tenant, figures=figures, consents=consents, at=now)
        cohort_programme.keep_usage(usage=usage)


@shared_task(base=PlatformTask)
def end_cohorts() -> None:
    """Let go whose notice is over, take back invitations that nobody answered, and end what one organisation had for a time. Harmless when it
    runs twice."""
    cohort_endings.end_due()
    tenant_overrides.end_due()


@shared_task(base=PlatformTask)
def drill_cohorts() -> None:
    """Once a week: rehearse taking each cohort back. Cohorts without anybody active have nothing to rehearse."""
    for cohort in cohort_selectors.cohorts_in_use():
        cohort_programme.run_drill(cohort=cohort, actor=None)
