"""Rules and digests, written the same way on every page of the rollouts."""

from __future__ import annotations

from datetime import datetime

import msgspec
from django import template

from rollouts import plans, signing, wording
from rollouts.aggregation import Aggregate, taken_together
from rollouts.models import Criterion

register = template.Library()


@register.filter
def planned_rule(criterion: plans.Criterion) -> str:
    """`< 30 ms over 28 days, from 500 observations`"""
    rule = criterion.rule
    if rule is None:
        return ""
    text = f"{wording.rule(rule.operator, rule.threshold, rule.unit)} over {wording.window(rule.window_hours)}"
    if rule.over:
        text += f" (over a cohort: {_over(rule)})"
    if rule.minimum_sample:
        text += f", from {rule.minimum_sample:,} observations"
    if rule.sustain_of:
        text += f", in {rule.sustain_times} of {rule.sustain_of} evaluations"
    return text + (f", for {wording.window(rule.sustain_hours)} on end" if rule.sustain_hours else "")


def _over(rule: plans.MetricRule) -> str:
    assert rule.over is not None
    over = taken_together(msgspec.to_builtins(rule.over), metric=rule.metric, operator=rule.operator, threshold=rule.threshold)
    if rule.over.aggregate != Aggregate.SHARE:
        return wording.over(over)
    asked = f"{rule.over.at_least:g}% at least" if rule.over.more_than is None else f"more than {rule.over.more_than:g}%"
    return f"{wording.over(over)}, {asked}"


@register.filter
def bound_rule(criterion: Criterion) -> str:
    """`< 50 ms`, of a criterion that is measured."""
    return wording.rule(criterion.operator, criterion.threshold, criterion.unit)


@register.filter
def verdict_word(verdict: str) -> str:
    return wording.WORDS.get(verdict, verdict)


@register.filter
def short(digest: str) -> str:
    return wording.short(digest)


@register.filter
def moment(text: str) -> datetime:
    """Of a record's ISO time."""
    return wording.moment(text)


@register.filter
def role_label(role: str) -> str:
    return signing.label(role)


@register.filter
def signed_percent(value: float) -> str:
    return f"{value:+,.4g}%".replace("-", "−")


@register.filter
def signed_points(value: float) -> str:
    return f"{value:+,.4g} points".replace("-", "−")
