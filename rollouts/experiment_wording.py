"""Effects, standings and advice in words and drawings, the same on pages and in the API."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.contract import treatments
from gateway.contract.treatments import Treatment
from rollouts import advice, wording
from rollouts.advice import MEASURES, Arm, Effect, Report, Standing, Terms
from rollouts.figures import Bar, axis_reach, change_bar
from rollouts.models import Experiment, ExperimentReading, Flag

GLYPHS = {
    Standing.BETTER: "pass",
    Standing.KEPT: "pass",
    Standing.WORSE: "fail",
    Standing.BREACHED: "fail",
    Standing.OPEN: "inconclusive",
    Standing.NONE: "inconclusive",
    Standing.NO_DATA: "no_data",
}
WORDS = {
    Standing.BETTER: "Better",
    Standing.WORSE: "Worse",
    Standing.NONE: "No such effect",
    Standing.KEPT: "Kept",
    Standing.BREACHED: "Breached",
    Standing.OPEN: "Open",
    Standing.NO_DATA: "No data",
}
ADVICE_GLYPHS = {"promote": "pass", "hold": "inconclusive", "rollback": "fail"}


def change(value: float | None, metric: str) -> str:
    """`+3.1%`, `−0.40 pp`; always with its sign."""
    if value is None:
        return "—"
    text = f"{value:+,.2f} pp" if MEASURES[metric].scale == "absolute" else f"{value:+,.1f}%"
    return text.replace("-", "−")


def interval(effect: Effect) -> str:
    if effect.low is None or effect.high is None:
        return ""
    return f"{change(effect.low, effect.metric)} to {change(effect.high, effect.metric)}"


def advised(report: Report) -> str:
    """`promote new`, `hold`, `roll back`"""
    return {"promote": f"promote {report.winner}", "hold": "hold", "rollback": "roll back"}[report.advice]


@dataclass(frozen=True)
class ArmTreatment:
    """What a variant does to a call, and how that differs from what it is compared with."""

    name: str
    treatment: Treatment
    is_base: bool
    differences: list[tuple[str, str, str]]
    """(what, of the base, of this one); what is left to the call is empty."""

    @property
    def differing(self) -> list[str]:
        return [name for name, _, _ in self.differences]

    @property
    def said(self) -> list[tuple[str, str]]:
        """Beside the model."""
        return [(name, value) for name, value in treatments.facts(self.treatment).items() if name != "model"]


def arm_treatments(flag: Flag, base: str, names: Iterable[str]) -> list[ArmTreatment]:
    """The base first, then by name."""
    found = flag.comparison.treatments
    return [
        ArmTreatment(name, found[name], name == base, treatments.differences(found[base], found[name]))
        for name in sorted(names, key=lambda each: (each != base, each))
    ]


def arms_of(experiment: Experiment) -> list[ArmTreatment]:
    """Those that were started with, else all of the flag's."""
    return arm_treatments(experiment.flag, experiment.champion, experiment.shares or experiment.flag.variants)


@dataclass(frozen=True)
class EffectLine:
    """One treatment on one metric, ready to be shown."""

    variant: str
    title: str
    glyph: str
    word: str
    value: str
    interval: str
    bar: Bar | None
    champion_mean: str
    mean: str
    confidence: str
    rule: str
    """What the interval is drawn against."""


@dataclass(frozen=True)
class ArmLine:
    variant: str
    is_champion: bool
    meant: float
    """Percent of the units, as the bars below."""
    seen: float | None
    units: int
    calls: int


@dataclass(frozen=True)
class FigureLine:
    """One metric over all arms, the champion first: its mean, and the change of the others without an interval."""

    title: str
    cells: list[tuple[str, str]]


def variants_of(terms: Terms) -> list[str]:
    """The champion first."""
    return [terms.champion, *(name for name in terms.shares if name != terms.champion)]


def arm_lines(terms: Terms, arms: dict[str, Arm]) -> list[ArmLine]:
    total = sum(arm.units for arm in arms.values())
    return [
        ArmLine(
            name, name == terms.champion, 100 * terms.shares[name], 100 * arms[name].units / total if name in arms else 0.0 if total else None,
            arms[name].units if name in arms else 0, arms[name].calls if name in arms else 0,
        )
        for name in variants_of(terms)
    ]  # fmt: skip


def effect_lines(terms: Terms, arms: dict[str, Arm], report: Report) -> list[EffectLine]:
    """Of the primary metric. Drawn against no change; the rule names the smallest effect worth finding."""
    wanted = change(terms.effect if terms.better == "higher" else -terms.effect, terms.metric)
    return [
        _line(terms, arms, each.variant, each.primary, 0.0, lower_is_good=terms.better == "lower", rule=f"{wanted} looked for")
        for each in report.contenders
    ]


WIDEST = 4
"""Of the newest interval's reach, how far the axis of all goes at most: the first looks, at a few units, would leave nothing to see of it."""


@dataclass(frozen=True)
class Look:
    """What one reading said of one treatment on the primary metric."""

    variant: str
    value: str
    interval: str
    bar: Bar | None
    glyph: str


def looks(experiment: Experiment, readings: Sequence[ExperimentReading]) -> list[list[Look]]:
    """Of each reading, newest first as they come, on one axis: so one sees the interval narrow and the effect settle."""
    found = [[(each.variant, each.primary) for each in reading.report.contenders] for reading in readings]
    reaches = [
        max(
            (axis_reach(effect.low, effect.high, 0.0) for _, effect in effects if effect.low is not None and effect.high is not None),
            default=0.0,
        )
        for effects in found
    ]
    newest = next((reach for reach in reaches if reach), 0.0)
    reach = min(max(reaches, default=0.0), WIDEST * newest)
    return [[_look(variant, effect, experiment.better == "lower", reach) for variant, effect in effects] for effects in found]


def _look(variant: str, effect: Effect, lower_is_good: bool, reach: float) -> Look:
    shown = interval(effect)
    bar = None
    if effect.low is not None and effect.high is not None:
        bar = change_bar(effect.low, effect.high, 0.0, lower_is_good=lower_is_good, label=f"{variant}: {shown}", reach=reach)
    return Look(variant, change(effect.value, effect.metric), shown, bar, GLYPHS[effect.standing])


def guardrail_lines(terms: Terms, arms: dict[str, Arm], report: Report) -> list[EffectLine]:
    return [line for each in report.contenders for line in guard_lines(terms, arms, each.variant, each.guardrails)]


def guard_lines(terms: Terms, arms: dict[str, Arm], variant: str, guards: Sequence[Effect]) -> list[EffectLine]:
    return [
        _line(terms, arms, variant, guard, guard.margin or 0.0, lower_is_good=True, rule=f"at most {change(guard.margin, guard.metric)}")
        for guard in guards
    ]


def unseen(guards: Sequence[Effect]) -> str:
    """`mean latency ±1.3%, error rate ±0.24 pp`: changes too small to be told from none by intervals of these widths."""
    halves = [(each, (each.high - each.low) / 2) for each in guards if each.low is not None and each.high is not None]
    return ", ".join(f"{MEASURES[each.metric].title.lower()} ±{change(half, each.metric).lstrip('+')}" for each, half in halves)


def _line(
    terms: Terms, arms: dict[str, Arm], variant: str, effect: Effect, threshold: float, *, lower_is_good: bool, rule: str
) -> EffectLine:  # fmt: skip
    shown = interval(effect)
    bar = None
    if effect.low is not None and effect.high is not None:
        bar = change_bar(effect.low, effect.high, threshold, lower_is_good=lower_is_good, label=f"{shown}, {rule}")
    return EffectLine(
        variant, MEASURES[effect.metric].title, GLYPHS[effect.standing], WORDS[effect.standing], change(effect.value, effect.metric), shown, bar,
        _mean(arms.get(terms.champion), effect.metric), _mean(arms.get(variant), effect.metric),
        _confidence(effect.confidence), rule,
    )  # fmt: skip


def _confidence(share: float | None) -> str:
    """Never 100%."""
    if share is None:
        return "—"
    return "> 99.9%" if share > 0.999 else f"{math.floor(1000 * share) / 10:.1f}%"


def _mean(arm: Arm | None, metric: str) -> str:
    return wording.figure(None if arm is None else advice.mean_of(arm, metric), MEASURES[metric].unit)


def figure_of(mean: float | None, metric: str) -> str:
    """A mean as the planner has it, a rate from 0 to 1."""
    return wording.figure(100 * mean if mean is not None and metric == "error_rate" else mean, MEASURES[metric].unit)


def figure_lines(terms: Terms, arms: dict[str, Arm]) -> list[FigureLine]:
    """Every metric, whether it decides or not."""
    champion = arms.get(terms.champion)

    def cell(name: str, metric: str) -> tuple[str, str]:
        arm = arms.get(name)
        value = advice.change_of(champion, arm, metric) if champion and arm and name != terms.champion else None
        return _mean(arm, metric), "" if value is None else change(value, metric)

    return [FigureLine(measure.title, [cell(name, metric) for name in variants_of(terms)]) for metric, measure in MEASURES.items()]


def latency_changes(terms: Terms, arms: dict[str, Arm]) -> dict[str, str]:
    """By treatment, for what was expected of it."""
    champion = arms.get(terms.champion)
    return {
        name: change(advice.change_of(champion, arms[name], "latency") if champion and name in arms else None, "latency")
        for name in variants_of(terms)[1:]
    }
