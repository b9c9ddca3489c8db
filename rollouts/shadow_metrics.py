"""What shadows offer to gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q

from governance.metrics import NO_DATA, Metric, Reading, Window, register, wilson
from rollouts import shadow_selectors
from rollouts.models import Shadow, ShadowPair
from rollouts.shadow_rules import ERROR_POINTS, FEWEST_DECIDED, FEWEST_PAIRS


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


def _figures(window: Window) -> Iterator[dict[str, Any]]:
    """Of each shadow with pairs in the window, those of these pairs."""
    shadows = Shadow.objects.filter(Exists(ShadowPair.objects.filter(shadow=OuterRef("pk"), at__gte=window.start, at__lt=window.end)))
    for shadow in shadows.order_by("pk"):
        yield shadow_selectors.figures_of(shadow, window=window)


def failed_share(window: Window) -> Reading:
    """Of the calls that the candidate was shown, those that it left without an answer, of the shadow where that share is highest.

    One shadow with fewer pairs than its own verdict takes makes it unknown.
    """
    worst: Reading = NO_DATA
    for figures in _figures(window):
        pairs, failed = figures["pairs"], figures["failed"]
        if pairs < FEWEST_PAIRS:
            return NO_DATA
        if worst.value is None or 100 * failed / pairs > worst.value:
            low, high = wilson(failed, pairs)
            worst = Reading(100 * failed / pairs, pairs, low, high, {"failed": failed, "pairs": pairs})
    return worst


def _worst_change(window: Window, call: str, answer: str, seen: str, *, either_way: bool = False) -> Reading:
    """Of the candidates against the present models, over the shadows with pairs in the window, in percent of the present figure: the highest.

    `seen`: the figure that counts the pairs the other two are of. `either_way`: a fall counts like a rise. One shadow with fewer such pairs
    than its own verdict takes, or without a figure, makes it unknown; so does one that leaves more calls unanswered than its verdict allows:
    those that it answers may be the easy ones.
    """
    worst: tuple[float, int] | None = None
    for figures in _figures(window):
        if figures[seen] < FEWEST_PAIRS or not figures[call] or figures[answer] is None:
            return NO_DATA
        if 100 * figures["failed"] > ERROR_POINTS * figures["pairs"]:
            return NO_DATA
        change = 100 * (float(figures[answer]) / float(figures[call]) - 1)
        change = abs(change) if either_way else change
        worst = max(worst or (change, figures[seen]), (change, figures[seen]))
    return NO_DATA if worst is None else Reading(worst[0], worst[1], statistics={"pairs": worst[1]})


def latency_apart(window: Window) -> Reading:
    return _worst_change(window, "call_p50_ms", "answer_p50_ms", "answered", either_way=True)


def p95_change(window: Window) -> Reading:
    return _worst_change(window, "call_p95_ms", "answer_p95_ms", "answered")


def saving(window: Window) -> Reading:
    """Less cost per call; the change of the cost with its sign turned."""
    cost = _worst_change(window, "call_usd", "answer_usd", "priced")
    return cost if cost.value is None else Reading(-cost.value, cost.sample, statistics=cost.statistics)


for _metric in (
    Metric("shadows.failed_share", "Unanswered in shadow", "%", "lower", FEWEST_PAIRS, failed_share, "Of the calls the candidate was shown, those it left without an answer, of the shadow where that is most."),
    Metric("shadows.latency_apart", "Latency in shadow and in production", "%", "lower", FEWEST_PAIRS, latency_apart, "How far the candidate's median is from the present model's, either way, of the shadow where that is most."),
    Metric("shadows.p95_change", "P95 latency in shadow", "%", "lower", FEWEST_PAIRS, p95_change, "Of the candidate against the present model, of the shadow where that is most."),
    Metric("shadows.saving", "Projected saving", "%", "higher", FEWEST_PAIRS, saving, "By how much the candidate's calls cost less than the present model's, of the shadow where that is least."),
):  # fmt: skip
    register(_metric)
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
