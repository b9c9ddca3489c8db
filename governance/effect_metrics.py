"""Metrics of this app, registered when it is loaded."""

from __future__ import annotations

from governance.metrics import NO_DATA, Metric, Reading, Window, register
from governance.models import Effect
from governance.schema import current_schema
from governance.services.effects import PATIENCE


def time_to_effect(window: Window) -> Reading:
    """The slowest one. What never took effect counts as long as it was waited for; what is on its way, or had no process to reach, does not count."""
    timed = Effect.objects.filter(tenant__schema_name=current_schema(), decided_at__gte=window.start, decided_at__lt=window.end)
    seconds = [PATIENCE.total_seconds() if effect.given_up else effect.seconds for effect in timed.exclude(planes=0, given_up=False)]
    known = [each for each in seconds if each is not None]
    if not known:
        return NO_DATA
    return Reading(max(known), len(known), statistics={"slowest_s": max(known), "timed": len(known)})


register(
    Metric(
        "switches.time_to_effect", "Time to effect of switches", "s", "lower", 1, time_to_effect,
        "From a switch or a drill until every process of the gateway has it: the slowest one.",
    )
)  # fmt: skip
