"""Rehearsing: away, timed to every process of the gateway; back, timed likewise; judged against the time that was promised."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone
from django_tenants.utils import schema_context

from governance import drill_rules, drill_selectors
from governance import drills as registry
from governance.errors import DrillSubjectError, DrillUnderWayError
from governance.models import Drill, Severity, Tenant, User
from governance.roles import Permission
from governance.services import alerts, audit, effects


@transaction.atomic
def start(*, tenant: Tenant, kind: str, reference: str, actor: User, at: datetime | None = None) -> Drill:
    """Begin a drill of the current organisation: no call is refused. Writes an audit entry; the worker goes on with it.

    Raises DrillSubjectError (there is nothing of that name to rehearse), DrillUnderWayError.
    """
    at = at or timezone.now()
    subject = registry.find(kind, reference)
    if subject is None:
        raise DrillSubjectError(f"There is no {kind} {reference} that can be rehearsed.")
    Tenant.objects.select_for_update().get(pk=tenant.pk)  # two people may begin at once
    if Drill.objects.filter(tenant=tenant, kind=kind, reference=reference, ended_at=None).exists():
        raise DrillUnderWayError(f"A drill of {subject.title} is under way.")
    away = effects.run_drill(actor=actor, at=at, what=_what(subject.title, "away"), scope=subject.scope, rto=subject.rto)
    return Drill.objects.create(
        tenant=tenant, kind=kind, reference=reference, title=subject.title, rto_s=subject.rto_s, actor=actor, started_at=at,
        away=away,
    )  # fmt: skip


def advance(*, at: datetime | None = None) -> int:
    """Begin the way back of drills that have arrived, and judge those that are back; how many are still under way. Runs in the public schema."""
    at = at or timezone.now()
    under_way = list(Drill.objects.filter(ended_at=None).values_list("pk", flat=True))
    return sum(not _advance(pk, at) for pk in under_way)


@transaction.atomic
def _advance(pk: int, at: datetime) -> bool:
    """Whether it has ended. Another worker's drill is left to it."""
    waiting = Drill.objects.select_for_update(of=("self",), skip_locked=True).filter(pk=pk, ended_at=None)
    drill = waiting.select_related("tenant", "away", "back", "actor").first()
    if drill is None:
        return True
    last = drill.back or drill.away
    if last.is_waiting:
        return False
    if drill.back is None and not drill.away.given_up:
        with schema_context(drill.tenant.schema_name):
            drill.back = effects.run_drill(actor=drill.actor, at=at, what=_what(drill.title, "back"), scope=drill.away.scope, rto=drill.rto)
        drill.save(update_fields=["back"])
        return False
    drill.verdict = drill_rules.worst([effect.verdict_within(drill.rto) for effect in (drill.away, drill.back) if effect is not None])
    drill.ended_at = at
    drill.save(update_fields=["verdict", "ended_at"])
    with schema_context(drill.tenant.schema_name):
        audit.record("drill.ended", actor=None, target=drill, at=at, verdict=drill.verdict, rto_s=drill.rto_s)
    return True


@transaction.atomic
def remind(*, tenant: Tenant, at: datetime | None = None) -> int:
    """Tell the current organisation what has not been rehearsed for too long, once a week; how much that is."""
    at = at or timezone.now()
    overdue = [row for row in drill_selectors.subject_rows(tenant, at=at) if row.is_overdue]
    if overdue:
        year, week, _ = at.isocalendar()
        alerts.notify(
            topic="drill.overdue", severity=Severity.WARNING, title=f"{len(overdue)} drill{'s are' if len(overdue) > 1 else ' is'} overdue",
            text=", ".join(row.subject.title for row in overdue[:10]), path="operate/drills/", permission=Permission.MANAGE_CONSENT,
            key=f"drill.overdue:{year}-{week:02d}", data={"overdue": len(overdue)}, at=at,
        )  # fmt: skip
    return len(overdue)


def _what(title: str, way: str) -> str:
    return f"Drill, {way}: {title}"
