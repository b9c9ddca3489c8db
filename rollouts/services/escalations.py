"""Stopping the operator's programmes when an organisation was harmed, and keeping the record of how it was mended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from catalog.models import Project
from costs.models import Budget, BudgetIncident
from governance.models import Severity, Tenant, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit
from rollouts.errors import ActivationsPausedError, EscalationClosedError, EvidenceMissingError
from rollouts.models import Escalation, EscalationNote, FalseAlertCount

WAR_ROOM = timedelta(hours=48)
ALERTS_A_WEEK = 8
"""More false alerts than this in seven days are too many for an organisation."""
TENANTS_PERCENT = 20
"""More organisations than this with too many: the detector is at fault, not their data."""
NOT_PRODUCTION = frozenset({"development", "dev", "test", "sandbox", "staging"})
FRESH = timedelta(hours=6)
"""Counts that are older tell of a worker that was away, and are left out."""


def open_war_room(incident: BudgetIncident) -> Escalation | None:
    """A budget held up calls that it should not have; within the transaction of the report, in the organisation's schema.

    None when its project is surely not production. From now on nobody new is exposed anywhere, until an operator closes the record.
    """
    if not _may_be_production(incident.budget):
        return None
    tenant, at = Tenant.objects.get(schema_name=current_schema()), incident.opened_at
    with schema_context(get_public_schema_name()):
        opened = Escalation.objects.create(
            kind=Escalation.Kind.FALSE_THROTTLE, tenant=tenant, title=f"{tenant.name}: budget {incident.budget.name} held up calls"[:160],
            reason=incident.reason, evidence={"budget": incident.budget.name, "action": incident.action_before, "priority": incident.priority},
            opened_at=at, due_at=at + WAR_ROOM,
        )  # fmt: skip
        audit.record("escalation.opened", actor=incident.opened_by, target=opened, at=at, kind=opened.kind, tenant=tenant.slug)
    return opened


def _may_be_production(budget: Budget) -> bool:
    """The budget's own environment or its project's; what is not known counts as production."""
    if budget.environment:
        return budget.environment.lower() not in NOT_PRODUCTION
    if budget.scope != "project":
        return True
    environment = Project.objects.filter(slug=budget.ref).values_list("environment", flat=True).first()
    return environment not in NOT_PRODUCTION


def check_not_paused() -> None:
    """Raises ActivationsPausedError while a war room is open."""
    room = Escalation.objects.filter(kind=Escalation.Kind.FALSE_THROTTLE, closed_at=None).order_by("opened_at").first()
    if room is not None:
        raise ActivationsPausedError(
            f"New activations are paused since {room.opened_at:%Y-%m-%d %H:%M} UTC: {room.title}. Close the war room first."
        )


@transaction.atomic
def add_note(*, escalation: Escalation, text: str, actor: User, at: datetime | None = None) -> EscalationNote:
    """Raises EscalationClosedError, EvidenceMissingError."""
    escalation, at = _lock(escalation), at or timezone.now()
    if not text.strip():
        raise EvidenceMissingError("Write what was found or done.", field="text")
    note = EscalationNote.objects.create(escalation=escalation, at=at, by=actor, text=text.strip())
    audit.record("escalation.noted", actor=actor, target=escalation, at=at)
    return note


@transaction.atomic
def close(*, escalation: Escalation, resolution: str, actor: User, at: datetime | None = None) -> Escalation:
    """Activations go on once no war room is open. Raises EscalationClosedError, EvidenceMissingError."""
    escalation, at = _lock(escalation), at or timezone.now()
    if not resolution.strip():
        raise EvidenceMissingError("Say what was wrong, what was done, and why it will not happen again.", field="resolution")
    escalation.closed_at, escalation.closed_by, escalation.resolution = at, actor, resolution.strip()
    escalation.save(update_fields=["closed_at", "closed_by", "resolution"])
    audit.record("escalation.closed", actor=actor, target=escalation, at=at, resolution=escalation.resolution)
    return escalation


def _lock(escalation: Escalation) -> Escalation:
    found = Escalation.objects.select_for_update().get(pk=escalation.pk)
    if not found.is_open:
        raise EscalationClosedError("The record was closed before.")
    return found


def keep_false_alerts(*, tenant: Tenant, alerts_judged_false: int, at: datetime) -> None:
    FalseAlertCount.objects.update_or_create(tenant=tenant, defaults={"alerts": alerts_judged_false, "at": at})


@transaction.atomic
def judge_false_alerts(*, at: datetime | None = None) -> Escalation | None:
    """Open a recalibration when too many organisations have too many false alerts, and tell those; None when there is no need, or one is open."""
    at = at or timezone.now()
    counts = list(
        FalseAlertCount.objects.select_related("tenant").filter(at__gt=at - FRESH, tenant__suspended_at=None, tenant__deleted_at=None)
    )
    noisy = [one for one in counts if one.alerts > ALERTS_A_WEEK]
    if not counts or 100 * len(noisy) <= TENANTS_PERCENT * len(counts):
        return None
    if Escalation.objects.filter(kind=Escalation.Kind.FALSE_ALERTS, closed_at=None).exists():
        return None
    opened = Escalation.objects.create(
        kind=Escalation.Kind.FALSE_ALERTS, title=f"{len(noisy)} of {len(counts)} organisations have too many false alerts",
        reason=f"More than {ALERTS_A_WEEK} alerts in seven days were judged false by more than {TENANTS_PERCENT}% of the organisations.",
        evidence={one.tenant.slug: one.alerts for one in noisy}, opened_at=at, due_at=at + WAR_ROOM,
    )  # fmt: skip
    audit.record("escalation.opened", actor=None, target=opened, at=at, kind=opened.kind, tenants=len(noisy), of=len(counts))
    _tell(noisy, opened, at)
    return opened


def _tell(noisy: Sequence[FalseAlertCount], opened: Escalation, at: datetime) -> None:
    for one in noisy:
        with schema_context(one.tenant.schema_name):
            alerts.notify(
                topic="anomaly.recalibration", severity=Severity.WARNING, title="Anomaly alerts are being recalibrated",
                text=f"{one.alerts} alerts of the last seven days were judged false here. Until it is mended, a lower sensitivity tells less.",
                path="operate/costs/anomalies/", permission=Permission.VIEW_COSTS, key=f"escalation:{opened.pk}", data={"alerts": one.alerts}, at=at,
            )  # fmt: skip
