"""May a traffic shift go one step further? Pure: a window's terms and the sums of both arms in, a judgement out.

Judged by the intervals of experiments, which hold at every look, so a breach is seen before the window is full. What can't be told is not
a pass: the window goes on, and at last pauses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from rollouts import advice
from rollouts.advice import MEASURES, Arm, Effect, Guardrail, Standing, Terms

DEFAULT_STEPS = (5, 20, 40, 70, 100)
PATIENCE = 3
"""Windows after which a guardrail that still can't be told pauses the shift."""
Verdict = Literal["go", "wait", "pause"]


@dataclass(frozen=True)
class Margins:
    """How much the challenger may differ from the control."""

    latency: float = 7.0
    """Percent more of the mean."""
    errors: float = 0.5
    """Percentage points more."""
    savings: float = 10.0
    """Percent less cost per call, at least; 0 is none, below it the cost may rise."""


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    sentence: str
    calls: int
    """Of the challenger."""
    guards: list[Effect]
    breached: bool


def terms_of(champion: str, challenger: str, percentage: int, margins: Margins, window_calls: int) -> Terms:
    """`percentage` of the units have the challenger, 1 to 99."""
    share = percentage / 100
    return Terms(
        champion=champion, shares={champion: 1 - share, challenger: share},
        rooms={champion: 1000 * (100 - percentage), challenger: 1000 * percentage}, metric="cost", better="lower",
        effect=max(margins.savings, 1.0),
        guardrails=[Guardrail("latency", margins.latency), Guardrail("error_rate", margins.errors), Guardrail("cost", 0.0 - margins.savings)],
        minimum_units=max(50, window_calls // 20), method="sequential",
    )  # fmt: skip


def judge(terms: Terms, arms: Mapping[str, Arm], *, window_calls: int, earlier_p: float = 1.0) -> Judgement:
    found = advice.report(terms, arms, earlier_p=earlier_p)
    [contender] = found.contenders
    # Alarms share the 5%. Going on needs every guardrail at once, so there each has the 5% to itself.
    alone = [advice.report(replace(terms, guardrails=[each]), arms).contenders[0].guardrails[0] for each in terms.guardrails]
    guards = [single if single.standing == Standing.KEPT else alarm for single, alarm in zip(alone, contender.guardrails, strict=True)]
    name = contender.variant
    calls = arms[name].calls if name in arms else 0

    def judged(verdict: Verdict, sentence: str) -> Judgement:
        return Judgement(verdict, sentence, calls, guards, bool(contender.breached) and found.sound)

    if not found.sound:
        return judged("pause", "The assignment is broken: calls of one arm get lost or went elsewhere, so nothing can be told.")
    if contender.breached:
        return judged("pause", f"{name} breaks a guardrail: {_named(contender.breached)}.")
    if calls < window_calls:
        return judged("wait", f"{calls:,} of {window_calls:,} calls by {name}.")
    unsettled = [each for each in guards if each.standing != Standing.KEPT]
    if not unsettled:
        return judged("go", f"{calls:,} calls by {name}, and every guardrail is kept.")
    if calls < PATIENCE * window_calls:
        return judged("wait", f"The window is full, but can't tell {_named(unsettled)}: it goes on to {PATIENCE * window_calls:,} calls.")
    return judged("pause", f"After {calls:,} calls by {name} it still can't be told: {_named(unsettled)}.")


def _named(effects: list[Effect]) -> str:
    return ", ".join(MEASURES[each.metric].title.lower() for each in effects)


def evidence(terms: Terms, arms: Mapping[str, Arm], *, window_calls: int, earlier_p: float) -> dict[str, Any]:
    return {**advice.evidence(terms, arms, earlier_p=earlier_p), "window_calls": window_calls}


def replay(record: Mapping[str, Any]) -> Judgement:
    """The judgement on a window, from its evidence alone."""
    return judge(advice.terms_of(record), advice.arms_of(record), window_calls=record["window_calls"], earlier_p=record["earlier_p"])
