"""Which drills ran, and which are due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from governance import drill_rules
from governance.drills import DRILL_EVERY, Subject, subjects
from governance.models import Drill, Effect, Pillar, Tenant
from governance.schema import current_schema


@dataclass(frozen=True)
class SubjectRow:
    """What can be rehearsed, with its newest drill."""

    subject: Subject
    last: Drill | None
    due_at: datetime
    is_overdue: bool


def subject_rows(tenant: Tenant, *, at: datetime) -> list[SubjectRow]:
    """Overdue ones first, then by when they are due. Two queries besides those of the subjects."""
    ran = Drill.objects.filter(tenant=tenant, started_at__lte=at).order_by("kind", "reference", "-started_at", "-pk")
    newest = {(drill.kind, drill.reference): drill for drill in ran.distinct("kind", "reference").select_related("away", "back", "actor")}
    passed = ran.filter(verdict="pass", ended_at__lte=at).distinct("kind", "reference")
    passed_at = {(kind, reference): started for kind, reference, started in passed.values_list("kind", "reference", "started_at")}
    rows = []
    for subject in subjects():
        due = drill_rules.due_at(passed_at.get(subject.key), since=subject.since, every=DRILL_EVERY)
        rows.append(SubjectRow(subject, newest.get(subject.key), due, due <= at))
    return sorted(rows, key=lambda row: (row.due_at, row.subject.key))


def drills_of(tenant: Tenant) -> QuerySet[Drill]:
    """Newest first."""
    return Drill.objects.filter(tenant=tenant).select_related("away", "back", "actor").order_by("-started_at", "-pk")


def pillars() -> list[Subject]:
    """For the registry: each pillar of the current organisation."""
    tenant = Tenant.objects.get(schema_name=current_schema())
    rto = Effect.GOALS[Effect.Scope.TENANT]
    return [Subject(Drill.Kind.PILLAR, pillar.value, f"all {pillar.label.lower()}", rto, tenant.created_at) for pillar in Pillar]
