"""Opening, acknowledging and resolving the incidents of automatic rollbacks."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from governance.models import Severity, User
from governance.roles import Permission
from governance.services import alerts, audit
from rollouts.errors import EvidenceMissingError, IncidentStateError
from rollouts.models import FlagChange, Incident, ReleaseLogEntry, RollbackRule
from rollouts.services.locking import lock_rollout
from rollouts.services.release_log import note


def open_incident(
    *, rule: RollbackRule, change: FlagChange, variant: str, failure_class: str, title: str, text: str, evidence: str, sha256: str,
    began_at: datetime, at: datetime,
) -> Incident:  # fmt: skip
    """In the transaction of the rollback, after an audit entry of it: the audit log's lock gives the numbers their order. Pages the on-call."""
    last = Incident.objects.aggregate(last=Max("number"))["last"] or 0
    incident = Incident.objects.create(
        number=last + 1, title=title[:160], failure_class=failure_class, flag=rule.flag, rule=rule, change=change, variant=variant,
        evidence=evidence, evidence_sha256=sha256, began_at=began_at, opened_at=at,
    )  # fmt: skip
    audit.record(
        "incident.opened", actor=None, target=incident, at=at, flag=rule.flag.key, rule=rule.text, change=change.number,
        failure_class=failure_class, evidence_sha256=sha256,
    )  # fmt: skip
    alerts.notify(
        topic="incident.opened", severity=Severity.CRITICAL, title=f"{incident}: {incident.title}", text=text,
        path=f"operate/incidents/{incident.number}/", permission=Permission.VIEW, key=f"incident:{incident.number}:opened",
        data={"incident": incident.number, "flag": rule.flag.key, "failure_class": failure_class, "evidence_sha256": sha256}, at=at,
    )  # fmt: skip
    return incident


@transaction.atomic
def acknowledge_incident(*, incident: Incident, actor: User, at: datetime | None = None) -> Incident:
    """Somebody has it. Raises IncidentStateError (somebody else was quicker)."""
    incident, at = _lock(incident), at or timezone.now()
    if incident.status != Incident.Status.OPEN:
        raise IncidentStateError(f"{incident} was acknowledged before, by {incident.acknowledged_by or incident.resolved_by}.")
    incident.status, incident.acknowledged_at, incident.acknowledged_by = Incident.Status.ACKNOWLEDGED, at, actor
    incident.save(update_fields=["status", "acknowledged_at", "acknowledged_by"])
    audit.record("incident.acknowledged", actor=actor, target=incident, at=at, seconds=round((at - incident.opened_at).total_seconds()))
    return incident


@transaction.atomic
def resolve_incident(*, incident: Incident, resolution: str, actor: User, at: datetime | None = None) -> Incident:
    """Close it with what was found; only then exposure may rise again. Raises IncidentStateError, EvidenceMissingError."""
    found = incident.flag
    rollout = lock_rollout(found.rollout_id) if found.rollout_id else None
    incident, at = _lock(incident), at or timezone.now()
    if not incident.is_open:
        raise IncidentStateError(f"{incident} was resolved before, by {incident.resolved_by}.")
    if not resolution.strip():
        raise EvidenceMissingError("Say what was found and why it is over: whoever raises exposure again reads it.", field="resolution")
    incident.status, incident.resolved_at, incident.resolved_by, incident.resolution = (
        Incident.Status.RESOLVED,
        at,
        actor,
        resolution.strip(),
    )
    incident.save(update_fields=["status", "resolved_at", "resolved_by", "resolution"])
    audit.record("incident.resolved", actor=actor, target=incident, at=at, resolution=incident.resolution)
    if rollout is not None:
        told = f"{incident} of {found.key} resolved by {actor}: {incident.resolution}"
        note(rollout=rollout, kind=ReleaseLogEntry.Kind.ROLLBACK, actor=actor, at=at, text=told)
    alerts.notify(
        topic="incident.resolved", severity=Severity.INFO, title=f"{incident} resolved by {actor}", text=incident.resolution,
        path=f"operate/incidents/{incident.number}/", permission=Permission.VIEW, key=f"incident:{incident.number}:resolved",
        data={"incident": incident.number, "flag": found.key}, at=at,
    )  # fmt: skip
    return incident


def _lock(incident: Incident) -> Incident:
    people = ("acknowledged_by", "resolved_by", "flag")
    return Incident.objects.select_for_update(of=("self",)).select_related(*people).get(pk=incident.pk)
