"""Who may be asked into a cohort, how many, and in which order the stages of the ramp open: pure rules.

A figure that is not known is no pass: whoever can't be judged is no candidate until there are figures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from gateway.contract.flags import Cohort as Line
from rollouts.thresholds import COMPARE, side

Figure = str | float | None
Verdict = Literal["pass", "fail", "no_data"]

MAX_CRITERIA = 20
WINDOW_DAYS = 28
"""Whole UTC days that calls and spend are counted over: four weeks, so that no weekday weighs more."""
NOTICE = timedelta(days=14)
"""Between the announcement that a cohort ends for somebody and its end; also how long an invitation stands."""
DEFAULT_OVER_RECRUITMENT = 40
"""Percent: seven partners for five places, as the founding plan of the gateway has it."""


class CriterionError(ValueError):
    """A criterion that can't be read; the message says which line and how to write it."""


@dataclass(frozen=True)
class Fact:
    title: str
    is_number: bool
    unit: str = ""


FACTS: dict[str, Fact] = {
    "tier": Fact("Tier", False),
    "kind": Fact("Kind", False),
    "region": Fact("Region", False),
    "consent": Fact("Consent to the flag's class", False),
    "age_days": Fact("Age", True, "days"),
    "calls_per_day": Fact("Governed calls", True, "per day"),
    "active_days": Fact("Days with calls", True, f"of {WINDOW_DAYS}"),
    "spend_usd": Fact("Spend", True, f"USD in {WINDOW_DAYS} days"),
    "models": Fact("Models in service", True),
    "open_incidents": Fact("Open incidents", True),
}
_LINE = re.compile(r"\s*([a-z_]+)\s+(not in|in|<=|>=|<|>|=)\s+(.+?)\s*")


@dataclass(frozen=True)
class Criterion:
    fact: str
    operator: str
    """`in` or `not in` of words; a comparison of numbers."""
    values: tuple[str, ...]
    """Words, or the one number as it was written."""

    def __str__(self) -> str:
        return f"{self.fact} {self.operator} {', '.join(self.values)}"


@dataclass(frozen=True)
class Outcome:
    criterion: str
    figure: Figure
    verdict: Verdict


def parse(text: str) -> tuple[Criterion, ...]:
    """`fact operator value`, one per line; `=` of a word is written `in`. Raises CriterionError."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise CriterionError("Write one criterion or more: without them everybody would be a candidate.")
    if len(lines) > MAX_CRITERIA:
        raise CriterionError(f"At most {MAX_CRITERIA} criteria.")
    return tuple(_criterion(line) for line in lines)


def _criterion(line: str) -> Criterion:
    found = _LINE.fullmatch(line)
    if found is None:
        raise CriterionError(f"“{line}” is not a criterion. Write for example: calls_per_day >= 100")
    fact, sign, rest = found.groups()
    if fact not in FACTS:
        raise CriterionError(f"“{line}”: nothing is known as {fact}. Known are {', '.join(FACTS)}.")
    if not FACTS[fact].is_number:
        values = tuple(dict.fromkeys(value.strip() for value in rest.split(",") if value.strip()))
        if sign == "=":
            sign = "in"
        if sign not in ("in", "not in") or not values:
            raise CriterionError(f"“{line}”: {fact} is a word. Write: {fact} in one, another")
        return Criterion(fact, sign, values)
    if sign not in (*COMPARE, "=") or not re.fullmatch(r"\d{1,12}(\.\d{1,6})?", rest):
        raise CriterionError(f"“{line}”: {fact} is a number. Write: {fact} >= 10")
    return Criterion(fact, sign, (rest,))


def judge(criteria: Sequence[Criterion], figures: Mapping[str, Figure]) -> list[Outcome]:
    return [Outcome(str(one), figures.get(one.fact), _verdict(one, figures.get(one.fact))) for one in criteria]


def _verdict(criterion: Criterion, figure: Figure) -> Verdict:
    if figure is None or figure == "":
        return "no_data"
    if isinstance(figure, str):
        return "pass" if (figure in criterion.values) is (criterion.operator == "in") else "fail"
    return "pass" if side(criterion.operator, float(criterion.values[0]), figure, figure) else "fail"


def folded(outcomes: Sequence[Outcome]) -> Verdict:
    """The worst: one fail decides, then one figure that is missing."""
    verdicts = {outcome.verdict for outcome in outcomes}
    if not verdicts:
        return "no_data"
    return "fail" if "fail" in verdicts else "no_data" if "no_data" in verdicts else "pass"


def recruits(places: int, over_recruitment: int) -> int:
    """How many may be asked, so that `places` are left when some drop out. `over_recruitment` in percent; rounded up."""
    return places + -(-places * over_recruitment // 100)


# The ramp


@dataclass(frozen=True)
class Stage:
    key: str
    title: str
    attribute: str
    """Of the flag's context; empty: everybody."""
    value: str
    hold: timedelta
    """How long it stays open before the next one opens."""
    exit_rule: str


_WEEK = timedelta(days=7)
STAGES: tuple[Stage, ...] = (
    Stage("internal", "Internal", "kind", "internal", timedelta(hours=24), "24 h without a critical issue"),
    Stage("dogfood", "Dogfood", "kind", "staff", timedelta(hours=48), "48 h at the quality that was promised"),
    Stage("canary", "Canary", "tenant", "", _WEEK, "a week within the objectives"),
    *(
        Stage(f"tier-{tier}", f"{tier.title()} tier", "tier", tier, _WEEK, "a week within the objectives")
        for tier in ("free", "starter", "pro", "business", "enterprise")
    ),
    Stage("general", "General availability", "", "", timedelta(0), "the last one"),
)
BY_KEY = {stage.key: stage for stage in STAGES}
RAMP_FROM = next(place for place, stage in enumerate(STAGES) if stage.attribute == "tier")
"""From this stage on the one before must have held."""


def is_open(stage: Stage, lines: Sequence[Line], *, on: bool) -> bool:
    """Does an exposure with these cohort lines expose whoever is of the stage?"""
    if not on:
        return False
    if not lines:  # no cohorts mean everybody
        return True
    if not stage.attribute:
        return False
    return any(line.attribute == stage.attribute and (not stage.value or stage.value in line.values) for line in lines)


def opened(stage: Stage, lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines with the stage open."""
    if not stage.attribute:
        return ()
    return (*lines, Line(name=stage.key, attribute=stage.attribute, values=(stage.value,)))


def with_members(name: str, slugs: Sequence[str], lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines with exactly these organisations in the cohort of this name; without them, without its line."""
    line = (Line(name=name, attribute="tenant", values=tuple(sorted(slugs))),) if slugs else ()
    return (*line, *(one for one in lines if one.name != name))


def members(name: str, lines: Sequence[Line]) -> frozenset[str]:
    return frozenset(value for line in lines if line.name == name and line.attribute == "tenant" for value in line.values)
