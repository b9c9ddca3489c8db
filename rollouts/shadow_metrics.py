"""What shadows offer to gates."""

from __future__ import annotations

from django.db.models import Count, Q

from governance.metrics import NO_DATA, Metric, Reading, Window, register, wilson
from rollouts.models import ShadowPair
from rollouts.shadow_rules import FEWEST_DECIDED


def preferred_share(window: Window) -> Reading:
    """Of all pairs decided in the window. Ties and verdicts that followed the order decide nothing; with no other pair there is no data."""
    judged = ShadowPair.objects.filter(judged_at__gte=window.start, judged_at__lt=window.end).aggregate(
        wins=Count("pk", filter=Q(verdict="preferred")), losses=Count("pk", filter=Q(verdict="baseline"))
    )
    decided = judged["wins"] + judged["losses"]
    if not decided:
        return NO_DATA
    low, high = wilson(judged["wins"], decided)
    return Reading(100 * judged["wins"] / decided, decided, low, high, {"preferred": judged["wins"], "decided": decided})


register(
    Metric(
        "shadows.preferred_share",
        "Candidates preferred",
        "%",
        "higher",
        FEWEST_DECIDED,
        preferred_share,
        "Of the pairs of shadows that were decided in the window, those that prefer the candidate.",
    )
)
