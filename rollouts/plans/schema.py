"""The shape of a rollout plan, as it is written in `data/*.yaml`.

A plan is data: whoever can write one can ship one. The shape is strict, because a misspelt key in a plan would be a
criterion that silently does not exist. Every criterion is bound to a metric or is an attestation; there is no third kind.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

from rollouts.aggregation import Aggregate

Key = Annotated[str, Meta(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$", max_length=60)]
Text = Annotated[str, Meta(min_length=1)]
Role = Literal["product", "engineering", "security", "compliance"]
Origin = Literal["success", "gate", "checklist"]
Operator = Literal["<", "<=", ">", ">=", "="]
Severity = Literal["hard", "security", "observe"]
Unit = Literal["%", "ms", "s", "USD", "count", "pp", "score", "h", "days"]


class Lane(StrEnum):
    """The five lanes of the board; every phase of every plan is in one."""

    INTERNAL = "internal"
    PILOT = "pilot"
    LIMITED = "limited"
    RAMP = "ramp"
    GENERAL = "general"


class _Part(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Over(_Part, frozen=True):
    """How the organisations of a cohort are taken together, when the rollout is over one. What is left out is as in the rule."""

    aggregate: Aggregate
    """`share` and `count`: of the organisations that meet `metric operator threshold`."""
    metric: str = ""
    operator: Operator | None = None
    threshold: float | None = None
    at_least: Annotated[float, Meta(gt=0, le=100)] = 100
    """Percent, of `share`. A count, a median and a sum are held to the rule's own operator and threshold."""
    more_than: Annotated[float, Meta(ge=0, lt=100)] | None = None
    """Instead of `at_least`, where so many percent are not enough."""


class MetricRule(_Part, frozen=True):
    """`metric operator threshold`, judged over the last `window_hours`."""

    metric: Text
    operator: Operator
    threshold: float
    unit: Unit
    window_hours: Annotated[int, Meta(gt=0)]
    minimum_sample: Annotated[int, Meta(ge=1)] | None = None
    """None: the metric's own."""
    sustain_hours: Annotated[int, Meta(ge=0)] = 0
    """How long it must have held without a break before it passes."""
    sustain_times: Annotated[int, Meta(ge=0, le=1000)] = 0
    """In how many of the last `sustain_of` evaluations it must have held, this one among them: forgives single misses. 0: this one is enough."""
    sustain_of: Annotated[int, Meta(ge=0, le=1000)] = 0
    over: Over | None = None
    """None: every organisation must meet the rule."""


class Criterion(_Part, frozen=True):
    key: Key
    title: Text
    quote: Text
    """The line of the founding document, word for word. A line with several figures has a criterion for each."""
    origin: Origin
    role: Role
    """Who answers for it: attests it, approves its waiver."""
    owner: str = ""
    """As the founding document names the owner."""
    group: str = ""
    """The name of the row in a table of gates."""
    rule: MetricRule | None = None
    evidence: str = ""
    """What an attestation must show. Exactly one of `rule` and `evidence` is given."""
    severity: Severity = "hard"
    """`security` can't be waived; `observe` is shown and decides nothing."""


class Gate(_Part, frozen=True):
    """What must hold before the phase that it belongs to may be left."""

    title: Text
    roles: Annotated[list[Role], Meta(min_length=1)]
    criteria: Annotated[list[Criterion], Meta(min_length=1)]


class Scope(_Part, frozen=True):
    included: Text
    area: str = ""
    excluded: str = ""


class Rollback(_Part, frozen=True):
    steps: Annotated[list[Text], Meta(min_length=1)]
    rto_minutes: Annotated[int, Meta(gt=0)] | None = None
    """The time in which the whole phase must be back; None when the founding document promises none."""
    rto: str = ""


class Phase(_Part, frozen=True):
    key: Key
    title: Text
    lane: Lane
    duration: Text
    duration_days: Annotated[int, Meta(gt=0)]
    """For an open-ended phase: days to its review."""
    audience: Text
    focus: Text
    scope: Annotated[list[Scope], Meta(min_length=1)]
    rollback: Rollback
    gate: Gate
    activities: list[Text] = []
    selection: list[Text] = []
    """Who is chosen to take part."""


class Risk(_Part, frozen=True):
    risk: Text
    mitigation: Text
    phase: str = ""


class Milestone(_Part, frozen=True):
    title: Text
    target: Text
    depends_on: str = ""


class Section(_Part, frozen=True):
    """A further part of the founding document: a table or a list."""

    title: Text
    items: list[Text] = []
    columns: list[Text] = []
    rows: list[list[Text]] = []


class Plan(_Part, frozen=True):
    key: Key
    version: Annotated[int, Meta(gt=0)]
    title: Text
    summary: Text
    source: Text
    """The founding document and the parts of it that the plan holds."""
    phases: Annotated[list[Phase], Meta(min_length=1)]
    milestones: list[Milestone] = []
    risks: list[Risk] = []
    sections: list[Section] = []
