"""Metrics of this app, registered when it is loaded."""

from __future__ import annotations

from django.utils import timezone

from governance.metrics import NO_DATA, Metric, Reading, Window, register
from governance.models import Effect
from governance.schema import current_schema
from governance.services.effects import PATIENCE


def time_to_effect(window: Window) -> Reading:
    """The slowest one. What has not taken effect counts as long as it was waited for so far; what had no process to reach does not count."""
    timed = Effect.objects.filter(tenant__schema_name=current_schema(), decided_at__gte=window.start, decided_at__lt=window.end)
    now = timezone.now()
    seconds = [
        effect.seconds if effect.seconds is not None else min(PATIENCE, now - effect.decided_at).total_seconds()
        for effect in timed.exclude(planes=0, given_up=False)
    ]
    if not seconds:
        return NO_DATA
    return Reading(max(seconds), len(seconds), statistics={"slowest_s": max(seconds), "timed": len(seconds)})


register(
    Metric(
        "switches.time_to_effect", "Time to effect of switches", "s", "lower", 1, time_to_effect,
        "From a switch, a decision on consent or a drill until every process of the gateway has it: the slowest one.",
    )
)  # fmt: skip
