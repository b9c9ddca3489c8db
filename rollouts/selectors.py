"""What may be seen of rollouts, and how pages and API see it. Everything here is in the current schema, so within one organisation."""

from __future__ import annotations

from datetime import date, timedelta

from django.db.models import Count, Prefetch, Q, QuerySet

from governance.drills import Subject
from governance.models import Drill, Effect, Tenant, User
from rollouts.models import Phase, ReleaseLogEntry, Rollback, Rollout, SignOff


def rollouts(*, tab: str = "", query: str = "") -> QuerySet[Rollout]:
    """Newest first, by tab (`running`, `planned`, `closed`; empty: all) and by name, address or owner."""
    found = Rollout.objects.select_related("owner").defer("plan").order_by("-created_at", "-pk")
    if tab == "running":
        found = found.filter(status=Rollout.Status.RUNNING)
    elif tab == "planned":
        found = found.filter(status=Rollout.Status.PLANNED)
    elif tab == "closed":
        found = found.filter(status__in=[Rollout.Status.FINISHED, Rollout.Status.STOPPED])
    if query:
        found = found.filter(Q(name__icontains=query) | Q(slug__icontains=query) | Q(owner__name__icontains=query))
    return found


def rollout_counts() -> dict[str, int]:
    counted = dict(Rollout.objects.order_by().values_list("status").annotate(n=Count("pk")))
    return {
        "running": counted.get("running", 0),
        "planned": counted.get("planned", 0),
        "closed": counted.get("finished", 0) + counted.get("stopped", 0),
    }


def find_rollout(slug: str) -> Rollout | None:
    return Rollout.objects.select_related("owner", "created_by").filter(slug=slug).first()


def phases_of(rollout: Rollout) -> list[Phase]:
    """Phases in order, each with its gate, the gate's newest evaluation and its live signatures."""
    return list(
        rollout.phases.select_related("gate", "gate__latest").prefetch_related(
            Prefetch("gate__signoffs", queryset=SignOff.objects.filter(voided_at=None).select_related("person"), to_attr="live_signoffs")
        )
    )


def log_of(rollout: Rollout) -> QuerySet[ReleaseLogEntry]:
    return ReleaseLogEntry.objects.filter(rollout=rollout).select_related("gate").order_by("-sequence")


def open_rollback(rollout: Rollout) -> Rollback | None:
    return rollout.rollbacks.filter(finished_at=None).select_related("from_phase", "to_phase", "by").first()


def owners(tenant: Tenant) -> QuerySet[User]:
    """Who may own a rollout: any member."""
    return User.objects.filter(memberships__tenant=tenant, is_active=True).order_by("name", "pk")


def drill_subjects() -> list[Subject]:
    """The phases that are current, by the RTO of their rollback plan; where it promises none, by the programme's for an organisation."""
    current = Phase.objects.filter(status=Phase.Status.CURRENT, rollout__status=Rollout.Status.RUNNING).select_related("rollout")
    return [_drill_subject(phase) for phase in current.order_by("rollout", "position")]


def _drill_subject(phase: Phase) -> Subject:
    minutes = phase.rollout.frozen_plan.phases[phase.position].rollback.rto_minutes
    rto = timedelta(minutes=minutes) if minutes else Effect.GOALS[Effect.Scope.TENANT]
    assert phase.entered_at is not None  # a current phase was entered
    title = f"{phase.rollout.name}, {phase.title}"
    return Subject(Drill.Kind.PHASE, f"{phase.rollout.slug}/{phase.key}", title[:140], rto, phase.entered_at)


def rollouts_to_begin(today: date) -> list[int]:
    return list(Rollout.objects.filter(status=Rollout.Status.PLANNED, starts_on__lte=today).values_list("pk", flat=True))
