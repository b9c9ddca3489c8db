"""Metrics of this app, registered when it is loaded."""

from __future__ import annotations

from django.utils import timezone

from governance import drill_selectors
from governance.metrics import NO_DATA, Metric, Reading, Window, register
from governance.models import Drill, Effect, Tenant
from governance.schema import current_schema


def time_to_effect(window: Window) -> Reading:
    """The slowest one. What has not taken effect counts as long as it was waited for so far; what had no process to reach does not count."""
    timed = Effect.objects.filter(tenant__schema_name=current_schema(), decided_at__gte=window.start, decided_at__lt=window.end)
    now = timezone.now()
    seconds = [
        effect.seconds if effect.seconds is not None else min(effect.patience, now - effect.decided_at).total_seconds()
        for effect in timed.exclude(planes=0, given_up=False)
    ]
    if not seconds:
        return NO_DATA
    return Reading(max(seconds), len(seconds), statistics={"slowest_s": max(seconds), "timed": len(seconds)})


def drills_within_rto(window: Window) -> Reading:
    """Every drill that ended counts: one that reached no process has kept nothing."""
    ended = Drill.objects.filter(tenant__schema_name=current_schema(), ended_at__gte=window.start, ended_at__lt=window.end)
    kept, found = ended.filter(verdict="pass").count(), ended.count()
    return Reading(100 * kept / found, found, statistics={"kept": kept, "all": found}) if found else NO_DATA


def drills_overdue(window: Window) -> Reading:
    """At the end of the window, of what there is to rehearse now."""
    rows = drill_selectors.subject_rows(Tenant.objects.get(schema_name=current_schema()), at=window.end)
    overdue = sum(row.is_overdue for row in rows)
    return Reading(float(overdue), len(rows), statistics={"overdue": overdue, "all": len(rows)}) if rows else NO_DATA


register(
    Metric(
        "drills.overdue", "Drills overdue", "count", "lower", 1, drills_overdue,
        "Phases, projects and pillars that were not rehearsed within their RTO for 90 days, now.",
    )
)  # fmt: skip
register(
    Metric(
        "drills.within_rto", "Drills within the RTO", "%", "higher", 1, drills_within_rto,
        "Of the drills of phases, projects and pillars that ended, those whose ways away and back were both within the RTO.",
    )
)  # fmt: skip
register(
    Metric(
        "switches.time_to_effect", "Time to effect of switches", "s", "lower", 1, time_to_effect,
        "From a switch, a decision on consent or a drill until every process of the gateway has it: the slowest one.",
    )
)  # fmt: skip
